"""Events and operations of AWS services that MiniStack lacks, and what it authorizes otherwise.

Events: S3 data events through CloudTrail, and RDS snapshots. S3's own 'Object Created' comes from
MiniStack, for buckets with EventBridgeEnabled. Operations: CopyDBSnapshot, CopyDBClusterSnapshot
and StartMessageMoveTask. Notifications of alarms obey the policy of the topic.
"""

import functools
import itertools
import json
import time
import uuid
from typing import Any
from urllib.parse import parse_qs, unquote

from ministack.core import iam_actions
from ministack.core.concurrency import esm_wake
from ministack.core.iam_evaluator import caller_arn
from ministack.core.responses import get_account_id, get_region, now_iso
from ministack.services import cloudwatch, eventbridge, rds, s3, sqs, tagging

from eventstacks.flow.targets import Target
from eventstacks.local.ministack import Json, NotDelivered, Original, call, in_region, patch
from eventstacks.local.policies import check_permission

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
# Kind of snapshot -> its part of an ARN, MiniStack's store and form, the attribute of encryption,
# and the end of its error codes.
SNAPSHOT_PARTS = {
    "DBSnapshot": ("snapshot", rds._snapshots, rds._snapshot_xml, "Encrypted", ""),
    "DBClusterSnapshot": (
        "cluster-snapshot",
        rds._db_cluster_snapshots,
        rds._cluster_snapshot_xml,
        "StorageEncrypted",
        "Fault",
    ),
}
ACTIONS = {"ALARM": "AlarmActions", "OK": "OKActions"}


def announce(source: str, detail_type: str, detail: Json, *resources: str) -> None:
    """Put an event of an AWS service on the default bus of the current account and Region."""
    entry = {
        "Source": source,
        "DetailType": detail_type,
        "Detail": json.dumps(detail),
        "Resources": list(resources),
    }
    eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)


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
    name: str,
    bucket: str,
    key: str,
    headers: dict[str, str],
    body: bytes | None,
    reads: bool,  # noqa: FBT001 - called by in_region
) -> None:
    """Put 'AWS API Call via CloudTrail' on the default bus of the bucket's Region.

    Source: CloudTrail record reference.
    """
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
            "requestParameters": {"bucketName": bucket, "Host": headers.get("host"), "key": key},
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
    """Handle an S3 request, then report it to CloudTrail. AWS also records refused ones."""
    answer = await original(method, path, headers, body, query, **rest)
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    name = OBJECT_CALLS.get((method, "uploadId" in query, "x-amz-copy-source" in headers))
    is_done = answer[0] < 300 and not set(query) - OBJECT_PARAMETERS
    if name and key and is_done and bucket in s3._buckets:
        request = (name, bucket, key, headers, body, method in {"GET", "HEAD"})
        in_region(s3._notification_bucket_region(bucket), report, *request)
    return answer


@patch("handle_request", eventbridge)
async def on_events(
    original: Original, method: str, path: str, headers: Any, body: Any, query: Any
) -> Any:
    """Refuse a call of the new EventBridge (AWS::EventsV2), whose protocol is CBOR."""
    if headers.get("smithy-protocol") != "rpc-v2-cbor":
        return await original(method, path, headers, body, query)
    texts = [
        *(b"__type", b"UnknownOperationException"),
        *(b"message", b"the embedded AWS has no buses of the new kind (AWS::EventsV2)"),
    ]
    # A map of two entries; each text has less than 256 bytes. Source: RFC 8949, section 3.1.
    body = b"\xa2" + b"".join(b"\x78%c%b" % (len(text), text) for text in texts)
    return 400, {"content-type": "application/cbor"}, body


def region_of(snapshot: str) -> str:
    """Return the Region of a snapshot, given by its name or its ARN."""
    return snapshot.split(":")[3] if snapshot.startswith("arn:") else get_region()


def snapshot_arn(form: Form) -> str:
    """Return the ARN of the snapshot that a request creates or deletes, '' if there is none."""
    for prefix, (part, (kind, *_)) in itertools.product(("Target", ""), SNAPSHOT_PARTS.items()):
        if name := form.get(f"{prefix}{part}Identifier"):
            return f"arn:aws:rds:{get_region()}:{get_account_id()}:{kind}:{name[0]}"
    return ""


@patch("handle_request", rds)
async def on_rds(
    original: Original, method: str, path: str, headers: Any, body: Any, query: Any
) -> Any:
    """Handle an RDS request, then send the events of the snapshot that it is about."""
    answer = await original(method, path, headers, body, query)
    form = {**query, **parse_qs((body or b"").decode())}
    source = form.get("SourceDBSnapshotIdentifier", [""])[0]
    call = (form.get("Action", [""])[0], region_of(source) != get_region())
    category, messages = SNAPSHOTS.get(call, ("", {}))
    arn = snapshot_arn(form)
    if answer[0] >= 300:
        return answer
    for number, message in messages.items():
        kind, name = arn.split(":")[5:]
        detail = {
            "EventCategories": [category],
            "SourceType": kind.replace("-", "_").upper(),
            "SourceArn": arn,
            "Date": now_iso(),
            "SourceIdentifier": name,
            "EventID": f"RDS-EVENT-{number}",
            "Message": message.format(source.split(":snapshot:")[-1], region_of(source)),
        }
        announce("aws.rds", f"RDS DB {kind.replace('-', ' ').title()} Event", detail, arn)
    return answer


def copy_snapshot(part: str, form: Form) -> Any:
    """Copy a snapshot of an instance or a cluster.

    The copy is available at once. Quotas are not counted.

    ``part``: a key of SNAPSHOT_PARTS.
    """
    kind, store, to_xml, encrypted, suffix = SNAPSHOT_PARTS[part]
    source, name = form[f"Source{part}Identifier"][0], form[f"Target{part}Identifier"][0]
    origin, arn, tags = region_of(source), snapshot_arn(form), rds._parse_tags(form)
    original = in_region(origin, store.get, source.rsplit(f":{kind}:", maxsplit=1)[-1])
    if original is None:
        return rds._error(f"{part}NotFound{suffix}", f"Snapshot {source} not found.", 404)
    if name in store:
        return rds._error(f"{part}AlreadyExists{suffix}", f"{name} already exists.", 400)
    copy = {
        **original,
        f"{part}Identifier": name,
        "SourceRegion": origin,
        f"Source{part}Identifier": source,
        f"{part}Arn": arn,
        "SnapshotType": "manual",
        "SnapshotCreateTime": now_iso(),
        "TagList": tags,
    }
    if key := form.get("KmsKeyId"):
        copy |= {"KmsKeyId": key[0], encrypted: True}
    store[name], rds._tags[arn] = copy, tags
    text = f"<Copy{part}Result><{part}>{to_xml(copy)}</{part}></Copy{part}Result>"
    return rds._xml(200, f"Copy{part}Response", text)


for _part in SNAPSHOT_PARTS:
    rds._ACTION_MAP[f"Copy{_part}"] = functools.partial(copy_snapshot, _part)
# Services whose tags aws:ResourceTag in a role's policy can name.
tagging._RESOURCE_TAG_COLLECTORS |= {**tagging._COLLECTORS, "rds": rds._tags.items}


@patch("extract_resource_arn", iam_actions)
def resource_of(original: Original, service: str, *request: Any) -> str:
    """Return the ARN that a request is authorized for, where MiniStack takes another one.

    The ARN of a log group ends with ':*', as !GetAtt Arn does, except for tags (service
    authorization reference of CloudWatch Logs). A change set named by its ARN is authorized by that
    (seen on AWS by widdix/complete-aws-iam-reference, issue 6). Of RDS, MiniStack knows instances
    and clusters only. A copy is authorized for its source and its target (service authorization
    reference); here only for the target.
    """
    arn = str(original(service, *request))
    _, _, headers, _, form, *_ = request
    if service == "cloudformation" and arn == "*":
        return str(form.get("ChangeSetName", ["*"])[0])
    if service == "logs" and ":log-group:" in arn and "Tag" not in headers.get("x-amz-target", ""):
        return f"{arn}:*"
    action = str(form.get("Action", [""])[0])
    if service == "rds" and action.startswith(("Copy", "Delete", "AddTags")):
        return str(form.get("ResourceName", [""])[0]) or snapshot_arn(form) or arn
    return arn


@patch("_dispatch_alarm_actions", cloudwatch)
def notify(original: Original, alarm: Json, old: str, new: str, reason: str) -> None:
    """Publish to the topics that allow it, and record the others in the alarm's history.

    MiniStack publishes to every topic that exists. On AWS a topic whose policy does not name
    CloudWatch refuses the notification, and so does one whose key does not, such as alias/aws/sns
    (CloudWatch User Guide, 'Notifying users on alarm changes'; SNS Developer Guide, 'Key
    management'). The text in the history is a guess.
    """
    field = ACTIONS.get(new, "InsufficientDataActions")
    actions = alarm.get(field) if alarm.get("ActionsEnabled", True) else None
    allowed = []
    for topic in filter(cloudwatch._is_sns_action_arn, actions or []):
        try:
            keys = {"aws:sourceowner": get_account_id()}
            check_permission(Target("", topic), alarm["AlarmArn"], "cloudwatch.amazonaws.com", keys)
            allowed.append(topic)
        except NotDelivered as refusal:
            _, text = refusal.args
            entry = {
                "AlarmName": alarm["AlarmName"],
                "AlarmType": "CompositeAlarm" if "AlarmRule" in alarm else "MetricAlarm",
                "HistoryData": "{}",
                "HistoryItemType": "Action",
                "HistorySummary": f"Failed to execute action {topic}. Received error: {text}",
                "Timestamp": cloudwatch._ts_iso(time.time()),
            }
            cloudwatch._history_entries().append(entry)
    original({**alarm, field: allowed}, old, new, reason)


def start_move(data: Json, _url: str) -> Json:
    """Move the visible messages of a dead-letter queue to a queue, else back to their own, at once.

    Source: SQS Developer Guide, 'Configure a dead-letter queue redrive'. That messages which did
    not come from a queue stay where they are is a guess.
    """
    queue, destination = sqs._queue_by_arn(data["SourceArn"]), data.get("DestinationArn")
    if not queue or (destination and not sqs._queue_by_arn(destination)):
        raise sqs._Err("ResourceNotFoundException", "The specified queue does not exist.")
    now = time.time()
    for message in [one for one in queue["messages"] if one["visible_at"] <= now]:
        arn = destination or message["sys"].get("DeadLetterQueueSourceArn", "")
        if target := sqs._queue_by_arn(arn):
            # A moved message is a new one: its own ID, age and count of receives.
            new = {"id": str(uuid.uuid4()), "receive_count": 0, "first_receive_at": None, "sys": {}}
            target["messages"].append({**message, **new, "sent_at": now})
            queue["messages"].remove(message)
    esm_wake.set()
    return {"TaskHandle": str(uuid.uuid4())}


sqs._HANDLERS["StartMessageMoveTask"] = start_move
