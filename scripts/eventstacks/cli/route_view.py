"""The route of an event as text: bus, rules, targets, later buses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstacks.cli import output
from eventstacks.flow import payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventstacks.flow.trace import Arrival, Delivery

STYLES = {"delivered": "green", "dead letter": "yellow", "unknown": "magenta"}
MARKS = {True: "✓", False: "✗", None: "?"}
MARK_STYLES = {True: "green", False: "red", None: "magenta"}


def show(arrivals: list[Arrival], event: Any) -> None:
    """Print routes, and the event after them unless it is None."""
    for line, style in (line for arrival in arrivals for line in _arrival_lines(arrival)):
        output.echo(line, style=style)
    if event is not None:
        output.echo(f"event {payload.compact(event)}")


def _arrival_lines(arrival: Arrival, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield the lines of a route with their styles: bus, rules, targets, later buses."""
    indent = "  " * depth
    yield f"{indent}bus {arrival.label}  {arrival.bus}", "bold"
    if not arrival.exists:
        region = arrival.bus.split(":")[3]
        text = f"bus not found in {region}: PutEvents would succeed and the event would be dropped"
        yield f"{indent}  ✗ {text}", "red"
        return
    for route in arrival.routes:
        mark = MARKS[route.matched]
        yield f"{indent}  {mark} rule {route.rule.label}", MARK_STYLES[route.matched]
        for why in route.why:
            yield f"{indent}      {why}", "dim"
        if not route.deliveries and route.matched:
            yield f"{indent}      the rule has no target", "red"
        for delivery in route.deliveries:
            yield from _delivery_lines(delivery, arrival, depth + 2)
    if arrival.unexamined and not arrival.is_matched:
        names = ", ".join(arrival.unexamined)
        yield f"{indent}  ? not expanded, can contain more rules: {names}", "magenta"
    elif not arrival.routes:
        yield f"{indent}  ✗ no rule of these stacks is on this bus", "red"
    for archive in arrival.archives:
        yield f"{indent}  ✓ archive {archive} keeps it", "green"


def _delivery_lines(one: Delivery, arrival: Arrival, depth: int) -> Iterator[tuple[str, str]]:
    indent, style = "  " * depth, STYLES.get(one.fate, "bold red")
    fate = "refused at deployment" if one.fate == "refused" else f"{one.fate} {one.dead_letters}"
    yield f"{indent}→ {one.target.service or 'target'} {one.label}: {fate}".rstrip(), style
    mark = MARKS[False if one.problem else one.permission.allowed]
    yield f"{indent}  {mark} {one.problem or one.permission.reason}", style
    if one.queue and one.queue.allowed is False and not one.problem:
        text = f"the dead-letter queue cannot be written: {one.queue.reason}"
        yield f"{indent}  ✗ {text}", "yellow"
    text = one.payload.text
    taken = "the event" if text == payload.compact(arrival.event) else text
    is_received = one.fate in {"delivered", "unknown"}
    yield f"{indent}  receives {taken if is_received else 'nothing'}", ""
    if one.onward:
        yield from _arrival_lines(one.onward, depth + 1)
