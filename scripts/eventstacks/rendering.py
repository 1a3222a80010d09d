"""Render ``templates/`` into ``build/``: the same bytes for every environment, Region and partition.

Jinja composes: macros, Lambda code from real files, the version stamp. What differs between environments is left to
CloudFormation parameters, so that one file is linted, tested, uploaded by hand and promoted.
"""

from __future__ import annotations

import contextlib
import os
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import jinja2.ext
import yaml

from eventstacks import __version__, documents
from eventstacks.errors import ErrorCode, ToolError, nearest
from eventstacks.packaged import packaged

if TYPE_CHECKING:
    from collections.abc import Iterator

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

    A packaged stack that is not among them is rendered when it is asked for. Asking for a template that is missing or
    broken raises RenderingError.
    """

    def __init__(self, directory: Path, build: Path) -> None:
        super().__init__()
        self.problems: dict[str, ToolError] = {}  # name → why the template cannot be rendered
        self._directory, self._build = directory, build

    def __missing__(self, name: str) -> RenderedTemplate:
        if name in self.problems:
            raise self.problems[name]
        packaged_files = find(PACKAGED)
        if name not in packaged_files:
            raise _not_found(name, [*self, *packaged_files], self._directory)
        made = _render(name, packaged_files[name], self._directory, self._build)
        _write({made.path: made.text})
        return self.setdefault(name, made)


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
            raise RenderingError(
                f"two templates have the name {name!r}",
                where=f"{found[name]}, {path}",
                advice="Rename one of them.",
            )
        found[name] = path
    return found


def names(directory: Path = TEMPLATES) -> list[str]:
    """Return the names of the templates below a folder."""
    return list(find(directory))


def render(name: str, directory: Path = TEMPLATES, build: Path = BUILD) -> RenderedTemplate:
    """Return one template, of ``directory`` or else a packaged one; write nothing.

    The text depends on the files in ``templates/`` and the version alone, and tidying it changes no value. Raises
    RenderingError with file and line.
    """
    files = {**find(PACKAGED), **find(directory)}
    if name not in files:
        raise _not_found(name, list(files), directory)
    return _render(name, files[name], directory, build)


def _not_found(name: str, known: list[str], directory: Path) -> RenderingError:
    return RenderingError(
        f"template {name!r} not found{nearest(name, known)}",
        code=ErrorCode.TEMPLATE_NOT_FOUND,
        where=str(directory),
        advice=f"Available: {', '.join(known) or 'none'}. The file of a template is <name>{SUFFIX}, "
        f"or without Jinja <name>{', <name>'.join(PLAIN_SUFFIXES)}.",
    )


def _render(name: str, source: Path, directory: Path, build: Path) -> RenderedTemplate:
    if source.name.endswith(SUFFIX):
        folder = directory if source.is_relative_to(directory) else PACKAGED
        text = _expand(name, source.relative_to(folder).as_posix(), directory)
    else:
        text = documents.read_text(source)
    path = build / f"{name}{'.json' if source.suffix == '.json' else '.yaml'}"
    try:
        document = documents.parse_template(text, str(path))
    except documents.DocumentError as error:
        where = _locate(error.where, text, source, directory)
        raise RenderingError(error.what, where=where, advice=error.advice) from None
    if source.name.endswith(SUFFIX):
        text, raw = _tidy(text), text
        if documents.parse_template(text, str(path)) != document:
            text = raw
    return RenderedTemplate(name, text, document, path, source)


def render_all(
    directory: Path = TEMPLATES, build: Path = BUILD, *, keep_going: bool = False
) -> Templates:
    """Render every template of ``directory`` and write ``build/``.

    Raises RenderingError if one cannot be rendered, and leaves ``build/`` as it was; with ``keep_going`` the others
    are written and the error is in ``problems``. A file is written only if its bytes change; a file directly in
    ``build/`` that no template has is removed.
    """
    rendered = Templates(directory, build)
    for name, source in find(directory).items():
        try:
            rendered[name] = _render(name, source, directory, build)
        except ToolError as error:
            if not keep_going:
                raise
            rendered.problems[name] = error
    if not rendered and not rendered.problems and not directory.is_dir():
        raise RenderingError(
            "folder not found",
            code=ErrorCode.TEMPLATE_NOT_FOUND,
            where=str(directory),
            advice="Run the command at the top of the project.",
        )
    _write({one.path: one.text for one in rendered.values()})
    with _file_errors(build):
        kept = {build / f"{name}.yaml" for name in (*rendered, *rendered.problems, *find(PACKAGED))}
        for path in set(build.glob("*.yaml")) - kept:
            path.unlink()
    return rendered


def _expand(name: str, file: str, directory: Path) -> str:
    """Return what Jinja makes of a template; its macros and functions come from the project, then from the package."""
    folders = (directory, PACKAGED)

    def function(file: str) -> str:
        """Return the code of a Lambda function, from ``templates/functions/<file>``."""
        paths = [folder / "functions" / file for folder in folders]
        return documents.read_text(next(filter(Path.exists, paths), paths[0])).rstrip("\n")

    # An environment for each template: a macro's module keeps the name of the template that imports it.
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        extensions=[_DynamicReferences],
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.globals.update(name=name, version=__version__, function=function)
    try:
        return jinja.get_template(file).render().replace(_PLACEHOLDER, _RESOLVE)
    except ToolError:
        raise
    except jinja2.TemplateNotFound as error:
        raise RenderingError(
            f"{error.name!r} not found", where=_line_of(error, directory / file)
        ) from None
    except jinja2.TemplateSyntaxError as error:
        where = f"{error.filename or directory / file}:{error.lineno}"
        raise RenderingError(str(error.message), where=where) from None
    except UnicodeDecodeError:
        for path in sorted(directory.rglob("*.j2")):
            documents.read_text(path)  # raises for the file that it is
        raise
    except RecursionError as error:
        raise RenderingError(
            "a template or macro includes itself without end",
            where=_line_of(error, directory / file),
        ) from None
    except jinja2.TemplateError as error:
        raise RenderingError(str(error), where=_line_of(error, directory / file)) from None
    except Exception as error:  # noqa: BLE001 - an expression of a template can raise anything
        raise RenderingError(
            f"an expression cannot be evaluated: {error or type(error).__name__}",
            where=_line_of(error, directory / file),
        ) from None


class _DynamicReferences(jinja2.ext.Extension):
    """Let ``{{resolve:…}}`` reach CloudFormation as it is written."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002
        return source.replace(_RESOLVE, _PLACEHOLDER)


def _write(texts: dict[Path, str]) -> None:
    """Write the files whose bytes change; a reader sees the old or the new file, never half of one."""
    with _file_errors(Path()):
        changed = {
            path: text
            for path, text in texts.items()
            if not path.exists() or path.read_bytes() != text.encode()
        }
        for path, text in changed.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                temporary.write_text(text, encoding="utf-8", newline="\n")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RenderingError(
            f"cannot be written: {error.strerror}",
            code=ErrorCode.FILE_UNWRITABLE,
            where=str(error.filename or path),
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


def _line_of(error: Exception, otherwise: Path) -> str:
    """Return where in a template an error happened: the innermost frame that Jinja mapped back to a source file."""
    frames = traceback.extract_tb(error.__traceback__)
    found = [frame for frame in frames if frame.filename.endswith(".j2")]
    return f"{Path(found[-1].filename)}:{found[-1].lineno}" if found else str(otherwise)


def _locate(where: str, text: str, source: Path, directory: Path) -> str:
    """Return the place of an error in the rendered text as file and line of the source that has this line."""
    position = re.search(r":(\d+):\d+$", where)
    lines = text.split("\n")
    line = (
        lines[int(position[1]) - 1].strip() if position and int(position[1]) <= len(lines) else ""
    )
    if not source.name.endswith(SUFFIX):
        return f"{source}{position[0] if position else ''}"
    for path in (source, *sorted(directory.glob("macros/*.j2"))):
        candidates = [one.strip() for one in documents.read_text(path).split("\n")]
        if line and candidates.count(line) == 1:
            return f"{path}:{candidates.index(line) + 1} ({where})"
    return f"{source} ({where}{f': {line}' if line else ''})"
