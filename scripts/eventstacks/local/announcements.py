"""Events of AWS services that MiniStack does not send.

S3 data events through CloudTrail, RDS snapshots, and notifications of alarms.

And CopyDBSnapshot and CopyDBClusterSnapshot, which it lacks.

S3's own 'Object Created' comes from MiniStack, for buckets with EventBridgeEnabled.
"""

import contextvars
import json
import time
import uuid
from typing import Any
from urllib.parse import parse_qs, unquote

from ministack.core import iam_actions
from ministack.core.iam_evaluator import caller_arn
from ministack.core.responses import get_account_id, get_region, now_iso, set_request_region
from ministack.services import cloudwatch, eventbridge, kms, rds, s3, sns

from eventstacks.local.ministack import Json, Original, call, in_region, log, patch
from eventstacks.local.policies import policies_allow

Form = dict[str, list[str]]
# (method, part of an upload, copy) -> event name in CloudTrail; GET and HEAD are reads.
OBJECT_CALLS = {
    ("PUT", False, False): "PutObject",
    ("PUT", False, True): "CopyObject",
    ("DELETE", False, False): "DeleteObject",
    ("PUT", True, False): "UploadPart",
    ("PUT", True, True): "UploadPartCopy",
    ("GET", False, False): "GetObject",
    ("POST", True, False): "CompleteMultipartUpload",
    ("HEAD", False, False): "HeadObject",
}
# Query parameters of these calls; others (tagging, acl …) make it another operation.
OBJECT_PARAMETERS = {"x-id", "partNumber", "uploadId", "versionId"}
# (Action, from another Region) -> category, event IDs and messages (RDS User Guide; the texts of
# 0041 and of the copies are from memory).
SNAPSHOTS = {
    ("CreateDBSnapshot", False): (
        "creation",
        {"0040": "Creating manual snapshot", "0042": "Manual snapshot created"},
    ),
    ("DeleteDBSnapshot", False): ("deletion", {"0041": "Deleted manual snapshot"}),
    ("CopyDBSnapshot", False): (
        "creation",
        {"0196": "Started copy of snapshot {}", "0197": "Finished copy of snapshot {}"},
    ),
    ("CopyDBSnapshot", True): (
        "creation",
        {
            "0059": "Started copy of snapshot {} from region {}",
            "0060": "Finished copy of snapshot {} from region {}",
        },
    ),
    ("CreateDBClusterSnapshot", False): (
        "backup",
        {"0074": "Creating manual cluster snapshot", "0075": "Manual cluster snapshot created"},
    ),
}


CLOUDWATCH = "cloudwatch.amazonaws.com"
ACTIONS = {"ALARM": "AlarmActions", "OK": "OKActions"}


def announce(source: str, detail_type: str, detail: Json, *resources: str) -> None:
    """Put an event of an AWS service on the default bus of the current account and Region."""
    entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail)}
    entries = [{**entry, "Resources": list(resources)}]
    eventbridge._put_events({"Entries": entries}, allow_aws_source=True)


def selects(selector: Json, values: dict[str, str]) -> bool:
    """Return True if an event selector, basic or advanced, selects a data event with these fields.

    Source: CloudTrail API reference.
    """
    if "FieldSelectors" in selector:
        tests: dict[str, Any] = {
            "Equals": lambda value, operand: value in operand,
            "StartsWith": str.startswith,
            "EndsWith": str.endswith,
        }
        return all(
            tests[name.removeprefix("Not")](values.get(field["Field"], ""), tuple(operand))
            != name.startswith("Not")
            for field in selector["FieldSelectors"]
            for name, operand in field.items()
            if name != "Field"
        )
    kinds = ("All", "ReadOnly" if values["readOnly"] == "true" else "WriteOnly")
    prefixes = tuple(
        prefix  # 'arn:aws:s3' is every bucket
        for resource in selector.get("DataResources", [])
        if resource["Type"] == "AWS::S3::Object"
        for prefix in resource.get("Values", [])
    )
    is_selected = values["resources.ARN"].startswith(prefixes)
    return selector.get("ReadWriteType", "All") in kinds and is_selected


def active_selectors() -> list[Json]:
    """Return the event selectors of the trails that log in this Region."""
    trails = call("cloudtrail", "CloudTrail.DescribeTrails")["trailList"]
    answers = [
        call("cloudtrail", "CloudTrail.GetEventSelectors", TrailName=trail["TrailARN"])
        for trail in trails
        if call("cloudtrail", "CloudTrail.GetTrailStatus", Name=trail["TrailARN"])["IsLogging"]
    ]
    return [
        selector
        for answer in answers
        for selector in answer.get("AdvancedEventSelectors") or answer["EventSelectors"]
    ]


def report(
    name: str, bucket: str, key: str, headers: dict[str, str], body: bytes | None, *, reads: bool
) -> None:
    """Put 'AWS API Call via CloudTrail' on the default bus of the bucket's Region.

    Source: CloudTrail record reference.
    """
    set_request_region(s3._notification_bucket_region(bucket))
    arn, account, caller = f"arn:aws:s3:::{bucket}/{key}", get_account_id(), caller_arn()
    values = {
        "eventCategory": "Data",
        "resources.type": "AWS::S3::Object",
        "resources.ARN": arn,
        "readOnly": str(reads).lower(),
        "eventName": name,
    }
    if not any(selects(selector, values) for selector in active_selectors()):
        return
    kinds = {"root": "Root", "assumed-role": "AssumedRole"}
    announce(
        "aws.s3",
        "AWS API Call via CloudTrail",
        {
            "eventVersion": "1.11",
            "eventSource": "s3.amazonaws.com",
            "eventName": name,
            "awsRegion": get_region(),
            "userIdentity": {
                "type": kinds.get(caller.rpartition(":")[2].split("/")[0], "IAMUser"),
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
    """Handle an S3 request, then report it to CloudTrail.

    AWS records refused requests too; this does not.
    """
    answer = await original(method, path, headers, body, query, **rest)
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    name = OBJECT_CALLS.get((method, "uploadId" in query, "x-amz-copy-source" in headers))
    is_done = answer[0] < 300 and not set(query) - OBJECT_PARAMETERS
    if name and key and is_done and bucket in s3._buckets:
        reads, context = method in {"GET", "HEAD"}, contextvars.copy_context()
        context.run(report, name, bucket, key, headers, body, reads=reads)
    return answer


def region_of(snapshot: str) -> str:
    """Return the Region of a snapshot, given by its name or its ARN."""
    return snapshot.split(":")[3] if snapshot.startswith("arn:") else get_region()


@patch("handle_request", rds)
async def on_rds(
    original: Original, method: str, path: str, headers: Any, body: Any, query: Any
) -> Any:
    """Handle an RDS request, then send the events of the snapshot that it is about."""
    answer = await original(method, path, headers, body, query)
    form = {key: value[0] for key, value in {**query, **parse_qs((body or b"").decode())}.items()}
    action, source = form.get("Action", ""), form.get("SourceDBSnapshotIdentifier", "")
    origin = region_of(source)
    category, messages = SNAPSHOTS.get((action, origin != get_region()), ("", {}))
    names = (form.get(f"{kind}SnapshotIdentifier") for kind in ("TargetDB", "DBCluster", "DB"))
    name = next(filter(None, names), "")
    kind = "cluster-snapshot" if "Cluster" in action else "snapshot"
    arn = f"arn:aws:rds:{get_region()}:{get_account_id()}:{kind}:{name}"
    for number, message in messages.items() if answer[0] < 300 else ():
        detail = {
            "EventCategories": [category],
            "SourceType": kind.replace("-", "_").upper(),
            "SourceArn": arn,
            "Date": now_iso(),
            "SourceIdentifier": name,
            "EventID": f"RDS-EVENT-{number}",
            "Message": message.format(source.split(":snapshot:")[-1], origin),
        }
        announce("aws.rds", f"RDS DB {kind.replace('-', ' ').title()} Event", detail, arn)
    return answer


def copy_snapshot(part: str, kind: str, form: Form) -> Any:
    """Copy a snapshot of an instance or a cluster.

    The copy is available at once. Quotas are not counted.

    ``part``: DBSnapshot or DBClusterSnapshot; ``kind``: its part of an ARN.
    """
    is_cluster = part == "DBClusterSnapshot"
    store = rds._db_cluster_snapshots if is_cluster else rds._snapshots
    suffix = "Fault" if is_cluster else ""
    source, name = form[f"Source{part}Identifier"][0], form[f"Target{part}Identifier"][0]
    origin = region_of(source)
    original = in_region(origin, store.get, source.rsplit(f":{kind}:", maxsplit=1)[-1])
    if original is None:
        return rds._error(f"{part}NotFound{suffix}", f"Snapshot {source} not found.", 404)
    if name in store:
        return rds._error(f"{part}AlreadyExists{suffix}", f"{name} already exists.", 400)
    tags = rds._parse_tags(form)
    copy = {
        **original,
        f"{part}Identifier": name,
        "SourceRegion": origin,
        f"Source{part}Identifier": source,
        f"{part}Arn": f"arn:aws:rds:{get_region()}:{get_account_id()}:{kind}:{name}",
        "SnapshotType": "manual",
        "SnapshotCreateTime": now_iso(),
        "TagList": tags,
    }
    if key := form.get("KmsKeyId"):
        copy |= {"KmsKeyId": key[0], "StorageEncrypted" if is_cluster else "Encrypted": True}
    store[name], rds._tags[copy[f"{part}Arn"]] = copy, tags
    xml = (rds._cluster_snapshot_xml if is_cluster else rds._snapshot_xml)(copy)
    text = f"<Copy{part}Result><{part}>{xml}</{part}></Copy{part}Result>"
    return rds._xml(200, f"Copy{part}Response", text)


def _copy_instance_snapshot(form: Form) -> Any:
    return copy_snapshot("DBSnapshot", "snapshot", form)


def _copy_cluster_snapshot(form: Form) -> Any:
    return copy_snapshot("DBClusterSnapshot", "cluster-snapshot", form)


rds._ACTION_MAP["CopyDBSnapshot"] = _copy_instance_snapshot
rds._ACTION_MAP["CopyDBClusterSnapshot"] = _copy_cluster_snapshot


@patch("extract_resource_arn", iam_actions)
def resource_of(original: Original, service: str, *request: Any) -> str:
    """Return the ARN of the snapshot that a request copies, deletes or tags.

    MiniStack knows instances and clusters only.

    A copy is authorized for its source and its target (service authorization reference); here only
    for the target.
    """
    arn = str(original(service, *request))
    form, region, account = request[4], request[5], request[6]
    action = str(form.get("Action", [""])[0])
    if service != "rds" or not action.startswith(("Copy", "Delete", "AddTags")):
        return arn
    if name := form.get("ResourceName"):
        return str(name[0])
    for part, kind in (("DBSnapshot", "snapshot"), ("DBClusterSnapshot", "cluster-snapshot")):
        for key in (f"Target{part}Identifier", f"{part}Identifier"):
            if key in form:
                return f"arn:aws:rds:{region}:{account}:{kind}:{form[key][0]}"
    return arn


def topic_refusal(arn: str, alarm: str) -> str | None:
    """Return why an alarm may not publish to a topic; None if it may."""
    if not (topic := sns._topics.get(arn)):
        return f"topic {arn} does not exist"
    attributes = topic["attributes"]
    keys = {"aws:sourcearn": alarm, "aws:sourceowner": attributes["Owner"]}
    questions = [("sns:Publish", arn, attributes.get("Policy"))]
    if name := attributes.get("KmsMasterKeyId"):
        key = kms._resolve_key(name) or {"Arn": name}
        calls = ("kms:Decrypt", "kms:GenerateDataKey")
        questions += [(call, key["Arn"], key.get("Policy")) for call in calls]
    for action, resource, policy in questions:
        if not policies_allow([policy or {}], CLOUDWATCH, action, resource, keys):
            return f"the policy of {resource} does not allow {CLOUDWATCH} to call {action}"
    return None


@patch("_dispatch_alarm_actions", cloudwatch)
def notify(original: Original, alarm: Json, old: str, new: str, reason: str) -> None:
    """Publish to the topics that allow it, and record the others in the alarm's history.

    MiniStack publishes to every topic that exists. On AWS a topic whose policy does not name
    CloudWatch refuses the notification, and so does one whose key does not, such as alias/aws/sns
    (CloudWatch User Guide, 'Notifying users on alarm changes'; SNS Developer Guide, 'Key
    management'). The text in the history is a guess.
    """
    field, name = ACTIONS.get(new, "InsufficientDataActions"), alarm["AlarmName"]
    allowed = []
    for action in (alarm.get(field) or []) if alarm.get("ActionsEnabled", True) else []:
        is_topic = cloudwatch._is_sns_action_arn(action)
        if not is_topic or not (refusal := topic_refusal(action, alarm["AlarmArn"])):
            allowed.append(action)
            continue
        log.warning("alarm %s: %s", name, refusal)
        entry = {
            "AlarmName": name,
            "AlarmType": "CompositeAlarm" if "AlarmRule" in alarm else "MetricAlarm",
            "HistoryData": "{}",
            "HistoryItemType": "Action",
            "HistorySummary": f"Failed to execute action {action}. Received error: {refusal}",
            "Timestamp": cloudwatch._ts_iso(time.time()),
        }
        cloudwatch._history_entries().append(entry)
    original({**alarm, field: allowed}, old, new, reason)
