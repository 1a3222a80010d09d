"""Delivery of events to the targets of rules.

Matching, permissions, payload, dead-letter queues, archives.

MiniStack delivers to every target that exists. EventBridge first asks the target's resource policy
(functions, queues, topics, buses, log groups) or its role. A refused event goes to the target's
dead-letter queue at once, without retries (EventBridge User Guide, 'Using dead-letter queues').

Kinds of targets, their actions and callers come from flow/targets.py. To add a kind here: its
resource policy in ``resource_policies``, and a function in SENDERS if MiniStack does not deliver to
it.
"""

import contextlib
import functools
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import (
    error_response_json,
    get_account_id,
    get_region,
)
from ministack.services import eventbridge

from eventstacks.errors import ToolError
from eventstacks.flow import graph, payload
from eventstacks.flow.targets import (
    EVENTS,
    INPUTS,
    Target,
    callers,
    kind_of,
    policy_calls,
    refusal_of,
    role_calls,
)
from eventstacks.local.ministack import AwsError, Json, Original, call, in_region, log, patch, send
from eventstacks.local.policies import decisions, policies_allow, role_allows
from eventstacks.patterns.matcher import Pattern

OWN_POLICY = ("lambda", "sqs", "sns")  # kinds whose resource policy MiniStack reads by ARN
ENABLED = ("ENABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS")


class NotDelivered(Exception):  # noqa: N818 - a result, not a fault
    """A target did not take an event. Arguments: EventBridge's ERROR_CODE and ERROR_MESSAGE."""


def resource_policies(kind: str, arn: str) -> list[Any]:
    """Return the resource policies of a target, none for a kind without.

    Raises NotDelivered if it does not exist.
    """
    if kind == "logs":
        describe = "Logs_20140328.DescribeResourcePolicies"
        answers = [
            call("cloudwatch_logs", describe, policyScope=scope)
            for scope in ("ACCOUNT", "RESOURCE")
        ]
        return [policy["policyDocument"] for each in answers for policy in each["resourcePolicies"]]
    if kind == "event-bus":
        get = eventbridge._event_bus_policies.get
        return [in_region(arn.split(":")[3], get, arn.partition(":event-bus/")[2]) or {}]
    if kind not in OWN_POLICY:
        return []
    policy = iam_evaluator._resource_policy(kind, arn)
    if policy is None or arn.split(":")[3] != get_region():
        raise NotDelivered("NO_RESOURCE", f"{arn} does not exist in {get_region()}")
    document = json.loads(policy[0] or "{}") if isinstance(policy[0], str) else policy[0]
    # The default statement of a topic is for its owner only; MiniStack's provisioner omits that
    # condition.
    statements = document.get("Statement", ())
    return [{"Statement": [s for s in statements if s.get("Sid") != "__default_statement_ID"]}]


def put_events_keys(event: Json, *, is_forwarded: bool) -> dict[str, str | None]:
    """Return the condition keys of PutEvents.

    Source: EventBridge User Guide, 'Using IAM policy conditions'.
    """
    return {
        "events:source": event.get("Source"),
        "events:detail-type": event.get("DetailType"),
        "events:eventbusinvocation": str(is_forwarded).lower(),
    }


def check_permission(target: Target, rule_arn: str, event: Json | None = None) -> None:
    """Raise NotDelivered unless EventBridge is allowed to deliver to the target.

    Unknown kinds are allowed.

    A bus of another Region without a role is refused by MiniStack's PutTargets. Within an account a
    role's permission is enough, unless the resource policy of the target denies it.
    """
    arn, role, kind = target.arn, target.role, kind_of(target.arn)
    if not kind or not kind.action:
        return
    policies = resource_policies(kind.name, arn)  # also checks that the target exists
    keys = put_events_keys(event, is_forwarded=True) if event else {}
    if role:
        is_allowed = role_allows(role, role_calls(target, {}), rule_arn)
        if "Deny" in decisions(policies, "", kind.action, arn, keys, role):
            text = f"the policy of {arn} denies {kind.action} for {rule_arn}"
            raise NotDelivered("NO_PERMISSIONS", text)
    else:
        caller, calls = callers(arn, rule_arn)[0], policy_calls(arn, rule_arn)
        is_allowed = bool(calls) and all(
            policies_allow(
                policies, EVENTS, call.action, call.resource, {**call.context, **keys}, caller
            )
            for call in calls
        )
    if not is_allowed:
        text = f"{role or f'the policy of {arn}'} does not allow {kind.action} for {rule_arn}"
        raise NotDelivered("NO_PERMISSIONS", text)


def with_payload(target: Json, rule: Json, view: Any) -> Json:
    """Return the target with the text that it receives as its Input.

    Raises NotDelivered if it cannot take that.

    The payload is built as in trace: MiniStack's own InputPath has no indexes.
    """
    settings = {key: target[key] for key in INPUTS if target.get(key)}
    if not settings:
        return target
    source = graph.Rule(rule["Name"], rule["Name"], rule["Arn"], rule["EventBusName"], None)
    receiver = Target(target["Id"], target["Arn"], settings)
    now = time.strftime("%FT%TZ", time.gmtime())
    built = payload.build(source, receiver, view.event_with_detail(), now)
    if built.problem:  # the code is a guess
        raise NotDelivered("INVALID_PARAMETER", built.problem)
    return {**target, **dict.fromkeys(settings), "Input": built.text}


def body_of(target: Json, view: Any) -> str:
    """Return the text that a target receives."""
    return target.get("Input") or payload.compact(view.event_with_detail())


def to_log_group(target: Json, _event: Json, rule: Json, view: Any) -> None:
    """Write one log event. An InputTransformer makes ``{"timestamp": ms, "message": text}``."""
    entry: Json = {"message": body_of(target, view), "timestamp": time.time() * 1000}
    if "InputTransformer" in target:
        entry = json.loads(entry["message"])
    try:
        message, timestamp = entry["message"], int(entry["timestamp"])
    except (ValueError, KeyError, TypeError) as error:  # the code is a guess
        text = f"a log group needs timestamp and message: {error}"
        raise NotDelivered("INVALID_PARAMETER", text) from error
    if not isinstance(message, str):
        message = json.dumps(message)
    stream = {
        "logGroupName": target["Arn"].removesuffix(":*").split(":log-group:", 1)[1],
        # AWS: one stream with a UUID as its name
        "logStreamName": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{rule['Arn']}/{target['Id']}")),
    }
    with contextlib.suppress(AwsError):  # it exists
        call("cloudwatch_logs", "Logs_20140328.CreateLogStream", **stream)
    events = [{"timestamp": timestamp, "message": message}]
    call("cloudwatch_logs", "Logs_20140328.PutLogEvents", **stream, logEvents=events)


def to_function(target: Json, _event: Json, _rule: Json, view: Any) -> None:
    """Invoke a function asynchronously, so that its EventInvokeConfig applies."""
    path = f"/2015-03-31/functions/{target['Arn']}/invocations"
    headers = {"x-amz-invocation-type": "Event"}
    status, body = send("lambda_svc", "POST", path, headers, body_of(target, view).encode())
    if status >= 300:
        raise NotDelivered("ERROR_FROM_TARGET", f"{target['Arn']}: {body.decode(errors='replace')}")


def to_bus(target: Json, event: Json, _rule: Json, _view: Any) -> None:
    """Put the unchanged event on another bus, also of another Region.

    Buses of other accounts are not reached.

    An event is forwarded once within a Region and once to another Region (EventBridge User Guide,
    'Sending and receiving events between event buses'; that the two are counted apart, and the
    codes, are from a public report). So no loop needs another check.
    """
    (region, account), bus = (
        target["Arn"].split(":")[3:5],
        target["Arn"].partition(":event-bus/")[2],
    )
    hop = "THIRD_ACCOUNT_HOP_DETECTED" if region == get_region() else "THIRD_REGION_HOP_DETECTED"
    if hop in event.get("_Hops", ()):
        text = f"{target['Arn']}: the event was forwarded once, and cannot be sent to a third bus"
        raise NotDelivered(hop, text)
    exists = in_region(region, eventbridge._event_buses.get, bus) is not None
    if account != get_account_id() or not exists:
        raise NotDelivered("NO_RESOURCE", f"{target['Arn']} does not exist")
    forwarded = {**event, "EventBusName": bus, "_Hops": (*event.get("_Hops", ()), hop)}
    in_region(region, eventbridge._dispatch_event, forwarded)


def to_new_bus(target: Json, _event: Json, _rule: Json, _view: Any) -> None:
    """Raise NotDelivered: there are no buses of the new kind (AWS::EventsV2)."""
    raise NotDelivered("NO_RESOURCE", f"{target['Arn']} does not exist: no EventsV2 here")


SENDERS: dict[str, Original] = {
    "logs": to_log_group,
    "lambda": to_function,
    "event-bus": to_bus,
    "event-bus-v2": to_new_bus,
}


def send_to_dlq(
    target: Json, rule: Json, view: Any, code: str, message: str, more: Mapping[str, str] = {}
) -> None:
    """Send the event to the target's dead-letter queue, with the attributes that name the reason.

    ``more``: the attributes of a delivery that was retried.
    """
    log.warning("not delivered: %s -> %s: %s %s", rule["Arn"], target["Arn"], code, message)
    if not (arn := (target.get("DeadLetterConfig") or {}).get("Arn")):
        return
    check_permission(Target("", arn), rule["Arn"])
    reasons = {
        "RULE_ARN": rule["Arn"],
        "TARGET_ARN": target["Arn"],
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
        **more,
    }
    url = call("sqs", "AmazonSQS.GetQueueUrl", QueueName=arn.rsplit(":", 1)[1])["QueueUrl"]
    call(
        "sqs",
        "AmazonSQS.SendMessage",
        QueueUrl=url,
        MessageBody=json.dumps(view.event_with_detail()),
        MessageAttributes={
            key: {"DataType": "String", "StringValue": text} for key, text in reasons.items()
        },
    )


@patch("_invoke_target", eventbridge)
def deliver(original: Original, target: Json, event: Json, rule: Json, view: Any = None) -> None:
    """Check the permission, deliver, and send what was not delivered to the dead-letter queue.

    Raises nothing.
    """
    view, arn = view or eventbridge._pattern_event_view(event), target["Arn"].removesuffix(":*")
    kind = kind_of(arn)
    try:
        try:
            check_permission(Target(target["Id"], arn, target), rule["Arn"], event)
            target = with_payload(target, rule, view)
            SENDERS.get(kind.name if kind else "", original)(target, event, rule, view)
        except NotDelivered as failure:
            send_to_dlq(target, rule, view, *failure.args)
        except AwsError as failure:  # from CloudWatch Logs
            send_to_dlq(target, rule, view, "NO_RESOURCE", str(failure))
    except Exception:  # noqa: BLE001 - a failure at one target must not affect the others
        log.exception("not delivered to %s, nor to its dead-letter queue", target["Arn"])


@functools.lru_cache(maxsize=1024)
def compile_pattern(text: str) -> Pattern:
    """Return the pattern with a JSON text."""
    return Pattern(text)


def is_wanted(rule: Json, event: Json) -> bool:
    """Return True if an event is matched against a rule: a replay can be limited to some rules."""
    replay = (eventbridge._replays.get(event.get("ReplayName")) or {}).get("Destination", {})
    is_source = replay.get("Arn", "").endswith(f"/{rule['EventBusName']}")  # not forwarded since
    return (
        rule["EventBusName"] == event.get("EventBusName", "default")
        and rule.get("State") in ENABLED
        and bool(rule.get("EventPattern"))
        and not (is_source and rule["Arn"] not in (replay.get("FilterArns") or [rule["Arn"]]))
    )


@patch("_dispatch_event", eventbridge)
def dispatch(_original: Original, event: Json, view: Any = None) -> None:
    """Deliver an event to the targets of the rules that match; archive it unless it is a replay."""
    view = view or eventbridge._pattern_event_view(event)
    rules = {key: rule for key, rule in eventbridge._rules.items() if is_wanted(rule, event)}
    for key, rule in rules.items():
        if compile_pattern(rule["EventPattern"]).matches(view.event_with_detail()):
            for target in list(eventbridge._targets.get(key, [])):
                eventbridge._invoke_target(target, event, rule, view)
    eventbridge._archive_event(event, view, is_received="ReplayName" not in event)


@patch("_put_events", eventbridge)
def put_events(original: Original, data: Json, **options: Any) -> Any:
    """Refuse a request if the policy of a bus denies one of its events.

    Events of services are not asked for.
    """
    for entry in [] if options else data.get("Entries", []):
        bus, _ = eventbridge._event_bus_name_from_ref(entry.get("EventBusName", "default"))
        arn = f"arn:aws:events:{get_region()}:{get_account_id()}:event-bus/{bus}"
        root = f"arn:aws:iam::{get_account_id()}:root"
        keys = put_events_keys(entry, is_forwarded=False)
        policies = resource_policies("event-bus", arn)
        if "Deny" in decisions(policies, "", "events:PutEvents", arn, keys, root):
            text = (
                f"User: {root} is not authorized to perform: events:PutEvents on resource: {arn} "
                "with an explicit deny"
            )
            return error_response_json("AccessDeniedException", text, 400)
    return original(data, **options)


@patch("_archive_event", eventbridge)
def archive(
    original: Original, event: Json, view: Any = None, *, is_received: bool = False
) -> None:
    """Archive an event once, also one of an AWS service.

    MiniStack's own call, after PutEvents, is ignored.
    """
    if is_received:  # a replay compares numbers; MiniStack's services write text
        original({**event, "Time": int(eventbridge._coerce_timestamp(event["Time"]))}, view)


@patch("_parse_pattern_text", eventbridge)
def parse_pattern(_original: Original, text: str) -> tuple[list[Pattern] | None, str | None]:
    """Compile a pattern with this package's matcher.

    Return what ``matches`` takes, or the reason of the refusal.
    """
    try:
        return [Pattern(text)], None
    except ToolError as error:
        return None, error.what


@patch("_matches_alternative", eventbridge)
def matches(_original: Original, view: Any, pattern: Pattern) -> bool:
    """Match with this package's matcher, also for archives and TestEventPattern."""
    return pattern.matches(view.event_with_detail())


@patch("_validate_target_arn", eventbridge)
def check_target(original: Original, target: Json) -> Any:
    """Refuse what PutTargets is known to refuse (flow/targets.py)."""
    if refusal := refusal_of(Target(target["Id"], target["Arn"], target), ""):
        return error_response_json("ValidationException", f"{refusal[1]}.", 400)
    return original(target)
