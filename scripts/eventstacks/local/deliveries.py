"""What a rule's target gets, and whether it may get it.

MiniStack delivers to any target that exists. EventBridge asks first: the target's resource policy (Lambda, SQS, SNS,
buses, log groups) or its role (state machines, and any target that names one). What is refused goes to the target's
dead-letter queue at once, without retries (EventBridge guide, 'Using dead-letter queues').
"""

import contextlib
import contextvars
import json
import time
import uuid
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region, set_request_region
from ministack.services import eventbridge, iam

from eventstacks.flow import payload
from eventstacks.local.ministack import AwsError, Json, Original, call, log, patch, send

EVENTS = "events.amazonaws.com"
OWN_POLICY = ("lambda", "sqs", "sns")
ACTIONS = {
    "lambda": "lambda:InvokeFunction",
    "sqs": "sqs:SendMessage",
    "sns": "sns:Publish",
    "event-bus": "events:PutEvents",
    "states": "states:StartExecution",
    "api-destination": "events:InvokeApiDestination",
    "logs": "logs:PutLogEvents",
}

EVEN_READ_ONLY = (
    "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"  # what a rule gets that is ENABLED, and more
)


class NotDelivered(Exception):  # noqa: N818 - it is an answer, not a fault
    """A target took nothing; its arguments are what EventBridge writes as ERROR_CODE and ERROR_MESSAGE."""


def kind_of(arn: str) -> str:
    """The service of a target, or which of EventBridge's own it is."""
    service, resource = arn.split(":")[2], arn.split(":")[5]
    return resource.split("/")[0] if service == "events" else service


def admits(
    policies: list[Any], service: str, action: str, resource: str, keys: Json, caller: str = ""
) -> bool:
    """Whether resource policies let a service act on the resource; a Deny in any of them wins.

    ``keys`` are condition keys of the request, in lower case; ``caller``: an ARN that may be named instead.
    """
    question = iam_evaluator.EvalContext(
        caller,
        "AssumedRole",
        get_account_id(),
        action,
        resource,
        get_region(),
        secure_transport=True,
        service_context={"aws:sourceaccount": get_account_id(), **keys},
    )
    results = [
        iam_evaluator.evaluate_resource_policy(policy, question, service=service)
        for policy in policies
    ]
    return {result.decision for result in results} - {"ImplicitDeny"} == {"Allow"}


def role_may(arn: str, action: str, resource: str) -> bool:
    """Whether a role's policies allow the action; a role that is not there may nothing."""
    name, account = arn.rsplit("/", 1)[-1], arn.split(":")[4]
    question = iam_evaluator.EvalContext(
        arn, "AssumedRole", account, action, resource, get_region()
    )
    policies = iam_evaluator._gather_role_policies(name, account)
    return bool(iam_evaluator.evaluate(question, policies).decision == "Allow")


def role_allows(arn: str, action: str, resource: str, keys: Json) -> bool:
    """Whether EventBridge may assume the role, and the role's policies allow the action."""
    role = iam._roles.get_scoped(arn.split(":")[4], None, arn.rsplit("/", 1)[-1])
    if role is None or not admits(
        [role["AssumeRolePolicyDocument"]], EVENTS, "sts:AssumeRole", arn, keys
    ):
        return False
    return role_may(arn, action, resource)


def policies_of(kind: str, arn: str) -> list[Any]:
    """The resource policies of a target: none for a kind without. Raises NotDelivered when it does not exist."""
    if kind == "logs":
        describe = "Logs_20140328.DescribeResourcePolicies"
        found = [
            call("cloudwatch_logs", describe, policyScope=scope)
            for scope in ("ACCOUNT", "RESOURCE")
        ]
        return [policy["policyDocument"] for one in found for policy in one["resourcePolicies"]]
    if kind == "event-bus":
        there = contextvars.copy_context()
        there.run(set_request_region, arn.split(":")[3])
        return [
            there.run(eventbridge._event_bus_policies.get, arn.partition(":event-bus/")[2]) or {}
        ]
    policy = iam_evaluator._resource_policy(kind, arn) if kind in OWN_POLICY else ("",)
    if policy is None or (kind in OWN_POLICY and arn.split(":")[3] != get_region()):
        raise NotDelivered("NO_RESOURCE", f"{arn} does not exist in {get_region()}")
    given = json.loads(policy[0] or "{}") if isinstance(policy[0], str) else policy[0]
    # The statement that every topic is born with holds for its owner alone; the provisioner forgets to say so.
    return [
        {
            "Statement": [
                one
                for one in given.get("Statement", ())
                if one.get("Sid") != "__default_statement_ID"
            ]
        }
    ]


def check_permission(arn: str, role: str | None, rule_arn: str) -> None:
    """Raise NotDelivered unless EventBridge may deliver to the target.

    A log group needs both actions for events.amazonaws.com; the guide names delivery.logs.amazonaws.com beside it, a
    template that AWS publishes (serverless-patterns, eventbridge-cloudwatch) does without. CreateLogStream carries no
    SourceArn (serverless-patterns PR 618).
    A bus's policy names the rule's account (guide, 'Example policy: Send events from specific rules'). That a bus of
    the same account and region asks the same, and that a policy may name events.amazonaws.com, are guesses; a bus of
    another region is refused without a role by MiniStack's PutTargets already.
    """
    kind, keys = kind_of(arn), {"aws:sourcearn": rule_arn}
    policies, action = policies_of(kind, arn), ACTIONS[kind]
    asked: list[tuple[Any, ...]] = [(EVENTS, action, arn, keys)]
    if kind == "event-bus":
        asked = [(EVENTS, action, arn, keys, f"arn:aws:iam::{get_account_id()}:root")]
    if kind == "logs":
        stream = f"{arn}:log-stream:x"
        asked = [(EVENTS, "logs:CreateLogStream", stream, {}), (EVENTS, action, stream, keys)]
    allowed = (
        role_allows(role, action, arn, keys)
        if role
        else all(admits(policies, *one) for one in asked)
    )
    if not allowed:
        raise NotDelivered(
            "NO_PERMISSIONS", f"{role or f'the policy of {arn}'} does not let {rule_arn} deliver"
        )


def payload_of(target: Json, rule: Json, view: Any) -> str:
    """The event, or what the target's Input or InputTransformer makes of it; an InputPath is an Input by now."""
    if target.get("InputTransformer"):
        return str(eventbridge._apply_input_transformer(target["InputTransformer"], rule, view))
    return target.get("Input") or json.dumps(view.event_with_detail(), separators=(",", ":"))


def to_log_group(target: Json, _event: Json, rule: Json, view: Any) -> None:
    """One log event per delivery; an InputTransformer has to make ``{"timestamp": ms, "message": text}``."""
    made: Json = {"message": payload_of(target, rule, view), "timestamp": time.time() * 1000}
    try:
        made = json.loads(made["message"]) if target.get("InputTransformer") else made
        message, when = made["message"], int(made["timestamp"])
    except (ValueError, KeyError, TypeError) as error:  # the code is a guess
        raise NotDelivered(
            "INVALID_PARAMETER", f"a log group takes timestamp and message: {error}"
        ) from error
    entry = {
        "timestamp": when,
        "message": message if isinstance(message, str) else json.dumps(message),
    }
    where = {
        "logGroupName": target["Arn"].removesuffix(":*").split(":log-group:", 1)[1],
        "logStreamName": str(
            uuid.uuid5(uuid.NAMESPACE_URL, f"{rule['Arn']}/{target['Id']}")
        ),  # AWS: some UUID
    }
    with contextlib.suppress(AwsError):  # it is there already
        call("cloudwatch_logs", "Logs_20140328.CreateLogStream", **where)
    call("cloudwatch_logs", "Logs_20140328.PutLogEvents", **where, logEvents=[entry])


def to_function(target: Json, _event: Json, rule: Json, view: Any) -> None:
    """An asynchronous invocation: the function's EventInvokeConfig counts."""
    path, body = (
        f"/2015-03-31/functions/{target['Arn']}/invocations",
        payload_of(target, rule, view).encode(),
    )
    status, answer = send("lambda_svc", "POST", path, {"x-amz-invocation-type": "Event"}, body)
    if status >= 300:
        raise NotDelivered("ERROR_FROM_TARGET", f"{target['Arn']}: {answer!r}")


def to_bus(target: Json, event: Json, rule: Json, _view: Any) -> None:
    """Hand the event as it is to another bus, of another region too. Buses of other accounts are not reached."""
    (region, account), bus = (
        target["Arn"].split(":")[3:5],
        target["Arn"].partition(":event-bus/")[2],
    )
    if event["Region"] != get_region() != region:
        raise NotDelivered(
            "THIRD_REGION_HOP_DETECTED", f"{target['Arn']}: an event crosses one border only"
        )
    # MiniStack keeps the keys of rules to stop loops; they mean something within one region only.
    key = eventbridge._rule_key(rule["Name"], rule["EventBusName"])
    path = [*(event.get("_DispatchPath") or []), key] if region == get_region() else []

    there = contextvars.copy_context()
    there.run(set_request_region, region)
    if account != get_account_id() or there.run(eventbridge._event_buses.get, bus) is None:
        raise NotDelivered("NO_RESOURCE", f"{target['Arn']} does not exist")
    there.run(eventbridge._dispatch_event, {**event, "EventBusName": bus, "_DispatchPath": path})


def bury(target: Json, rule: Json, view: Any, code: str, message: str) -> None:
    """Put the event on the target's dead-letter queue, with the four attributes that say why."""
    log.warning("not delivered: %s -> %s: %s %s", rule["Arn"], target["Arn"], code, message)
    if not (arn := (target.get("DeadLetterConfig") or {}).get("Arn")):
        return
    check_permission(arn, None, rule["Arn"])
    why = {
        "RULE_ARN": rule["Arn"],
        "TARGET_ARN": target["Arn"],
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
    }
    attributes = {key: {"DataType": "String", "StringValue": text} for key, text in why.items()}
    url = call("sqs", "AmazonSQS.GetQueueUrl", QueueName=arn.rsplit(":", 1)[1])["QueueUrl"]
    body = json.dumps(view.event_with_detail())
    call(
        "sqs", "AmazonSQS.SendMessage", QueueUrl=url, MessageBody=body, MessageAttributes=attributes
    )


SENDERS: dict[str, Original] = {"logs": to_log_group, "lambda": to_function, "event-bus": to_bus}


@patch("_invoke_target", eventbridge)
def deliver(original: Original, target: Json, event: Json, rule: Json, view: Any = None) -> None:
    """In place of MiniStack's own delivery: ask, deliver, and bury what was not taken. Raises nothing."""
    view, arn, kind = (
        view or eventbridge._pattern_event_view(event),
        target["Arn"],
        kind_of(target["Arn"]),
    )
    replay = (eventbridge._replays.get(event.get("ReplayName")) or {}).get("Destination", {})
    is_chosen = rule["Arn"] in (replay.get("FilterArns") or [rule["Arn"]])
    if not is_chosen and replay["Arn"].endswith(
        f"/{rule['EventBusName']}"
    ):  # rules of other buses are not its matter
        return
    try:
        try:
            if (
                ":rule/" in rule["Arn"] and kind in ACTIONS
            ):  # a schedule of Scheduler acts as its own role instead
                check_permission(arn.removesuffix(":*"), target.get("RoleArn"), rule["Arn"])
            if path := target.get(
                "InputPath"
            ):  # MiniStack's own knows no index, and takes the whole event then
                target = {
                    "Input": payload.compact(payload.find(path, view.event_with_detail())),
                    **target,
                }
            SENDERS.get(kind, original)(target, event, rule, view)
        except NotDelivered as failure:
            bury(target, rule, view, *failure.args)
        except AwsError as failure:  # from CloudWatch Logs
            bury(target, rule, view, "NO_RESOURCE", str(failure))
    except Exception:  # noqa: BLE001 - one target must not take the others' events with it
        log.exception("not delivered to %s, nor to its dead-letter queue", arn)


@patch("_dispatch_event", eventbridge)
def dispatch(original: Original, event: Json, view: Any = None) -> None:
    """Archive what comes to a bus, also what MiniStack's services put there themselves; AWS archives no replays.

    MiniStack's own passes over every rule that is not merely ENABLED.
    """
    view = view or eventbridge._pattern_event_view(event)
    original(event, view)
    for key, rule in list(eventbridge._rules.items()):
        is_here = rule.get("EventBusName", "default") == event.get("EventBusName", "default")
        if (
            rule.get("State") != EVEN_READ_ONLY
            or not is_here
            or key in (event.get("_DispatchPath") or [])
        ):
            continue
        if eventbridge._matches_pattern_view(rule.get("EventPattern"), view, f"rule {key}"):
            for target in eventbridge._targets.get(key, []):
                eventbridge._invoke_target(target, event, rule, view)
    eventbridge._archive_event(event, view, once="ReplayName" not in event)


@patch("_archive_event", eventbridge)
def archive(original: Original, event: Json, view: Any = None, *, once: bool = False) -> None:
    """Once for each event: MiniStack's own call, after PutEvents, would be the second."""
    if once:  # a replay compares numbers; the services write text
        original({**event, "Time": int(eventbridge._coerce_timestamp(event["Time"]))}, view)


@patch("_validate_target_arn", eventbridge)
def check_target(original: Original, target: Json) -> Any:
    """PutTargets refuses a role on a log group (terraform-aws-eventbridge issue 136; the wording is from there)."""
    if target.get("RoleArn") and ":log-group:" in target["Arn"]:
        text = f"RoleArn is not supported for target {target['Arn']}."
        return 400, {}, json.dumps({"__type": "ValidationException", "message": text}).encode()
    return original(target)
