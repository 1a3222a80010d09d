"""Environments: which stacks are deployed where, with which values.

An environment is one file, ``parameters/<env>.yaml``, described by ``parameters/schema.json``. Reading is strict: an
unknown key, stack or parameter, or a value that the template does not allow, is an error before any AWS call.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstacks import documents, environment_file
from eventstacks.environment_file import EnvironmentFileError, OutputReference, Source
from eventstacks.errors import ErrorCode, command_line, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "EMBEDDED",
    "PARAMETERS",
    "Environment",
    "EnvironmentFileError",
    "OutputReference",
    "Source",
    "StackRef",
    "StackSet",
    "StackSettings",
    "Value",
    "load",
    "names",
]
EMBEDDED = "embedded"
PARAMETERS = Path("parameters")


Value = str | OutputReference | Source


@dataclass(frozen=True)
class StackSet:
    """The accounts of an environment that is deployed with CloudFormation StackSets."""

    permissions: str = "SERVICE_MANAGED"  # or SELF_MANAGED
    accounts: tuple[str, ...] = ()
    organizational_units: tuple[str, ...] = ()
    concurrency: int = 1  # accounts at the same time, per Region
    failure_tolerance: int = 0  # accounts that may fail, per Region
    auto_deployment: bool = False
    administration_role: str | None = None
    execution_role: str | None = None


@dataclass(frozen=True)
class StackSettings:
    """One stack of an environment; ``name`` is its key in the file."""

    name: str
    stack_name: str  # as CloudFormation knows it: the environment's prefix and the key
    template: str  # templates/<template>.yaml.j2, build/<template>.yaml
    regions: tuple[str, ...]
    parameters: Mapping[str, Value | dict[str, Value]] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()  # keys of stacks
    tags: Mapping[str, str] = field(default_factory=dict)
    policy: Mapping[str, Any] | None = None
    role: str | None = None
    rollback_alarms: tuple[str, ...] = ()
    rollback_minutes: int = 0

    def values(self, region: str) -> dict[str, Value]:
        """Return the parameters of one Region: of a value per Region, that of this one."""
        return {
            key: value[region] if isinstance(value, dict) else value
            for key, value in self.parameters.items()
        }


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
        return self.settings.values(self.region)

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
    """The content of ``parameters/<name>.yaml``; ``parameter_checks`` compares it with the templates."""

    name: str
    path: Path
    regions: tuple[str, ...]
    stacks: Mapping[str, StackSettings]
    account: str | None = None
    profile: str | None = None
    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    protect: bool = False
    bucket: str | None = None  # for template bodies over 51,200 bytes
    endpoint: str | None = None  # None: AWS; "embedded"; or the URL of an AWS-compatible endpoint
    notifications: tuple[str, ...] = ()
    stack_set: StackSet | None = None

    def ref(self, stack: str, region: str) -> StackRef:
        """Return the reference to a stack, by its key in the file, in a region."""
        settings = self.stacks[stack]
        return StackRef(self.name, stack, settings.stack_name, region, settings)

    def choose(self, stack: str | None = None, region: str | None = None) -> list[StackRef]:
        """Return the stacks and regions a command is for: all, or those of ``stack`` and ``region``.

        Raises EnvironmentFileError if there is none.
        """
        if stack is not None and stack not in self.stacks:
            raise EnvironmentFileError(
                f"stack {stack!r} not found in this environment{nearest(stack, self.stacks)}",
                where=f"{self.path}: stacks",
                advice=f"Stacks: {', '.join(self.stacks)}. Add an entry under `stacks:` to deploy another template.",
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
            raise EnvironmentFileError(
                f"region {region!r} is not in this environment",
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
        """Return the stacks to deploy before one: those whose outputs it takes, and its ``depends_on``.

        A stack of ``depends_on`` counts in the same Region, or if it is not there, in all of its Regions.
        """
        found = {source for source, _ in self.references(ref).values()}
        for name in ref.settings.depends_on:
            regions = self.stacks[name].regions
            found |= {
                self.ref(name, region)
                for region in regions
                if region == ref.region or ref.region not in regions
            }
        return found


def names(directory: Path = PARAMETERS) -> list[str]:
    """Return the environments that have a file."""
    files = (*directory.glob("*.yaml"), *directory.glob("*.yml"))
    return sorted({path.stem for path in files if path.is_file()})


def load(name: str, directory: Path = PARAMETERS) -> Environment:
    """Read ``parameters/<name>.yaml``. Raises EnvironmentFileError or DocumentError with file and key."""
    if name not in (known := names(directory)):
        raise EnvironmentFileError(
            f"environment {name!r} not found{nearest(name, known)}",
            code=ErrorCode.ENVIRONMENT_NOT_FOUND,
            where=str(directory),
            advice=f"Available: {', '.join(known) or 'none'}. Create {directory / name}.yaml for a new one.",
        )
    path = directory / f"{name}.yaml"
    path = path if path.is_file() else path.with_suffix(".yml")
    return _environment(path, environment_file.read(path))


def _environment(path: Path, data: dict[str, Any]) -> Environment:
    sets: Any = data.get("stack_set")
    if sets is not None:
        sets = {key: tuple(one) if isinstance(one, list) else one for key, one in sets.items()}
    environment = Environment(
        name=path.stem,
        path=path,
        regions=tuple(data["regions"]),
        tags=_tags(data),
        prefix=data.get("prefix", ""),
        protect=data.get("protect", False),
        notifications=tuple(data.get("notifications") or ()),
        stack_set=None if sets is None else StackSet(**sets),
        stacks={},
        **{key: data.get(key) for key in ("account", "profile", "bucket", "endpoint")},
    )
    common = {key: data.get(key) for key in ("role", "rollback_alarms", "rollback_minutes")}
    stacks = {
        name: _stack(environment, name, {**common, **(settings or {})})
        for name, settings in data["stacks"].items()
    }
    environment = replace(environment, stacks=stacks)
    _check_references(environment)
    return environment


def _stack(environment: Environment, name: str, data: dict[str, Any]) -> StackSettings:
    key = f"{environment.path}: stacks.{name}"
    regions = tuple(data.get("regions", environment.regions))
    return StackSettings(
        name=name,
        stack_name=environment.prefix + name,
        template=data.get("template", name),
        regions=regions,
        parameters={
            one: _value(f"{key}.parameters.{one}", value, regions)
            for one, value in (data.get("parameters") or {}).items()
        },
        depends_on=tuple(data.get("depends_on", ())),
        tags={**environment.tags, **_tags(data)},
        policy=_policy(f"{key}.policy", data.get("policy")),
        role=data["role"],
        rollback_alarms=tuple(data["rollback_alarms"] or ()),
        rollback_minutes=data["rollback_minutes"] or 0,
    )


def _policy(key: str, raw: Any) -> Any:
    try:
        return json.loads(json.dumps(raw))
    except TypeError:  # a reference
        raise EnvironmentFileError("a stack policy cannot contain references", where=key) from None


def _tags(data: dict[str, Any]) -> dict[str, str]:
    return {key: documents.text_of(value) for key, value in (data.get("tags") or {}).items()}


def _value(key: str, raw: Any, regions: Sequence[str]) -> Value | dict[str, Value]:
    if not isinstance(raw, dict):
        return _single(key, raw)
    if different := sorted(raw.keys() ^ set(regions)):
        raise EnvironmentFileError(
            f"expected a value for each Region of the stack: {', '.join(regions)}",
            where=key,
            advice=f"Missing, or not a Region of the stack: {', '.join(different)}.",
        )
    return {region: _single(f"{key}.{region}", raw[region]) for region in regions}


def _single(key: str, raw: Any) -> Value:
    if isinstance(raw, OutputReference | Source):
        return raw
    if not isinstance(raw, list):
        return documents.text_of(raw)
    for one in raw:
        if not isinstance(one, str | int | float) or "," in str(one):
            raise EnvironmentFileError(
                f"{one}: an item of a list is a string without a comma, a number, true or false",
                where=key,
                advice="CloudFormation splits lists at commas: make each item an entry of its own.",
            )
    return ",".join(map(documents.text_of, raw))


def _check_references(environment: Environment) -> None:
    """Raise EnvironmentFileError for an output or a dependency of a stack that is not in the environment."""
    for ref in environment.choose():
        key = f"{environment.path}: stacks.{ref.stack}"
        others = {name: one for name, one in environment.stacks.items() if name != ref.stack}
        taken = {
            f"{key}.parameters.{parameter}": value
            for parameter, value in ref.values().items()
            if isinstance(value, OutputReference)
        }
        named = {f"{key}.depends_on": name for name in ref.settings.depends_on}
        for where, name in (named | {where: value.stack for where, value in taken.items()}).items():
            if name not in others:
                raise EnvironmentFileError(
                    f"this environment has no other stack {name!r}{nearest(name, others)}",
                    where=where,
                )
        for where, value in taken.items():
            regions = others[value.stack].regions
            if (value.region or ref.region) not in regions:
                raise EnvironmentFileError(
                    f"{value}: {value.stack} is not deployed in {value.region or ref.region}",
                    where=where,
                    advice=f"Its Regions: {', '.join(regions)}. Write {value}@region.",
                )
