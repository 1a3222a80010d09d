"""Events of AWS services that MiniStack does not send: S3 data events through CloudTrail, RDS snapshots.

S3's own 'Object Created' comes from MiniStack, for buckets with EventBridgeEnabled.
"""

import contextvars
import json
import time
import uuid
from typing import Any
from urllib.parse import parse_qs, unquote

from ministack.core.iam_evaluator import caller_arn
from ministack.core.responses import get_account_id, get_region, now_iso, set_request_region
from ministack.services import eventbridge, rds, s3

from eventstacks.local.ministack import Json, Original, call, patch

OBJECT_CALLS = {  # (method, part of an upload, a copy) -> name in CloudTrail; the reads are GET and HEAD
    ("PUT", False, False): "PutObject",
    ("PUT", False, True): "CopyObject",
    ("DELETE", False, False): "DeleteObject",
    ("PUT", True, False): "UploadPart",
    ("PUT", True, True): "UploadPartCopy",
    ("GET", False, False): "GetObject",
    ("POST", True, False): "CompleteMultipartUpload",
    ("HEAD", False, False): "HeadObject",
}
# Action -> category, EventIDs and messages (RDS guide; the wording of 0041 and of the copies is from memory).
SNAPSHOTS = {
    "CreateDBSnapshot": (
        "creation",
        {"0040": "Creating manual snapshot", "0042": "Manual snapshot created"},
    ),
    "DeleteDBSnapshot": ("deletion", {"0041": "Deleted manual snapshot"}),
    "CopyDBSnapshot": (
        "creation",
        {"0196": "Started copy of snapshot {}", "0197": "Finished copy of snapshot {}"},
    ),
    "CopyDBSnapshot from afar": (
        "creation",
        {
            "0059": "Started copy of snapshot {} from region {}",
            "0060": "Finished copy of snapshot {} from region {}",
        },
    ),
    "CreateDBClusterSnapshot": (
        "backup",
        {"0074": "Creating manual cluster snapshot", "0075": "Manual cluster snapshot created"},
    ),
}


def announce(source: str, detail_type: str, detail: Json, *resources: str) -> None:
    """Put an event of an AWS service on the default bus of the current account and region."""
    entry = {
        "Source": source,
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
        "Resources": list(resources),
    }
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


def selects(selector: Json, values: dict[str, str]) -> bool:
    """Whether an event selector, plain or advanced, takes a data event with these fields (CloudTrail API)."""
    if "FieldSelectors" in selector:
        tests = {
            "Equals": lambda value, given: value in given,
            "StartsWith": str.startswith,
            "EndsWith": str.endswith,
        }
        return all(
            tests[operator.removeprefix("Not")](values.get(field["Field"], ""), tuple(given))
            != operator.startswith("Not")
            for field in selector["FieldSelectors"]
            for operator, given in field.items()
            if operator != "Field"
        )
    kinds = ("All", "ReadOnly" if values["readOnly"] == "true" else "WriteOnly")
    resources = [
        one for one in selector.get("DataResources", []) if one["Type"] == "AWS::S3::Object"
    ]
    prefixes = tuple(
        prefix for one in resources for prefix in one.get("Values", [])
    )  # 'arn:aws:s3' is every bucket
    return selector.get("ReadWriteType", "All") in kinds and values["resources.ARN"].startswith(
        prefixes
    )


def selectors_in_force() -> list[Json]:
    """The event selectors of the trails that log in this region."""
    trails = [
        one["TrailARN"] for one in call("cloudtrail", "CloudTrail.DescribeTrails")["trailList"]
    ]
    logging = [
        arn
        for arn in trails
        if call("cloudtrail", "CloudTrail.GetTrailStatus", Name=arn)["IsLogging"]
    ]
    found = [call("cloudtrail", "CloudTrail.GetEventSelectors", TrailName=arn) for arn in logging]
    return [
        one
        for each in found
        for one in each.get("AdvancedEventSelectors") or each["EventSelectors"]
    ]


def report(
    name: str, bucket: str, key: str, headers: dict[str, str], body: bytes | None, *, reads: bool
) -> None:
    """'AWS API Call via CloudTrail' on the bus of the bucket's region; fields as in CloudTrail's record reference."""
    set_request_region(s3._notification_bucket_region(bucket))
    arn, account, caller = f"arn:aws:s3:::{bucket}/{key}", get_account_id(), caller_arn()
    values = {
        "eventCategory": "Data",
        "resources.type": "AWS::S3::Object",
        "resources.ARN": arn,
        "readOnly": str(reads).lower(),
        "eventName": name,
    }
    if not any(selects(one, values) for one in selectors_in_force()):
        return
    kind = (
        "Root"
        if caller.endswith(":root")
        else "AssumedRole"
        if ":assumed-role/" in caller
        else "IAMUser"
    )
    announce(
        "aws.s3",
        "AWS API Call via CloudTrail",
        {
            "eventVersion": "1.11",
            "eventSource": "s3.amazonaws.com",
            "eventName": name,
            "awsRegion": get_region(),
            "userIdentity": {
                "type": kind,
                "principalId": account,
                "arn": caller,
                "accountId": account,
            },
            "eventTime": time.strftime("%FT%TZ", time.gmtime()),
            "userAgent": headers.get("user-agent", ""),
            "requestParameters": {
                "bucketName": bucket,
                "Host": headers.get("host", ""),
                "key": key,
            },
            "responseElements": None,
            "additionalEventData": {"bytesTransferredIn": len(body or b"")},
            "readOnly": reads,
            "requestID": uuid.uuid4().hex[:16].upper(),
            "eventID": str(uuid.uuid4()),
            "sourceIPAddress": "127.0.0.1",
            "resources": [
                {"type": "AWS::S3::Object", "ARN": arn},
                {"accountId": account, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{bucket}"},
            ],
            "eventType": "AwsApiCall",
            "managementEvent": False,
            "recipientAccountId": account,
            "eventCategory": "Data",
        },
    )


@patch("handle_request", s3)
async def on_s3(
    original: Original, method: str, path: str, headers: Any, body: Any, query: Any, **rest: Any
) -> Any:
    """An S3 request, and then its CloudTrail event. AWS records refused requests too; here they are not."""
    answer = await original(method, path, headers, body, query, **rest)
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    name = OBJECT_CALLS.get((method, "uploadId" in query, "x-amz-copy-source" in headers))
    extra = set(query) - {
        "x-id",
        "partNumber",
        "uploadId",
        "versionId",
    }  # tagging, acl …: other operations
    if name and key and answer[0] < 300 and not extra and bucket in s3._buckets:
        contextvars.copy_context().run(
            report, name, bucket, key, headers, body, reads=method in ("GET", "HEAD")
        )
    return answer


def region_of(snapshot: str) -> str:
    """Where a snapshot is, given by its name or by its ARN."""
    return snapshot.split(":")[3] if snapshot.startswith("arn:") else get_region()


@patch("handle_request", rds)
async def on_rds(
    original: Original, method: str, path: str, headers: Any, body: Any, query: Any
) -> Any:
    """An RDS request, and then the events of the snapshot that it made, copied or deleted."""
    answer = await original(method, path, headers, body, query)
    form = {key: value[0] for key, value in {**query, **parse_qs((body or b"").decode())}.items()}
    action, source = form.get("Action", ""), form.get("SourceDBSnapshotIdentifier", "")
    names = (form.get(f"{kind}SnapshotIdentifier") for kind in ("TargetDB", "DBCluster", "DB"))
    name, origin = next(filter(None, names), ""), region_of(source)
    kind = "cluster-snapshot" if "Cluster" in action else "snapshot"
    arn = f"arn:aws:rds:{get_region()}:{get_account_id()}:{kind}:{name}"
    category, told = SNAPSHOTS.get(
        f"{action} from afar" if origin != get_region() else action, ("", {})
    )
    for number, message in told.items() if answer[0] < 300 else ():
        announce(
            "aws.rds",
            f"RDS DB {kind.replace('-', ' ').title()} Event",
            {
                "EventCategories": [category],
                "SourceType": kind.replace("-", "_").upper(),
                "SourceArn": arn,
                "Date": now_iso(),
                "SourceIdentifier": name,
                "EventID": f"RDS-EVENT-{number}",
                "Message": message.format(source.split(":snapshot:")[-1], origin),
            },
            arn,
        )
    return answer
