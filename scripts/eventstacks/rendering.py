"""Render ``templates/`` into ``build/``: the same bytes for every environment, Region and partition.

Jinja composes: macros, Lambda code from real files, the version stamp. What differs between environments is left to
CloudFormation parameters, so that one file is linted, tested, uploaded by hand and promoted.
"""

from __future__ import annotations

import os
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import yaml

from eventstacks import __version__, documents
from eventstacks.documents import packaged
from eventstacks.errors import ErrorCode, ToolError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jinja2.bccache import Bucket

TEMPLATES = Path("templates")
PACKAGED = packaged("templates")  # in a checkout the same folder
BUILD = Path("build")
SUFFIX = ".yaml.j2"
PLAIN_SUFFIXES = (".yaml", ".yml", ".json", ".template")  # taken as they are, without Jinja
_PARTS = ("macros", "functions", "scaffold")  # folders of templates/ that hold no stacks
# Stands for the start of a dynamic reference while Jinja, which has the same brackets, is at work.
_RESOLVE, _PLACEHOLDER = "{{resolve:", "\ue000resolve:"


class RenderingError(ToolError):
    """A template that is missing, cannot be rendered, or is not a CloudFormation template."""

    default_code = ErrorCode.TEMPLATE_INVALID


@dataclass(frozen=True)
class RenderedTemplate:
    """A template as it is checked, linted and sent to CloudFormation."""

    name: str  # as environment files give it: orders, team/orders
    text: str
    document: dict[str, Any]  # ``text`` parsed: documents.parse_template
    path: Path  # build/<name>.yaml, which holds ``text``
    source: Path  # in templates/


class Templates(dict[str, RenderedTemplate]):
    """Rendered templates by name.

    One that is not among them, such as a packaged stack, is rendered and written when it is asked for; that raises
    RenderingError if the template is missing or broken.
    """

    def __init__(self, directory: Path = TEMPLATES, build: Path = BUILD) -> None:
        super().__init__()
        self.own = find(directory)
        self.files = {**find(PACKAGED), **self.own}
        self._folders, self._build = (directory, PACKAGED), build

    def __missing__(self, name: str) -> RenderedTemplate:
        made = self[name] = self.render(name)
        _write([made])
        return made

    def render(self, name: str) -> RenderedTemplate:
        """Return a template, of the project or else of the package; write nothing. Raises RenderingError."""
        if name not in self.files:
            known = sorted({*self, *self.files})
            raise RenderingError(
                f"template {name!r} not found{nearest(name, known)}",
                code=ErrorCode.TEMPLATE_NOT_FOUND,
                where=str(self._folders[0]),
                advice=f"Available: {', '.join(known) or 'none'}. A template is <name>{SUFFIX}, "
                f"or without Jinja <name>{', <name>'.join(PLAIN_SUFFIXES)}.",
            )
        source = self.files[name]
        uses_jinja = source.name.endswith(SUFFIX)
        text = _expand(name, source, self._folders) if uses_jinja else documents.read_text(source)
        suffix = ".json" if source.suffix == ".json" else ".yaml"
        path = self._build / f"{name}{suffix}"
        try:
            document = documents.parse_template(text, str(path))
        except documents.DocumentError as error:
            where = _locate(error.where, text, source)
            raise RenderingError(error.what, where=where, advice=error.advice) from None
        if uses_jinja:
            tidied = _tidy(text)  # changes no value: else the text stays as it is
            is_same = documents.parse_template(tidied, str(path)) == document
            text = tidied if is_same else text
        return RenderedTemplate(name, text, document, path, source)


def find(directory: Path = TEMPLATES) -> dict[str, Path]:
    """Return name → file of the templates below a folder: ``*.yaml.j2``, and plain YAML and JSON templates.

    A plain file without the word ``Resources`` is not a template: other files may be in ``templates/``, too.
    Raises RenderingError for two files with the same name.
    """
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        suffix = next((one for one in (SUFFIX, *PLAIN_SUFFIXES) if path.name.endswith(one)), None)
        if not suffix or relative.parts[0] in _PARTS or not path.is_file():
            continue
        if suffix != SUFFIX and "Resources" not in documents.read_text(path):
            continue
        name = relative.as_posix().removesuffix(suffix)
        if name in found:
            where = f"{found[name]}, {path}"
            raise RenderingError(f"two templates have the name {name!r}", where=where)
        found[name] = path
    return found


def names(directory: Path = TEMPLATES) -> list[str]:
    """Return the names of the templates below a folder."""
    return list(find(directory))


def render(name: str, directory: Path = TEMPLATES, build: Path = BUILD) -> RenderedTemplate:
    """Return one template; write nothing. Raises RenderingError with file and line.

    The text depends on the files in ``templates/`` and the version alone.
    """
    return Templates(directory, build).render(name)


def render_all(directory: Path = TEMPLATES, build: Path = BUILD) -> Templates:
    """Render every template of ``directory`` and write ``build/``.

    Raises RenderingError if one cannot be rendered, and leaves ``build/`` as it was. A file is written only if its
    bytes change; a file directly in ``build/`` that no template has is removed.
    """
    rendered = Templates(directory, build)
    for name in rendered.own:
        rendered[name] = rendered.render(name)
    if not directory.is_dir():
        raise RenderingError(
            "folder not found",
            code=ErrorCode.TEMPLATE_NOT_FOUND,
            where=str(directory),
            advice="Run the command at the top of the project.",
        )
    kept = {build / f"{name}.yaml" for name in rendered.files}
    _write(rendered.values(), set(build.glob("*.yaml")) - kept)
    return rendered


class _Compiled(jinja2.BytecodeCache):
    """Compile each file once: every template imports the same macros. Jinja's key is name and path."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[bucket.key, bucket.checksum] = bucket.code


_COMPILED = _Compiled()


def _expand(name: str, source: Path, folders: tuple[Path, ...]) -> str:
    """Return what Jinja makes of a template; its macros and functions come from the project, then from the package."""

    def find_file(file: str) -> Path | None:
        return next(
            (path for path in (folder / file for folder in folders) if path.is_file()), None
        )

    def load(file: str) -> tuple[str, str, None] | None:
        path = source if file == source.name else find_file(file)
        if path is None:
            return None
        return documents.read_text(path).replace(_RESOLVE, _PLACEHOLDER), str(path), None

    def function(file: str) -> str:
        """Return the code of a Lambda function, from ``templates/functions/<file>``."""
        path = find_file(f"functions/{file}") or folders[0] / "functions" / file
        return documents.read_text(path).rstrip("\n")

    # An environment for each template: a macro's module keeps the name of the template that imports it.
    jinja = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        bytecode_cache=_COMPILED,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.globals.update(name=name, version=__version__, function=function)
    try:
        return jinja.get_template(source.name).render().replace(_PLACEHOLDER, _RESOLVE)
    except ToolError:
        raise
    except Exception as error:  # noqa: BLE001 - an expression of a template can raise anything
        raise RenderingError(_problem(error), where=_line_of(error, source)) from None


def _problem(error: Exception) -> str:
    """Return what is wrong with a template, in the words of a reader of the template."""
    if isinstance(error, jinja2.TemplateNotFound):
        return f"{error.name!r} not found"
    if isinstance(error, RecursionError):
        return "a template or macro includes itself without end"
    if isinstance(error, jinja2.TemplateError):
        return str(error.message)
    return f"an expression cannot be evaluated: {error or type(error).__name__}"


def _line_of(error: Exception, source: Path) -> str:
    """Return where in a template an error happened: the innermost frame that Jinja mapped back to a source file."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{one.filename}:{one.lineno}" for one in frames if one.filename.endswith(".j2")]
    return lines[-1] if lines else str(source)


def _locate(where: str, text: str, source: Path) -> str:
    """Return the place of an error in the rendered text as file and line of the source, if it has this line once."""
    position = re.search(r":(\d+):\d+$", where)
    if not position or not source.name.endswith(SUFFIX):
        return f"{source}{position[0] if position else ''}"
    line = [*text.split("\n"), ""][int(position[1]) - 1].strip()
    lines = [one.strip() for one in documents.read_text(source).split("\n")]
    number = f":{lines.index(line) + 1}" if lines.count(line) == 1 else ""
    return f"{source}{number} ({where}: {line})"


def _write(rendered: Iterable[RenderedTemplate], stale: Iterable[Path] = ()) -> None:
    """Write the files whose bytes change, and remove ``stale``; a reader never sees half a file."""
    try:
        changed = [
            one
            for one in rendered
            if not one.path.exists() or one.path.read_bytes() != one.text.encode()
        ]
        for one in changed:
            temporary = one.path.with_name(f".{one.path.name}.{os.getpid()}")
            one.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(one.text, encoding="utf-8", newline="\n")
                temporary.replace(one.path)
            finally:
                temporary.unlink(missing_ok=True)
        for path in stale:
            path.unlink()
    except OSError as error:
        raise RenderingError(
            f"cannot be written: {error.strerror}",
            code=ErrorCode.FILE_UNWRITABLE,
            where=str(error.filename),
        ) from None


def _tidy(text: str) -> str:
    """Return valid YAML with blank lines as a careful author sets them, so that macros need not think of them.

    One before each section, and before each resource with the comment above it; none elsewhere. White space at line
    ends goes. Scalars of several lines (Lambda code, JSON) are kept as they are.
    """
    lines = text.split("\n")
    scalar = {number for start, end in _scalars(text) for number in range(start, end)}
    tidied: list[str] = []
    section, comments = "", 0  # comments: the lines of them that end ``tidied``
    for number, raw in enumerate(lines):
        if number in scalar:
            tidied.append(raw)
            comments = 0
            continue
        if not (line := raw.rstrip(" \t\r")):
            continue
        indent = len(line) - len(line.lstrip(" "))
        if line.lstrip().startswith("#"):
            comments += 1
        else:
            is_entry = (indent == 0 and line[-1] == ":") or (
                indent == 2 and section == "Resources:"
            )
            above = len(tidied) - comments
            is_first = indent > 0 and above > 0 and tidied[above - 1] == section
            if is_entry and line[indent] != "-" and above and not is_first:
                tidied.insert(above, "")
            section, comments = line if indent == 0 else section, 0
        tidied.append(line)
    return "\n".join(tidied) + "\n"


def _scalars(text: str) -> Iterator[tuple[int, int]]:
    """Yield the first line and the one after the last of what a line cannot be changed in: scalars of several lines."""
    lines = text.split("\n")
    for event in yaml.parse(text, Loader=documents.FAST_LOADER):
        if not isinstance(event, yaml.ScalarEvent):
            continue
        start, end = (mark.line if mark else 0 for mark in (event.start_mark, event.end_mark))
        if event.style in ("|", ">"):
            header = re.search(r"[|>][-+0-9]*(?= *(?:#.*)?$)", lines[start].rstrip())
            while (
                header and "+" not in header[0] and end > start + 1 and not lines[end - 1].strip()
            ):
                end -= 1  # blank lines after the scalar that are no part of it
            yield start + 1, end
        elif end > start:
            yield start, end + 1
