"""Rules on event buses: who can send to them, where events arrive, and their keys."""

from typing import Any

from eventstacks.flow.graph import Flow
from eventstacks.flow.permissions import key_of
from eventstacks.flow.resolve import Resource
from eventstacks.flow.symbols import is_known, is_open
from eventstacks.lint.view import (
    BUS,
    GUIDE,
    RULE,
    Findings,
    View,
    flow_rule,
    place_of,
    tests_of,
)

KEY = "KmsKeyIdentifier"


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
    "template "
    "with a bus policy counts as fed by another account or Region.",
    f"{GUIDE}eb-service-event.html",
    ("events", "buses", "patterns"),
)
def aws_events_elsewhere(view: View) -> Findings:
    if not view.is_complete:
        return
    fed = {target.arn for rule in view.flow.rules for target in rule.targets}
    for properties, rule, pattern in view.patterns:
        bus = view.flow.resources.get(rule.bus) if "EventBusName" in properties else None
        if not bus or "EventSourceName" in bus.properties or view.flow.policies_of(bus.arn):
            continue
        if bus.arn in fed or any(map(is_open, fed)):
            continue
        for test in tests_of(pattern, "source"):
            text = test.get("prefix") if isinstance(test, dict) else test
            if str(text).startswith("aws.") and not str(text).startswith("aws.partner/"):
                message = f"events of {text} arrive on the default bus, not on {bus.logical_id}"
                yield place_of(properties, "source", test=test), message


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
        key, arn = node.get(KEY), node.get("DeadLetterConfig", "Arn")
        if key and key.value and "DeadLetterConfig" not in node:
            yield (
                key,
                "'DeadLetterConfig' is missing: events are lost if this key cannot be used",
            )
        flow = node.stack.flow  # in which the conditions of the bus are decided
        queue = flow.resources.get(str(arn.value)) if arn else None
        if key and arn and queue and _is_same_key(view, flow, key.value, queue):
            yield arn, "the dead-letter queue has the same key as the bus"


def _is_same_key(view: View, flow: Flow, name: Any, queue: Resource) -> bool:
    """Return True if a queue has the key with a name, an ARN or an alias.

    Symbols of functions can be equal where the values are not.
    """
    other = queue.properties.get("KmsMasterKeyId")
    key = key_of(flow, name, queue.region)
    is_same = name == other and (is_known(name) or name in view.stack.parameters.values())
    return bool(key and key == key_of(flow, other, queue.region)) or is_same
