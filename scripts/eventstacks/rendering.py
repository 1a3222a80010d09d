"""Render ``templates/`` into ``build/``.

The same bytes for every environment, Region and partition.

Jinja composes: macros, Lambda code from real files, the version stamp. What differs between
environments is left to CloudFormation parameters, so that one file is linted, tested, uploaded by
hand and promoted.
"""

import os
import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from eventstacks import __version__, documents
from eventstacks.documents import packaged
from eventstacks.errors import ErrorCode, ToolError, nearest

TEMPLATES = Path("templates")
PACKAGED = packaged("templates")  # in a checkout the same folder
BUILD = Path("build")
SUFFIX = ".yaml.j2"
PLAIN_SUFFIXES = (".yaml", ".yml", ".json", ".template")  # taken as they are, without Jinja
_PARTS = ("macros", "functions", "scaffold")  # folders of templates/ that hold no stacks
# Stands for the start of a dynamic reference while Jinja, which has the same brackets, is at work.
_RESOLVE, _PLACEHOLDER = "{{resolve:", "\ue000resolve:"


@dataclass(frozen=True)
class RenderedTemplate:
    """A template as it is checked, linted and sent to CloudFormation."""

    name: str  # as environment files give it: orders, team/orders
    text: str
    document: dict[str, Any]  # ``text`` parsed: documents.parse_template
    path: Path  # build/<name>.yaml, which holds ``text``


class Templates(dict[str, RenderedTemplate]):
    """Rendered templates by name.

    One that is not among them is rendered and written to ``build/`` when it is asked for, from the
    project or else from the package; that raises ToolError if it is missing or broken.
    """

    def __init__(self, directory: Path = TEMPLATES, build: Path = BUILD) -> None:
        super().__init__()
        self.own = find(directory)
        self.files = {**find(PACKAGED), **self.own}
        self._folders, self._build = (directory, PACKAGED), build

    def __missing__(self, name: str) -> RenderedTemplate:
        made = self[name] = self.render(name)
        _write(made)
        return made

    def render(self, name: str) -> RenderedTemplate:
        """Return a template without writing it to build/. Raises ToolError with file and line."""
        if name not in self.files:
            known = sorted({*self, *self.files})
            raise ToolError(
                f"template {name!r} not found{nearest(name, known)}",
                code=ErrorCode.NOT_FOUND,
                where=str(self._folders[0]),
                advice=f"Available: {', '.join(known) or 'none'}. A template is <name>{SUFFIX}, "
                f"or without Jinja <name>{', <name>'.join(PLAIN_SUFFIXES)}.",
            )
        source = self.files[name]
        suffix = ".json" if source.suffix == ".json" else ".yaml"
        path = self._build / f"{name}{suffix}"
        if not source.name.endswith(SUFFIX):
            text = documents.read_text(source)
            document = documents.parse_template(text, str(source))
            return RenderedTemplate(name, text, document, path)
        text = _expand(name, source, self._folders, self._build / ".jinja")
        try:
            document = documents.parse_template(text, str(source))
        except documents.DocumentError as error:
            number = re.search(r":(\d+):\d+$", error.where)
            line = [*text.split("\n"), ""][int(number[1]) - 1].strip() if number else ""
            what = f"{error.what}: {line}" if line else error.what
            where = f"{source}, as rendered"
            raise ToolError(what, code=ErrorCode.TEMPLATE_INVALID, where=where) from None
        tidied = _tidy(text)
        if documents.parse_template(tidied, str(source)) == document:  # else it stays as it is
            text = tidied
        return RenderedTemplate(name, text, document, path)


def find(directory: Path = TEMPLATES) -> dict[str, Path]:
    """Return name → file of the templates below a folder: ``*.yaml.j2``, plain YAML and JSON.

    A plain file without the word ``Resources`` is not a template: other files may be in
    ``templates/``, too. Raises ToolError for two files with the same name.
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
            raise ToolError(
                f"two templates have the name {name!r}",
                code=ErrorCode.TEMPLATE_INVALID,
                where=f"{found[name]}, {path}",
            )
        found[name] = path
    return found


def render(name: str, directory: Path = TEMPLATES) -> RenderedTemplate:
    """Return one template without writing it to build/. Raises ToolError with file and line.

    The text depends on the files in ``templates/`` and the version alone.
    """
    return Templates(directory).render(name)


def render_all(directory: Path = TEMPLATES, build: Path = BUILD) -> Templates:
    """Render every template of ``directory`` and write ``build/``.

    Raises ToolError if one cannot be rendered, and leaves ``build/`` as it was. A file is
    written only if its bytes change; a file directly in ``build/`` that no template has is removed.
    """
    if not directory.is_dir():
        raise ToolError(
            "folder not found",
            code=ErrorCode.NOT_FOUND,
            where=str(directory),
            advice="Run the command at the top of the project.",
        )
    templates = Templates(directory, build)
    templates.update({name: templates.render(name) for name in templates.own})
    for template in templates.values():
        _write(template)
    kept = {build / f"{name}.yaml" for name in templates.files}
    for path in set(build.glob("*.yaml")) - kept:
        path.unlink()
    return templates


class _Loader(jinja2.FileSystemLoader):
    """Read templates, macros and functions: the project's own, then those of the package."""

    def get_source(self, environment: jinja2.Environment, template: str) -> Any:
        """Return text, path and whether it is current."""
        text, *rest = super().get_source(environment, template)
        return text.replace(_RESOLVE, _PLACEHOLDER), *rest


def _expand(name: str, source: Path, folders: Iterable[Path], compiled: Path) -> str:
    """Return what Jinja makes of a template.

    ``compiled``: a folder for the code that Jinja makes of each file; compiling takes most of the
    time, and every template imports the same macros.
    """
    loader = _Loader(list(folders))
    compiled.mkdir(parents=True, exist_ok=True)

    def function(file: str) -> str:
        """Return the code of a Lambda function, from ``templates/functions/<file>``."""
        return str(loader.get_source(jinja, f"functions/{file}")[0]).rstrip("\n")

    # An environment for each template: a macro's module keeps the name of the template that imports
    # it.
    jinja = jinja2.Environment(
        loader=loader,
        bytecode_cache=jinja2.FileSystemBytecodeCache(str(compiled), f"{__version__}-%s"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.globals.update(name=name, version=__version__, function=function)
    try:
        return jinja.get_template(f"{name}{SUFFIX}").render().replace(_PLACEHOLDER, _RESOLVE)
    except Exception as error:  # noqa: BLE001 - an expression of a template can raise anything
        raise _error(error, source) from None


def _error(error: Exception, source: Path) -> ToolError:
    """Return what is wrong with a template, and in which line: the last one that Jinja ran."""
    what = str(error) or type(error).__name__
    if isinstance(error, jinja2.TemplateNotFound):
        what = f"{error.name!r} not found"
    elif isinstance(error, RecursionError):
        what = "a template or macro includes itself without end"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{one.filename}:{one.lineno}" for one in frames if one.filename.endswith(".j2")]
    return ToolError(what, code=ErrorCode.TEMPLATE_INVALID, where=[str(source), *lines][-1])


def _write(template: RenderedTemplate) -> None:
    """Write a template to ``build/`` if its bytes change; a reader never sees half a file."""
    path, content = template.path, template.text.encode()
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


# The first lines of a section and of a resource (or a parameter), with the comment above them.
_HEADS = r"(?m)^((?:#.*\n)*\w+:$|(?:  #.*\n)*  \w+:\n(?:    #.*\n)*    Type: )"


def _tidy(text: str) -> str:
    """Return YAML with blank lines as a careful author sets them, so that macros need not.

    One before each section and each resource. Other blank lines go, unless the next line is
    indented as deeply as the code of a function is and not a list item. The caller compares the
    values: of a template whose strings this would change nothing is changed.
    """
    text = re.sub(r"(?:[ \t\r]*\n)+(?= {0,8}[^ \n]| +- )", "\n", f"\n{text.strip()}\n")
    text = re.sub(_HEADS, r"\n\1", text).lstrip("\n")
    return re.sub(r"(?m)^(Resources:\n)\n", r"\1", text)
