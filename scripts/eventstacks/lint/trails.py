"""Rules on CloudTrail trails and the rules that depend on them."""

from typing import Any

from eventstacks.flow.symbols import Json, as_list
from eventstacks.lint.rule import Findings, flow_rule
from eventstacks.lint.view import VIA_TRAIL, View, place_of, tests_of

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
# How the names of calls on buckets start: management events, which need no selector.
BUCKET_CALLS = ("PutBucket", "GetBucket", "DeleteBucket", "HeadBucket", "CreateBucket")


@flow_rule(
    "W9811",
    "Validate that a trail records the S3 calls that a rule matches",
    "CloudTrail reports calls on objects, such as PutObject, only if a trail selects data events of "
    "S3, which none does by default; one that selects reads only (readOnly, ReadWriteType) leaves "
    "out writes. Add AdvancedEventSelectors to a trail, or use S3's own events, which need no trail "
    "(EventBridgeConfiguration).",
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-cloudtrail-logging-for-s3.html",
    ("events", "cloudtrail", "s3"),
)
def trail_data_events(view: View) -> Findings:
    if not view.is_complete:
        return
    trails = [trail for _, trail in view.each(TRAIL)]
    keys = ("EventSelectors", "AdvancedEventSelectors")
    nodes = filter(None, (trail.get(key) for trail in trails for key in keys))
    selectors = [entry.value for node in nodes for entry in node.items()]
    for properties, pattern in view.patterns:
        for calls in _object_calls(pattern):
            if not any(_selects(selector, calls) for selector in selectors):
                message = f"no trail of the template records {min(calls)}"
                yield place_of(properties, "detail", "eventName"), message
                break


def _object_calls(pattern: Json) -> list[set[str]]:
    """Return the calls on objects that each test of a pattern allows, if it allows only such calls.

    A prefix such as Put also allows calls on buckets, unless the pattern tests the key of an object.
    """
    sources = tests_of(pattern, "source") + tests_of(pattern, "detail", "eventSource")
    if VIA_TRAIL not in tests_of(pattern, "detail-type"):
        return []
    if {"aws.s3", "s3.amazonaws.com"}.isdisjoint(map(str, sources)):
        return []
    has_key = bool(tests_of(pattern, "detail", "requestParameters", "key"))
    tests = tests_of(pattern, "detail", "eventName")
    return [calls for test in tests if (calls := _allowed_calls(test, has_key=has_key))]


def _allowed_calls(test: Any, *, has_key: bool) -> set[str]:
    prefix = test.get("prefix") if isinstance(test, dict) else None
    if not isinstance(prefix, str):
        return {call for call in OBJECT_CALLS if call == test}
    if not has_key and any(call.startswith(prefix) for call in BUCKET_CALLS):
        return set()
    return {call for call in OBJECT_CALLS if call.startswith(prefix)}


def _selects(selector: Any, calls: set[str]) -> bool:
    """Return True if a selector selects one of the calls, or if a symbol in it can.

    Which calls are reads: CloudTrail API reference, AdvancedFieldSelector (readOnly) and EventSelector
    (ReadWriteType).
    """
    if not isinstance(selector, dict) or "?⟩" in str(selector):
        return "?⟩" in str(selector)
    if "AWS::S3" not in str(selector):
        return False
    fields = {
        str(field.get("Field")): {str(value).lower() for value in as_list(field["Equals"])}
        for field in as_list(selector.get("FieldSelectors"))
        if isinstance(field, dict) and "Equals" in field
    }
    return any(_selects_call(selector, fields, call) for call in calls)


def _selects_call(selector: Json, fields: dict[str, set[str]], call: str) -> bool:
    is_read = call.startswith(("Get", "Head"))
    return (
        selector.get("ReadWriteType", "All") != ("WriteOnly" if is_read else "ReadOnly")
        and str(is_read).lower() in fields.get("readOnly", {str(is_read).lower()})
        and call.lower() in fields.get("eventName", {call.lower()})
    )


@flow_rule(
    "E9814",
    "Validate that a trail has one kind of event selectors",
    "PutEventSelectors takes EventSelectors or AdvancedEventSelectors, not both: move all into "
    "AdvancedEventSelectors.",
    "https://docs.aws.amazon.com/awscloudtrail/latest/APIReference/API_PutEventSelectors.html",
    ("cloudtrail",),
    types=(TRAIL,),
)
def trail_selectors(view: View) -> Findings:
    for _, node in view.each(TRAIL):
        basic, advanced = node.get("EventSelectors"), node.get("AdvancedEventSelectors")
        if basic and advanced and basic.value and advanced.value:
            yield basic, "only one of ['EventSelectors', 'AdvancedEventSelectors'] is allowed"
