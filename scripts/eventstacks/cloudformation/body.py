"""A template on its way to CloudFormation: in the request, or by way of S3 when it is too long for one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from eventstacks.cloudformation import bucket
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from eventstacks.aws import Aws, Clock
    from eventstacks.rendering import RenderedTemplate

# CloudFormation quotas, 'Template body size in a request' and '… in an Amazon S3 object', in bytes
IN_REQUEST, IN_S3 = 51_200, 1_000_000


class BodyError(ToolError):
    """A template that is too long."""


def arguments(aws: Aws, template: RenderedTemplate, clock: Clock) -> dict[str, str]:
    """TemplateBody or TemplateURL for a rendered template. Raises BodyError, BucketError."""
    text, path = template.text, template.path
    body = text.encode()
    if len(body) <= IN_REQUEST:
        return {"TemplateBody": text}
    if len(body) > IN_S3:
        raise BodyError(
            f"{len(body):,} bytes; CloudFormation takes {IN_S3:,}",
            where=str(path),
            advice="Split the stack.",
        )
    if not (store := bucket.find(aws, clock)):
        raise BodyError(
            f"{len(body):,} bytes; more than {IN_REQUEST:,} go by way of S3, and this environment names no bucket",
            where=str(path),
            advice=f"Add 'bucket: <name>' to {aws.environment.path}.",
        )
    key = f"{path.stem}-{hashlib.sha256(body).hexdigest()[:16]}.yaml"
    return {"TemplateURL": store.put(key, body, clock)}
