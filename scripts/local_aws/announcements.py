"""Events of AWS services that MiniStack does not send: S3 data events through CloudTrail, RDS snapshots.

S3's own 'Object Created' comes from MiniStack where a bucket has EventBridgeEnabled.
"""

from __future__ import annotations

import contextvars
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from ministack.core.iam_evaluator import caller_arn
from ministack.core.responses import get_account_id, get_region, set_request_region
from ministack.services import cloudtrail, eventbridge, rds, s3  # noqa: F401 - loads CloudTrail

from scripts.local_aws.ministack import call

Answer = tuple[int, dict[str, str], Any]
Handler = Callable[..., Awaitable[Answer]]
RDS_NS = "http://rds.amazonaws.com/doc/2014-10-31/"
# Advanced event selectors: operator -> whether the value passes one of its operands (CloudTrail API, AdvancedFieldSelector).
OPERATORS: dict[str, Callable[[str, list[str]], bool]] = {
    "Equals": lambda value, given: value in given,
    "NotEquals": lambda value, given: value not in given,
    "StartsWith": lambda value, given: value.startswith(tuple(given)),
    "NotStartsWith": lambda value, given: not value.startswith(tuple(given)),
    "EndsWith": lambda value, given: value.endswith(tuple(given)),
    "NotEndsWith": lambda value, given: not value.endswith(tuple(given)),
}


def now() -> str:
    """This second, as events write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def announce(source: str, detail_type: str, detail: dict[str, Any], *resources: str) -> None:
    """Put an event of an AWS service on the default bus of the current account and region."""
    entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail), "Resources": list(resources)}
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


# --- S3 through CloudTrail


def operation_of(method: str, headers: dict[str, str], query: dict[str, Any]) -> tuple[str, bool] | None:
    """(event name, read only) of an object request, or None for one that CloudTrail calls something else."""
    extra = set(query) - {"x-id", "partNumber", "uploadId", "versionId"}
    if extra == {"uploads"} and method == "POST":
        return "CreateMultipartUpload", False
    if extra:
        return None
    copied = "x-amz-copy-source" in headers
    if "uploadId" in query:
        part = ("UploadPartCopy" if copied else "UploadPart", False)
        others = {"POST": ("CompleteMultipartUpload", False), "DELETE": ("AbortMultipartUpload", False)}
        return {"PUT": part, "GET": ("ListParts", True), **others}.get(method)
    put = ("CopyObject" if copied else "PutObject", False)
    reads = {"GET": ("GetObject", True), "HEAD": ("HeadObject", True)}
    return {"PUT": put, "DELETE": ("DeleteObject", False), **reads}.get(method)


def selects(selector: dict[str, Any], arn: str, name: str, *, read_only: bool) -> bool:
    """Whether an event selector of either kind takes a data event of the object."""
    if "FieldSelectors" in selector:
        values = {"eventCategory": "Data", "resources.type": "AWS::S3::Object", "readOnly": str(read_only).lower(),
                  "resources.ARN": arn, "eventName": name, "eventSource": "s3.amazonaws.com"}  # fmt: skip
        return all(
            OPERATORS[operator](values.get(field["Field"], ""), operands)
            for field in selector["FieldSelectors"] for operator, operands in field.items() if operator in OPERATORS
        )  # fmt: skip
    prefixes = [
        value if value.count(":") > 3 else "arn:aws:s3:::"  # 'arn:aws:s3' means every bucket
        for resource in selector.get("DataResources", []) if resource["Type"] == "AWS::S3::Object"
        for value in resource.get("Values", [])
    ]  # fmt: skip
    kinds = ("All", "ReadOnly" if read_only else "WriteOnly")
    return selector.get("ReadWriteType", "All") in kinds and arn.startswith(tuple(prefixes))


def is_recorded(arn: str, name: str, *, read_only: bool) -> bool:
    """Whether a logging trail that covers this region selects the data event."""
    for trail in call("cloudtrail", "CloudTrail.DescribeTrails")["trailList"]:
        if call("cloudtrail", "CloudTrail.GetTrailStatus", Name=trail["TrailARN"])["IsLogging"]:
            found = call("cloudtrail", "CloudTrail.GetEventSelectors", TrailName=trail["TrailARN"])
            selectors = found.get("AdvancedEventSelectors") or found.get("EventSelectors") or []
            if any(selects(selector, arn, name, read_only=read_only) for selector in selectors):
                return True
    return False


def report_object_call(name: str, bucket: str, key: str, headers: dict[str, str], size: int, *, read_only: bool) -> None:
    """'AWS API Call via CloudTrail' on the bus of the bucket's region; fields as in the CloudTrail record reference."""
    set_request_region(s3._notification_bucket_region(bucket))
    arn, account, caller = f"arn:aws:s3:::{bucket}/{key}", get_account_id(), caller_arn()
    if not is_recorded(arn, name, read_only=read_only):
        return
    kinds = {":root": "Root", ":assumed-role/": "AssumedRole", ":user/": "IAMUser"}
    kind = next((kind for part, kind in kinds.items() if part in caller), "Unknown")
    announce("aws.s3", "AWS API Call via CloudTrail", {
        "eventVersion": "1.11",
        "userIdentity": {"type": kind, "principalId": account, "arn": caller, "accountId": account},
        "eventTime": now(), "eventSource": "s3.amazonaws.com", "eventName": name, "awsRegion": get_region(),
        "sourceIPAddress": "127.0.0.1", "userAgent": headers.get("user-agent", ""),
        "requestParameters": {"bucketName": bucket, "Host": headers.get("host", ""), "key": key},
        "responseElements": None, "additionalEventData": {"bytesTransferredIn": size},
        "requestID": uuid.uuid4().hex[:16].upper(), "eventID": str(uuid.uuid4()), "readOnly": read_only,
        "resources": [{"type": "AWS::S3::Object", "ARN": arn},
                      {"accountId": account, "type": "AWS::S3::Bucket", "ARN": f"arn:aws:s3:::{bucket}"}],
        "eventType": "AwsApiCall", "managementEvent": False, "recipientAccountId": account, "eventCategory": "Data",
    })  # fmt: skip


async def on_s3(stock: Handler, method: str, path: str, headers: Any, body: Any, query: Any, *rest: Any, **named: Any) -> Answer:
    """An S3 request, and then its CloudTrail event. Refused requests are recorded by AWS too; here they are not."""
    answer = await stock(method, path, headers, body, query, *rest, **named)
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    operation = operation_of(method, headers, query) if key and answer[0] < 300 else None
    if operation and bucket in s3._buckets:
        arguments = (operation[0], bucket, key, headers, len(body or b""))
        contextvars.copy_context().run(report_object_call, *arguments, read_only=operation[1])
    return answer


# --- RDS snapshots: action -> (EventID, category, message); the messages are those of the RDS guide's event tables

SNAPSHOTS = {
    "CreateDBSnapshot": (("0040", "creation", "Creating manual snapshot"), ("0042", "creation", "Manual snapshot created")),
    "DeleteDBSnapshot": (("0041", "deletion", "Deleted manual snapshot"),),
    "CopyDBSnapshot": (("0196", "creation", "Started copy of snapshot {source} in region {region}"),
                       ("0197", "creation", "Finished copy of snapshot {source} in region {region}")),
    "CopyDBSnapshot from afar": (("0059", "creation", "Started copy of snapshot {source} from region {origin}"),
                                 ("0060", "creation", "Finished copy of snapshot {source} from region {origin}")),
    "CreateDBClusterSnapshot": (("0074", "backup", "Creating manual cluster snapshot"),
                                ("0075", "backup", "Manual cluster snapshot created")),
}  # fmt: skip


def copy_snapshot(form: dict[str, str], origin: str) -> Answer:
    """CopyDBSnapshot, from another region too: the source is then given by its ARN."""
    source, name = form.get("SourceDBSnapshotIdentifier", ""), form.get("TargetDBSnapshotIdentifier", "")
    afar = contextvars.copy_context()
    afar.run(set_request_region, origin)
    original = afar.run(rds._snapshots.get, source.split(":snapshot:")[-1])
    refusal = "DBSnapshotNotFound" if original is None else "DBSnapshotAlreadyExists" if name in rds._snapshots else ""
    if original and original.get("Encrypted") and origin != get_region() and not form.get("KmsKeyId"):
        refusal = "InvalidParameterCombination"  # the guide: a key of the destination region is required; code guessed
    if refusal:
        error = f"<Error><Type>Sender</Type><Code>{refusal}</Code><Message>{escape(f'{source}, {name}')}</Message></Error>"
        status = 404 if refusal == "DBSnapshotNotFound" else 400
        return status, {"Content-Type": "text/xml"}, f'<ErrorResponse xmlns="{RDS_NS}">{error}</ErrorResponse>'.encode()
    arn = f"arn:aws:rds:{get_region()}:{get_account_id()}:snapshot:{name}"
    copy = {**original, "DBSnapshotIdentifier": name, "DBSnapshotArn": arn, "SourceRegion": origin,
            "SourceDBSnapshotIdentifier": source, "SnapshotType": "manual", "SnapshotCreateTime": now()}  # fmt: skip
    if form.get("KmsKeyId"):
        copy |= {"KmsKeyId": form["KmsKeyId"], "Encrypted": True, "StorageEncrypted": True}
    rds._snapshots[name] = copy
    xml = f"<CopyDBSnapshotResult><DBSnapshot>{rds._snapshot_xml(copy)}</DBSnapshot></CopyDBSnapshotResult>"
    xml = f'<CopyDBSnapshotResponse xmlns="{RDS_NS}">{xml}<ResponseMetadata/></CopyDBSnapshotResponse>'
    return 200, {"Content-Type": "text/xml"}, xml.encode()


async def on_rds(stock: Handler, method: str, path: str, headers: Any, body: Any, query: Any) -> Answer:
    """An RDS request, and then the events of the snapshot that it made, copied or deleted."""
    form = {key: value[0] for key, value in {**query, **parse_qs((body or b"").decode())}.items()}
    action, source = form.get("Action", ""), form.get("SourceDBSnapshotIdentifier", "")
    origin = source.split(":")[3] if source.startswith("arn:") else get_region()
    is_copy = action == "CopyDBSnapshot"
    answer = copy_snapshot(form, origin) if is_copy else await stock(method, path, headers, body, query)
    if answer[0] < 300 and action in SNAPSHOTS:
        of_cluster = "Cluster" in action
        kind, words = ("cluster-snapshot", "DB Cluster Snapshot") if of_cluster else ("snapshot", "DB Snapshot")
        names = (form.get(key) for key in ("TargetDBSnapshotIdentifier", "DBSnapshotIdentifier", "DBClusterSnapshotIdentifier"))
        name = next(filter(None, names), "")
        arn = f"arn:aws:rds:{get_region()}:{get_account_id()}:{kind}:{name}"
        for number, category, message in SNAPSHOTS[f"{action} from afar" if origin != get_region() else action]:
            announce("aws.rds", f"RDS {words} Event", {
                "EventCategories": [category], "SourceType": kind.upper().replace("-", "_"), "SourceArn": arn,
                "Date": now(), "SourceIdentifier": name, "EventID": f"RDS-EVENT-{number}",
                "Message": message.format(source=source.split(":snapshot:")[-1], region=get_region(), origin=origin),
            }, arn)  # fmt: skip
    return answer
