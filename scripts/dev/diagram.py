"""Draw the flow as a Mermaid flowchart.

Publisher → bus → rule → target, dashed to dead-letter queues.

Source: https://mermaid.js.org/syntax/flowchart.html
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from eventstacks.flow.graph import Flow, Rule, bus_name
from eventstacks.flow.symbols import Json, as_dict, as_list
from eventstacks.flow.targets import INPUTS, Target, kind_of

# Kind of target: its style, if it is not "compute".
STYLES = {
    "event-bus": "bus",
    "event-bus-v2": "bus",
    "logs": "log",
    "table": "archive",
} | dict.fromkeys(("firehose", "kinesis", "sns", "sqs"), "queue")
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


class Node(NamedTuple):
    """A node. ``kind``: what it is, in words; ``style``: a key of COLOURS."""

    key: str
    kind: str
    style: str
    title: str
    lines: tuple[str, ...] = ()


class Edge(NamedTuple):
    """An arrow between two nodes, dashed to a dead-letter queue."""

    source: Node
    target: Node
    label: str = ""


def mermaid(flow: Flow) -> str:
    """Return the flowchart of a flow; "" if it is empty."""
    drawn = list(dict.fromkeys(edges(flow)))
    nodes = {node.key: node for edge in drawn for node in (edge.source, edge.target)}
    names = {key: f"n{number}" for number, key in enumerate(nodes)}
    lines = ["flowchart LR"]
    for key, node in nodes.items():
        opening, closing = SHAPES.get(node.style, ("[", "]"))
        heading = [f"<b>{_escape(node.title)}</b>", f"<i>{node.kind}</i>"]
        text = "<br>".join([*heading, *map(_escape, node.lines)])
        lines.append(f'  {names[key]}{opening}"{text}"{closing}:::{node.style}')
    for edge in drawn:
        arrow = "-.->" if edge.target.style == "dead" else "-->"
        arrow += f"|{edge.label}|" if edge.label else ""
        lines.append(f"  {names[edge.source.key]} {arrow} {names[edge.target.key]}")
    lines += [
        f"  classDef {style} fill:#fff,stroke:{COLOURS[style]},color:#1e293b"
        for style in dict.fromkeys(node.style for node in nodes.values())
    ]
    return "\n".join(lines) + "\n" if drawn else ""


def edges(flow: Flow) -> Iterator[Edge]:
    """Yield the arrows of a flow, in the order of the templates."""
    for bus in flow.buses:
        if bus_name(bus) != "default" or flow.rules_on(bus):
            yield from _bus_edges(flow, bus)
    for rule in flow.senders:
        node = _rule_node(rule.sender.title if rule.sender else "", rule)
        if rule.bus:
            kind = kind_of(rule.bus)
            style = STYLES.get(kind.name, "queue")
            source = Node(rule.bus, kind.title, style, flow.label(rule.bus))
            publisher = Node(f"to {rule.bus}", "publisher", "publisher", "your applications")
            yield Edge(publisher, source, "PutEvents" if style == "bus" else "")
            yield Edge(source, node)
        yield from _target_edges(flow, node, rule.targets)


def _bus_edges(flow: Flow, bus: str) -> Iterator[Edge]:
    """Yield the arrows to a bus from its publishers, and from it to rules, targets and archives."""
    node, rules = Node(bus, "event bus", "bus", flow.label(bus)), flow.rules_on(bus)
    if bus_name(bus) == "default":
        sources = [one for rule in rules for one in as_list(as_dict(rule.pattern).get("source"))]
        for source in (one if isinstance(one, str) else "your applications" for one in sources):
            yield Edge(Node(f"{source} {bus}", "publisher", "publisher", source), node)
    elif not any(target.arn == bus for rule in flow.rules for target in rule.targets):
        publisher = Node(f"to {bus}", "publisher", "publisher", "your applications")
        yield Edge(publisher, node, "PutEvents")
    for rule in rules:
        kind = "rule (disabled)" if rule.state.startswith("DISABLED") else "rule"
        yield Edge(node, _rule_node(kind, rule))
        yield from _target_edges(flow, _rule_node(kind, rule), rule.targets)
    for archive in flow.archives:
        if archive.bus == bus:
            yield Edge(node, _rule_node("archive", archive))


def _rule_node(kind: str, rule: Rule) -> Node:
    style = "archive" if kind == "archive" else "rule"
    lines = short(rule.pattern or rule.schedule or "every event")
    return Node(rule.arn, kind, style, rule.label, lines)


def _target_edges(flow: Flow, source: Node, targets: Iterable[Target]) -> Iterator[Edge]:
    """Yield the arrows to targets, labelled with their input, and to their dead-letter queues."""
    for target in targets:
        kind = kind_of(target.arn)
        style = STYLES.get(kind.name, "compute")
        node = Node(target.arn, kind.title, style, flow.label(target.arn))
        yield Edge(source, node, ", ".join(key for key in INPUTS if key in target.settings))
        if queue := target.dead_letters:
            dead = Node(queue, "dead-letter queue", "dead", flow.label(queue))
            yield Edge(node, dead, "not delivered")


def short(pattern: Json | str) -> tuple[str, ...]:
    """Return the first lines of a pattern, each a path and its tests; text unchanged."""
    lines = [pattern] if isinstance(pattern, str) else list(_flatten(pattern))
    return (*lines[:MAX_LINES], *(["…"] if len(lines) > MAX_LINES else []))


def _flatten(pattern: Any, path: str = "") -> Iterator[str]:
    for key, value in pattern.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{path}{key}.")
        else:
            tests = (
                test if isinstance(test, str) else json.dumps(test, ensure_ascii=False)
                for test in as_list(value)
            )
            yield f"{path}{key}: {', '.join(tests)}"


def _escape(text: str) -> str:
    """Escape text for the quotes of a Mermaid label."""
    return re.sub(r'["#<>&*_`]', lambda match: f"#{ord(match[0])};", text)
