import json
import re
from functools import partial

from eventstacks.flow.graph import Flow, Json
from eventstacks.lint._rule import Findings, FlowRule, View
from eventstacks.lint._view import place_of, tests_of

KINDS = frozenset(
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
PLACES = (("detail", "bucket", "name"), ("resources",))
BUCKET = "AWS::S3::Bucket"
BY_HAND = re.compile(
    "bucket_?notification|NotificationConfiguration", re.IGNORECASE
)  # as a custom resource of CDK does


class SilentBucket(FlowRule):
    id = "W9821"
    shortdesc = "A bucket must be told to send its events"
    description = (
        "A bucket sends S3's own events, such as Object Created, to EventBridge only with "
        "NotificationConfiguration.EventBridgeConfiguration. Without it none ever comes. "
        "One under a condition counts: it may be left out on purpose."
    )
    source_url = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html"

    def check(self, view: View) -> Findings:
        others = {name: one for name, one in view.resources.items() if not _is_bucket(one)}
        if BY_HAND.search(json.dumps(others, default=str)):
            return
        for properties, pattern in view.patterns:
            rule = view.rule_of(properties)
            if (
                not rule
                or view.flow.buses[rule.bus].name != "default"
                or not _is_of_buckets(pattern)
            ):
                continue
            for bucket in (one for one in view.flow.resources.values() if one.type == BUCKET):
                named = [
                    (keys, test)
                    for keys in PLACES
                    for test in tests_of(pattern, *keys)
                    if test in (bucket.name, bucket.arn)
                ]
                if named and view.is_so_everywhere(partial(_is_silent, bucket.logical_id), BUCKET):
                    keys, test = named[0]
                    message = (
                        f"{bucket.logical_id} sends nothing to EventBridge, so nothing of it ever matches: set its "
                        "NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled"
                    )
                    yield place_of(properties, *keys, test=test), message


def _is_bucket(raw: object) -> bool:
    return isinstance(raw, dict) and raw.get("Type") == BUCKET


def _is_of_buckets(pattern: Json) -> bool:
    """Whether it waits for events that only S3 itself sends."""
    kinds = tests_of(pattern, "detail-type")
    return (
        tests_of(pattern, "source") == ["aws.s3"]
        and bool(kinds)
        and all(str(one) in KINDS for one in kinds)
    )


def _is_silent(name: str, flow: Flow) -> bool:
    """Whether the bucket, if it is there, surely sends nothing; only AWS knows what a symbol stands for."""
    value = next((one.properties for one in flow.resources.values() if one.logical_id == name), {})
    for key in ("NotificationConfiguration", "EventBridgeConfiguration"):
        if key not in value:
            return True
        if not isinstance(value := value[key], dict):
            return False
    return str(value.get("EventBridgeEnabled")).lower() == "false"
