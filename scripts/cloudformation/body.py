"""A template on its way to CloudFormation: in the request, or by way of S3 when it is too long for one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from scripts import documents
from scripts.cloudformation import calls
from scripts.errors import ToolError

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.aws import Aws

# CloudFormation quotas, 'Template body size in a request' and '… in an Amazon S3 object', in bytes
IN_REQUEST, IN_S3 = 51_200, 1_000_000


class BodyError(ToolError):
    """A template that is too long."""


def arguments(aws: Aws, path: Path, region: str, clock: calls.Clock) -> dict[str, str]:
    """TemplateBody or TemplateURL for the bytes of a rendered template. Raises BodyError, DocumentError."""
    text = documents.read_text(path)
    body = text.encode()
    if len(body) <= IN_REQUEST:
        return {"TemplateBody": text}
    if len(body) > IN_S3:
        raise BodyError(
            f"{len(body):,} bytes; CloudFormation takes {IN_S3:,}", where=str(path), advice="Split the stack."
        )
    if not (bucket := aws.environment.bucket):
        raise BodyError(
            f"{len(body):,} bytes; more than {IN_REQUEST:,} go by way of S3, and this environment names no bucket",
            where=str(path), advice=f"Add 'bucket: <name>' to {aws.environment.path}.",
        )  # fmt: skip
    s3 = aws.client("s3", region)
    key = f"templates/{path.stem}-{hashlib.sha256(body).hexdigest()[:16]}.yaml"
    calls.call(s3.put_object, clock=clock, Bucket=bucket, Key=key, Body=body)
    endpoint = urlsplit(s3.meta.endpoint_url)
    host = f"{endpoint.netloc}/{bucket}" if aws.environment.endpoint else f"{bucket}.{endpoint.netloc}"
    return {"TemplateURL": f"{endpoint.scheme}://{host}/{key}"}
