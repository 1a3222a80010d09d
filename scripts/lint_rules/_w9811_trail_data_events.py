from scripts.lint_rules._rule import Findings, FlowRule, Node, View
from scripts.lint_rules._view import VIA_TRAIL, place_of, tests_of

OBJECT_CALLS = frozenset({
    "PutObject", "GetObject", "DeleteObject", "DeleteObjects", "CopyObject", "HeadObject", "CompleteMultipartUpload",
    "CreateMultipartUpload", "UploadPart", "PutObjectAcl", "PutObjectTagging", "DeleteObjectTagging", "RestoreObject",
})  # fmt: skip


class TrailDataEvents(FlowRule):
    id = "W9811"
    shortdesc = "Calls on S3 objects need a trail that records data events"
    description = (
        "CloudTrail reports calls on objects, such as PutObject, only where a trail selects data events of S3. "
        "None does unless told so. S3's own events need no trail."
    )
    source_url = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-cloudtrail-logging-for-s3.html"

    def check(self, view: View) -> Findings:
        if not view.is_whole or any(_selects_objects(node) for _, node in view.each("AWS::CloudTrail::Trail")):
            return
        for properties, pattern in view.patterns:
            calls = [one for one in tests_of(pattern, "detail", "eventName") if isinstance(one, str)]
            sources = tests_of(pattern, "source") + tests_of(pattern, "detail", "eventSource")
            is_object_call = VIA_TRAIL in tests_of(pattern, "detail-type") and OBJECT_CALLS.intersection(calls)
            if is_object_call and ("aws.s3" in sources or "s3.amazonaws.com" in sources):
                message = (
                    "Calls on objects are data events, and no trail here selects those of S3: add "
                    "AdvancedEventSelectors to a trail, or use S3's own events (EventBridgeConfiguration)"
                )
                yield place_of(properties, "detail", "eventName"), message


def _selects_objects(trail: Node) -> bool:
    """Whether it selects some, or may: only AWS knows what a symbol stands for."""
    found = [node.value for key in ("EventSelectors", "AdvancedEventSelectors") if (node := trail.get(key))]
    return "AWS::S3" in str(found) or "?⟩" in str(found)
