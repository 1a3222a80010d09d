"""The way of one event, before it is sent: rules that match, and why others do not, what targets get, what is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from eventstacks.errors import ToolError
from eventstacks.flow import payload, permissions
from eventstacks.flow.graph import bus_arn, of_stacks
from eventstacks.flow.resolve import SYMBOL, Stack, as_dict
from eventstacks.patterns.grammar import OPERATORS, PatternError
from eventstacks.patterns.matcher import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eventstacks.flow.graph import Flow, Json, Rule, Target
    from eventstacks.flow.payload import Payload
    from eventstacks.flow.permissions import Verdict

Matched = tuple[
    bool | None, tuple[str, ...]
]  # None: it hangs on what only AWS knows; and why (not)
Matcher = Callable[["Json", "Mapping[str, Any]"], Matched]
ANYTHING, NOTHING = {"exists": True}, "⟨nothing is equal to this⟩"


@dataclass(frozen=True)
class Delivery:
    """One target's part. ``fate``: delivered, dead letter, lost, or unknown."""

    target: Target
    label: str
    payload: Payload
    permission: Verdict
    fate: str
    dead_letters: str = ""  # the label of the queue
    why_lost: str = ""
    onward: Arrival | None = None


@dataclass(frozen=True)
class Route:
    """One rule's part. ``matched`` is None where that hangs on what only AWS knows; ``why`` says why (not)."""

    rule: Rule
    matched: bool | None
    why: tuple[str, ...] = ()
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True)
class Arrival:
    """An event on a bus; ``exists``: whether there is such a bus (an event for one that is not there is gone)."""

    bus: str  # ARN
    label: str
    event: Json
    routes: tuple[Route, ...] = ()
    archives: tuple[str, ...] = ()
    exists: bool = True

    def walk(self) -> Iterator[tuple[Route, Delivery | None]]:
        """Every route with each of its deliveries (None for one without), onward ones included."""
        for route in self.routes:
            for delivery in route.deliveries or (None,):
                yield route, delivery
                if delivery and delivery.onward:
                    yield from delivery.onward.walk()

    @property
    def is_matched(self) -> bool:
        """Whether something surely matches and has a target."""
        return any(route.matched and delivery for route, delivery in self.walk())

    @property
    def is_lost(self) -> bool:
        """Whether something that matches, or may match, cannot be delivered, or there is no such bus."""
        return not self.exists or any(
            one.fate in ("lost", "dead letter") for _, one in self.walk() if one
        )


def match(pattern: Json, event: Mapping[str, Any]) -> Matched:
    """Whether a resolved pattern matches. Symbols are tried as everything and as nothing: if that decides, None.

    An event that says ``⟨Bucket⟩`` itself means that bucket.
    """
    try:
        text, given = json.dumps(pattern, ensure_ascii=False), dict(event)
        compiled = _compile(text)
        verdict = compiled.matches(given)
        symbols = set(SYMBOL.findall(text))
        said = json.dumps(event, ensure_ascii=False) if symbols else ""
        unsaid = sorted(one for one in symbols if one not in said)
        others = [
            Pattern(_replace(pattern, unsaid, by)).matches(given)
            for by in (ANYTHING, NOTHING)
            if unsaid
        ]
        if {verdict, *others} == {True, False}:
            return None, (f"depends on {', '.join(unsaid)}",)
        return verdict, tuple(map(str, compiled.explain(given)))
    except PatternError as error:
        return False, (f"AWS refuses the pattern: {error}",)


def _match_text(pattern: str, event: Json) -> Matched:
    """Whether a pattern matches that only text can say: what it holds is known to AWS alone, too deep, or no object."""
    if SYMBOL.search(pattern):
        return None, (f"depends on {pattern}",)
    try:
        compiled = Pattern(pattern)
        return compiled.matches(event), tuple(map(str, compiled.explain(event)))
    except PatternError as error:
        return False, (f"AWS refuses the pattern: {error}",)


@lru_cache(maxsize=256)
def _compile(text: str) -> Pattern:
    return Pattern(json.loads(text))


def _replace(pattern: Any, symbols: list[str], by: Any) -> Any:
    """The pattern with each test that names one of the symbols replaced."""
    if isinstance(pattern, dict):
        return {key: _replace(value, symbols, by) for key, value in pattern.items()}
    if not isinstance(pattern, list):
        return pattern
    if any(
        isinstance(one, dict) and one.keys().isdisjoint(OPERATORS) for one in pattern
    ):  # $or holds patterns
        return [_replace(one, symbols, by) for one in pattern]
    return [
        by if any(mark in json.dumps(one, ensure_ascii=False) for mark in symbols) else one
        for one in pattern
    ]


def entrances(flow: Flow, event: Mapping[str, Any], bus: str | None = None) -> list[str]:
    """The ARNs of the buses on which an event arrives.

    ``bus``: a name or an ARN. Without one: AWS's own events arrive on the default bus, others on the buses that
    these stacks make, and on the default bus where they make none. Only buses of the event's region count. An account
    that was read has buses of other stacks, too: those do not count.
    """
    known = of_stacks(flow.stacks).buses if flow.is_whole else flow.buses
    here = [one for one in flow.buses.values() if one.arn.split(":")[3] == event["region"]]
    if bus:
        found = [one.arn for one in here if bus in (one.name, one.arn, one.label)]
        return found or [
            bus_arn(bus, Stack({}, region=str(event["region"]), account=str(event["account"])))
        ]
    here = [one for one in here if one.arn in known]
    custom = [one.arn for one in here if one.name != "default" and flow.rules_on(one.arn)]
    if str(event.get("source", "")).startswith("aws.") or not custom:
        custom = [one.arn for one in here if one.name == "default"]
    if not custom:
        raise ToolError(
            f"no stack is in the event's region, {event['region']}", where="event: region"
        )
    return custom


def trace(flow: Flow, event: Json, bus: str, matcher: Matcher = match) -> Arrival:
    """The way of an event that arrives on a bus (ARN), over other buses too."""
    return _Walk(flow, event, matcher).arrive(bus)


@dataclass(frozen=True)
class _Walk:
    flow: Flow
    event: Json
    matcher: Matcher
    passed: tuple[str, ...] = ()  # the buses so far

    def arrive(self, bus: str) -> Arrival:
        flow = self.flow
        if bus not in flow.buses:
            return Arrival(bus, flow.label(bus), self.event, exists=False)
        walk = replace(self, passed=(*self.passed, bus))
        archives = tuple(
            one.label for one in flow.archives if one.bus == bus and walk.is_archived(one.pattern)
        )
        return Arrival(
            bus, flow.label(bus), self.event, tuple(map(walk.route, flow.rules_on(bus))), archives
        )

    def is_archived(self, pattern: Json | str | None) -> bool:
        return pattern is None or bool(self.match(pattern)[0])

    def match(self, pattern: Json | str) -> Matched:
        return (
            _match_text(pattern, self.event)
            if isinstance(pattern, str)
            else self.matcher(pattern, self.event)
        )

    def route(self, rule: Rule) -> Route:
        if rule.state.startswith("DISABLED"):
            return Route(rule, matched=False, why=("the rule is disabled",))
        if rule.pattern is None:
            return Route(
                rule,
                matched=False,
                why=(f"the rule has no pattern; it runs on {rule.schedule or 'nothing'}",),
            )
        matched, why = self.match(rule.pattern)
        if matched and rule.state == "ENABLED" and _is_read_only_management(self.event):
            matched, why = (
                False,
                ("a rule that is merely ENABLED gets no read-only management events",),
            )
        deliveries = (self.deliver(rule, target) for target in rule.targets if matched is not False)
        return Route(rule, matched, why, tuple(deliveries))

    def deliver(self, rule: Rule, target: Target) -> Delivery:
        flow, label, made = (
            self.flow,
            self.flow.label(target.arn),
            payload.build(rule, target, self.event),
        )
        permission = permissions.of_target(flow, rule, target)
        problem, onward = made.problem, None
        if target.is_bus:
            problem = problem or _refused_hop(target.arn, self.passed)
            if target.arn not in flow.buses and flow.covers(target.arn):
                problem = problem or "there is no such bus"
            if permission.allowed is not False and not problem and target.arn in flow.buses:
                onward = self.arrive(target.arn)
        if permission.allowed is not False and not problem:
            fate = "delivered" if permission.allowed else "unknown"
            return Delivery(target, label, made, permission, fate, onward=onward)
        why = problem or permission.reason
        if not (queue := target.dead_letters):
            return Delivery(
                target, label, made, permission, "lost", why_lost=f"{why}; no dead-letter queue"
            )
        verdict = permissions.of_dead_letters(flow, rule, queue)
        fate = {True: "dead letter", False: "lost", None: "unknown"}[verdict.allowed]
        why = why if verdict.allowed else f"{why}; and {flow.label(queue)}: {verdict.reason}"
        return Delivery(target, label, made, permission, fate, flow.label(queue), why)


def _is_read_only_management(event: Mapping[str, Any]) -> bool:
    """Such events need ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS (EventBridge API, PutRule)."""
    detail = as_dict(event.get("detail"))
    through = event.get("detail-type") == "AWS API Call via CloudTrail"
    return (
        through and detail.get("readOnly") is True and detail.get("managementEvent", True) is True
    )


def _refused_hop(arn: str, passed: tuple[str, ...]) -> str:
    """Events cross one border of a region or an account, and come to no bus twice (EventBridge guide, 'Bus to bus')."""
    if arn in passed:
        return "the event has been on that bus: EventBridge stops loops"
    places = [one.split(":")[3:5] for one in (*passed, arn)]
    crossed = sum(before != after for before, after in pairwise(places))
    return "events cross one border of a region or an account, and no second" if crossed > 1 else ""


def as_data(arrival: Arrival) -> Json:
    """The trace as JSON takes it."""
    return {
        "bus": arrival.bus,
        "exists": arrival.exists,
        "archives": list(arrival.archives),
        "rules": [
            {
                "rule": route.rule.label,
                "arn": route.rule.arn,
                "matched": route.matched,
                "why": list(route.why),
                "targets": [
                    {
                        "id": one.target.id,
                        "arn": one.target.arn,
                        "label": one.label,
                        "payload": one.payload.text,
                        "permission": {
                            "allowed": one.permission.allowed,
                            "reason": one.permission.reason,
                        },
                        "fate": one.fate,
                        "dead_letters": one.dead_letters or None,
                        "why_lost": one.why_lost or None,
                        "onward": as_data(one.onward) if one.onward else None,
                    }
                    for one in route.deliveries
                ],
            }
            for route in arrival.routes
        ],
    }
