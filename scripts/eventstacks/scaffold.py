"""A stack of one's own, to begin with: template, sample event, taskcat test, an entry in ``parameters/local.yaml``."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from eventstacks import documents, rendering
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STARTER = Path("scaffold/stack.yaml.j2")  # below templates/
SAMPLES, TASKCAT, LOCAL = Path("tests/events"), Path(".taskcat.yml"), Path("parameters/local.yaml")
_SOURCE = re.compile(r"[A-Za-z0-9._/-]{1,256}")  # as the template's EventSource has it


class ScaffoldError(ToolError):
    """A stack that cannot be started under this name, or a file that cannot take its entry."""


def files(name: str, source: str | None = None, *, has_bus: bool = True) -> dict[Path, str]:
    """Everything that a new stack consists of, file by file; nothing is written.

    ``source``: what its events name (default: com.example.<name>); ``has_bus``: a bus of its own, else the account's
    default bus. Files that are there get an entry, and keep everything else, comments too. Raises ScaffoldError for a
    name or source that will not do, a stack that is there, a file whose form is not understood.
    """
    source = source or f"com.example.{name}"
    template, sample = (
        rendering.TEMPLATES / f"{name}{rendering.SUFFIX}",
        SAMPLES / name / "event.json",
    )
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 40:
        raise ScaffoldError(
            f"{name!r} is no name for a stack",
            where="STACK",
            advice="Lower-case letters, digits and single hyphens, a letter first, at most 40 in all: order-events.",
        )
    if source.startswith("aws.") or not _SOURCE.fullmatch(source):
        raise ScaffoldError(
            f"{source!r} is no source for events of your own",
            where="--source",
            advice="Letters, digits and ._/-; AWS keeps sources that begin with 'aws.' to itself.",
        )
    for path in (template, sample.parent):
        if path.exists():
            raise ScaffoldError(
                f"there is a stack {name!r} already", where=str(path), advice="Choose another name."
            )
    event = {
        "source": source,
        "detail-type": "something happened",
        "detail": {"what": "a first event"},
    }
    return {
        template: _fill(rendering.TEMPLATES / STARTER, name=name, source=source, bus=has_bus),
        sample: json.dumps({"event": event, "expect": {"EventRule": ["EventLogGroup"]}}, indent=2)
        + "\n",
        TASKCAT: add(
            documents.read_text(TASKCAT), "tests", name, [f"template: build/{name}.yaml"], TASKCAT
        ),
        LOCAL: add(
            documents.read_text(LOCAL),
            "stacks",
            name,
            ["parameters:", "  LogRetentionInDays: 1"],
            LOCAL,
        ),
    }


def add(text: str, section: str, name: str, lines: list[str], path: Path) -> str:
    """A YAML text with one entry more at the end of a top-level mapping; all other lines stay as they are.

    Raises ScaffoldError when the entry is there, or the section is not a mapping in block style.
    """
    section_at = re.search(rf"^{section}:[ \t]*(#.*)?$", text, re.MULTILINE)
    root = documents.compose(text, str(path))
    pairs = (
        {str(key.value): value for key, value in root.value}
        if isinstance(root, yaml.MappingNode)
        else {}
    )
    there = pairs.get(section)
    entries = there.value if isinstance(there, yaml.MappingNode) and not there.flow_style else []
    indent = " " * (entries[0][0].start_mark.column if entries else 2)  # as its neighbours have it
    entry = "".join(f"{indent}{line}\n" for line in (f"{name}:", *(f"  {one}" for one in lines)))
    if not section_at or there is None or not entries:
        raise ScaffoldError(
            f"no place for an entry: {section!r} is no mapping with one entry a line",
            where=str(path),
            advice=f"Add it by hand:\n{entry}",
        )
    if any(key.value == name for key, _ in entries):
        raise ScaffoldError(
            f"{name!r} stands there already",
            where=f"{path}: {section}",
            advice="Choose another name.",
        )
    # The node ends before the next key; comments and blank lines above that key are the key's.
    above, below = text[: there.end_mark.index], text[there.end_mark.index :]
    kept = re.search(r"(^([ \t]*|#.*)\n)*\Z", above, re.MULTILINE) if below else None
    cut = kept.start() if kept else len(above)
    body = above[:cut]
    return body + ("" if body.endswith("\n") else "\n") + entry + above[cut:] + below


def write(made: Mapping[Path, str], check: Callable[[], object]) -> None:
    """Writes what ``files`` gave, and calls ``check``: when that or the writing fails, all is as it was before."""
    before = {path: path.read_bytes() if path.exists() else None for path in made}
    folders = [path.parent for path in made if not path.parent.exists()]
    try:
        for path, text in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        check()
    except BaseException as error:
        for path, content in before.items():
            with contextlib.suppress(OSError):
                path.unlink() if content is None else path.write_bytes(content)
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise ScaffoldError(
                f"cannot be written: {error.strerror}",
                where=str(error.filename),
                advice="Nothing was changed.",
            ) from None
        raise


def _fill(path: Path, **values: object) -> str:
    import jinja2

    jinja = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML, not HTML
        trim_blocks=True,
        keep_trailing_newline=True,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    try:
        return jinja.from_string(documents.read_text(path)).render(values)
    except jinja2.TemplateError as error:
        raise ScaffoldError(
            str(error.message), where=f"{path}:{getattr(error, 'lineno', 1)}"
        ) from None
