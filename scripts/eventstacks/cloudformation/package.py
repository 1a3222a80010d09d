"""Templates on the way to CloudFormation: what they need, their body, and the bucket."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.loaders import create_loader

from eventstacks.aws import call, error_message
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstacks.aws import Aws, Clock
    from eventstacks.rendering import RenderedTemplate

# CloudFormation quotas, 'Template body size in a request' and '… in an Amazon S3 object', in bytes
IN_REQUEST, IN_S3 = 51_200, 1_000_000
# Of the bucket; the role of github-deploy-role can write there and nowhere else.
FOLDER = "templates"


def types(template: Mapping[str, Any]) -> set[str]:
    """Return the types of a template's resources."""
    resources = (template.get("Resources") or {}).values()
    return {str(one.get("Type")) for one in resources if isinstance(one, dict)}


def capabilities(template: Mapping[str, Any]) -> list[str]:
    """Return the capabilities that a template needs; the plan shows what it does with them.

    What a macro, a module or a nested stack expands to can hold IAM resources, too.
    """
    found = types(template)
    expands = (
        "AWS::CloudFormation::Stack" in found
        or any(one.endswith("::MODULE") for one in found)
        or "Transform" in template
        or "Fn::Transform" in str(template)
    )
    iam = expands or any(one.startswith("AWS::IAM::") for one in found)
    return (["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"] if iam else []) + (
        ["CAPABILITY_AUTO_EXPAND"] if expands else []
    )


def body_arguments(aws: Aws, template: RenderedTemplate, clock: Clock) -> dict[str, str]:
    """Return TemplateBody, or TemplateURL after an upload. Raises ToolError."""
    body, where, bucket = template.text.encode(), str(template.path), aws.environment.bucket
    if len(body) <= IN_REQUEST:
        return {"TemplateBody": template.text}
    if len(body) > IN_S3:
        raise ToolError(
            f"{len(body):,} bytes exceed CloudFormation's limit of {IN_S3:,}",
            code=ErrorCode.TEMPLATE_TOO_LARGE,
            where=where,
            advice="Split the stack.",
        )
    if not bucket:
        raise ToolError(
            f"{len(body):,} bytes: above {IN_REQUEST:,} a template needs a bucket",
            code=ErrorCode.TEMPLATE_TOO_LARGE,
            where=where,
            advice=f"Add 'bucket: <name>' to {aws.environment.path}.",
        )
    key = f"{FOLDER}/{template.name}-{hashlib.sha256(body).hexdigest()[:16]}.yaml"
    client = aws.client("s3")
    try:
        call(
            client.put_object,
            clock=clock,
            Bucket=bucket,
            Key=key,
            Body=body,
            ContentType="application/yaml",
        )
    except ClientError as error:
        status = error.response["ResponseMetadata"].get("HTTPStatusCode")
        why = "bucket not found" if status == 404 else error_message(error)
        raise ToolError(
            f"cannot write {key} to {bucket!r}: {why}",
            code=ErrorCode.BUCKET_INVALID,
            where=f"{aws.environment.path}: bucket",
        ) from None
    return {"TemplateURL": f"{_address(aws, client, bucket)}/{key}"}


def _address(aws: Aws, client: Any, bucket: str) -> str:
    """Return the address of a bucket that CloudFormation reads from."""
    if aws.environment.endpoint:
        return f"{client.meta.endpoint_url}/{bucket}"
    # Not the client's own endpoint: a variable can set another. A session would read the profile.
    partitions = create_loader().load_data("partitions")["partitions"]
    outputs = {one["id"]: one["outputs"] for one in partitions}[client.meta.partition]
    host = f"s3.{client.meta.region_name}.{outputs['dnsSuffix']}"
    # A certificate's wildcard covers one label, so a name with dots goes into the path.
    return f"https://{host}/{bucket}" if "." in bucket else f"https://{bucket}.{host}"
