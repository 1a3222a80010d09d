"""Rules on the targets of rules: their inputs, roles, dead-letter queues, and loops."""

from functools import partial

from eventstacks.flow import payload, permissions
from eventstacks.flow.graph import Flow, Rule
from eventstacks.flow.resolve import Resource
from eventstacks.flow.symbols import as_dict, as_list
from eventstacks.flow.targets import INPUTS, Reason, Role, Target, kind_of, refusal_of
from eventstacks.lint.rule import GUIDE, Findings, flow_rule
from eventstacks.lint.view import (
    BUS,
    RULE,
    SCHEDULE,
    VIA_TRAIL,
    TargetNode,
    View,
    pattern_of,
    tests_of,
)

MAX_TARGETS = 5  # quota "Targets per rule", which cannot be raised
ROLE_TYPES = (
    "AWS::IAM::Role",
    "AWS::IAM::Policy",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::RolePolicy",
    "AWS::ECS::TaskDefinition",
)


@flow_rule(
    "E9802",
    "Validate that a log group target has no RoleArn",
    "PutTargets refuses a RoleArn on a log group. Remove it: log groups are protected by an "
    "AWS::Logs::ResourcePolicy.",
    f"{GUIDE}eb-use-resource-based.html#eb-cloudwatchlogs-permissions",
    ("events", "targets", "iam"),
)
def log_group_role(view: View) -> Findings:
    for target in view.targets:
        kind, role = kind_of(target.arn), target.node.get("RoleArn")
        if kind and kind.role is Role.REFUSED and role:
            yield role, f"'RoleArn' is not supported for a {kind.title}"


@flow_rule(
    "E9804",
    "Validate that a target has one kind of input",
    "PutTargets refuses more than one of Input, InputPath and InputTransformer: keep one.",
    "https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_Target.html",
    ("events", "targets", "input"),
)
def one_input(view: View) -> Findings:
    for target in view.targets:
        given = [key for key in INPUTS if key in target.node]
        if len(given) > 1:
            yield target.node, f"only one of {given} is allowed"


@flow_rule(
    "E9806",
    "Validate the number and the IDs of the targets of a rule",
    "A rule has at most five targets; put the others on a second rule. Of two targets with the "
    "same Id the later one replaces the other: give each its own.",
    f"{GUIDE}eb-quota.html",
    ("events", "targets", "limits"),
)
def target_ids(view: View) -> Findings:
    for _, rule in view.each(RULE):
        targets = rule.get("Targets")
        if not targets or not isinstance(targets.raw, list):
            continue
        entries, seen = targets.items(), set()
        if len(entries) > MAX_TARGETS:
            yield targets, f"expected maximum item count: {MAX_TARGETS}, found: {len(entries)}"
        for node in filter(None, (entry.get("Id") for entry in entries)):
            if str(node.value) in seen:
                yield node, f"{node.value!r} is not unique among the targets of the rule"
            seen.add(str(node.value))


@flow_rule(
    "E9808",
    "Validate that a dead-letter queue is a standard queue",
    "EventBridge and EventBridge Scheduler cannot send to a FIFO queue as dead-letter queue: use a "
    "standard queue.",
    f"{GUIDE}eb-rule-dlq.html",
    ("events", "sqs", "dead-letter-queue"),
    types=(
        RULE,
        BUS,
        SCHEDULE,
    ),
)
def fifo_dead_letters(view: View) -> Findings:
    owners = [target.node for target in view.targets]
    owners += [node for _, node in view.each(BUS)]
    owners += filter(None, (node.get("Target") for _, node in view.each(SCHEDULE)))
    for node in filter(None, (owner.get("DeadLetterConfig", "Arn") for owner in owners)):
        queue = view.flow.resources.get(str(node.value))
        is_fifo = queue and str(queue.properties.get("FifoQueue")).lower() == "true"
        if is_fifo or str(node.value).endswith(".fifo"):
            yield node, "a FIFO queue is not supported as dead-letter queue"


@flow_rule(
    "W9817",
    "Validate that a target has a dead-letter queue",
    "Events that cannot be delivered, at once or after 24 hours of retries, are lost unless the "
    "target has a DeadLetterConfig with a standard queue. One under a condition counts: it can be "
    "left out on purpose.",
    f"{GUIDE}eb-rule-dlq.html",
    ("events", "targets", "dead-letter-queue"),
)
def dead_letters(view: View) -> Findings:
    for target in view.targets:
        if "DeadLetterConfig" not in target.node.raw:
            yield target.node, "'DeadLetterConfig' is missing: undelivered events are lost"


@flow_rule(
    "E9818",
    "Validate the input of a target",
    "Input is JSON (put text in double quotes), and so is an InputTemplate that starts with { or [ "
    "once its variables, all defined in InputPathsMap, are filled. A log group takes timestamp and "
    "message only; an event bus takes the whole event, without InputTransformer.",
    f"{GUIDE}eb-transform-target-input.html",
    ("events", "targets", "input"),
)
def input_json(view: View) -> Findings:
    for target in view.targets:
        nodes = {key: node for key in INPUTS if (node := target.node.get(key))}
        settings = {key: node.value for key, node in nodes.items()}
        problem = payload.refusal_of(Target("", target.arn, settings))
        if not problem:
            continue
        node = nodes.get("Input") or nodes["InputTransformer"]
        yield (
            (node.get("InputTemplate") if ":event-bus/" not in target.arn else None) or node,
            (problem[1]),
        )


@flow_rule(
    "E9822",
    "Validate the service and the role of a target",
    "PutTargets refuses services such as IAM and S3. Targets other than queues, topics, functions, log groups, APIs and buses need a RoleArn, or "
    "PutTargets refuses them. The role has to trust events.amazonaws.com and to allow the action on "
    "the target; for ECS tasks that is ecs:RunTask on the task definition and iam:PassRole on its "
    "roles. AWS managed policies and roles outside the template are not looked into.",
    f"{GUIDE}eb-events-iam-roles.html",
    ("events", "targets", "iam"),
)
def target_role(view: View) -> Findings:
    for target in view.targets:
        kind, rule = kind_of(target.arn), view.rule_of(target.rule)
        arn, role = target.node.get("Arn"), target.node.get("RoleArn")
        if not rule or not arn:
            continue
        made = Target("", target.arn, as_dict(target.node.value))
        refusal = refusal_of(made, rule.arn)
        if refusal and refusal[0] is Reason.REFUSED_TARGET:
            yield arn, refusal[1]
        elif kind and kind.role is Role.REQUIRED and not role:
            yield arn, f"'RoleArn' is required for a target of kind {kind.title!r}"
        elif role and view.holds_in_all_scenarios(partial(_is_denied, rule, made), *ROLE_TYPES):
            yield role, permissions.of_target(view.flow, rule, made).reason


def _is_denied(rule: Rule, target: Target, flow: Flow) -> bool:
    codes = (Reason.ROLE_TRUST, Reason.ROLE_POLICY, Reason.DENIED)
    verdict = permissions.of_target(flow, rule, target)
    return verdict.allowed is False and verdict.code in codes


# Policies of AWS that allow to write to every bucket.
FULL_ACCESS = ("/AmazonS3FullAccess", "/AdministratorAccess")
MATCH_ALL = ({"prefix": ""}, {"suffix": ""}, {"wildcard": "*"}, {"exists": True})
ROLE_PROPERTIES = {"AWS::Lambda::Function": "Role", "AWS::StepFunctions::StateMachine": "RoleArn"}
KEY_FIELDS = {"Object Created": "detail.object.key", VIA_TRAIL: "detail.requestParameters.key"}


@flow_rule(
    "W9819",
    "Validate that a target does not trigger its own rule",
    "A rule on new objects of a bucket whose target can write anywhere in that bucket, or a rule "
    "whose target is its own bus, can loop forever, and each round is charged. Match a prefix of "
    "the key and let the target write elsewhere; send to another bus.",
    f"{GUIDE}eb-troubleshooting.html",
    ("events", "targets", "loop"),
)
def loop(view: View) -> Findings:
    for target in view.targets:
        rule, arn = view.rule_of(target.rule), target.node.get("Arn")
        if not rule or not arn:
            continue
        if target.arn == rule.bus:
            yield arn, "the target is the bus of its own rule: events can loop"
        for bucket in _matched_buckets(view, target):
            if _can_write(view.flow, target.arn, bucket):
                name = bucket.logical_id
                yield arn, f"the target can write to {name}, whose new objects the rule matches"


def _matched_buckets(view: View, target: TargetNode) -> list[Resource]:
    """Return the buckets of the template of which a rule matches every new object."""
    pattern = pattern_of(target.rule) or {}
    kinds = [str(test) for test in tests_of(pattern, "detail-type")]
    kind = next((one for one in kinds if one in KEY_FIELDS), "")
    calls = tests_of(pattern, "detail", "eventName")
    keys = tests_of(pattern, *KEY_FIELDS[kind].split(".")) if kind else []
    is_restricted = keys and not any(test in MATCH_ALL for test in keys)
    if not kind or is_restricted or (calls and "PutObject" not in calls):
        return []
    fields = ("bucket", "name") if kind == "Object Created" else ("requestParameters", "bucketName")
    names = [*tests_of(pattern, "detail", *fields), *tests_of(pattern, "resources")]
    buckets = [one for one in view.flow.resources.values() if one.type == "AWS::S3::Bucket"]
    return [one for one in buckets if one.name in names or one.arn in names]


def _can_write(flow: Flow, arn: str, bucket: Resource) -> bool:
    """Return True if a target is known to be able to write any object to a bucket."""
    resource = flow.resources.get(arn)
    if resource is None:
        return False
    given = resource.properties
    if resource.type == "AWS::KinesisFirehose::DeliveryStream":
        destinations = [given[key] for key in given if key.endswith("S3DestinationConfiguration")]
        return any(as_dict(one).get("BucketARN") == bucket.arn for one in destinations)
    role = flow.resources.get(str(given.get(ROLE_PROPERTIES.get(resource.type, ""))))
    if role is None:
        return False
    if any(
        str(one).endswith(FULL_ACCESS) for one in as_list(role.properties.get("ManagedPolicyArns"))
    ):
        return True
    policies = permissions.policies_of_role(flow, role)
    verdict = permissions.evaluate(policies, None, "s3:PutObject", f"{bucket.arn}/x", {})
    return verdict.allowed is True
