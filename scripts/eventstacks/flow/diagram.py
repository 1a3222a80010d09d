"""The flow as a picture: publisher → bus → rule → target, dashed to the dead letters, bus → archive.

``picture`` says what is drawn, in which column; ``mermaid`` writes it as text, ``svg.draw`` as an image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eventstacks.flow.graph import INPUTS, as_list
from eventstacks.flow.resolve import SYMBOL, as_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eventstacks.flow.graph import Flow, Json, Target
    from eventstacks.flow.trace import Arrival

KINDS = {  # the service of a target's ARN: (what the picture calls it, its colour's name)
    "lambda": ("Lambda function", "compute"),
    "logs": ("log group", "log"),
    "sqs": ("SQS queue", "queue"),
    "sns": ("SNS topic", "queue"),
    "states": ("state machine", "compute"),
    "events": ("event bus", "bus"),
    "kinesis": ("Kinesis stream", "queue"),
    "firehose": ("Firehose stream", "queue"),
    "ecs": ("ECS task", "compute"),
}
PUBLISHERS = {
    "aws.s3": "Amazon S3",
    "aws.rds": "Amazon RDS",
    "aws.ec2": "Amazon EC2",
    "aws.ecs": "Amazon ECS",
    "aws.health": "AWS Health",
    "aws.cloudformation": "AWS CloudFormation",
    "aws.codepipeline": "AWS CodePipeline",
}
COLOURS = {  # on white, on black
    "publisher": ("#475569", "#94a3b8"),
    "bus": ("#7c3aed", "#a78bfa"),
    "rule": ("#2563eb", "#60a5fa"),
    "compute": ("#c2410c", "#fb923c"),
    "log": ("#0f766e", "#2dd4bf"),
    "queue": ("#a16207", "#facc15"),
    "archive": ("#57534e", "#a8a29e"),
    "dead": ("#dc2626", "#f87171"),
}
ON_WAY, OFF_WAY, LOST, DEAD = "on", "off", "lost", "buried"
LINES = 8  # of a pattern


@dataclass
class Node:
    """A card. ``kind`` is what it is, ``colour`` the name of its colour, ``rank`` its column from the left."""

    key: str
    kind: str
    colour: str
    title: str
    lines: tuple[str, ...]
    rank: int
    mark: str = ""


@dataclass
class Edge:
    """An arrow; dashed where events go that could not be delivered."""

    source: str
    target: str
    label: str = ""
    dashed: bool = False
    mark: str = ""


@dataclass
class Picture:
    """Nodes by key, in the order of the templates, and edges."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    def add(  # noqa: PLR0913, PLR0917 - what a card has
        self, key: str, kind: str, colour: str, title: str, rank: int, lines: tuple[str, ...] = ()
    ) -> str:
        """Adds a card unless it is there; what several point at stands right of them all. Gives its key."""
        known = self.nodes.setdefault(key, Node(key, kind, colour, title, lines, rank))
        known.rank = max(known.rank, rank)
        return key

    def link(self, source: str, target: str, label: str = "", *, dashed: bool = False) -> None:
        """Adds an arrow; one that is there gets the label as well."""
        for one in self.edges:
            if (one.source, one.target, one.dashed) == (source, target, dashed):
                if label not in one.label:
                    one.label = f"{one.label}, {label}" if one.label else label
                return
        self.edges.append(Edge(source, target, label, dashed))


def picture(flow: Flow, arrivals: Iterable[Arrival] = ()) -> Picture:
    """What there is to draw; with ``arrivals`` (``trace.trace``) the way of an event is marked."""
    drawn, arrivals = Picture(), list(arrivals)
    targets = {one.arn for rule in flow.rules for one in rule.targets if one.is_bus}
    passed = {one.bus for arrival in arrivals for one in _all(arrival)}
    buses = [
        one
        for one in flow.buses.values()
        if one.arn in (passed or targets)
        or (not passed and (one.name != "default" or flow.rules_on(one.arn)))
    ]
    for bus in sorted(
        buses, key=lambda one: one.arn in targets
    ):  # those that others feed come after them
        drawn.add(bus.arn, "event bus", "bus", bus.label, _add_publishers(drawn, flow, bus.arn) + 1)
        rank = drawn.nodes[bus.arn].rank + 1
        for rule in flow.rules_on(bus.arn):
            said = short(rule.pattern or rule.schedule or "")
            kind = "rule (disabled)" if rule.state.startswith("DISABLED") else "rule"
            drawn.link(bus.arn, drawn.add(rule.arn, kind, "rule", rule.label, rank, said))
            for target in rule.targets:
                _add_target(drawn, flow, rule.arn, target)
        for archive in (one for one in flow.archives if one.bus == bus.arn):
            said = short(archive.pattern or "every event")
            drawn.link(
                bus.arn, drawn.add(archive.arn, "archive", "archive", archive.label, rank, said)
            )
    for schedule in flow.schedules if not arrivals else ():
        key = f"schedule {schedule.label}"
        drawn.add(key, "schedule", "rule", schedule.label, 2, (schedule.expression,))
        _add_target(drawn, flow, key, schedule.target)
    _add_dead_letters(drawn, flow)
    if arrivals:
        _mark(drawn, arrivals)
    return drawn


def _add_publishers(drawn: Picture, flow: Flow, bus: str) -> int:
    """Who puts events on a bus, as the rules' patterns tell; gives the column of the last of them."""
    if flow.buses[bus].name != "default":
        if bus not in drawn.nodes:
            key = drawn.add(f"publisher {bus}", "publisher", "publisher", "your applications", 0)
            drawn.link(key, bus, "PutEvents")
        return 0
    rank, here = 0, [one for one in flow.resources.values() if one.region in ("", *bus.split(":"))]
    trail = next((one for one in here if one.type == "AWS::CloudTrail::Trail"), None)
    for rule in (one for one in flow.rules_on(bus) if isinstance(one.pattern, dict)):
        text = str(rule.pattern)
        buckets = {
            one.arn: one.logical_id
            for one in here
            if one.type == "AWS::S3::Bucket" and one.name in text
        }
        for source in as_list(as_dict(rule.pattern).get("source")) or ["any source"]:
            own = buckets if source == "aws.s3" else {}
            for arn, name in (
                own or {f"{source} {bus}": PUBLISHERS.get(str(source), _say(source))}
            ).items():
                key = drawn.add(arn, "S3 bucket" if own else "publisher", "publisher", name, 0)
                if trail and "AWS API Call via CloudTrail" in text:
                    rank = 1
                    drawn.add(trail.arn, "CloudTrail trail", "publisher", trail.logical_id, rank)
                    drawn.link(key, trail.arn, "API calls")
                    key = trail.arn
                drawn.link(key, bus)
    return rank


def _add_target(drawn: Picture, flow: Flow, source: str, target: Target) -> None:
    kind, colour = KINDS.get(target.service, (target.service or "target", "compute"))
    if ":api-destination/" in target.arn:  # of the same service as a bus
        kind, colour = "API destination", "compute"
    changed = next((key for key in INPUTS if key in target.settings), "")
    rank = drawn.nodes[source].rank + 1
    drawn.link(source, drawn.add(target.arn, kind, colour, flow.label(target.arn), rank), changed)


def _add_dead_letters(drawn: Picture, flow: Flow) -> None:
    """The queues that take what could not be delivered, by a rule, a bus, or a function that failed on it."""
    ways = [
        (one.arn, one.dead_letters, "not delivered") for rule in flow.rules for one in rule.targets
    ]
    ways += [(one.target.arn, one.target.dead_letters, "not delivered") for one in flow.schedules]
    for resource in flow.resources.values():
        given = resource.properties
        if resource.type == "AWS::Events::EventBus":
            ways.append(
                (resource.arn, as_dict(given.get("DeadLetterConfig")).get("Arn"), "not decrypted")
            )
        if resource.type == "AWS::Lambda::EventInvokeConfig":
            failed = as_dict(as_dict(given.get("DestinationConfig")).get("OnFailure")).get(
                "Destination"
            )
            functions = (
                one for one in flow.resources.values() if one.type == "AWS::Lambda::Function"
            )
            ways += [
                (one.arn, failed, "failed")
                for one in functions
                if one.region == resource.region
                and given.get("FunctionName") in (one.name, one.arn)
            ]
    last = max((one.rank for one in drawn.nodes.values()), default=0) + 1
    for source, queue, label in ways:
        if isinstance(queue, str) and source in drawn.nodes:
            drawn.add(queue, "dead-letter queue", "dead", flow.label(queue), last)
            drawn.link(source, queue, label, dashed=True)


def _mark(drawn: Picture, arrivals: list[Arrival]) -> None:
    """Marks what the event passes; all else is off its way. Of several deliveries the worst is shown."""
    on: dict[tuple[str, ...], str] = {}
    for place, mark in (one for arrival in arrivals for one in _passed(drawn, arrival)):
        on[place] = max(on.get(place, OFF_WAY), mark, key=(OFF_WAY, ON_WAY, DEAD, LOST).index)
    feeding = [one for one in drawn.edges if drawn.nodes[one.source].colour == "publisher"]
    for edge in sorted(
        feeding, key=lambda one: -drawn.nodes[one.target].rank
    ):  # publishers, and those before them
        if (edge.target,) in on:
            on |= {(edge.source,): ON_WAY, (edge.source, edge.target): ON_WAY}
    for node in drawn.nodes.values():
        node.mark = on.get((node.key,), OFF_WAY)
    for edge in drawn.edges:
        edge.mark = on.get((edge.source, edge.target), OFF_WAY)


def _all(arrival: Arrival) -> list[Arrival]:
    """An arrival, and those on later buses."""
    return [
        arrival,
        *(delivery.onward for _, delivery in arrival.walk() if delivery and delivery.onward),
    ]


def _passed(drawn: Picture, arrival: Arrival) -> Iterator[tuple[tuple[str, ...], str]]:
    """The cards (one key) and arrows (two) on the way, each with its mark."""
    ways: list[tuple[str, ...]] = [(arrival.bus,)]
    kept = {(one.bus, archive) for one in _all(arrival) for archive in one.archives}
    for edge in drawn.edges:
        card = drawn.nodes[edge.target]
        if card.kind == "archive" and (edge.source, card.title) in kept:
            ways += [(edge.target,), (edge.source, edge.target)]
    for route, delivery in arrival.walk():
        if route.matched is not False:
            rule = route.rule
            ways += [(rule.bus,), (rule.arn,), (rule.bus, rule.arn)]
            if delivery:
                mark = {"lost": LOST, "dead letter": DEAD}.get(delivery.fate, ON_WAY)
                arn, queue = delivery.target.arn, delivery.target.dead_letters
                yield from (((arn,), mark), ((rule.arn, arn), mark))
                if mark == DEAD and queue:
                    yield from (((queue,), DEAD), ((arn, queue), DEAD))
    yield from ((one, ON_WAY) for one in ways)


# --- words -------------------------------------------------------------------------------------


def short(pattern: Json | str, limit: int = LINES) -> tuple[str, ...]:
    """A pattern in few lines: a path and what it must be, each; text as it is."""
    if isinstance(pattern, str):
        return (say(pattern),)
    lines = [f"{path}: {', '.join(tests)}" for path, tests in _flatten(pattern)]
    if len(lines) > limit:
        lines[limit - 1 :] = [f"… and {len(lines) - limit + 1} more"]
    return tuple(lines)


def _flatten(pattern: Any, path: str = "") -> Iterable[tuple[str, list[str]]]:
    for key, value in pattern.items():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            yield from _flatten(value, where)
        elif key == "$or":
            parts = [one for part in as_list(value) for one in _flatten(as_dict(part))]
            yield where, [" or ".join(f"{name}: {', '.join(tests)}" for name, tests in parts)]
        else:
            yield where, [_say(one) for one in as_list(value)]


def _say(test: Any) -> str:
    """One test of a pattern, as it is said."""
    if not isinstance(test, dict) or len(test) != 1:
        return "null" if test is None else say(str(test))
    [(operator, value)] = test.items()
    if operator == "exists":
        return "present" if value else "absent"
    if operator == "prefix" and isinstance(value, str):
        return f"{say(value)}…" if value else "any"
    if operator == "suffix" and isinstance(value, str):
        return f"…{say(value)}"
    if operator == "numeric":
        return " ".join(map(str, as_list(value)))
    words = ", ".join(map(_say, as_list(value)))
    return (
        f"not {words}"
        if operator == "anything-but"
        else words
        if operator == "wildcard"
        else f"{operator} {words}"
    )


def say(text: str) -> str:
    """A text with its symbols as a reader knows them, the names of stacks left out (a logical id has no hyphen)."""
    known = {"⟨AWS.AccountId⟩": "this account", "⟨AWS.Region⟩": "this region"}
    return SYMBOL.sub(
        lambda found: known.get(found[0], f"[{re.sub(r'^[^.]*[-@][^.]*[.]', '', found[0][1:-1])}]"),
        text,
    )


# --- text --------------------------------------------------------------------------------------

_SHAPES = {
    "publisher": ("([", "])"),
    "bus": ("[[", "]]"),
    "rule": ("{{", "}}"),
    "archive": ("[(", ")]"),
    "dead": ("[/", "/]"),
}


def mermaid(drawn: Picture) -> str:
    """A Mermaid flowchart (https://mermaid.js.org/syntax/flowchart.html), the same text every time."""
    names = {key: f"n{number}" for number, key in enumerate(drawn.nodes)}
    lines = ["flowchart LR"]
    for key, node in drawn.nodes.items():
        opening, closing = _SHAPES.get(node.colour, ("[", "]"))
        text = "<br>".join(
            [f"<b>{_escape(node.title)}</b>", f"<i>{node.kind}</i>", *map(_escape, node.lines)]
        )
        lines.append(
            f'  {names[key]}{opening}"{text}"{closing}:::{node.mark if node.mark == OFF_WAY else node.colour}'
        )
    for number, edge in enumerate(drawn.edges):
        arrow = "-.->" if edge.dashed else "==>" if edge.mark == ON_WAY else "-->"
        lines.append(
            f"  {names[edge.source]} {arrow}{f'|{edge.label}|' if edge.label else ''} {names[edge.target]}"
        )
        if edge.mark in (LOST, DEAD):
            lines.append(f"  linkStyle {number} stroke:{COLOURS['dead'][0]},stroke-width:3px")
    colours = {node.colour for node in drawn.nodes.values()}
    used = {name: light for name, (light, _) in COLOURS.items() if name in colours}
    lines += [
        f"  classDef {name} fill:#fff,stroke:{light},color:#1e293b" for name, light in used.items()
    ]
    if any(node.mark == OFF_WAY for node in drawn.nodes.values()):
        lines.append(f"  classDef {OFF_WAY} fill:#fff,stroke:#cbd5e1,color:#94a3b8")
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Text inside the quotes of a Mermaid label."""
    return re.sub(r'["#<>&*_`]', lambda found: f"#{ord(found[0])};", text)
