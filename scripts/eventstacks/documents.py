"""YAML as people write it for CloudFormation: short intrinsic forms, and no key twice."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import yaml

from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT_INTRINSICS = frozenset(
    {"Ref", "Condition"}
)  # all others carry the prefix "Fn::" in their long form


class DocumentError(ToolError):
    """A file that is not there or is not YAML."""


# libyaml's parser, ten times as fast, wherever PyYAML was built with it.
FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


_MERGE = "tag:yaml.org,2002:merge"
# Neither CloudFormation nor JSON knows what these make. Source: User Guide, 'CloudFormation template formats'.
_FOREIGN = tuple(
    f"tag:yaml.org,2002:{one}" for one in ("binary", "omap", "pairs", "set", "timestamp")
)


class StrictLoader(FAST_LOADER):  # type: ignore[misc]
    """SafeLoader, but a key that stands twice is an error (YAML keeps the last one, silently); dates stay text."""

    merges = True  # whether `<<: *name` is taken

    # 2012-10-17 is a policy's version and 2010-09-09 a template's: text, not days of a calendar.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _FOREIGN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - PyYAML's own signature
        """As the base class; ConstructorError also for a value that Python's own types refuse."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            said = f"{node.value:.40}" if isinstance(node.value, str) else "this"
            raise _refused(
                node, f"{said!r} is no {node.tag.rsplit(':')[-1]}; put text in quotes"
            ) from None

    def flatten_mapping(self, node: Any) -> None:
        """As the base class, which merges; raises ConstructorError for a key that stands twice, or is not one."""
        if node in self.__dict__.setdefault("flat", set()):
            return  # what was merged into it may stand twice: the mapping's own key holds
        self.flat.add(node)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE and not self.merges:
                raise _refused(
                    key_node, "CloudFormation knows no merge key <<; write out what it stands for"
                )
            key = "<<" if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _refused(key_node, "a list or a mapping is no key")
            if key in seen:
                raise _refused(key_node, f"the key {key!r} stands here twice")
            seen.add(key)
        super().flatten_mapping(node)


def _refused(node: Any, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _refuse_tag(_: Any, node: Any) -> Any:
    raise _refused(
        node, f"the tag {node.tag.replace('tag:yaml.org,2002:', '!!')} is not known here"
    )


for _tag in (None, *_FOREIGN):
    StrictLoader.add_constructor(_tag, _refuse_tag)


class _TemplateLoader(StrictLoader):
    """The YAML of a CloudFormation template: ``!Sub x`` becomes ``{"Fn::Sub": x}``.

    Source: AWS CloudFormation User Guide, 'CloudFormation template formats': hash merges are not supported.
    """

    merges = False


def _construct_intrinsic(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]  # PyYAML constructs nothing else
    return {suffix if suffix in ROOT_INTRINSICS else f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _construct_intrinsic)


@contextlib.contextmanager
def _in_words(name: str) -> Iterator[None]:
    try:
        yield
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        problem = re.sub(r"\s+", " ", getattr(error, "problem", None) or str(error))
        raise DocumentError(f"not valid YAML: {problem}", where=where) from None
    except RecursionError:
        raise DocumentError("nested too deeply", where=name) from None


def parse(text: str, name: str, loader: type[yaml.SafeLoader] = StrictLoader) -> Any:
    """The value of one YAML document. Raises DocumentError with ``name``, line and column."""
    with _in_words(name):
        return yaml.load(text, Loader=loader)  # noqa: S506 - every loader here is a SafeLoader


def compose(text: str, name: str) -> yaml.Node | None:
    """The nodes of one YAML document, which know their places. Raises DocumentError as ``parse`` does."""
    with _in_words(name):
        return yaml.compose(text, Loader=yaml.SafeLoader)


def parse_template(text: str, name: str) -> dict[str, Any]:
    """A CloudFormation template in YAML or JSON, its intrinsic functions in their long form.

    Raises DocumentError when it is not YAML, a key stands twice, it holds no mapping, or a section does not hold
    mappings by name: whoever reads a template may rely on that.
    Source: AWS CloudFormation User Guide, 'Intrinsic function reference', 'Template sections'.
    """
    template = parse(text, name, _TemplateLoader)
    if not isinstance(template, dict):
        raise DocumentError("not a CloudFormation template: it holds no mapping", where=name)
    if problem := next(_misshapen(template), None):
        raise DocumentError(problem, where=name)
    return template


_SECTIONS = {
    "Parameters": True,
    "Resources": True,
    "Outputs": True,
    "Mappings": True,
    "Rules": True,
    "Conditions": False,
    "Metadata": False,
}
_DEEPEST = (
    100  # a guess: far more than anybody writes, and few enough for all that follow a template down
)


def is_too_deep(value: dict[str, Any] | list[Any]) -> bool:
    """Whether a value is nested deeper than what follows a template down can go, or holds itself."""
    level: dict[int, Any] = {id(value): value}
    for _ in range(_DEEPEST):
        below = (list(one.values()) if isinstance(one, dict) else one for one in level.values())
        level = {
            id(one): one for several in below for one in several if isinstance(one, dict | list)
        }
    return bool(level)


def _misshapen(template: dict[str, Any]) -> Iterator[str]:
    if is_too_deep(template):
        yield f"nested more than {_DEEPEST} deep, or an alias that holds itself"
    for section, holds_mappings in _SECTIONS.items():
        if not isinstance(held := template.get(section) or {}, dict):
            yield f"{section}: a mapping (name: …) belongs here"
            continue
        for key, one in held.items():
            if not isinstance(key, str):
                yield f"{section}.{key}: a name is text; put it in quotes"
            elif (
                holds_mappings and not key.startswith("Fn::") and not isinstance(one, dict)
            ):  # Fn::ForEach: a list
                yield f"{section}.{key}: a mapping (key: value) belongs here"
            elif (
                section == "Resources"
                and isinstance(one, dict)
                and not isinstance(one.get("Properties") or {}, dict)
            ):
                yield f"{section}.{key}.Properties: a mapping (key: value) belongs here"


def text_of(value: Any) -> str:
    """A scalar of YAML as CloudFormation has it: text, like the value of every parameter."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_text(path: Path) -> str:
    """The text of a file, or DocumentError that names it."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"is not UTF-8 text: {error.reason} at byte {error.start}", where=str(path)
        ) from None


def read_template(path: Path) -> dict[str, Any]:
    """``parse_template`` of a file."""
    return parse_template(read_text(path), str(path))
