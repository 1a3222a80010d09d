"""Trace one event before it is sent: which rules match, what targets receive, and what is lost."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any

from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import payload, permissions
from eventstacks.flow.graph import Flow, Rule, bus_arn, bus_name
from eventstacks.flow.payload import Payload
from eventstacks.flow.resolve import Stack
from eventstacks.flow.symbols import SYMBOL, Json, as_dict, is_known
from eventstacks.flow.targets import REFUSALS, Reason, Target, Verdict
from eventstacks.patterns.grammar import OPERATORS, PatternError
from eventstacks.patterns.matcher import Pattern

# None: it depends on what only AWS knows; and the reasons.
Matched = tuple[bool | None, tuple[str, ...]]
VIA_TRAIL = "AWS API Call via CloudTrail"
STREAM = "aws:dynamodb"  # the eventSource of records of a DynamoDB stream, which a pipe reads
ANYTHING, NOTHING = {"exists": True}, "⟨nothing is equal to this⟩"


# What becomes of an event at one target. REFUSED: the stack cannot be deployed like this.
Fate = StrEnum(
    "Fate",
    {
        "DELIVERED": "delivered",
        "DEAD_LETTER": "dead letter",
        "LOST": "lost",
        "REFUSED": "refused",
        "UNKNOWN": "unknown",
    },
)


@dataclass(frozen=True)
class Delivery:
    """One target.

    ``verdict``: why it has its fate: a refusal of the payload, a loop, or else ``permission``.

    ``dead_letters``: the label of the dead-letter queue, "" if it has none. ``queue``: whether the
    rule may write to it, None if it has none.
    """

    target: Target
    label: str
    payload: Payload
    permission: Verdict
    fate: Fate
    verdict: Verdict
    queue: Verdict | None = None
    dead_letters: str = ""
    onward: "Arrival | None" = None


@dataclass(frozen=True)
class Route:
    """One rule. ``matched``: None if that depends on what only AWS knows; ``why``: the reasons."""

    rule: Rule
    matched: bool | None
    why: tuple[str, ...] = ()
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True)
class Arrival:
    """An event on a bus.

    ``exists``: whether the bus is known; PutEvents drops events for other buses.

    ``unexamined``: what can hold more rules on the bus but was not expanded.
    """

    bus: str  # ARN
    label: str
    routes: tuple[Route, ...] = ()
    archives: tuple[str, ...] = ()
    exists: bool = True
    unexamined: tuple[str, ...] = ()

    def walk(self) -> Iterator[tuple[Route, Delivery | None]]:
        """Yield every route with each of its deliveries (None if none), later buses included."""
        for route in self.routes:
            for delivery in route.deliveries or (None,):
                yield route, delivery
                if delivery and delivery.onward:
                    yield from delivery.onward.walk()

    @property
    def is_matched(self) -> bool:
        """Whether a rule with a target is known to match."""
        return any(route.matched and delivery for route, delivery in self.walk())

    @property
    def is_lost(self) -> bool:
        """Whether a rule that can match does not deliver, or the bus does not exist."""
        failed = (Fate.LOST, Fate.DEAD_LETTER, Fate.REFUSED)
        return not self.exists or any(one.fate in failed for _, one in self.walk() if one)


def match(pattern: Json | str, event: Mapping[str, Any]) -> Matched:
    """Match a resolved pattern.

    Symbols are tried as everything and as nothing: None if that decides.

    A symbol in the event means the same resource as in the pattern. Text is a pattern that is a
    symbol, nested too deeply for a template, or not an object.
    """
    text = pattern if isinstance(pattern, str) else json.dumps(pattern, ensure_ascii=False)
    given, symbols = dict(event), set(SYMBOL.findall(text))
    event_text = json.dumps(event, ensure_ascii=False) if symbols else ""
    unknown = sorted(symbol for symbol in symbols if symbol not in event_text)
    doubt = (f"depends on {', '.join(unknown)}",)
    if unknown and isinstance(pattern, str):
        return None, doubt
    try:
        compiled = _compile(text)
        verdicts = {compiled.matches(given)} | {
            Pattern(_replace(pattern, unknown, by)).matches(given)
            for by in (ANYTHING, NOTHING)
            if unknown
        }
        if len(verdicts) > 1:
            return None, doubt
        return verdicts.pop(), tuple(map(str, compiled.explain(given)))
    except PatternError as error:
        return False, ("AWS refuses the pattern: " + ". ".join(str(error).splitlines()),)


_compile = lru_cache(maxsize=256)(Pattern)


def _replace(pattern: Any, symbols: list[str], by: Any) -> Any:
    """Return a valid pattern with each test that contains one of the symbols replaced."""
    if isinstance(pattern, dict):
        return {key: _replace(value, symbols, by) for key, value in pattern.items()}
    # $or holds patterns, other lists hold tests.
    if any(isinstance(one, dict) and one.keys().isdisjoint(OPERATORS) for one in pattern):
        return [_replace(one, symbols, by) for one in pattern]
    return [
        by if any(symbol in json.dumps(test, ensure_ascii=False) for symbol in symbols) else test
        for test in pattern
    ]


def entrances(flow: Flow, event: Mapping[str, Any], bus: str | None = None) -> list[str]:
    """Return the ARNs of the buses on which an event arrives; of a record, that of its stream.

    ``bus``: a name or an ARN. Without one, events of AWS arrive on the default bus; others on the
    buses of these stacks that have rules, or the default bus if there are none. Only buses of the
    event's Region count.
    """
    if event.get("eventSource") == STREAM:
        return [str(event.get("eventSourceARN"))]
    here = [arn for arn in flow.buses if arn.split(":")[3] == event["region"]]
    if bus:
        found = [arn for arn in here if bus in {bus_name(arn), arn, flow.buses[arn]}]
        place = Stack({}, region=str(event["region"]), account=str(event["account"]))
        return found or [bus_arn(bus, place)]
    used = {rule.bus for rule in flow.rules}
    arns = [arn for arn in here if bus_name(arn) != "default" and arn in used]
    if str(event.get("source", "")).startswith("aws.") or not arns:
        arns = [arn for arn in here if bus_name(arn) == "default"]
    if not arns:
        raise ToolError(
            f"no stack is deployed in the event's Region {event['region']}",
            code=ErrorCode.NOT_FOUND,
            where="event: region",
        )
    return arns


def trace(flow: Flow, event: Json, bus: str, passed: tuple[str, ...] = ()) -> Arrival:
    """Trace an event that arrives on a bus (ARN), also over further buses.

    ``passed``: those so far.
    """
    pipes = [one for one in flow.senders if one.bus == bus and ":dynamodb:" in bus]
    if bus not in flow.buses and not pipes:
        return Arrival(bus, flow.label(bus), exists=False)
    archives = tuple(
        one.label
        for one in flow.archives
        if one.bus == bus and (one.pattern is None or match(one.pattern, event)[0])
    )
    rules = [rule for rule in flow.rules if rule.bus == bus or _is_misplaced(rule, bus)]
    routes = tuple(_route(flow, event, rule, (*passed, bus)) for rule in rules + pipes)
    return Arrival(bus, flow.label(bus), routes, archives, unexamined=tuple(flow.unexamined))


def _route(flow: Flow, event: Json, rule: Rule, passed: tuple[str, ...]) -> Route:
    matched, why = _match_rule(rule, event, passed[-1])
    if matched is False:
        return Route(rule, matched, why)
    has_trail = any(one.type == "AWS::CloudTrail::Trail" for one in flow.resources.values())
    if matched and event.get("detail-type") == VIA_TRAIL and not has_trail:
        why = (*why, "AWS sends this event only if a trail of CloudTrail records the call")
    deliveries = (_deliver(flow, event, rule, target, passed) for target in rule.targets)
    return Route(rule, matched, why, tuple(deliveries))


def _match_rule(rule: Rule, event: Json, bus: str) -> Matched:
    """Return whether a rule receives an event on a bus, and why not."""
    if rule.bus != bus:
        return False, (f"PutRule refuses it: {rule.bus} is in another Region",)
    if rule.state.startswith("DISABLED"):
        return False, ("the rule is disabled",)
    if rule.pattern is None and rule.sender:
        return True, ()
    if rule.pattern is None:
        return False, ("the rule has no event pattern, so no event triggers it",)
    matched, why = match(rule.pattern, event)
    if matched and rule.state == "ENABLED" and _is_read_only_management(event):
        return False, ("a rule in state ENABLED does not receive read-only management events",)
    return matched, why


def _deliver(
    flow: Flow, event: Json, rule: Rule, target: Target, passed: tuple[str, ...]
) -> Delivery:
    made, sent = payload.build(rule, target, event), event
    if rule.sender:
        sent = payload.event_of(rule, target, event, {})
        permission = permissions.of_pipe(flow, rule, sent)
        made = _checked(made, sent) if target.is_bus else made
    else:
        permission = permissions.of_target(flow, rule, target, event)
    verdict = _verdict_of(target, made, permission, passed)
    fate, dead_letters, queue, onward = Fate.UNKNOWN, "", None, None
    if target.dead_letters:
        queue = permissions.of_dead_letters(flow, rule, target.dead_letters)
        dead_letters = flow.label(target.dead_letters)
    if verdict.allowed is not False:
        fate = Fate.DELIVERED if verdict.allowed else Fate.UNKNOWN
        if target.arn in flow.buses and not rule.sender:
            onward = trace(flow, event, target.arn, passed)
        elif target.arn in flow.buses and payload.is_json(made.text):
            onward = trace(flow, sent | {"detail": json.loads(made.text)}, target.arn)
    elif verdict.code in REFUSALS:
        fate = Fate.REFUSED
    elif queue is None:
        fate = Fate.LOST
    else:
        fate = {True: Fate.DEAD_LETTER, False: Fate.LOST, None: Fate.UNKNOWN}[queue.allowed]
    label = flow.label(target.arn)
    return Delivery(target, label, made, permission, fate, verdict, queue, dead_letters, onward)


def _checked(made: Payload, event: Json) -> Payload:
    """Return the detail of an event that a pipe puts on a bus, with the refusal of PutEvents."""
    entry = {"Source": event["source"], "DetailType": event["detail-type"]}
    refusals = [
        payload.refusal_of_entry({**entry, "Detail": text})
        for text in payload.substituted(made.text)
    ]
    first = refusals[0]
    if made.refusal or first is None or None in refusals:
        return made
    return replace(made, refusal=Verdict(Reason.PAYLOAD, f"PutEvents refuses it: {first[1]}"))


def _verdict_of(
    target: Target, made: Payload, permission: Verdict, passed: tuple[str, ...]
) -> Verdict:
    """Return the first reason why a target does not receive the event, or else ``permission``."""
    hop = _refused_hop(target.arn, passed) if target.is_bus else ""
    found = [made.refusal or Verdict(), Verdict(Reason.LOOP, hop) if hop else Verdict(), permission]
    denials = [one for one in found if one.allowed is False]
    return min(denials, key=lambda one: one.code not in REFUSALS, default=permission)


def _is_misplaced(rule: Rule, bus: str) -> bool:
    """Return True if a rule is deployed in the Region of a bus, but on a bus of another Region.

    PutRule takes a bus of another account by its ARN, never one of another Region (aws-cdk 26032).
    """
    here, own, wanted = (arn.split(":")[3] for arn in (bus, rule.arn, rule.bus))
    is_default = bus.endswith(":event-bus/default")
    return is_default and own == here and wanted != own and is_known([own, wanted])


def _is_read_only_management(event: Mapping[str, Any]) -> bool:
    """Return True for events that need ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS (PutRule)."""
    detail = as_dict(event.get("detail"))
    from_trail = event.get("detail-type") == VIA_TRAIL
    is_management = detail.get("managementEvent", True) is True
    return from_trail and detail.get("readOnly") is True and is_management


def _refused_hop(arn: str, passed: tuple[str, ...]) -> str:
    """Return why an event that has been on some buses cannot be sent to another one.

    An event that a bus received from another one is not sent to a third bus, and one from another
    account not to a third account (EventBridge guide, 'Bus to bus' and 'Between accounts'). A
    public report of what AWS does counts buses of the same Region and Regions apart: one hop of
    each.
    """
    buses = [bus.split(":") for bus in (*passed, arn)]
    regions = sum(before[3] != after[3] for before, after in pairwise(buses))
    accounts = sum(before[4] != after[4] for before, after in pairwise(buses))
    refusals = {
        "the event has been on that bus: EventBridge stops loops": arn in passed,
        "an event is forwarded to another Region only once": regions > 1,
        "an event is forwarded within a Region only once: a third bus does not receive it": (
            len(passed) - regions > 1
        ),
        "an event is forwarded to another account only once": accounts > 1,
    }
    return next((text for text, is_refused in refusals.items() if is_refused), "")


def as_data(arrival: Arrival) -> Json:
    """Return the trace as JSON takes it."""
    return {
        "bus": arrival.bus,
        "exists": arrival.exists,
        "archives": list(arrival.archives),
        "unexamined": list(arrival.unexamined),
        "rules": [
            {
                "rule": route.rule.label,
                "arn": route.rule.arn,
                "matched": route.matched,
                "why": list(route.why),
                "targets": [_delivery_data(delivery) for delivery in route.deliveries],
            }
            for route in arrival.routes
        ],
    }


def _delivery_data(delivery: Delivery) -> Json:
    return {
        "id": delivery.target.id,
        "arn": delivery.target.arn,
        "label": delivery.label,
        "payload": delivery.payload.text,
        "missing_paths": list(delivery.payload.missing),
        "permission": _verdict_data(delivery.permission),
        "fate": delivery.fate.value,
        "code": delivery.verdict.code.value,
        "dead_letters": delivery.dead_letters or None,
        "dead_letter_permission": _verdict_data(delivery.queue) if delivery.queue else None,
        "why_lost": delivery.verdict.reason if delivery.verdict.allowed is False else None,
        "onward": as_data(delivery.onward) if delivery.onward else None,
    }


def _verdict_data(verdict: Verdict) -> Json:
    return {"allowed": verdict.allowed, "code": verdict.code.value, "reason": verdict.reason}
