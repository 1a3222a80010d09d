"""Draw the flow as a Mermaid flowchart.

Publisher → bus → rule → target, dashed to dead-letter queues.

Source: https://mermaid.js.org/syntax/flowchart.html
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from eventstacks.flow.graph import Flow, Rule, bus_name
from eventstacks.flow.symbols import as_dict, as_list
from eventstacks.flow.targets import kind_of

# Kind of node: the colour of its border.
COLOURS = {
    "publisher": "#475569",
    "bus": "#7c3aed",
    "rule": "#2563eb",
    "target": "#c2410c",
    "dead": "#dc2626",
}


class Node(NamedTuple):
    """A node. ``kind``: what it is, in words; ``style``: a key of COLOURS."""

    key: str
    title: str
    kind: str
    style: str


def mermaid(flow: Flow) -> str:
    """Return the flowchart of a flow; "" if it is empty."""
    drawn = list(dict.fromkeys(edges(flow)))
    nodes = {node.key: node for edge in drawn for node in edge}
    names = {key: f"n{number}" for number, key in enumerate(nodes)}
    lines = ["flowchart LR"]
    lines += [
        f'  {names[key]}["<b>{_escape(node.title)}</b><br><i>{node.kind}</i>"]:::{node.style}'
        for key, node in nodes.items()
    ]
    for source, target in drawn:
        arrow = "-.->" if target.style == "dead" else "-->"
        lines.append(f"  {names[source.key]} {arrow} {names[target.key]}")
    lines += [
        f"  classDef {style} fill:#fff,stroke:{colour},color:#1e293b"
        for style, colour in COLOURS.items()
    ]
    return "\n".join(lines) + "\n" if drawn else ""


def edges(flow: Flow) -> Iterator[tuple[Node, Node]]:
    """Yield the arrows of a flow, in the order of the templates."""
    for rule in flow.rules + flow.senders + flow.archives:
        kind = rule.sender.title if rule.sender else "archive" if rule in flow.archives else "rule"
        node = Node(rule.arn, rule.label, kind, "rule")
        if rule.bus:  # a schedule has none
            bus = _place(flow, rule.bus)
            for name in _publishers(flow, rule):
                yield Node(f"{name} {rule.bus}", name, "publisher", "publisher"), bus
            yield bus, node
        for target in rule.targets:
            yield node, _place(flow, target.arn)
            if queue := target.dead_letters:
                dead = Node(queue, flow.label(queue), "dead-letter queue", "dead")
                yield _place(flow, target.arn), dead


def _place(flow: Flow, arn: str) -> Node:
    """Return the node of a bus, of another target, or of the source of a pipe."""
    kind = kind_of(arn)
    style = "bus" if kind.name.startswith("event-bus") else "target"
    return Node(arn, flow.label(arn), kind.title, style)


def _publishers(flow: Flow, rule: Rule) -> list[str]:
    """Return what puts the events of a rule on its bus, none if another rule does."""
    if bus_name(rule.bus) == "default":
        sources = as_list(as_dict(rule.pattern).get("source"))
        return [one if isinstance(one, str) else "your applications" for one in sources]
    is_fed = any(target.arn == rule.bus for one in flow.rules for target in one.targets)
    return [] if is_fed else ["your applications"]


def _escape(text: str) -> str:
    """Escape text for the quotes of a Mermaid label."""
    return re.sub(r'["#<>&*_`]', lambda match: f"#{ord(match[0])};", text)
