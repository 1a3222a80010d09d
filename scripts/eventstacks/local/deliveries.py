"""Delivery of events to the targets of rules.

Matching, permissions, payload, dead-letter queues, archives.

MiniStack delivers to every target that exists, and drops what it cannot deliver. EventBridge first
asks the target's resource policy (functions, queues, topics, buses, log groups) or its role. A
refused event goes to the target's dead-letter queue at once, without retries (EventBridge User
Guide, 'Using dead-letter queues').

Kinds of targets, their actions and callers come from flow/targets.py. To add a kind here: its
resource policy in policies.py, and a function in SENDERS, or in RULE_SENDERS if rules send it the
event itself.
"""

import contextlib
import functools
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ministack.core.responses import error_response_json, get_account_id, get_region, json_response
from ministack.services import eventbridge, sns

from eventstacks.errors import ToolError
from eventstacks.flow import graph, payload
from eventstacks.flow.targets import EVENTS, REFUSALS, Target, bare, kind_of, refusal_of
from eventstacks.local.ministack import (
    AwsError,
    Json,
    NotDelivered,
    Original,
    as_text,
    call,
    in_region,
    log,
    patch,
    send,
)
from eventstacks.local.policies import (
    check_permission,
    decisions,
    put_events_keys,
    resource_policies,
)
from eventstacks.patterns.matcher import Pattern

ENABLED = ("ENABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS")
MAXIMUM_ENTRIES = 10
MISSING = re.compile("NotFound|NotExist|NonExistent")  # in the error codes of services


def to_function(target: Target, text: str) -> None:
    """Invoke a function asynchronously, so that its EventInvokeConfig applies."""
    path = f"/2015-03-31/functions/{target.arn}/invocations"
    headers = {"x-amz-invocation-type": "Event"}
    status, body = send("lambda_svc", "POST", path, headers, text.encode())
    if status >= 300:
        raise NotDelivered("ERROR_FROM_TARGET", f"{target.arn}: {body.decode(errors='replace')}")


def to_queue(target: Target, text: str, reasons: Mapping[str, str] = {}) -> None:
    """Send a message, with the reasons of a failure as attributes."""
    url = call("sqs", "AmazonSQS.GetQueueUrl", QueueName=target.arn.rsplit(":", 1)[1])["QueueUrl"]
    attributes = {
        key: {"DataType": "String", "StringValue": reason} for key, reason in reasons.items()
    }
    call(
        "sqs",
        "AmazonSQS.SendMessage",
        QueueUrl=url,
        MessageBody=text,
        MessageAttributes=attributes,
        **(target.settings.get("SqsParameters") or {}),
    )


def to_topic(target: Target, text: str) -> None:
    """Publish a message."""
    try:
        sns.publish_internal(target.arn, text)
    except sns.SnsPublishError as error:
        raise AwsError(error.code, str(error)) from error


def to_state_machine(target: Target, text: str) -> None:
    """Start an execution."""
    call(
        "stepfunctions",
        "AWSStepFunctions.StartExecution",
        stateMachineArn=target.arn,
        input=text,
    )


def to_bus(target: Target, text: str) -> None:
    """Put a new event on a bus, whose Source and DetailType the target sets."""
    region, bus = target.arn.split(":")[3], bus_of(target)
    entry = {**target.settings["EventBridgeParameters"], "EventBusName": bus, "Detail": text}
    answer = in_region(region, lambda: call("eventbridge", "AWSEvents.PutEvents", Entries=[entry]))
    [result] = answer["Entries"]
    if "ErrorCode" in result:
        raise AwsError(result["ErrorCode"], result["ErrorMessage"])


def bus_of(target: Target) -> str:
    """Return the name of a bus in any Region. Raises NotDelivered if it does not exist."""
    (region, account), bus = target.arn.split(":")[3:5], target.arn.partition(":event-bus/")[2]
    exists = bus == "default" or in_region(region, eventbridge._event_buses.get, bus)
    if account != get_account_id() or not exists:
        raise NotDelivered("NO_RESOURCE", f"{target.arn} does not exist")
    return bus


SENDERS: dict[str, Original] = {
    "event-bus": to_bus,
    "lambda": to_function,
    "sns": to_topic,
    "sqs": to_queue,
    "states": to_state_machine,
}


def send_to(target: Target, text: str) -> None:
    """Send a text to a target. Raises AwsError, also for a kind that is not in SENDERS."""
    if not (sender := SENDERS.get(kind_of(target.arn).name)):
        raise NotDelivered("NO_RESOURCE", f"the embedded AWS does not deliver to {target.arn}")
    sender(target, text)


def send_to_dlq(
    settings: Mapping[str, Any],
    text: str,
    reasons: Mapping[str, str],
    source: str,
    service: str = EVENTS,
) -> None:
    """Send what was not delivered to a dead-letter queue, if there is one. Raises nothing.

    ``settings``: DeadLetterConfig, and the RoleArn of a service that sends in a role. The message
    is lost if the queue's policy or the role does not allow the service to send for the source.
    """
    log.warning("not delivered: %s: %s", source, reasons)
    arn = (settings.get("DeadLetterConfig") or {}).get("Arn", "")
    queue = Target("", arn, {"RoleArn": settings.get("RoleArn")})
    try:
        if arn:
            check_permission(queue, source, service)
            to_queue(queue, text, reasons)
    except AwsError as failure:
        log.warning("lost: %s: %s", source, failure)


@contextlib.contextmanager
def giving_up(source: str, give_up: Callable[[AwsError], None]) -> Iterator[None]:
    """Give up a delivery that fails in the block. Raises nothing: others must not be affected."""
    try:
        try:
            yield
        except AwsError as failure:
            give_up(failure)
    except Exception:  # noqa: BLE001 - see above
        log.exception("%s: not delivered, nor to its dead-letter queue", source)


def text_for(target: Target, rule: Json, view: Any) -> str:
    """Return what a target receives, built as in trace.

    Raises NotDelivered if it cannot take that.
    """
    source = graph.Rule(rule["Name"], rule["Name"], rule["Arn"], rule["EventBusName"], None)
    now = time.strftime("%FT%TZ", time.gmtime())
    built = payload.build(source, target, view.event_with_detail(), now)
    if built.refusal:  # the code is a guess
        raise NotDelivered("INVALID_PARAMETER", built.refusal.reason)
    return built.text


def to_log_group(target: Target, text: str, _event: Json, rule: Json, _view: Any) -> None:
    """Write one log event. An InputTransformer makes ``{"timestamp": ms, "message": text}``."""
    entry: Json = {"message": text, "timestamp": time.time() * 1000}
    try:
        if "InputTransformer" in target.settings:
            entry = json.loads(text)
        message, timestamp = entry["message"], int(entry["timestamp"])
    except (ValueError, KeyError, TypeError) as error:  # the code is a guess
        raise NotDelivered(
            "INVALID_PARAMETER", f"a log group needs timestamp and message: {error}"
        ) from error
    stream = {
        "logGroupName": target.arn.split(":log-group:", 1)[1],
        # AWS: one stream with a UUID as its name
        "logStreamName": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{rule['Arn']}/{target.id}")),
    }
    with contextlib.suppress(AwsError):  # it exists
        call("cloudwatch_logs", "Logs_20140328.CreateLogStream", **stream)
    call(
        "cloudwatch_logs",
        "Logs_20140328.PutLogEvents",
        **stream,
        logEvents=[{"timestamp": timestamp, "message": as_text(message)}],
    )


def forward(target: Target, _text: str, event: Json, _rule: Json, _view: Any) -> None:
    """Put the unchanged event on another bus, also of another Region.

    Buses of other accounts are not reached.

    An event is forwarded once within a Region and once to another Region (EventBridge User Guide,
    'Sending and receiving events between event buses'; that the two are counted apart, and the
    codes, are from a public report). So no loop needs another check.
    """
    region = target.arn.split(":")[3]
    hop = "THIRD_ACCOUNT_HOP_DETECTED" if region == get_region() else "THIRD_REGION_HOP_DETECTED"
    if hop in event.get("_Hops", ()):
        raise NotDelivered(
            hop, f"{target.arn}: the event was forwarded once, and cannot be sent to a third bus"
        )
    forwarded = {**event, "EventBusName": bus_of(target), "_Hops": (*event.get("_Hops", ()), hop)}
    in_region(region, eventbridge._dispatch_event, forwarded)


# Kinds that rules send to in their own way: with target, text, event, rule and view.
RULE_SENDERS: dict[str, Original] = {"event-bus": forward, "logs": to_log_group}


def give_up(
    target: Mapping[str, Any],
    rule: Json,
    view: Any,
    failure: AwsError,
    more: Mapping[str, str] = {},
) -> None:
    """Send the event to the target's dead-letter queue, with the attributes that name the reason.

    ``more``: the attributes of a delivery that was retried.
    """
    code, message = failure.args
    if not isinstance(failure, NotDelivered):
        code = "NO_RESOURCE" if MISSING.search(code) else "ERROR_FROM_TARGET"
    reasons = {
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
        "RULE_ARN": rule["Arn"],
        "TARGET_ARN": target["Arn"],
        **more,
    }
    queue = {"DeadLetterConfig": target.get("DeadLetterConfig")}  # without the role
    send_to_dlq(queue, json.dumps(view.event_with_detail()), reasons, rule["Arn"])


@patch("_invoke_target", eventbridge)
def deliver(_original: Original, target: Json, event: Json, rule: Json, view: Any = None) -> None:
    """Check the permission, deliver, and send what was not delivered to the dead-letter queue.

    Raises nothing.
    """
    view = view or eventbridge._pattern_event_view(event)
    receiver = Target(target["Id"], bare(target["Arn"]), target)
    keys = put_events_keys(event, is_forwarded=True)
    with giving_up(rule["Arn"], functools.partial(give_up, target, rule, view)):
        check_permission(receiver, rule["Arn"], keys=keys)
        text = text_for(receiver, rule, view)
        if sender := RULE_SENDERS.get(kind_of(receiver.arn).name):
            sender(receiver, text, event, rule, view)
        else:
            send_to(receiver, text)


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
    for key, rule in list(eventbridge._rules.items()):
        if is_wanted(rule, event) and eventbridge._matches_pattern_view(rule["EventPattern"], view):
            for target in list(eventbridge._targets.get(key, [])):
                eventbridge._invoke_target(target, event, rule, view)
    eventbridge._archive_event(event, view, is_received="ReplayName" not in event)


@patch("_put_events", eventbridge)
def put_events(original: Original, data: Json, **options: Any) -> Any:
    """Refuse a request if the policy of a bus denies one of its events, and events of wrong form.

    Events of services, which have options, are not asked for.
    """
    entries = data.get("Entries", [])
    if options or len(entries) > MAXIMUM_ENTRIES:
        return original(data, **options)
    for entry in entries:
        bus, _ = eventbridge._event_bus_name_from_ref(entry.get("EventBusName", "default"))
        arn = f"arn:aws:events:{get_region()}:{get_account_id()}:event-bus/{bus}"
        root = f"arn:aws:iam::{get_account_id()}:root"
        keys = put_events_keys(entry, is_forwarded=False)
        if "Deny" in decisions(resource_policies(arn), "", "events:PutEvents", arn, keys, root):
            return error_response_json(
                "AccessDeniedException",
                f"User: {root} is not authorized to perform: events:PutEvents on resource: {arn} "
                "with an explicit deny",
                400,
            )
    results: list[Json] = []
    for entry in entries:
        if refused := payload.refusal_of_entry(entry):
            results.append(dict(zip(("ErrorCode", "ErrorMessage"), refused, strict=True)))
        else:
            results += json.loads(original({"Entries": [entry]})[2])["Entries"]
    count = sum("ErrorCode" in result for result in results)
    return json_response({"FailedEntryCount": count, "Entries": results})


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
    """Refuse what PutTargets is known to refuse (flow/targets.py, and inputs in payload.py)."""
    given = Target(target["Id"], target["Arn"], target)
    for refusal in (refusal_of(given, ""), payload.refusal_of(given)):
        if refusal and refusal.code in REFUSALS:
            return error_response_json("ValidationException", f"{refusal.reason}.", 400)
    return original(target)
