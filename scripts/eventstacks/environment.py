"""Environments: which stacks are deployed where, with which values.

An environment is one file, ``parameters/<env>.yaml``, described by ``parameters/schema.json``.
Reading is strict: an unknown key, stack or Region, or a wrong value, is an error before any AWS
call.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from eventstacks import documents
from eventstacks.errors import ErrorCode, ToolError, command_line, nearest

EMBEDDED = "embedded"
PARAMETERS = Path("parameters")
# Keys of the file that are defaults of its stacks.
_INHERITED = ("role", "rollback_alarms", "rollback_minutes")


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

    ``!Env NAME``: an environment variable. ``!Ssm /name``: a parameter of Parameter Store,
    decrypted. ``!Previous``: what the stack has now.
    """

    kind: str  # Env, Ssm, Previous
    name: str = ""

    def __str__(self) -> str:
        return f"!{self.kind} {self.name}".rstrip()


Value = str | OutputReference | Source


@dataclass(frozen=True)
class StackSettings:
    """One stack of an environment; ``name`` is its key in the file."""

    name: str
    stack_name: str  # as CloudFormation knows it: the environment's prefix and the key
    template: str  # templates/<template>.yaml.j2, build/<template>.yaml
    regions: Sequence[str]
    # A dict has a value for each Region.
    parameters: Mapping[str, Value | dict[str, Value]] = field(default_factory=dict)
    depends_on: Sequence[str] = ()  # keys of stacks
    tags: Mapping[str, str] = field(default_factory=dict)
    role: str | None = None
    rollback_alarms: Sequence[str] = ()
    rollback_minutes: int = 0


@dataclass(frozen=True)
class StackRef:
    """One stack in one region of one environment.

    Hashable: plans, results and dependencies are keyed by it. ``settings`` are not compared.
    """

    environment: str
    stack: str  # its key in the environment file
    stack_name: str  # its name in CloudFormation
    region: str
    settings: StackSettings = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.stack_name} in {self.region}"

    def values(self) -> dict[str, Value]:
        """Return the stack's parameters with the values for this region."""
        return {
            key: value[self.region] if isinstance(value, dict) else value
            for key, value in self.settings.parameters.items()
        }

    def command(self, verb: str, *options: str) -> str:
        """Return the command that runs a verb for this stack; ``options`` are further words."""
        return command_line(
            verb, *options, env=self.environment, stack=self.stack, region=self.region
        )

    def document(self) -> dict[str, str]:
        """Return what identifies the stack in the output with ``--json``."""
        return {"stack": self.stack, "stack_name": self.stack_name, "region": self.region}


@dataclass(frozen=True)
class Environment:
    """The content of ``parameters/<name>.yaml``.

    ``parameter_checks`` compares it with the templates.
    """

    name: str
    path: Path
    regions: Sequence[str]
    stacks: Mapping[str, StackSettings]
    account: str | None = None
    profile: str | None = None
    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    protect: bool = False
    bucket: str | None = None  # for template bodies over 51,200 bytes
    endpoint: str | None = None  # None: AWS; "embedded"; or the URL of an AWS-compatible endpoint
    notifications: Sequence[str] = ()

    def ref(self, stack: str, region: str) -> StackRef:
        """Return the reference to a stack, by its key in the file, in a region."""
        settings = self.stacks[stack]
        return StackRef(self.name, stack, settings.stack_name, region, settings)

    def choose(self, stack: str | None = None, region: str | None = None) -> list[StackRef]:
        """Return the stacks and regions a command is for.

        All, or those of ``stack`` and ``region``.

        Raises ToolError if there is none.
        """
        if stack is not None and stack not in self.stacks:
            raise ToolError(
                f"stack {stack!r} not found in this environment{nearest(stack, self.stacks)}",
                code=ErrorCode.ENVIRONMENT_INVALID,
                where=f"{self.path}: stacks",
                advice=f"Stacks: {', '.join(self.stacks)}. "
                "Add an entry under `stacks:` to deploy another template.",
            )
        wanted = [self.stacks[stack]] if stack else list(self.stacks.values())
        refs = [
            self.ref(one.name, where)
            for one in wanted
            for where in one.regions
            if region in (None, where)
        ]
        if not refs:
            known = sorted({where for one in wanted for where in one.regions})
            raise ToolError(
                f"region {region!r} is not in this environment",
                code=ErrorCode.ENVIRONMENT_INVALID,
                where=f"{self.path}: regions",
                advice=f"Regions: {', '.join(known) or 'none'}.",
            )
        return refs

    def references(self, ref: StackRef) -> dict[str, tuple[StackRef, str]]:
        """Return parameter → (stack, output) for the parameters that take the output of a stack."""
        return {
            parameter: (self.ref(value.stack, value.region or ref.region), value.output)
            for parameter, value in ref.values().items()
            if isinstance(value, OutputReference)
        }

    def dependencies(self, ref: StackRef) -> set[StackRef]:
        """Return the stacks to deploy before one.

        Those whose outputs it takes, and its ``depends_on``.

        A stack of ``depends_on`` counts in the same Region, or if it is not there, in all of its
        Regions.
        """
        return {source for source, _ in self.references(ref).values()} | {
            self.ref(name, region)
            for name in ref.settings.depends_on
            for region in self.stacks[name].regions
            if region == ref.region or ref.region not in self.stacks[name].regions
        }


class Loader(documents.StrictLoader):
    """YAML whose scalars keep their spelling, and with the tags of references.

    YAML 1.1 reads 0123 as 83, 1.10 as 1.1, 12:30 as 750, and yes, no, on, off and True as booleans:
    strings here. Only null, true, false and decimal integers have a type.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own name


for _tag, _pattern in {
    "null": "~|null|",
    "bool": "true|false",
    "int": "0|-?[1-9][0-9]*",
    "merge": "<<",
}.items():
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), None)

_REFERENCES = {
    "!Output": r"([A-Za-z0-9][\w-]*)\.([A-Za-z0-9]+)(?:@([a-z0-9-]+))?",
    "!Env": "(.+)",
    "!Ssm": "(.+)",
    "!Previous": "",
}


def _construct_reference(loader: Any, node: yaml.ScalarNode) -> OutputReference | Source:
    parts = re.fullmatch(_REFERENCES[node.tag], str(loader.construct_scalar(node)))
    if not parts:
        known = "!Output stack.Name[@region], !Env NAME, !Ssm /name or !Previous"
        raise documents.refuse(node, f"write {known}, not {node.tag} {node.value!r}")
    if node.tag == "!Output":
        return OutputReference(*parts.groups())
    return Source(node.tag[1:], *parts.groups())


for _tag in _REFERENCES:
    Loader.add_constructor(_tag, _construct_reference)


def names(directory: Path = PARAMETERS) -> list[str]:
    """Return the environments that have a file."""
    return sorted(path.stem for path in directory.glob("*.yaml") if path.is_file())


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    """Return the validator of environment files, from ``parameters/schema.json``."""
    schema = documents.read_text(documents.packaged("parameters/schema.json"))
    return jsonschema.Draft202012Validator(json.loads(schema))


def load(name: str, directory: Path = PARAMETERS) -> Environment:
    """Read ``parameters/<name>.yaml``.

    Raises ToolError with file and key.
    """
    path = directory / f"{name}.yaml"
    if name not in (known := names(directory)):
        raise ToolError(
            f"environment {name!r} not found{nearest(name, known)}",
            code=ErrorCode.NOT_FOUND,
            where=str(directory),
            advice=f"Available: {', '.join(known)}. Create {path} for a new one."
            if known
            else "Run the command at the top of a project. To create one: eventstacks init NAME",
        )
    data = documents.parse(documents.read_text(path), str(path), Loader)
    if isinstance(data, dict):  # x-…: a place for anchors
        data = {key: one for key, one in data.items() if not key.startswith("x-")}
    if error := jsonschema.exceptions.best_match(validator().iter_errors(data)):
        raise _invalid(error, path)
    environment = _environment(path, data)
    for stack in environment.stacks.values():
        _check_regions_and_references(environment, stack)
    return environment


def _invalid(error: jsonschema.ValidationError, path: Path) -> ToolError:
    """Return an error of the schema as file, key, and what is expected there."""
    schema: Any = error.schema
    keys, advice = [str(one) for one in error.absolute_path], ""
    shown = json.dumps(error.instance, default=str, ensure_ascii=False)
    what = f"expected {schema.get('title')}, not {shown:.60}"
    if error.validator == "additionalProperties":
        known = list(schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        keys.append(unknown)
        what, advice = f"unknown key{nearest(unknown, known)}", f"Known keys: {', '.join(known)}."
    elif error.validator == "required":
        what = error.message
    elif "propertyNames" in error.absolute_schema_path:
        keys.append(str(error.instance))
    where = f"{path}: {'.'.join(keys)}" if keys else str(path)
    return ToolError(what, code=ErrorCode.ENVIRONMENT_INVALID, where=where, advice=advice)


def _environment(path: Path, data: dict[str, Any]) -> Environment:
    """Return the environment of a file that the schema allows."""
    own = {key: one for key, one in data.items() if one is not None}
    inherited = {key: own.pop(key) for key in _INHERITED if key in own}
    prefix, tags = own.get("prefix", ""), _value(own.pop("tags", {}))
    stacks = {}
    for name, settings in own.pop("stacks").items():
        merged = {"template": name, "regions": own["regions"], **inherited, **(settings or {})}
        given = {key: one for key, one in merged.items() if one is not None}
        given["tags"] = tags | _value(given.get("tags", {}))
        given["parameters"] = _value(given.get("parameters", {}))
        stacks[name] = StackSettings(name=name, stack_name=prefix + name, **given)
    return Environment(name=path.stem, path=path, tags=tags, stacks=stacks, **own)


def _value(raw: Any) -> Any:
    """Return a value as CloudFormation takes it: a string or a reference; of a mapping each."""
    if isinstance(raw, dict):
        return {key: _value(one) for key, one in raw.items()}
    if isinstance(raw, list):
        return ",".join(map(documents.text_of, raw))
    return raw if isinstance(raw, OutputReference | Source) else documents.text_of(raw)


def _check_regions_and_references(environment: Environment, stack: StackSettings) -> None:
    """Raise ToolError for a value of another Region, or for a stack that is missing."""
    key = f"{environment.path}: stacks.{stack.name}"
    others = {name: one for name, one in environment.stacks.items() if name != stack.name}
    for name, value in stack.parameters.items():
        if isinstance(value, dict) and value.keys() != set(stack.regions):
            raise ToolError(
                f"expected a value for each Region of the stack: {', '.join(stack.regions)}",
                code=ErrorCode.ENVIRONMENT_INVALID,
                where=f"{key}.parameters.{name}",
                advice=f"It has values for: {', '.join(value)}.",
            )
    named = [
        (f"{key}.parameters.{name}", value.stack, value.region or region)
        for region in stack.regions
        for name, value in environment.ref(stack.name, region).values().items()
        if isinstance(value, OutputReference)
    ]
    named += [(f"{key}.depends_on", name, "") for name in stack.depends_on]
    for where, name, region in named:
        if name not in others:
            raise ToolError(
                f"this environment has no other stack {name!r}{nearest(name, others)}",
                code=ErrorCode.ENVIRONMENT_INVALID,
                where=where,
            )
        if region and region not in others[name].regions:
            raise ToolError(
                f"{name} is not deployed in {region}",
                code=ErrorCode.ENVIRONMENT_INVALID,
                where=where,
                advice=f"Write !Output {name}.…@region; its Regions: "
                f"{', '.join(others[name].regions)}.",
            )
