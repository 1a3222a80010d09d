"""Trace one event before it is sent: which rules match, what targets receive, and what is lost."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import payload, permissions
from eventstacks.flow.graph import bus_arn, of_stacks
from eventstacks.flow.resolve import Stack
from eventstacks.flow.symbols import SYMBOL, as_dict, is_known
from eventstacks.flow.targets import REFUSALS, Reason, Target
from eventstacks.patterns.grammar import OPERATORS, PatternError
from eventstacks.patterns.matcher import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eventstacks.flow.graph import Flow, Json, Rule
    from eventstacks.flow.payload import Payload
    from eventstacks.flow.permissions import Verdict

# None: it depends on what only AWS knows; and the reasons.
Matched = tuple[bool | None, tuple[str, ...]]
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
    """One target. ``code``: why it has its fate; ``problem``: the same in words, "" if it is delivered.

    ``dead_letters``: the label of the dead-letter queue that gets the event. ``queue``: whether the rule
    may write to its dead-letter queue, None if it has none.
    """

    target: Target
    label: str
    payload: Payload
    permission: Verdict
    fate: Fate
    code: Reason
    queue: Verdict | None = None
    dead_letters: str = ""
    problem: str = ""
    onward: Arrival | None = None


@dataclass(frozen=True)
class Route:
    """One rule. ``matched``: None if that depends on what only AWS knows; ``why``: the reasons."""

    rule: Rule
    matched: bool | None
    why: tuple[str, ...] = ()
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True)
class Arrival:
    """An event on a bus. ``exists``: whether the bus is known; PutEvents drops events for other buses.

    ``unexamined``: what can hold more rules on the bus but was not expanded.
    """

    bus: str  # ARN
    label: str
    event: Json
    routes: tuple[Route, ...] = ()
    archives: tuple[str, ...] = ()
    exists: bool = True
    unexamined: tuple[str, ...] = ()

    def walk(self) -> Iterator[tuple[Route, Delivery | None]]:
        """Yield every route with each of its deliveries (None if it has none), later buses included."""
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
        """Whether a rule that matches, or can match, does not deliver, or the bus does not exist."""
        failed = (Fate.LOST, Fate.DEAD_LETTER, Fate.REFUSED)
        return not self.exists or any(one.fate in failed for _, one in self.walk() if one)


def match(pattern: Json | str, event: Mapping[str, Any]) -> Matched:
    """Match a resolved pattern. Symbols are tried as everything and as nothing: None if that decides.

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
        return False, (f"AWS refuses the pattern: {error}",)


@lru_cache(maxsize=256)
def _compile(text: str) -> Pattern:
    return Pattern(text)


def _replace(pattern: Any, symbols: list[str], by: Any) -> Any:
    """Return the pattern with each test that contains one of the symbols replaced."""
    if isinstance(pattern, dict):
        return {key: _replace(value, symbols, by) for key, value in pattern.items()}
    if not isinstance(pattern, list):
        return pattern
    # $or holds patterns, other lists hold tests.
    if any(isinstance(one, dict) and one.keys().isdisjoint(OPERATORS) for one in pattern):
        return [_replace(one, symbols, by) for one in pattern]
    return [
        by if any(symbol in json.dumps(test, ensure_ascii=False) for symbol in symbols) else test
        for test in pattern
    ]


def entrances(flow: Flow, event: Mapping[str, Any], bus: str | None = None) -> list[str]:
    """Return the ARNs of the buses on which an event arrives.

    ``bus``: a name or an ARN. Without one, events of AWS arrive on the default bus; others on the
    buses of these stacks that have rules, or the default bus if there are none. Only buses of the
    event's Region count, and in an account that was read only those of these stacks.
    """
    known = of_stacks(flow.stacks).buses if flow.is_whole else flow.buses
    here = [one for one in flow.buses.values() if one.arn.split(":")[3] == event["region"]]
    if bus:
        found = [one.arn for one in here if bus in {one.name, one.arn, one.label}]
        place = Stack({}, region=str(event["region"]), account=str(event["account"]))
        return found or [bus_arn(bus, place)]
    here = [one for one in here if one.arn in known]
    arns = [one.arn for one in here if one.name != "default" and flow.rules_on(one.arn)]
    if str(event.get("source", "")).startswith("aws.") or not arns:
        arns = [one.arn for one in here if one.name == "default"]
    if not arns:
        raise ToolError(
            f"no stack is deployed in the event's Region {event['region']}",
            code=ErrorCode.NOT_FOUND,
            where="event: region",
        )
    return arns


def trace(flow: Flow, event: Json, bus: str) -> Arrival:
    """Trace an event that arrives on a bus (ARN), also over further buses."""
    return _Walk(flow, event).arrive(bus)


@dataclass(frozen=True)
class _Walk:
    flow: Flow
    event: Json
    passed: tuple[str, ...] = ()  # the buses so far

    def arrive(self, bus: str) -> Arrival:
        flow = self.flow
        if bus not in flow.buses:
            return Arrival(bus, flow.label(bus), self.event, exists=False)
        walk = replace(self, passed=(*self.passed, bus))
        archives = tuple(
            one.label
            for one in flow.archives
            if one.bus == bus and (one.pattern is None or match(one.pattern, self.event)[0])
        )
        misplaced = [rule for rule in flow.rules if _is_misplaced(rule, bus)]
        routes = [walk.route(rule) for rule in flow.rules_on(bus)]
        routes += [
            Route(
                rule, matched=False, why=(f"PutRule refuses it: {rule.bus} is in another Region",)
            )
            for rule in misplaced
        ]
        return Arrival(
            bus,
            flow.label(bus),
            self.event,
            tuple(routes),
            archives,
            unexamined=tuple(flow.unexamined),
        )

    def route(self, rule: Rule) -> Route:
        if rule.state.startswith("DISABLED"):
            return Route(rule, matched=False, why=("the rule is disabled",))
        if rule.pattern is None:
            why = f"the rule has no pattern; it runs on {rule.schedule or 'nothing'}"
            return Route(rule, matched=False, why=(why,))
        matched, why_not = match(rule.pattern, self.event)
        if matched and rule.state == "ENABLED" and _is_read_only_management(self.event):
            text = "a rule in state ENABLED does not receive read-only management events"
            return Route(rule, matched=False, why=(text,))
        if matched is False:
            return Route(rule, matched, why_not)
        deliveries = tuple(self.deliver(rule, target) for target in rule.targets)
        return Route(rule, matched, why_not, deliveries)

    def deliver(self, rule: Rule, target: Target) -> Delivery:
        flow = self.flow
        made = payload.build(rule, target, self.event)
        permission = permissions.of_target(flow, rule, target)
        queue = (
            permissions.of_dead_letters(flow, rule, target.dead_letters)
            if target.dead_letters
            else None
        )
        code, problem = self.problem(target, made, permission)
        label = flow.label(target.arn)
        done = Delivery(target, label, made, permission, Fate.UNKNOWN, code, queue)
        if not problem:
            onward = self.arrive(target.arn) if target.arn in flow.buses else None
            fate = Fate.DELIVERED if permission.allowed else Fate.UNKNOWN
            return replace(done, fate=fate, onward=onward)
        if code in REFUSALS:
            return replace(done, fate=Fate.REFUSED, problem=problem)
        if queue is None or not target.dead_letters:
            return replace(done, fate=Fate.LOST, problem=f"{problem}; no dead-letter queue")
        label = flow.label(target.dead_letters)
        if not queue.allowed:
            problem = f"{problem}; and {label}: {queue.reason}"
        fates = {True: Fate.DEAD_LETTER, False: Fate.LOST, None: Fate.UNKNOWN}
        return replace(done, fate=fates[queue.allowed], dead_letters=label, problem=problem)

    def problem(self, target: Target, made: Payload, permission: Verdict) -> tuple[Reason, str]:
        """Return why a target does not receive the event; an empty text if it does, or can."""
        found = [(made.code, made.problem)] if made.problem else []
        if target.is_bus and (hop := _refused_hop(target.arn, self.passed)):
            found.append((Reason.LOOP, hop))
        if target.is_bus and target.arn not in self.flow.buses and self.flow.covers(target.arn):
            found.append((Reason.NO_SUCH_BUS, "there is no such bus"))
        if permission.allowed is False:
            found.append((permission.code, permission.reason))
        found.sort(key=lambda one: one[0] not in REFUSALS)
        return found[0] if found else (permission.code, "")


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
    from_trail = event.get("detail-type") == "AWS API Call via CloudTrail"
    is_management = detail.get("managementEvent", True) is True
    return from_trail and detail.get("readOnly") is True and is_management


def _refused_hop(arn: str, passed: tuple[str, ...]) -> str:
    """Events cross one border of a Region or account, and visit no bus twice (guide, 'Bus to bus')."""
    if arn in passed:
        return "the event has been on that bus: EventBridge stops loops"
    places = [bus.split(":")[3:5] for bus in (*passed, arn)]
    crossed = sum(before != after for before, after in pairwise(places))
    return "an event crosses a Region or account border only once" if crossed > 1 else ""


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
        "permission": _verdict_data(delivery.permission),
        "fate": delivery.fate.value,
        "code": delivery.code.value,
        "dead_letters": delivery.dead_letters or None,
        "dead_letter_permission": _verdict_data(delivery.queue) if delivery.queue else None,
        "why_lost": delivery.problem or None,
        "onward": as_data(delivery.onward) if delivery.onward else None,
    }


def _verdict_data(verdict: Verdict) -> Json:
    return {"allowed": verdict.allowed, "code": verdict.code.value, "reason": verdict.reason}
