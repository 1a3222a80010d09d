from eventstacks.flow.graph import as_list
from eventstacks.flow.permissions import evaluate, policies_of_role
from eventstacks.flow.resolve import Resource
from eventstacks.lint._rule import GUIDE, Findings, FlowRule, Node, View
from eventstacks.lint._view import VIA_TRAIL, pattern_of, tests_of

EVERYTHING = ("/AmazonS3FullAccess", "/AdministratorAccess")
ANYTHING = (
    {"prefix": ""},
    {"suffix": ""},
    {"wildcard": "*"},
    {"exists": True},
)  # tests that every key passes
ROLES = {"AWS::Lambda::Function": "Role", "AWS::StepFunctions::StateMachine": "RoleArn"}
WRITES = {"Object Created": "detail.object.key", VIA_TRAIL: "detail.requestParameters.key"}


class Loop(FlowRule):
    id = "W9819"
    shortdesc = "A target should not make what its own rule matches"
    description = (
        "A rule on new objects of a bucket whose target may write anywhere into that bucket, or a rule whose target is "
        "its own bus, can go round for ever, and each round is paid for."
    )
    source_url = f"{GUIDE}eb-troubleshooting.html"

    def check(self, view: View) -> Findings:
        for target in view.targets:
            rule, arn = view.rule_of(target.rule), target.node.get("Arn")
            if not rule or not arn:
                continue
            if target.arn == rule.bus:
                yield (
                    arn,
                    "The rule sends events to the bus that it takes them from: name another bus",
                )
            for bucket in _matched(view, target.rule):
                if _writes(view, target.arn, bucket):
                    message = (
                        f"The rule matches every new object of {bucket.logical_id}, and this target may write there: "
                        "they can go round for ever. Match a prefix of the key, and let the target write elsewhere"
                    )
                    yield arn, message


def _matched(view: View, properties: Node) -> list[Resource]:
    """The buckets of the template of which the rule matches every new object."""
    pattern = pattern_of(properties) or {}
    kind = next((one for one in tests_of(pattern, "detail-type") if str(one) in WRITES), "")
    calls = tests_of(pattern, "detail", "eventName")
    keys = tests_of(pattern, *WRITES[kind].split(".")) if kind else []
    is_restricted = keys and not any(one in ANYTHING for one in keys)
    if not kind or is_restricted or (calls and "PutObject" not in calls):
        return []
    fields = ("bucket", "name") if kind == "Object Created" else ("requestParameters", "bucketName")
    names = [*tests_of(pattern, "detail", *fields), *tests_of(pattern, "resources")]
    buckets = (one for one in view.flow.resources.values() if one.type == "AWS::S3::Bucket")
    return [one for one in buckets if one.name in names or one.arn in names]


def _writes(view: View, arn: str, bucket: Resource) -> bool:
    """Whether the target surely may put any object into the bucket."""
    flow, resource = view.flow, view.flow.resources.get(arn)
    if resource is None:
        return False
    if resource.type == "AWS::KinesisFirehose::DeliveryStream":
        configured = (
            one
            for key, one in resource.properties.items()
            if key.endswith("S3DestinationConfiguration")
        )
        return any(
            isinstance(one, dict) and one.get("BucketARN") == bucket.arn for one in configured
        )
    role = flow.resources.get(str(resource.properties.get(ROLES.get(resource.type, ""))))
    if role is None:
        return False
    if any(
        str(one).endswith(EVERYTHING) for one in as_list(role.properties.get("ManagedPolicyArns"))
    ):
        return True
    verdict = evaluate(policies_of_role(flow, role), None, "s3:PutObject", f"{bucket.arn}/x", {})
    return verdict is not None and verdict.allowed is True
