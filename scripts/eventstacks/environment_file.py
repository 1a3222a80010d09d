"""Read an environment file: YAML with references, validated by ``parameters/schema.json``."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jsonschema
import yaml

from eventstacks import documents
from eventstacks.documents import packaged
from eventstacks.errors import ErrorCode, ToolError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LONGEST = 60  # characters of a value in an error


class EnvironmentFileError(ToolError):
    """An error in ``parameters/<env>.yaml``."""

    default_code = ErrorCode.ENVIRONMENT_INVALID


@dataclass(frozen=True)
class OutputReference:
    """The output of another stack: ``!Output stack.Output`` or ``!Output stack.Output@region``."""

    stack: str
    output: str
    region: str | None = None  # None: the region of the stack that takes the value

    def __str__(self) -> str:
        return f"!Output {self.stack}.{self.output}" + (f"@{self.region}" if self.region else "")


@dataclass(frozen=True)
class Source:
    """A value from outside the file, looked up when it is needed.

    ``!Env NAME``: an environment variable. ``!Ssm /name``: a parameter of Parameter Store, decrypted. ``!Previous``:
    what the stack has now.
    """

    kind: str  # Env, Ssm, Previous
    name: str = ""

    def __str__(self) -> str:
        return f"!{self.kind} {self.name}".rstrip()


class _Loader(documents.StrictLoader):
    """YAML whose scalars keep their spelling, and with the tags of references.

    YAML 1.1 reads 0123 as 83, 1.10 as 1.1, 12:30 as 750, and yes, no, on, off and True as booleans: strings here.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name
        first: [one for one in resolvers if not one[0].endswith(":bool") or first in "tf"]
        for first, resolvers in documents.StrictLoader.yaml_implicit_resolvers.items()
    }


def _construct_number(loader: Any, node: yaml.ScalarNode) -> Any:
    kind = node.tag.rpartition(":")[2]
    number = getattr(loader, f"construct_yaml_{kind}")(node)
    return number if str(number) == node.value else node.value


def _construct_output(loader: Any, node: yaml.ScalarNode) -> OutputReference:
    text = str(loader.construct_scalar(node))
    parts = re.fullmatch(r"([A-Za-z0-9][\w-]*)\.([A-Za-z0-9]+)(?:@([a-z0-9-]+))?", text)
    if not parts:
        raise documents.refuse(
            node, f"write !Output stack.Name or !Output stack.Name@region, not {text!r}"
        )
    return OutputReference(*parts.groups())


def _construct_source(loader: Any, node: yaml.ScalarNode) -> Source:
    source = Source(node.tag[1:], str(loader.construct_scalar(node)))
    if bool(source.name) == (source.kind == "Previous"):
        raise documents.refuse(
            node, f"write !Env NAME, !Ssm /name or !Previous, not {str(source)!r}"
        )
    return source


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _construct_number)
for _kind in ("Env", "Ssm", "Previous"):
    _Loader.add_constructor(f"!{_kind}", _construct_source)
_Loader.add_constructor("!Output", _construct_output)


def read(path: Path) -> dict[str, Any]:
    """Return the content of a file that the schema allows; references are OutputReference and Source.

    Raises EnvironmentFileError or DocumentError with file, line and key.
    """
    text = documents.read_text(path)
    data: dict[str, Any] = documents.parse(text, str(path), _Loader)
    if error := jsonschema.exceptions.best_match(_validator().iter_errors(data)):
        raise _invalid(error, path, text)
    return data


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = documents.read_text(packaged("parameters/schema.json"))
    return jsonschema.Draft202012Validator(json.loads(schema))


def _invalid(error: jsonschema.ValidationError, path: Path, text: str) -> EnvironmentFileError:
    """Return an error of the schema as file, line, key, and what is expected there."""
    schema: Any = error.schema
    keys, advice = [str(one) for one in error.absolute_path], ""
    what = f"expected {schema.get('title')}, not {_written(error.instance)}"
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        keys += [
            next(key for key in error.instance if key not in known and not key.startswith("x-"))
        ]
        what, advice = f"unknown key{nearest(keys[-1], known)}", f"Known keys: {', '.join(known)}."
    elif error.validator == "required":
        absent = [one for one in schema["required"] if one not in (error.instance or ())]
        what = f"missing key {absent[0]!r}"
    elif "propertyNames" in error.absolute_schema_path:
        keys += [str(error.instance)]
    line = _line(documents.compose(text, str(path)), keys)
    where = f"{path}:{line}: {'.'.join(keys)}" if keys else f"{path}"
    return EnvironmentFileError(what, where=where, advice=advice)


def _line(node: Any, keys: Sequence[str]) -> int:
    """Return the line of a key below a YAML node, or of the nearest one above it."""
    line = 1
    for name in keys:
        if isinstance(node, yaml.SequenceNode):
            entries = {str(number): (one, one) for number, one in enumerate(node.value)}
        else:
            entries = {key.value: (key, value) for key, value in getattr(node, "value", ())}
        if name not in entries:
            break
        key, node = entries[name]
        line = key.start_mark.line + 1
    return line


def _written(value: Any) -> str:
    """Return a value as it is in the file, not as Python has it."""
    text = "nothing" if value is None else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
