"""YAML as people write it for CloudFormation: short intrinsic forms, and no key twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from scripts.errors import ToolError

if TYPE_CHECKING:
    from pathlib import Path

ROOT_INTRINSICS = frozenset({"Ref", "Condition"})  # all others carry the prefix "Fn::" in their long form


class DocumentError(ToolError):
    """A file that is not there or is not YAML."""


# libyaml's parser, ten times as fast, wherever PyYAML was built with it.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class StrictLoader(_Base):  # type: ignore[misc]
    """SafeLoader, but a key that stands twice is an error (YAML keeps the last one, silently)."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's own signature
        """As the base class; raises ConstructorError for a key that stands twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands here twice", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


class _TemplateLoader(StrictLoader):
    """The YAML of a CloudFormation template: ``!Sub x`` becomes ``{"Fn::Sub": x}``; dates stay text."""


# 2012-10-17 is a policy's version and 2010-09-09 a template's: text, not days of a calendar.
_TemplateLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


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


def _place(error: yaml.YAMLError, name: str) -> tuple[str, str]:
    mark = getattr(error, "problem_mark", None)
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    return where, re.sub(r"\s+", " ", getattr(error, "problem", None) or str(error))


def parse(text: str, name: str, loader: type[yaml.SafeLoader] = StrictLoader) -> Any:
    """The value of one YAML document. Raises DocumentError with ``name``, line and column."""
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506 - every loader here is a SafeLoader
    except yaml.YAMLError as error:
        where, problem = _place(error, name)
        raise DocumentError(f"not valid YAML: {problem}", where=where) from None


def parse_template(text: str, name: str) -> dict[str, Any]:
    """A CloudFormation template in YAML or JSON, its intrinsic functions in their long form.

    Raises DocumentError when it is not YAML, a key stands twice, or it holds no mapping.
    Source: AWS CloudFormation User Guide, 'Intrinsic function reference'.
    """
    template = parse(text, name, _TemplateLoader)
    if not isinstance(template, dict):
        raise DocumentError("not a CloudFormation template: it holds no mapping", where=name)
    return template


def read_text(path: Path) -> str:
    """The text of a file, or DocumentError that names it."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise DocumentError(f"is not UTF-8 text: {error.reason} at byte {error.start}", where=str(path)) from None


def read_template(path: Path) -> dict[str, Any]:
    """``parse_template`` of a file."""
    return parse_template(read_text(path), str(path))
