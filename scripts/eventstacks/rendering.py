"""``templates/*.yaml.j2`` → ``build/*.yaml``: the same bytes for every environment, region and partition.

Jinja composes (macros, Lambda code from real files, the version stamp). What differs between environments is
left to CloudFormation's parameters, so that one file is linted, tested, uploaded by hand and promoted.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstacks import __version__, documents
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    import jinja2
    from jinja2.bccache import Bucket

TEMPLATES = Path("templates")
BUILD = Path("build")
SUFFIX = ".yaml.j2"


class RenderingError(ToolError):
    """A template that cannot be rendered, or whose result is not YAML."""


def names(directory: Path = TEMPLATES) -> list[str]:
    """The stacks that have a template."""
    return sorted(path.name.removesuffix(SUFFIX) for path in directory.glob(f"*{SUFFIX}"))


def render(name: str, directory: Path = TEMPLATES) -> tuple[str, dict[str, Any]]:
    """One template as text and as CloudFormation sees it (``documents.parse_template``).

    Deterministic: the text depends on the files below ``directory`` and the version, on nothing else.
    Raises RenderingError with file and line: a template that is not there, an undefined name, a syntax error, whatever
    else an expression may end with, a result that is not YAML.
    """
    import jinja2

    def function(file: str) -> str:
        """The code of a Lambda function, from ``templates/functions/<file>``."""
        return documents.read_text(directory / "functions" / file).rstrip("\n")

    # One for each template: what a macro knows of the template that imports it (name) stays in its module.
    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(directory),
        bytecode_cache=_compiled(),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.globals.update(name=name, version=__version__, function=function)
    try:
        text = _tidy(jinja.get_template(f"{name}{SUFFIX}").render())
    except ToolError:
        raise
    except jinja2.TemplateNotFound as error:
        raise RenderingError(
            f"there is no template {error.name!r}",
            where=_line_of(error, directory),
            advice=f"There are: {', '.join(names(directory))}.",
        ) from None
    except jinja2.TemplateSyntaxError as error:
        raise RenderingError(
            str(error.message), where=f"{directory / (error.name or name)}:{error.lineno}"
        ) from None
    except UnicodeDecodeError:
        for path in sorted(directory.rglob("*.j2")):
            documents.read_text(path)  # says which it is
        raise
    except Exception as error:  # noqa: BLE001 - a template may do anything
        what = (
            "it calls or includes itself without end"
            if isinstance(error, RecursionError)
            else str(error)
        )
        raise RenderingError(
            what or type(error).__name__, where=_line_of(error, directory / f"{name}{SUFFIX}")
        ) from None
    try:
        return text, documents.parse_template(text, f"{name}.yaml as rendered")
    except documents.DocumentError as error:
        raise RenderingError(
            error.what, where=_source_of(error.where, text, directory, name)
        ) from None


@functools.cache
def _compiled() -> jinja2.BytecodeCache:
    """What a file was compiled to, as long as it does not change: most macros are in every template."""
    import jinja2

    class Compiled(jinja2.BytecodeCache):
        def __init__(self) -> None:
            self.code: dict[str, bytes] = {}

        def load_bytecode(self, bucket: Bucket) -> None:
            if bucket.key in self.code:
                bucket.bytecode_from_string(
                    self.code[bucket.key]
                )  # not taken when the source is another

        def dump_bytecode(self, bucket: Bucket) -> None:
            self.code[bucket.key] = bucket.bytecode_to_string()

    return Compiled()


def render_all(directory: Path = TEMPLATES, build: Path = BUILD) -> dict[str, dict[str, Any]]:
    """Renders every template and writes ``build/``; gives each as CloudFormation sees it.

    All or nothing: when one fails, ``build/`` is left as it was. A file is written only when its bytes change; what
    no template stands behind any more is removed. Raises RenderingError, also where there is no template at all.
    """
    rendered = {name: render(name, directory) for name in names(directory)}
    if not rendered:
        raise RenderingError(
            f"there is no *{SUFFIX}", where=str(directory), advice="Go to the top of the checkout."
        )
    try:
        build.mkdir(exist_ok=True)
        paths = {build / f"{name}.yaml": text for name, (text, _) in rendered.items()}
        changed = [
            path
            for path, text in paths.items()
            if not path.exists() or path.read_bytes() != text.encode()
        ]
        for path in changed:
            _replace(path, paths[path])
        for path in build.glob("*.yaml"):
            if path not in paths:
                path.unlink()
    except OSError as error:
        raise RenderingError(
            f"cannot be written: {error.strerror}", where=str(error.filename or build)
        ) from None
    return {name: template for name, (_, template) in rendered.items()}


def _replace(path: Path, text: str) -> None:
    """Writes beside the file and renames: a reader sees the old or the new one, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)  # Ctrl-C, a full disk


def _tidy(text: str) -> str:
    """Blank lines where a careful person would set them, so that no macro has to think of them.

    One before each section and each resource (and the comment above it), none elsewhere; what stands in a block
    scalar (Lambda code, JSON) is kept as it is. No white space at the ends of lines.
    """
    lines: list[str] = []
    section, block, comments = (
        "",
        -1,
        0,
    )  # the indentation of the key whose block scalar is being read; comments above
    for line in (one.rstrip() for one in text.splitlines()):
        indent = len(line) - len(line.lstrip())
        if block >= 0 and (not line or indent > block):
            lines.append(line)
            continue
        if block >= 0:
            while not lines[-1]:
                lines.pop()
        block = indent if re.search(r"[:-] +(?:[!&]\S+ )*[|>][-+0-9]*(?: +#.*)?$", line) else -1
        if not line:
            continue
        is_entry = (indent == 0 and line[-1] == ":") or (indent == 2 and section == "Resources:")
        if line.lstrip().startswith("#"):
            comments += 1
        else:
            if is_entry and line[indent] != "-" and lines[: len(lines) - comments]:
                first = indent > 0 and lines[len(lines) - comments - 1] == section
                lines[len(lines) - comments : len(lines) - comments] = [] if first else [""]
            comments = 0
            section = line if indent == 0 else section
        lines.append(line)
    return "\n".join(lines).strip("\n") + "\n"


def _line_of(error: Exception, otherwise: Path) -> str:
    """Where in a template an error happened: the innermost frame that Jinja mapped back to a source file."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.endswith(".j2")
    ]
    return f"{Path(frames[-1].filename)}:{frames[-1].lineno}" if frames else str(otherwise)


def _source_of(where: str, text: str, directory: Path, name: str) -> str:
    """The place of a YAML error in the rendered text, as the source's file and line where that line stands in it."""
    found = re.search(r":(\d+):\d+$", where)
    line = (
        text.splitlines()[int(found[1]) - 1].strip()
        if found and int(found[1]) <= text.count("\n")
        else ""
    )
    for path in [directory / f"{name}{SUFFIX}", *sorted(directory.glob("macros/*.j2"))]:
        lines = [one.strip() for one in documents.read_text(path).splitlines()]
        if line and lines.count(line) == 1:
            return f"{path}:{lines.index(line) + 1} ({where})"
    return f"{directory / f'{name}{SUFFIX}'} ({where}{f': {line}' if line else ''})"
