"""Write the generated parts of ``docs/``: ``python -m dev.docs [--check]``.

They are between markers: the diagrams and the tables of parameters and outputs in ``docs/stacks/``,
the help of the commands, the lint rules, and the macros. ``--check`` only reports pages that are
out of date.
"""

import html
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import click

from eventstacks import documents, rendering
from eventstacks.__main__ import VERBS, cli
from eventstacks.flow import graph
from eventstacks.flow.symbols import as_dict, as_list
from eventstacks.flow.targets import kind_of
from eventstacks.lint import RULES

MACRO = re.compile(
    r"(?:\{# (?P<comment>(?:(?!#\}).)*?) #\}\n)?"
    r"\{% macro (?P<name>\w+)(?P<arguments>\(.*?\)) -?%\}",
    re.DOTALL,
)
# Kind of node: the colour of its border.
COLOURS = {
    "publisher": "#475569",
    "bus": "#7c3aed",
    "rule": "#2563eb",
    "target": "#c2410c",
    "dead": "#dc2626",
}


def pages() -> dict[Path, str]:
    """Return every page with generated parts, as it should be."""
    rules = [
        (rule.id, f"[{rule.shortdesc}]({rule.source_url})", rule.description) for rule in RULES
    ]
    blocks = {
        "commands": {"commands": commands()},
        "lint-rules": {"rules": _table(("Rule", "What", "Why"), rules)},
        "macros": {"macros": "".join(map(macros, sorted(Path("templates/macros").glob("*.j2"))))},
    }
    for name, rendered in rendering.render_all().items():
        template = rendered.document
        flow = mermaid(graph.of_template(template))
        caption = "Drawn with the default of each parameter. Dashed: not delivered."
        drawn = f"{caption}\n\n```mermaid\n{flow}```"
        blocks[f"stacks/{name}"] = {
            **({"flow": drawn} if flow else {}),
            "parameters": parameters(template),
            "outputs": outputs(template),
        }
    result: dict[Path, str] = {}
    for name, parts in blocks.items():
        path = Path("docs") / f"{name}.md"
        page = documents.read_text(path) if path.exists() else f"# {path.stem}\n"
        for part, block in parts.items():
            page = insert(page, part, block)
        result[path] = page
    return result


class Node(NamedTuple):
    """A node. ``kind``: what it is, in words; ``style``: a key of COLOURS."""

    key: str
    title: str
    kind: str
    style: str


def mermaid(flow: graph.Flow) -> str:
    """Return a flow as a Mermaid flowchart; "" if it is empty.

    Publisher → bus → rule → target, dashed to dead-letter queues.
    Source: https://mermaid.js.org/syntax/flowchart.html
    """
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


def edges(flow: graph.Flow) -> Iterator[tuple[Node, Node]]:
    """Yield the arrows of a flow, in the order of the templates."""
    for rule in flow.rules + flow.senders + flow.archives:
        kind = "archive" if rule in flow.archives else "rule"
        if rule.sender:
            kind = rule.sender.title
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


def _place(flow: graph.Flow, arn: str) -> Node:
    """Return the node of a bus, of another target, or of the source of a pipe."""
    kind = kind_of(arn)
    style = "bus" if kind.name.startswith("event-bus") else "target"
    return Node(arn, flow.label(arn), kind.title, style)


def _publishers(flow: graph.Flow, rule: graph.Rule) -> list[str]:
    """Return what puts the events of a rule on its bus, none if another rule does."""
    if graph.bus_name(rule.bus) == "default":
        sources = as_list(as_dict(rule.pattern).get("source"))
        return [one if isinstance(one, str) else "your applications" for one in sources]
    is_fed = any(target.arn == rule.bus for one in flow.rules for target in one.targets)
    return [] if is_fed else ["your applications"]


def _escape(text: str) -> str:
    """Escape text for the quotes of a Mermaid label; a parameter that has no value is its name."""
    return re.sub(r'["#<>&*_`]', lambda match: f"#{ord(match[0])};", text.strip("⟨?⟩"))


def insert(page: str, name: str, block: str) -> str:
    """Return the page with ``block`` between its markers, or appended if there are none.

    Raises ValueError if the closing marker is missing.
    """
    begin, end = f"<!-- {name}: written by `make docs` -->", f"<!-- end of {name} -->"
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"page {page.splitlines()[0]!r}: closing marker {end} not found")
    return f"{before}{begin}\n{block.strip()}\n{end}{after}"


def parameters(template: Mapping[str, Any]) -> str:
    """Return a Markdown table of the template's parameters, in the order of the console's form.

    Source: AWS CloudFormation User Guide, 'AWS::CloudFormation::Interface'.
    """
    declared = template.get("Parameters") or {}
    interface = (template.get("Metadata") or {}).get("AWS::CloudFormation::Interface") or {}
    groups = [group["Parameters"] for group in interface.get("ParameterGroups", ())]
    rows = [
        (
            f"`{name}`",
            str(declared[name].get("Description", "")),
            _values(declared[name]),
            _default(declared[name]),
        )
        for name in dict.fromkeys([*chain(*groups), *declared])
    ]
    return _table(("parameter", "what it is for", "values", "default"), rows)


def outputs(template: Mapping[str, Any]) -> str:
    """Return a Markdown table of the template's outputs."""
    rows = []
    for name, output in (template.get("Outputs") or {}).items():
        condition = f" Only if `{output['Condition']}`." if "Condition" in output else ""
        rows.append((f"`{name}`", str(output.get("Description", "")) + condition))
    return _table(("output", "what it is"), rows)


def commands() -> str:
    """Return the page of commands: the help of each, and of its subcommands."""
    top = click.Context(cli, info_name="eventstacks", terminal_width=100, **cli.context_settings)
    page = ""
    for section, verbs in VERBS.items():
        helps = (_help(verb, top) for name in verbs if (verb := cli.get_command(top, name)))
        page += f"\n## {section}\n\n" + "\n".join(helps)
    return page


def macros(path: Path) -> str:
    """Return the section of a file of macros: its first comment, and each macro with its own."""
    about, _, rest = documents.read_text(path).removeprefix("{#").partition("#}")
    section = f"\n## {path.name}\n\n{_prose(about)}\n"
    for macro in MACRO.finditer(rest):
        arguments = re.sub(r"\s+", " ", macro["arguments"])
        section += (
            f"\n### {path.stem}.{macro['name']}\n\n`{path.stem}.{macro['name']}{arguments}`\n"
        )
        section += f"\n{_prose(macro['comment'])}\n" if macro["comment"] else ""
    return section


def _prose(comment: str) -> str:
    """Return a comment as Markdown; paragraphs stay."""
    paragraphs = re.split(r"\n\s*\n", comment)
    texts = (re.sub(r"\s+", " ", html.escape(one, quote=False)).strip() for one in paragraphs)
    return "\n\n".join(texts).replace("*", r"\*")


def _help(verb: click.Command, parent: click.Context) -> str:
    context = click.Context(verb, info_name=verb.name, parent=parent)
    path = context.command_path.removeprefix("eventstacks ")
    subcommands = verb.commands.values() if isinstance(verb, click.Group) else ()
    section = f"### {path}\n\n```\n{verb.get_help(context)}\n```\n"
    return "\n".join([section, *(_help(one, context) for one in subcommands)])


def _values(parameter: Mapping[str, Any]) -> str:
    if "AllowedValues" in parameter:
        return ", ".join(f"`{documents.text_of(value)}`" for value in parameter["AllowedValues"])
    if "MinValue" in parameter and "MaxValue" in parameter:
        return f"{parameter['MinValue']} to {parameter['MaxValue']}"
    kind = {"Number": "a number", "List<Number>": "numbers"}.get(parameter.get("Type", ""), "text")
    return str(parameter.get("ConstraintDescription", kind))


def _default(parameter: Mapping[str, Any]) -> str:
    if "Default" not in parameter:
        return "none: required"
    return f"`{documents.text_of(parameter['Default'])}`" if parameter["Default"] != "" else "empty"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    cells = ([cell.replace("|", "\\|").strip() for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def main(*, check: bool) -> int:
    """Write the pages that are out of date and return 0; with ``check`` name them and return 1."""
    stale = {
        path: text
        for path, text in pages().items()
        if not path.exists() or documents.read_text(path) != text
    }
    for path, text in stale.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        click.echo(f"{path}: out of date. Run: make docs" if check else f"{path}  written")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(check=sys.argv[1:] == ["--check"]))
