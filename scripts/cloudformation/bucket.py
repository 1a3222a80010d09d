"""The environment's bucket, by way of which templates come to CloudFormation: long ones, and published ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from scripts.cloudformation import calls
from scripts.errors import ToolError

if TYPE_CHECKING:
    from scripts.aws import Aws

FOLDER = "templates"  # of the bucket; github-deploy-role lets a pipeline write there and nowhere else


class BucketError(ToolError):
    """The environment names no bucket, or one that is not there or not open to us."""


@dataclass(frozen=True)
class Bucket:
    """A bucket and the client of its own region; ``url``: its address, as TemplateURL takes it."""

    name: str
    client: Any
    url: str
    where: str

    def put(self, key: str, body: bytes, clock: calls.Clock) -> str:
        """Stores a template; gives its URL. Raises BucketError when these credentials may not."""
        key = f"{FOLDER}/{key}"
        try:
            calls.call(self.client.put_object, clock=clock, Bucket=self.name, Key=key, Body=body,
                       ContentType="application/yaml")  # fmt: skip
        except ClientError as error:
            if calls.code(error) != "AccessDenied":
                raise
            raise BucketError(
                f"{self.name!r}: these credentials may not write to {FOLDER}/", where=self.where
            ) from None
        return f"{self.url}/{key}"


def find(aws: Aws, clock: calls.Clock) -> Bucket | None:
    """The environment's bucket, in whichever region it is; None when it names none. Raises BucketError: it is gone.

    HeadBucket names the region also where it refuses (403) for want of s3:ListBucket, in a header (S3 API reference).
    """
    environment, name = aws.environment, aws.environment.bucket
    if not name:
        return None
    where = f"{environment.path}: bucket"
    try:
        region = calls.call(aws.client("s3").head_bucket, clock=clock, Bucket=name).get("BucketRegion")
    except ClientError as error:
        answer = error.response["ResponseMetadata"]
        if answer["HTTPStatusCode"] == 404:
            raise BucketError(f"{name!r}: there is no such bucket", where=where) from None
        if answer["HTTPStatusCode"] != 403:
            raise
        region = answer.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    client = aws.client("s3", region)
    endpoint = urlsplit(client.meta.endpoint_url)
    host = f"{endpoint.netloc}/{name}" if environment.endpoint else f"{name}.{endpoint.netloc}"
    return Bucket(name, client, f"{endpoint.scheme}://{host}", where)
