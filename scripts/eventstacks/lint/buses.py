"""Rules on event buses, and on what publishes to them: S3 buckets, and CloudTrail trails."""

import json
import re
from functools import partial
from typing import Any

from eventstacks.flow.graph import Flow, bus_name
from eventstacks.flow.symbols import Json, as_dict, as_list, is_open
from eventstacks.flow.trace import VIA_TRAIL
from eventstacks.lint.view import (
    BUS,
    GUIDE,
    RULE,
    Findings,
    View,
    could_equal,
    flow_rule,
    is_of_s3,
    place_of,
    tests_of,
)


@flow_rule(
    "E9810",
    "Validate that a rule with a schedule is on the default bus",
    "PutRule refuses a ScheduleExpression on a custom event bus: remove EventBusName, or use "
    "EventBridge Scheduler.",
    f"{GUIDE}eb-create-rule-schedule.html",
    ("events", "schedules"),
)
def schedule_bus(view: View) -> Findings:
    for _, node in view.each(RULE):
        schedule, bus = node.get("ScheduleExpression"), node.get("EventBusName")
        name = str(bus.value).rsplit("/", 1)[-1] if bus and not is_open(bus.value) else "default"
        if schedule and name != "default":
            yield schedule, "'ScheduleExpression' is not supported on a custom event bus"


@flow_rule(
    "W9809",
    "Validate that rules on events of AWS services are on the default bus",
    "Events of AWS services arrive on the default bus. A rule on a custom bus receives none unless "
    "a rule on the default bus forwards them: put the rule there, or forward. A bus of the "
    "template with a bus policy counts as fed by another account or Region.",
    f"{GUIDE}eb-service-event.html",
    ("events", "buses", "patterns"),
)
def aws_events_elsewhere(view: View) -> Findings:
    fed = {target.arn for rule in view.flow.rules for target in rule.targets}
    if not view.is_complete or any(map(is_open, fed)):
        return
    for properties, rule, pattern in view.patterns:
        bus = view.flow.resources.get(rule.bus) if properties.get("EventBusName") else None
        if (
            not bus
            or bus.arn in fed
            or "EventSourceName" in bus.properties  # the bus of a partner
            or view.flow.policies_of(bus.arn)
        ):
            continue
        for test in tests_of(pattern, "source"):
            text = test.get("prefix") if isinstance(test, dict) else test
            if str(text).startswith("aws.") and not str(text).startswith("aws.partner/"):
                yield (
                    place_of(properties, "source", test=test),
                    f"events of {text} arrive on the default bus, not on {bus.logical_id}",
                )


@flow_rule(
    "W9816",
    "Validate that a bus with a customer managed key has a dead-letter queue",
    "An event that cannot be encrypted or decrypted with the key is lost unless the bus has a "
    "DeadLetterConfig. A queue with the same key cannot take it either: set SqsManagedSseEnabled.",
    f"{GUIDE}eb-encryption-event-bus-dlq.html",
    ("events", "buses", "kms", "dead-letter-queue"),
    types=(BUS,),
)
def bus_key(view: View) -> Findings:
    for _, node in view.each(BUS):
        key = node.get("KmsKeyIdentifier")
        if key and key.value and not node.get("DeadLetterConfig"):
            yield (
                key,
                "'DeadLetterConfig' is missing: events are lost if this key cannot be used",
            )


BUCKET = "AWS::S3::Bucket"
NAME_FIELDS = (("detail", "bucket", "name"), ("resources",))
# Custom resources, such as the CDK's, turn the notifications on.
_CUSTOM = re.compile("bucket_?notification|NotificationConfiguration", re.IGNORECASE)


@flow_rule(
    "W9821",
    "Validate that a bucket sends its events to EventBridge",
    "A bucket sends S3's own events, such as Object Created, to EventBridge only with "
    "NotificationConfiguration.EventBridgeConfiguration (EventBridgeEnabled: true). A "
    "configuration under a condition counts: it can be left out on purpose.",
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/"
    "enable-event-notifications-eventbridge.html",
    ("events", "s3"),
)
def silent_bucket(view: View) -> Findings:
    others = [raw for raw in view.resources.values() if as_dict(raw).get("Type") != BUCKET]
    if _CUSTOM.search(json.dumps(others, default=str)):
        return
    buckets = [one for one in view.flow.resources.values() if one.type == BUCKET]
    for properties, rule, pattern in view.patterns:
        if bus_name(rule.bus) != "default" or not is_of_s3(pattern):
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
                yield (
                    place_of(properties, *keys, test=test),
                    f"{bucket.logical_id} does not send its events to EventBridge",
                )


def _is_silent(name: str, flow: Flow) -> bool:
    """Return True if a bucket, if it exists, is known to send nothing."""
    value = next((one.properties for one in flow.resources.values() if one.logical_id == name), {})
    for key in ("NotificationConfiguration", "EventBridgeConfiguration"):
        if key not in value:
            return True
        if not isinstance(value := value[key], dict):
            return False
    return str(value.get("EventBridgeEnabled")).lower() == "false"


TRAIL = "AWS::CloudTrail::Trail"
OBJECT_CALLS = frozenset(
    {
        "PutObject",
        "GetObject",
        "DeleteObject",
        "DeleteObjects",
        "CopyObject",
        "HeadObject",
        "CompleteMultipartUpload",
        "CreateMultipartUpload",
        "UploadPart",
        "PutObjectAcl",
        "PutObjectTagging",
        "DeleteObjectTagging",
        "RestoreObject",
    }
)
# Calls on buckets are management events, which need no selector.
BUCKET_CALLS = ("PutBucketAcl", "GetBucketTagging", "DeleteBucket", "HeadBucket", "CreateBucket")


@flow_rule(
    "W9811",
    "Validate that a trail records the S3 calls that a rule matches",
    "CloudTrail reports calls on objects, such as PutObject, only if a trail selects data events "
    "of S3, which none does by default; one that selects reads only (readOnly, ReadWriteType) "
    "leaves out writes. Add AdvancedEventSelectors to the trail, or use S3's own events, which "
    "need no trail (EventBridgeConfiguration). A template without a trail is not judged: the trail "
    "can be in another one.",
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-cloudtrail-logging-for-s3.html",
    ("events", "cloudtrail", "s3"),
)
def trail_data_events(view: View) -> Findings:
    trails = [trail for _, trail in view.each(TRAIL)]
    if not (trails and view.is_complete):
        return
    keys = ("EventSelectors", "AdvancedEventSelectors")
    selectors = [entry.value for trail in trails for key in keys for entry in trail.items(key)]
    for properties, _, pattern in view.patterns:
        missing = [
            min(calls)
            for calls in _object_calls(pattern)
            if not any(_selects(selector, call) for selector in selectors for call in calls)
        ]
        if missing:
            place = place_of(properties, "detail", "eventName")
            yield place, f"no trail of the template records {missing[0]}"


def _object_calls(pattern: Json) -> list[set[str]]:
    """Return the calls on objects that each test of a pattern allows, if it allows only such calls.

    A prefix such as Put also allows calls on buckets, unless the pattern tests the key of an
    object.
    """
    sources = tests_of(pattern, "source") + tests_of(pattern, "detail", "eventSource")
    names_s3 = any(one in sources for one in ("aws.s3", "s3.amazonaws.com"))
    if VIA_TRAIL not in tests_of(pattern, "detail-type") or not names_s3:
        return []
    has_key = bool(tests_of(pattern, "detail", "requestParameters", "key"))
    found = []
    for test in tests_of(pattern, "detail", "eventName"):
        calls = {call for call in OBJECT_CALLS if could_equal([test], call)}
        can_be_bucket_call = any(could_equal([test], call) for call in BUCKET_CALLS)
        if calls and (has_key or not can_be_bucket_call):
            found.append(calls)
    return found


def _selects(selector: Any, call: str) -> bool:
    """Return True if a selector selects a call, or if a symbol in it can.

    Which calls are reads: CloudTrail API reference, AdvancedFieldSelector (readOnly) and
    EventSelector (ReadWriteType).
    """
    if "?⟩" in str(selector):
        return True
    if not isinstance(selector, dict) or "AWS::S3" not in str(selector):
        return False
    fields = {
        str(field.get("Field")): {str(value).lower() for value in as_list(field["Equals"])}
        for field in map(as_dict, as_list(selector.get("FieldSelectors")))
        if "Equals" in field
    }
    is_read = call.startswith(("Get", "Head"))
    return (
        selector.get("ReadWriteType", "All") != ("WriteOnly" if is_read else "ReadOnly")
        and str(is_read).lower() in fields.get("readOnly", {str(is_read).lower()})
        and call.lower() in fields.get("eventName", {call.lower()})
    )
