"""Create a project, or a stack in a project, from the starter files in ``templates/scaffold``."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import yaml

from eventstacks import __version__, documents
from eventstacks.documents import packaged
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STARTER = "stack.yaml.j2"
EXAMPLE = "order-events"  # the stack of a new project
PROJECT = {  # file in scaffold/project → file in the new project
    "Makefile": "Makefile",
    "cfnlintrc": ".cfnlintrc",
    "gitignore": ".gitignore",
    "local.yaml": "parameters/local.yaml",
    "requirements.txt": "requirements.txt",
    "workflow.yaml": ".github/workflows/test.yaml",
}
_SOURCE = re.compile(r"[A-Za-z0-9._/-]{1,256}")  # as the template's parameter EventSource allows


class ScaffoldError(ToolError):
    """A name that cannot be used, or a file that cannot be created or changed."""


def project(directory: Path) -> dict[Path, str]:
    """Return the files of a new project with one example stack; nothing is written.

    Raises ScaffoldError if one of them exists: nothing is overwritten.
    """
    files = {
        directory / target: _fill(f"project/{file}", stack=EXAMPLE, version=__version__)
        for file, target in PROJECT.items()
    }
    files |= {directory / path: text for path, text in _stack(EXAMPLE, None, has_bus=True).items()}
    _refuse_existing(files)
    return files


def stack(name: str, source: str | None = None, *, has_bus: bool = True) -> dict[Path, str]:
    """Return the files of a new stack in the project of the current folder; nothing is written.

    ``source`` is the source of its events (default: com.example.<name>). With ``has_bus`` it has an
    event bus; otherwise its rule is on the default bus of the account. ``parameters/local.yaml`` and,
    if there is one, ``.taskcat.yml`` get an entry and keep everything else, comments too.

    Raises ScaffoldError for an invalid name or source, a stack that exists, or a file whose form
    cannot take an entry.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > 40:
        raise ScaffoldError(
            f"invalid stack name {name!r}",
            where="--stack",
            advice="Use at most 40 lower-case letters, digits and single hyphens, first a letter.",
        )
    if source and (source.startswith("aws.") or not _SOURCE.fullmatch(source)):
        raise ScaffoldError(
            f"invalid event source {source!r}",
            where="--source",
            advice="Use letters, digits and ._/-; AWS reserves sources that begin with 'aws.'.",
        )
    files = _stack(name, source, has_bus=has_bus)
    _refuse_existing(files)
    local, taskcat = Path("parameters/local.yaml"), Path(".taskcat.yml")
    files[local] = add_entry(local, "stacks", name, ["parameters:", "  LogRetentionInDays: 1"])
    if taskcat.exists():
        files[taskcat] = add_entry(taskcat, "tests", name, [f"template: build/{name}.yaml"])
    return files


def write(files: Mapping[Path, str], check: Callable[[], object] = list) -> None:
    """Write files, then call ``check``; if either fails, restore everything and raise the error."""
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    folders = {folder for path in files for folder in path.parents if not folder.exists()}
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        check()
    except BaseException as error:
        for path, content in before.items():
            with contextlib.suppress(OSError):
                path.unlink() if content is None else path.write_bytes(content)
        for folder in sorted(folders, reverse=True):  # the innermost first
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise ScaffoldError(
                f"cannot be written: {error.strerror}. Nothing was changed.",
                code=ErrorCode.FILE_UNWRITABLE,
                where=str(error.filename),
            ) from None
        raise


def add_entry(path: Path, section: str, name: str, lines: list[str]) -> str:
    """Return a YAML file with one more entry at the end of a top-level mapping.

    All other lines stay as they are. Raises ScaffoldError if the entry exists, or if the section is
    not a mapping with one entry per line.
    """
    text = documents.read_text(path)
    root = documents.compose(text, str(path))
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    mapping = next((value for key, value in pairs if key.value == section), None)
    in_block = isinstance(mapping, yaml.MappingNode) and not mapping.flow_style
    entries = mapping.value if mapping and in_block else []
    indent = " " * (entries[0][0].start_mark.column if entries else 2)
    entry = "".join(f"{indent}{line}\n" for line in (f"{name}:", *(f"  {line}" for line in lines)))
    if not mapping or not entries:
        raise ScaffoldError(
            f"cannot add an entry: {section!r} is not a mapping with one entry per line",
            where=str(path),
            advice=f"Add it by hand:\n{entry}",
        )
    if any(key.value == name for key, _ in entries):
        raise ScaffoldError(
            f"{name!r} exists already",
            code=ErrorCode.ALREADY_EXISTS,
            where=f"{path}: {section}",
            advice="Choose another name.",
        )
    # The node ends before the next key, to which blank lines and comments directly above it belong.
    above, below = text[: mapping.end_mark.index], text[mapping.end_mark.index :]
    comments = re.search(r"(^([ \t]*|#.*)\n)*\Z", above, re.MULTILINE) if below else None
    end = comments.start() if comments else len(above)
    line_end = "" if above[:end].endswith("\n") else "\n"
    return above[:end] + line_end + entry + above[end:] + below


def _stack(name: str, source: str | None, *, has_bus: bool) -> dict[Path, str]:
    source = source or f"com.example.{name}"
    event = {
        "source": source,
        "detail-type": "something happened",
        "detail": {"what": "a first event"},
    }
    sample = {"event": event, "expect": {"EventRule": ["EventLogGroup"]}}
    return {
        Path(f"templates/{name}.yaml.j2"): _fill(STARTER, name=name, source=source, bus=has_bus),
        Path(f"tests/events/{name}/event.json"): json.dumps(sample, indent=2) + "\n",
    }


def _refuse_existing(files: Mapping[Path, str]) -> None:
    if existing := [str(path) for path in files if path.exists()]:
        raise ScaffoldError(
            "the file exists already" if len(existing) == 1 else "files exist already",
            code=ErrorCode.ALREADY_EXISTS,
            where=", ".join(existing),
            advice="Choose another name or folder: nothing is overwritten.",
        )


def _fill(file: str, **values: object) -> str:
    """Return a starter file with ``<< name >>`` and ``<% if … %>`` filled in; the project's own wins."""
    folders = [Path("templates/scaffold"), packaged("templates/scaffold")]
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
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
        return jinja.get_template(file).render(values)
    except jinja2.TemplateSyntaxError as error:
        where = f"{error.filename}:{error.lineno}"
        raise ScaffoldError(
            str(error.message), code=ErrorCode.TEMPLATE_INVALID, where=where
        ) from None
    except jinja2.TemplateError as error:
        where = f"templates/scaffold/{file}"
        raise ScaffoldError(
            str(error.message), code=ErrorCode.TEMPLATE_INVALID, where=where
        ) from None
