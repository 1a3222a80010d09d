"""Templates on the way to CloudFormation: what they need, their body, and the bucket."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.loaders import create_loader

from eventstacks.aws import call, error_code, error_message
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eventstacks.aws import Aws, Clock
    from eventstacks.rendering import RenderedTemplate

# CloudFormation quotas, 'Template body size in a request' and '… in an Amazon S3 object', in bytes
IN_REQUEST, IN_S3 = 51_200, 1_000_000
# Of the bucket; the role of github-deploy-role can write there and nowhere else.
FOLDER = "templates"
# Properties that `aws cloudformation package` uploads. Source: AWS CLI reference of that command.
_ARTIFACTS = {
    "AWS::ApiGateway::RestApi": ("BodyS3Location",),
    "AWS::AppSync::GraphQLSchema": ("DefinitionS3Location",),
    "AWS::CloudFormation::Stack": ("TemplateURL",),
    "AWS::Lambda::Function": ("Code",),
    "AWS::Lambda::LayerVersion": ("Content",),
    "AWS::Serverless::Api": ("DefinitionUri",),
    "AWS::Serverless::Application": ("Location",),
    "AWS::Serverless::Function": ("CodeUri",),
    "AWS::Serverless::HttpApi": ("DefinitionUri",),
    "AWS::Serverless::LayerVersion": ("ContentUri",),
    "AWS::Serverless::StateMachine": ("DefinitionUri",),
    "AWS::StepFunctions::StateMachine": ("DefinitionS3Location",),
}


class BodyError(ToolError):
    """A template that CloudFormation cannot receive: too long, or with local paths."""

    default_code = ErrorCode.TEMPLATE_TOO_LARGE


class BucketError(ToolError):
    """The environment names no bucket, or one that is missing or not accessible."""

    default_code = ErrorCode.BUCKET_INVALID


# --- what a template needs ---------------------------------------------------------------------


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


def check_paths(template: RenderedTemplate) -> None:
    """Raise BodyError for a path of a local file: CloudFormation can only read from S3 and http."""
    for place, value in _paths(template.document):
        if not re.match(r"(https?|s3)://", value):
            raise BodyError(
                f"{value!r} is a local path, which CloudFormation cannot read",
                code=ErrorCode.TEMPLATE_INVALID,
                where=f"{template.path}: {place}",
                advice="Upload the file (aws cloudformation package) and use its URL. The code of "
                "a function can also be in the template: function('name.py').",
            )


def _paths(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the place and the value of every property that can be a path."""
    waiting: list[tuple[str, Any]] = [("", template)]
    while waiting:
        place, node = waiting.pop()
        children = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in children:
            inner = f"{place}.{key}".lstrip(".")
            if isinstance(child, dict | list):
                waiting.append((inner, child))
            if not isinstance(child, dict):
                continue
            values = child.get("Properties") or {}
            for name in _ARTIFACTS.get(str(child.get("Type")), ()):
                if isinstance(values, dict) and isinstance(values.get(name), str):
                    yield f"{inner}.Properties.{name}", values[name]
            given = child.get("Parameters")
            location = given.get("Location") if isinstance(given, dict) else None
            if child.get("Name") == "AWS::Include" and isinstance(location, str):
                yield f"{inner}.Parameters.Location", location


# --- the bucket --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bucket:
    """A bucket and the client of its Region; ``url`` is its address as TemplateURL takes it."""

    name: str
    client: Any
    url: str
    where: str

    def put(self, key: str, body: bytes, clock: Clock) -> str:
        """Store a template; return its URL. Raises BucketError if that is not permitted."""
        try:
            call(
                self.client.put_object,
                clock=clock,
                Bucket=self.name,
                Key=f"{FOLDER}/{key}",
                Body=body,
                ContentType="application/yaml",
            )
        except ClientError as error:
            if error_code(error) != "AccessDenied":
                raise
            raise BucketError(
                f"{self.name!r}: permission denied to write to {FOLDER}/: {error_message(error)}",
                where=self.where,
            ) from None
        return f"{self.url}/{FOLDER}/{key}"


def find_bucket(aws: Aws, clock: Clock) -> Bucket | None:
    """Return the environment's bucket, in any Region; None if it names none.

    HeadBucket names the Region in a header also where it refuses (403) because s3:ListBucket is
    missing (S3 API Reference). Raises BucketError if the bucket is missing.
    """
    environment, name = aws.environment, aws.environment.bucket
    if not name:
        return None
    where = f"{environment.path}: bucket"
    try:
        region = call(aws.client("s3").head_bucket, clock=clock, Bucket=name).get("BucketRegion")
    except ClientError as error:
        answer = error.response["ResponseMetadata"]
        if answer["HTTPStatusCode"] != 403:  # HEAD has no body: the status is all that AWS says
            why = "bucket not found" if answer["HTTPStatusCode"] == 404 else error_message(error)
            what = f"{name!r}: {why}; are the credentials valid, and is the bucket there?"
            raise BucketError(what, where=where) from None
        region = answer.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    client = aws.client("s3", region)
    if environment.endpoint:
        return Bucket(name, client, f"{client.meta.endpoint_url}/{name}", where)
    # Not the client's own endpoint: a variable can set one that CloudFormation does not read from.
    host = f"s3.{region or client.meta.region_name}.{_suffix(client.meta.partition)}"
    # A certificate's wildcard covers one label, so a name with dots goes into the path.
    url = f"https://{host}/{name}" if "." in name else f"https://{name}.{host}"
    return Bucket(name, client, url, where)


def _suffix(partition: str) -> str:
    """Return the domain of a partition's services: amazonaws.com or amazonaws.com.cn, for example."""
    known = create_loader().load_data("partitions")[
        "partitions"
    ]  # a session would read the profile
    return str(next(one["outputs"]["dnsSuffix"] for one in known if one["id"] == partition))


def body_arguments(aws: Aws, template: RenderedTemplate, clock: Clock) -> dict[str, str]:
    """Return TemplateBody or TemplateURL. Raises BodyError, BucketError."""
    body, where = template.text.encode(), str(template.path)
    if len(body) <= IN_REQUEST:
        return {"TemplateBody": template.text}
    if len(body) > IN_S3:
        raise BodyError(
            f"{len(body):,} bytes exceed CloudFormation's limit of {IN_S3:,}",
            where=where,
            advice="Split the stack.",
        )
    if not (bucket := find_bucket(aws, clock)):
        raise BodyError(
            f"{len(body):,} bytes: above {IN_REQUEST:,} a template needs a bucket",
            where=where,
            advice=f"Add 'bucket: <name>' to {aws.environment.path}.",
        )
    key = f"{template.name}-{hashlib.sha256(body).hexdigest()[:16]}.yaml"
    return {"TemplateURL": bucket.put(key, body, clock)}
