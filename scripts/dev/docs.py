"""Write the generated parts of ``docs/``: ``python -m dev.docs [--check]``.

They are between markers: the diagrams and the tables of parameters and outputs in ``docs/stacks/``,
the help of the commands, the lint rules, and the macros. ``--check`` only reports pages that are
out of date.
"""

import html
import re
import sys
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import click

from dev import diagram
from eventstacks import documents, rendering
from eventstacks.__main__ import VERBS, cli
from eventstacks.flow import graph
from eventstacks.lint import RULES

HELP_WIDTH = 100
MACRO = re.compile(
    r"(?:\{# (?P<comment>(?:(?!#\}).)*?) #\}\n)?"
    r"\{% macro (?P<name>\w+)(?P<arguments>\(.*?\)) -?%\}",
    re.DOTALL,
)


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
        flow = diagram.mermaid(graph.of_template(template))
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
    top = click.Context(
        cli,
        info_name="eventstacks",
        terminal_width=HELP_WIDTH,
        max_content_width=HELP_WIDTH,
        help_option_names=["-h", "--help"],
    )
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
