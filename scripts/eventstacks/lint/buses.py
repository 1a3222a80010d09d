"""Rules on event buses: who can send to them, where events arrive, and their keys."""

from eventstacks.flow.symbols import is_open
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
        bus = view.flow.resources.get(rule.bus) if properties.get("EventBusName") else None
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
        key = node.get("KmsKeyIdentifier")
        if key and key.value and not node.get("DeadLetterConfig"):
            yield (
                key,
                "'DeadLetterConfig' is missing: events are lost if this key cannot be used",
            )
