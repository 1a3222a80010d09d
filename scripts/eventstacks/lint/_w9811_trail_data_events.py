from typing import Any

from eventstacks.flow.graph import Json, as_list
from eventstacks.lint._rule import Findings, FlowRule, Node, View
from eventstacks.lint._view import VIA_TRAIL, place_of, tests_of

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
BUCKET_CALLS = (
    "PutBucket",
    "GetBucket",
    "DeleteBucket",
    "HeadBucket",
    "CreateBucket",
)  # how their names begin


class TrailDataEvents(FlowRule):
    id = "W9811"
    shortdesc = "Calls on S3 objects need a trail that records data events"
    description = (
        "CloudTrail reports calls on objects, such as PutObject, only where a trail selects data events of S3. "
        "None does unless told so, and one that selects reads alone (readOnly, ReadWriteType) leaves writes out. "
        "S3's own events need no trail."
    )
    source_url = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-cloudtrail-logging-for-s3.html"

    def check(self, view: View) -> Findings:
        selectors = [
            one for _, trail in view.each("AWS::CloudTrail::Trail") for one in _selectors_of(trail)
        ]
        if not view.is_whole:
            return
        for properties, pattern in view.patterns:
            lost = [
                calls
                for calls in _wanted(pattern)
                if not any(_selects(one, calls) for one in selectors)
            ]
            if lost:
                message = (
                    f"Calls on objects are data events, and no trail here selects {min(lost[0])}: add "
                    "AdvancedEventSelectors to a trail, or use S3's own events (EventBridgeConfiguration)"
                )
                yield place_of(properties, "detail", "eventName"), message


def _wanted(pattern: Json) -> list[set[str]]:
    """The calls on objects that each test of a pattern lets through, if it waits for such calls alone.

    A prefix such as Put is for calls on buckets as well, which come without a selector, unless the pattern has a key.
    """
    sources = tests_of(pattern, "source") + tests_of(pattern, "detail", "eventSource")
    if VIA_TRAIL not in tests_of(pattern, "detail-type") or {
        "aws.s3",
        "s3.amazonaws.com",
    }.isdisjoint(map(str, sources)):
        return []
    has_key = bool(tests_of(pattern, "detail", "requestParameters", "key"))
    found = [_calls_of(test, has_key=has_key) for test in tests_of(pattern, "detail", "eventName")]
    return [calls for calls in found if calls]


def _calls_of(test: Any, *, has_key: bool) -> set[str]:
    prefix = test.get("prefix") if isinstance(test, dict) else None
    if not isinstance(prefix, str):
        return {one for one in OBJECT_CALLS if one == test}
    is_of_buckets = any(one.startswith(prefix) for one in BUCKET_CALLS)
    return (
        {one for one in OBJECT_CALLS if one.startswith(prefix)}
        if has_key or not is_of_buckets
        else set()
    )


def _selectors_of(trail: Node) -> list[Any]:
    """Those of either kind, as the scenario has them."""
    found = [
        node for key in ("EventSelectors", "AdvancedEventSelectors") if (node := trail.get(key))
    ]
    return [one.value for node in found for one in node.items()]


def _selects(selector: Any, calls: set[str]) -> bool:
    """Whether it selects one of the calls, or may: only AWS knows what a symbol stands for.

    Which calls read: CloudTrail API reference, AdvancedFieldSelector (readOnly) and EventSelector (ReadWriteType).
    """
    if not isinstance(selector, dict) or "?⟩" in str(selector):
        return "?⟩" in str(selector)
    if "AWS::S3" not in str(selector):
        return False
    fields = {
        str(one.get("Field")): {str(value).lower() for value in as_list(one["Equals"])}
        for one in as_list(selector.get("FieldSelectors"))
        if isinstance(one, dict) and "Equals" in one
    }
    return any(_lets(selector, fields, call) for call in calls)


def _lets(selector: Json, fields: dict[str, set[str]], call: str) -> bool:
    is_read = call.startswith(("Get", "Head"))
    return (
        selector.get("ReadWriteType", "All") != ("WriteOnly" if is_read else "ReadOnly")
        and str(is_read).lower() in fields.get("readOnly", {str(is_read).lower()})
        and call.lower() in fields.get("eventName", {call.lower()})
    )
