"""Draw the flow as a Mermaid flowchart: publisher → bus → rule → target, dashed to dead-letter queues.

``picture`` decides what is drawn; ``mermaid`` writes it. Source: https://mermaid.js.org/syntax/flowchart.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from eventstacks.flow.symbols import SYMBOL, as_dict, as_list
from eventstacks.flow.targets import INPUTS, kind_of
from eventstacks.flow.trace import Fate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eventstacks.flow.graph import Bus, Flow, Json, Rule, Target
    from eventstacks.flow.resolve import Resource
    from eventstacks.flow.trace import Arrival

STYLES = {  # kind of target: its style, if it is not "compute"
    "event-bus": "bus",
    "firehose": "queue",
    "kinesis": "queue",
    "logs": "log",
    "sns": "queue",
    "sqs": "queue",
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
COLOURS = {
    "publisher": "#475569",
    "bus": "#7c3aed",
    "rule": "#2563eb",
    "compute": "#c2410c",
    "log": "#0f766e",
    "queue": "#a16207",
    "archive": "#57534e",
    "dead": "#dc2626",
}
SHAPES = {
    "publisher": ("([", "])"),
    "bus": ("[[", "]]"),
    "rule": ("{{", "}}"),
    "archive": ("[(", ")]"),
    "dead": ("[/", "/]"),
}
MAX_LINES = 8  # of a pattern


@dataclass
class Node:
    """A node. ``kind``: what it is, in words; ``style``: a key of COLOURS."""

    kind: str
    style: str
    title: str
    lines: tuple[str, ...]


@dataclass
class Edge:
    """An arrow between two nodes, dashed for events that could not be delivered."""

    source: str
    target: str
    dashed: bool
    label: str = ""
    is_lost: bool = False


@dataclass
class Picture:
    """Nodes by key, in the order of the templates, and edges."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[tuple[str, str, bool], Edge] = field(default_factory=dict)

    def add(self, key: str, kind: str, style: str, title: str, lines: Iterable[str] = ()) -> str:
        """Add a node unless it exists, and return its key."""
        self.nodes.setdefault(key, Node(kind, style, title, tuple(lines)))
        return key

    def link(self, source: str, target: str, label: str = "", *, dashed: bool = False) -> None:
        """Add an arrow, or the label to an existing one."""
        key = (source, target, dashed)
        edge = self.edges.setdefault(key, Edge(*key, label))
        if label not in edge.label:
            edge.label = f"{edge.label}, {label}" if edge.label else label


def picture(flow: Flow, arrivals: Iterable[Arrival] = ()) -> Picture:
    """Return what to draw: the flow, or only the route of an event (``trace.trace``)."""
    drawn, fates = Picture(), {}
    if arrivals := list(arrivals):
        deliveries = [one for arrival in arrivals for _, one in arrival.walk() if one]
        fates = {one.target.arn: one.fate for one in deliveries}
        flow = _route_only(flow, arrivals)
    targets = {target.arn for rule in flow.rules for target in rule.targets if target.is_bus}
    for bus in sorted(flow.buses.values(), key=lambda one: one.arn in targets):
        if bus.name != "default" or flow.rules_on(bus.arn) or bus.arn in targets:
            _add_bus(drawn, flow, bus)
    for schedule in flow.schedules:
        key = f"schedule {schedule.label}"
        drawn.add(key, "schedule", "rule", schedule.label, (schedule.expression,))
        _add_target(drawn, flow, key, schedule.target)
    for edge in drawn.edges.values():
        edge.is_lost = fates.get(edge.target) in (Fate.LOST, Fate.REFUSED, Fate.DEAD_LETTER)
    for source, queue, label in _dead_letter_queues(flow):
        is_used = not arrivals or fates.get(source) is Fate.DEAD_LETTER
        if isinstance(queue, str) and source in drawn.nodes and is_used:
            drawn.add(queue, "dead-letter queue", "dead", flow.label(queue))
            drawn.link(source, queue, label, dashed=True)
    return drawn


def _add_bus(drawn: Picture, flow: Flow, bus: Bus) -> None:
    """Add a bus with its publishers, rules, targets and archives."""
    _add_publishers(drawn, flow, bus.arn)
    drawn.add(bus.arn, "event bus", "bus", bus.label)
    for rule in flow.rules_on(bus.arn):
        kind = "rule (disabled)" if rule.state.startswith("DISABLED") else "rule"
        lines = short(rule.pattern or rule.schedule or "")
        drawn.link(bus.arn, drawn.add(rule.arn, kind, "rule", rule.label, lines))
        for target in rule.targets:
            _add_target(drawn, flow, rule.arn, target)
    for archive in (one for one in flow.archives if one.bus == bus.arn):
        lines = short(archive.pattern or "every event")
        key = drawn.add(archive.arn, "archive", "archive", archive.label, lines)
        drawn.link(bus.arn, key)


def _route_only(flow: Flow, arrivals: list[Arrival]) -> Flow:
    """Return the part of a flow that an event passes."""
    later = [one.onward for arrival in arrivals for _, one in arrival.walk() if one and one.onward]
    passed = [*arrivals, *later]
    kept = {(one.bus, archive) for one in passed for archive in one.archives}
    return replace(
        flow,
        buses={one.bus: flow.buses[one.bus] for one in passed if one.exists},
        rules=[route.rule for one in passed for route in one.routes if route.matched is not False],
        archives=[one for one in flow.archives if (one.bus, one.label) in kept],
        schedules=[],
    )


def _add_publishers(drawn: Picture, flow: Flow, bus: str) -> None:
    """Add what puts events on a bus, as far as the rules' patterns tell."""
    if flow.buses[bus].name != "default":
        if bus not in drawn.nodes:
            key = drawn.add(f"publisher {bus}", "publisher", "publisher", "your applications")
            drawn.link(key, bus, "PutEvents")
        return
    here = [one for one in flow.resources.values() if one.region in {"", *bus.split(":")}]
    trail = next((one for one in here if one.type == "AWS::CloudTrail::Trail"), None)
    for rule in (one for one in flow.rules_on(bus) if isinstance(one.pattern, dict)):
        via_trail = trail if "AWS API Call via CloudTrail" in str(rule.pattern) else None
        for key, kind, name in _publishers_of(rule, here):
            source = drawn.add(key, kind, "publisher", name)
            if via_trail:
                drawn.add(via_trail.arn, "CloudTrail trail", "publisher", via_trail.logical_id)
                drawn.link(source, via_trail.arn, "API calls")
                source = via_trail.arn
            drawn.link(source, bus)


def _publishers_of(rule: Rule, resources: list[Resource]) -> Iterator[tuple[str, str, str]]:
    """Yield the key, the kind and the name of each publisher in a pattern: buckets, or services."""
    pattern = as_dict(rule.pattern)
    for source in as_list(pattern.get("source")) or ["any source"]:
        buckets = [
            one
            for one in resources
            if source == "aws.s3" and one.type == "AWS::S3::Bucket" and one.name in str(pattern)
        ]
        for bucket in buckets:
            yield bucket.arn, "S3 bucket", bucket.logical_id
        if not buckets:
            name = PUBLISHERS.get(str(source), plain(str(source)))
            yield f"{source} {rule.bus}", "publisher", name


def _add_target(drawn: Picture, flow: Flow, source: str, target: Target) -> None:
    kind = kind_of(target.arn)
    style = STYLES.get(kind.name, "compute") if kind else "compute"
    changed = next((key for key in INPUTS if key in target.settings), "")
    title = kind.title if kind else target.service or "target"
    key = drawn.add(target.arn, title, style, flow.label(target.arn))
    drawn.link(source, key, changed)


def _dead_letter_queues(flow: Flow) -> Iterator[tuple[str, Any, str]]:
    """Yield what gives up on events, its dead-letter queue, and why: rules, schedules, buses, functions."""
    for target in [target for rule in flow.rules for target in rule.targets]:
        yield target.arn, target.dead_letters, "not delivered"
    for schedule in flow.schedules:
        yield schedule.target.arn, schedule.target.dead_letters, "not delivered"
    functions = [one for one in flow.resources.values() if one.type == "AWS::Lambda::Function"]
    for resource in flow.resources.values():
        given = resource.properties
        if resource.type == "AWS::Events::EventBus":
            yield resource.arn, as_dict(given.get("DeadLetterConfig")).get("Arn"), "not decrypted"
        if resource.type == "AWS::Lambda::EventInvokeConfig":
            on_failure = as_dict(as_dict(given.get("DestinationConfig")).get("OnFailure"))
            for one in functions:
                is_own = given.get("FunctionName") in (one.name, one.arn)
                if is_own and one.region == resource.region:
                    yield one.arn, on_failure.get("Destination"), "failed"


# --- patterns in words -------------------------------------------------------------------------


def short(pattern: Json | str, limit: int = MAX_LINES) -> tuple[str, ...]:
    """Return a pattern in a few lines, each a path and its tests; text unchanged."""
    lines = [pattern] if isinstance(pattern, str) else list(_flatten(pattern))
    if len(lines) > limit:
        lines[limit - 1 :] = [f"… and {len(lines) - limit + 1} more"]
    return tuple(map(plain, lines))


def _flatten(pattern: Any, path: str = "") -> Iterator[str]:
    for key, value in pattern.items():
        where = f"{path}.{key}" if path else str(key)
        if isinstance(value, dict):
            yield from _flatten(value, where)
        else:
            tests = (
                test if isinstance(test, str) else json.dumps(test, ensure_ascii=False)
                for test in as_list(value)
            )
            yield f"{where}: {', '.join(tests)}"


def plain(text: str) -> str:
    """Return a text with its symbols in words, without stack names (a logical ID has no hyphen)."""
    known = {"⟨AWS.AccountId⟩": "this account", "⟨AWS.Region⟩": "this region"}

    def replace(match: re.Match[str]) -> str:
        bare = re.sub(r"^[^.]*[-@][^.]*[.]", "", match[0][1:-1])
        return known.get(match[0], f"[{bare}]")

    return SYMBOL.sub(replace, text)


# --- Mermaid -----------------------------------------------------------------------------------


def mermaid(drawn: Picture) -> str:
    """Return the flowchart, the same text every time."""
    names = {key: f"n{number}" for number, key in enumerate(drawn.nodes)}
    lines = ["flowchart LR"]
    for key, node in drawn.nodes.items():
        opening, closing = SHAPES.get(node.style, ("[", "]"))
        heading = [f"<b>{_escape(node.title)}</b>", f"<i>{node.kind}</i>"]
        text = "<br>".join([*heading, *map(_escape, node.lines)])
        lines.append(f'  {names[key]}{opening}"{text}"{closing}:::{node.style}')
    for number, edge in enumerate(drawn.edges.values()):
        arrow, label = "-.->" if edge.dashed else "-->", f"|{edge.label}|" if edge.label else ""
        lines.append(f"  {names[edge.source]} {arrow}{label} {names[edge.target]}")
        if edge.is_lost:
            lines.append(f"  linkStyle {number} stroke:{COLOURS['dead']},stroke-width:3px")
    used = {node.style for node in drawn.nodes.values()}
    lines += [
        f"  classDef {name} fill:#fff,stroke:{colour},color:#1e293b"
        for name, colour in COLOURS.items()
        if name in used
    ]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    """Escape text for the quotes of a Mermaid label."""
    return re.sub(r'["#<>&*_`]', lambda match: f"#{ord(match[0])};", text)
