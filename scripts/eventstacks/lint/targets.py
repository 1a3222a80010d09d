"""Rules on the targets of rules: their inputs, roles, dead-letter queues, and loops."""

from functools import partial

from eventstacks.flow import payload, permissions, trace
from eventstacks.flow.graph import SENDERS, Flow
from eventstacks.flow.policies import evaluate
from eventstacks.flow.resolve import Resource
from eventstacks.flow.symbols import Json, as_dict, as_list
from eventstacks.flow.targets import Reason, Target, Verdict, refusal_of
from eventstacks.lint.view import (
    BUS,
    GUIDE,
    RULE,
    SCHEDULE,
    Findings,
    View,
    flow_rule,
    pattern_of,
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
    "E9806",
    "Validate the number and the IDs of the targets of a rule",
    "A rule has at most five targets; put the others on a second rule. Of two targets with the "
    "same Id the later one replaces the other: give each its own.",
    f"{GUIDE}eb-quota.html",
    ("events", "targets", "limits"),
)
def target_ids(view: View) -> Findings:
    for targets in filter(None, (rule.get("Targets") for _, rule in view.each(RULE))):
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
    types=(RULE, BUS, SCHEDULE),
)
def fifo_dead_letters(view: View) -> Findings:
    owners = [*view.targets, *(node for _, node in view.each(BUS))]
    owners += filter(None, (node.get("Target") for _, node in view.each(SCHEDULE)))
    for node in filter(None, (owner.get("DeadLetterConfig", "Arn") for owner in owners)):
        if str(node.value).endswith(".fifo"):
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
        if "DeadLetterConfig" not in target.raw:
            yield target, "'DeadLetterConfig' is missing: undelivered events are lost"


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
        made = Target("", target.arn, as_dict(target.value))
        if refusal := payload.refusal_of(made):
            node = target.get("Input") or target.get("InputTransformer") or target
            template = None if made.is_bus else node.get("InputTemplate")
            yield template or node, refusal.reason


@flow_rule(
    "E9822",
    "Validate that PutTargets takes a target, and that its role allows it",
    "PutTargets refuses services such as IAM and S3, more than one of Input, InputPath and "
    "InputTransformer, a RoleArn on a log group, and targets without a RoleArn other than queues, "
    "topics, functions, log groups, APIs and buses. The role has to trust events.amazonaws.com and "
    "to allow the action on the target; for ECS tasks that is ecs:RunTask on the task definition "
    "and iam:PassRole on its roles. AWS managed policies and roles outside the template are not "
    "looked into.",
    f"{GUIDE}eb-events-iam-roles.html",
    ("events", "targets", "iam"),
)
def target_role(view: View) -> Findings:
    for target in view.targets:
        role, made = target.get("RoleArn"), Target("", target.arn, as_dict(target.value))
        if refusal := refusal_of(made, target.rule.arn):
            place = target if refusal.code is Reason.REFUSED_INPUT else role or target.get("Arn")
            yield place or target, refusal.reason
        elif role:
            judge = partial(permissions.of_role, rule=target.rule, target=made)
            if reason := view.why_denied(judge, *ROLE_TYPES):
                yield role, reason


@flow_rule(
    "E9823",
    "Validate the role of a schedule, a pipe or a subscriber",
    "A schedule, a pipe and a subscriber of a bus of the new kind call the target and write to the "
    "dead-letter queue in their role; a pipe also reads its source in it. The role has to trust "
    "scheduler.amazonaws.com, pipes.amazonaws.com or events.amazonaws.com, and to allow the "
    "target's action, sqs:SendMessage on the dead-letter queue, and the calls that read a DynamoDB "
    "stream, a Kinesis stream or a queue; a queue policy is not enough.",
    f"{GUIDE}eb-pipes-permissions.html",
    ("scheduler", "schedules", "pipes", "iam"),
    types=tuple(SENDERS),
)
def sender_role(view: View) -> Findings:
    for kind, sender in SENDERS.items():
        for name, node in view.each(kind):
            for path in filter(None, (sender.target, *sender.dead_letters, sender.source)):
                place = node.get(*path.split("."))
                judge = partial(_of_sender, name, path)
                if place and (reason := view.why_denied(judge, kind, *ROLE_TYPES)):
                    yield place, reason


def _of_sender(name: str, path: str, flow: Flow) -> Verdict:
    """Return the verdict on what a sender needs by a property; one that does not exist lacks it."""
    sender = next((one for one in flow.senders if one.label == name), None)
    verdicts = dict(permissions.of_sender(flow, sender)) if sender else {}
    return verdicts.get(path, Verdict() if sender else Verdict(Reason.NO_POLICY))


# Policies of AWS that allow to write to every bucket.
FULL_ACCESS = ("/AmazonS3FullAccess", "/AdministratorAccess")
ROLE_PROPERTIES = {"AWS::Lambda::Function": "Role", "AWS::StepFunctions::StateMachine": "RoleArn"}


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
    buckets = [one for one in view.flow.resources.values() if one.type == "AWS::S3::Bucket"]
    for target in view.targets:
        arn, pattern = target.get("Arn") or target, pattern_of(target.properties) or {}
        if target.arn == target.rule.bus:
            yield arn, "the target is the bus of its own rule: events can loop"
        # A pattern with anything-but leaves out what the target writes.
        is_open = "anything-but" not in str(pattern)
        named = [one for one in buckets if is_open and one.name in str(pattern)]
        for bucket in filter(partial(_can_write, view.flow, target.arn), named):
            if any(trace.match(pattern, event)[0] for event in _new_object_events(bucket)):
                name = bucket.logical_id
                yield arn, f"the target can write to {name}, whose new objects the rule matches"


def _new_object_events(bucket: Resource) -> list[Json]:
    """Return the events of a new object with a key that only patterns for every key match."""
    key, name = "\N{SNOWMAN}", {"name": bucket.name}
    request = {"bucketName": bucket.name, "key": key}
    call = {"eventSource": "s3.amazonaws.com", "eventName": "PutObject"}
    kinds = {
        "Object Created": {"bucket": name, "object": {"key": key}, "reason": "PutObject"},
        trace.VIA_TRAIL: {**call, "requestParameters": request},
    }
    common = {"source": "aws.s3", "resources": [bucket.arn]}
    return [{**common, "detail-type": kind, "detail": detail} for kind, detail in kinds.items()]


def _can_write(flow: Flow, arn: str, bucket: Resource) -> bool:
    """Return True if a target is known to be able to write any object to a bucket, in its role."""
    target = flow.resources.get(arn)
    key = ROLE_PROPERTIES.get(target.type, "") if target else ""
    role = flow.resources.get(str(target.properties.get(key))) if target else None
    if role is None:
        return False
    policies = permissions.policies_of_role(flow, role)
    verdict = evaluate(policies, None, "s3:PutObject", f"{bucket.arn}/x", {})
    managed = as_list(role.properties.get("ManagedPolicyArns"))
    return verdict.allowed is True or any(str(one).endswith(FULL_ACCESS) for one in managed)
