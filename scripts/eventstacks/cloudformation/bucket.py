"""The environment's bucket, by way of which templates come to CloudFormation: long ones, and published ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.loaders import create_loader

from eventstacks.aws import Clock, call, error_code, error_message
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from eventstacks.aws import Aws

FOLDER = (
    "templates"  # of the bucket; github-deploy-role lets a pipeline write there and nowhere else
)


class BucketError(ToolError):
    """The environment names no bucket, or one that is not there or not open to us."""


@dataclass(frozen=True)
class Bucket:
    """A bucket and the client of its own region; ``url``: its address, as TemplateURL takes it."""

    name: str
    client: Any
    url: str
    where: str

    def put(self, key: str, body: bytes, clock: Clock) -> str:
        """Stores a template; gives its URL. Raises BucketError when these credentials may not."""
        key = f"{FOLDER}/{key}"
        try:
            call(
                self.client.put_object,
                clock=clock,
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType="application/yaml",
            )
        except ClientError as error:
            if error_code(error) != "AccessDenied":
                raise
            said = f"these credentials may not write to {FOLDER}/, AWS says: {error_message(error)}"
            raise BucketError(f"{self.name!r}: {said}", where=self.where) from None
        return f"{self.url}/{key}"


def find(aws: Aws, clock: Clock) -> Bucket | None:
    """The environment's bucket, in whichever region it is; None when it names none. Raises BucketError: it is gone.

    HeadBucket names the region also where it refuses (403) for want of s3:ListBucket, in a header (S3 API reference).
    """
    environment, name = aws.environment, aws.environment.bucket
    if not name:
        return None
    where = f"{environment.path}: bucket"
    try:
        region = call(aws.client("s3").head_bucket, clock=clock, Bucket=name).get("BucketRegion")
    except ClientError as error:
        answer = error.response["ResponseMetadata"]
        # HEAD has no body, so these are all that AWS says; an expired token is a bare 400.
        why = {
            404: "there is no such bucket",
            400: "AWS refuses to say more; have the credentials expired?",
        }
        if answer["HTTPStatusCode"] in why:
            raise BucketError(f"{name!r}: {why[answer['HTTPStatusCode']]}", where=where) from None
        if answer["HTTPStatusCode"] != 403:
            raise
        region = answer.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    client = aws.client("s3", region)
    if environment.endpoint:
        return Bucket(name, client, f"{client.meta.endpoint_url}/{name}", where)
    # Not the client's own endpoint: by a variable of the user's it may be one that CloudFormation does not read from.
    host = f"s3.{region or client.meta.region_name}.{_suffix(client.meta.partition)}"
    # A certificate's wildcard stands for one label, so a name with dots goes into the path.
    return Bucket(
        name, client, f"https://{host}/{name}" if "." in name else f"https://{name}.{host}", where
    )


def _suffix(partition: str) -> str:
    """The domain of a partition's services: amazonaws.com, amazonaws.com.cn …"""
    known = create_loader().load_data("partitions")[
        "partitions"
    ]  # a session would want to know the shell's profile
    return str(next(one["outputs"]["dnsSuffix"] for one in known if one["id"] == partition))
