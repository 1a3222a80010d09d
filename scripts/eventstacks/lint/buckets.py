"""Rules on S3 buckets as publishers."""

import json
import re
from functools import partial

from eventstacks.flow.graph import Flow, bus_name
from eventstacks.flow.symbols import Json, as_dict
from eventstacks.lint.rule import Findings, flow_rule
from eventstacks.lint.view import View, place_of, tests_of

BUCKET = "AWS::S3::Bucket"
EVENT_KINDS = frozenset(
    {
        "Object Created",
        "Object Deleted",
        "Object Restore Initiated",
        "Object Restore Completed",
        "Object Restore Expired",
        "Object Storage Class Changed",
        "Object Access Tier Changed",
        "Object ACL Updated",
        "Object Tags Added",
        "Object Tags Deleted",
    }
)
NAME_FIELDS = (("detail", "bucket", "name"), ("resources",))
# Custom resources, such as the CDK's, turn the notifications on.
_CUSTOM = re.compile("bucket_?notification|NotificationConfiguration", re.IGNORECASE)


@flow_rule(
    "W9821",
    "Validate that a bucket sends its events to EventBridge",
    "A bucket sends S3's own events, such as Object Created, to EventBridge only with "
    "NotificationConfiguration.EventBridgeConfiguration (EventBridgeEnabled: true). A configuration "
    "under a condition counts: it can be left out on purpose.",
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html",
    ("events", "s3"),
)
def silent_bucket(view: View) -> Findings:
    others = [raw for raw in view.resources.values() if as_dict(raw).get("Type") != BUCKET]
    if _CUSTOM.search(json.dumps(others, default=str)):
        return
    buckets = [one for one in view.flow.resources.values() if one.type == BUCKET]
    for properties, pattern in view.patterns:
        rule = view.rule_of(properties)
        if not rule or bus_name(rule.bus) != "default" or not _is_of_s3(pattern):
            continue
        for bucket in buckets:
            named = [
                (keys, test)
                for keys in NAME_FIELDS
                for test in tests_of(pattern, *keys)
                if test in (bucket.name, bucket.arn)
            ]
            holds = partial(_is_silent, bucket.logical_id)
            if named and view.holds_in_all_scenarios(holds, BUCKET):
                keys, test = named[0]
                message = f"{bucket.logical_id} does not send its events to EventBridge"
                yield place_of(properties, *keys, test=test), message


def _is_of_s3(pattern: Json) -> bool:
    """Return True if a pattern only matches events that S3 itself sends."""
    kinds = tests_of(pattern, "detail-type")
    is_own = bool(kinds) and all(str(kind) in EVENT_KINDS for kind in kinds)
    return is_own and tests_of(pattern, "source") == ["aws.s3"]


def _is_silent(name: str, flow: Flow) -> bool:
    """Return True if a bucket, if it exists, is known to send nothing."""
    value = next((one.properties for one in flow.resources.values() if one.logical_id == name), {})
    for key in ("NotificationConfiguration", "EventBridgeConfiguration"):
        if key not in value:
            return True
        if not isinstance(value := value[key], dict):
            return False
    return str(value.get("EventBridgeEnabled")).lower() == "false"
