"""Environments: which stacks are deployed where, with which values.

An environment is one file, ``parameters/<env>.yaml``. Reading is strict: an unknown key, stack or parameter, or a value
that the template does not allow, is an error before any AWS call.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from eventstacks import documents
from eventstacks.errors import ToolError, command_line, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

EMBEDDED = "embedded"
PARAMETERS = Path("parameters")


class EnvironmentFileError(ToolError):
    """A fault in ``parameters/<env>.yaml``."""


@dataclass(frozen=True)
class OutputReference:
    """``!Output stack.Output`` or ``!Output stack.Output@region``: the output of another stack of the environment."""

    stack: str
    output: str
    region: str | None = None  # None: the region of the stack that takes the value

    def __str__(self) -> str:
        return f"!Output {self.stack}.{self.output}" + (f"@{self.region}" if self.region else "")


Value = str | OutputReference


@dataclass(frozen=True)
class StackSet:
    """The accounts beyond one: what CloudFormation StackSets need to know."""

    permissions: str = "SERVICE_MANAGED"  # or SELF_MANAGED
    accounts: tuple[str, ...] = ()
    organizational_units: tuple[str, ...] = ()
    concurrency: int = 1  # accounts at a time, per region
    failure_tolerance: int = 0  # accounts that may fail, per region
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
    tags: Mapping[str, str] = field(default_factory=dict)
    policy: Mapping[str, Any] | None = None
    role: str | None = None
    rollback_alarms: tuple[str, ...] = ()
    rollback_minutes: int = 0

    def values(self, region: str) -> dict[str, Value]:
        """The parameters as one region gets them: a value per region is chosen, all others are as they stand."""
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
    """What ``parameters/<name>.yaml`` says, checked for its form; ``check_parameters`` holds it to the templates."""

    name: str
    path: Path
    regions: tuple[str, ...]
    stacks: Mapping[str, StackSettings]
    account: str | None = None
    profile: str | None = None
    prefix: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    protect: bool = False
    bucket: str | None = None  # for template bodies over 51,200 bytes, and for publishing
    endpoint: str | None = (
        None  # None: AWS; "embedded": the embedded AWS; else the URL of something that speaks AWS
    )
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

    def prefixed(self, prefix: str) -> Environment:
        """A second copy of everything, each stack's name beginning with ``prefix``; unprotected: it can be deleted."""
        stacks = {
            name: replace(one, stack_name=prefix + one.stack_name)
            for name, one in self.stacks.items()
        }
        return replace(self, prefix=prefix + self.prefix, stacks=stacks, protect=False)


_ENVIRONMENT_KEYS = (
    "account",
    "profile",
    "regions",
    "prefix",
    "tags",
    "protect",
    "bucket",
    "endpoint",
    "role",
    "notifications",
    "rollback_alarms",
    "rollback_minutes",
    "stack_set",
    "stacks",
)
_STACK_KEYS = (
    "template",
    "regions",
    "parameters",
    "tags",
    "policy",
    "role",
    "rollback_alarms",
    "rollback_minutes",
)
_STACK_SET_KEYS = (
    "permissions",
    "accounts",
    "organizational_units",
    "concurrency",
    "failure_tolerance",
    "auto_deployment",
    "administration_role",
    "execution_role",
)
_NOT_OF_STACK_SETS = ("role", "policy", "rollback_alarms", "rollback_minutes", "notifications")


class _Loader(documents.StrictLoader):
    """With one tag more, and no number that reads otherwise than it is written; only true and false are booleans."""

    # YAML 1.1 takes yes, no, on and off for booleans, too: a country NO would be sent as false.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own name
        first: [one for one in resolvers if not one[0].endswith(":bool") or first in "tTfF"]
        for first, resolvers in documents.StrictLoader.yaml_implicit_resolvers.items()
    }


class _Misread(str):
    """What YAML would take for another number: 0123 is 83 to it, 1.10 is 1.1, 12:30 is 750."""

    __slots__ = ()


def _construct_number(loader: Any, node: yaml.ScalarNode) -> int | float | _Misread:
    is_whole = node.tag.endswith(":int")
    number = loader.construct_yaml_int(node) if is_whole else loader.construct_yaml_float(node)
    return number if str(number) == node.value else _Misread(node.value)


def _construct_output(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> OutputReference:
    text = str(loader.construct_scalar(node))
    found = re.fullmatch(r"([A-Za-z][\w-]*)\.([A-Za-z0-9]+)(?:@([a-z0-9-]+))?", text)
    if not found:
        problem = (
            f"!Output {text!r}: write !Output stack.OutputName or !Output stack.OutputName@region"
        )
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return OutputReference(*found.groups())


_Loader.add_constructor("!Output", _construct_output)
for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _construct_number)


def names(directory: Path = PARAMETERS) -> list[str]:
    """The environments that have a file."""
    return sorted(path.stem for path in directory.glob("*.yaml") if path.is_file())


def load(name: str, directory: Path = PARAMETERS) -> Environment:
    """Reads ``parameters/<name>.yaml``. Raises EnvironmentFileError or DocumentError, naming file and key."""
    path = directory / f"{name}.yaml"
    if name not in names(directory):
        raise EnvironmentFileError(
            f"there is no environment {name!r}{nearest(name, names(directory))}",
            where=str(path),
            advice=f"There are: {', '.join(names(directory)) or 'none'}. A new one is a new file.",
        )
    return _Reader(path).environment(documents.parse(documents.read_text(path), str(path), _Loader))


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and text.isprintable()
            and " " not in text
        )
    except ValueError:  # a port or an address that is none
        return False


def _written(raw: Any) -> str:
    """A value as it stands in the file, not as Python has it."""
    if isinstance(raw, dict | list):
        return "a mapping" if isinstance(raw, dict) else "a list"
    if raw is None or isinstance(raw, bool):
        return "an empty value" if raw is None else str(raw).lower()
    return str(raw) if isinstance(raw, OutputReference) else repr(raw)


class _Reader:
    """Turns the raw mapping into an Environment, and says where it is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, key: str, what: str, advice: str = "") -> EnvironmentFileError:
        return EnvironmentFileError(
            what, where=f"{self.path}: {key}" if key else str(self.path), advice=advice
        )

    def environment(self, raw: Any) -> Environment:
        raw = self.mapping("", raw, _ENVIRONMENT_KEYS)
        regions = self.regions("regions", raw.get("regions"))
        tags = self.tags("tags", raw.get("tags"))
        common = {
            "regions": regions,
            "prefix": self.prefix(raw.get("prefix", "")),
            "tags": tags,
            "role": raw.get("role"),
            "rollback_alarms": raw.get("rollback_alarms"),
            "rollback_minutes": raw.get("rollback_minutes"),
        }
        stacks = {
            str(name): self.stack(str(name), settings, common)
            for name, settings in self.mapping("stacks", raw.get("stacks"), None).items()
        }
        if not stacks:
            raise self.fail(
                "stacks", "an environment without stacks", "Name at least one template under it."
            )
        endpoint = self.text("endpoint", raw.get("endpoint"))
        if endpoint not in (None, EMBEDDED) and not _is_url(endpoint or ""):
            raise self.fail("endpoint", f"{endpoint!r} is neither 'embedded' nor an http(s) URL")
        environment = Environment(
            name=self.path.stem,
            path=self.path,
            regions=regions,
            stacks=stacks,
            tags=tags,
            endpoint=endpoint,
            account=self.account("account", raw.get("account")),
            profile=self.text("profile", raw.get("profile")),
            prefix=common["prefix"],
            protect=self.boolean("protect", raw.get("protect", False)),
            bucket=self.text("bucket", raw.get("bucket")),
            notifications=self.texts("notifications", raw.get("notifications")),
            stack_set=self.stack_set(raw["stack_set"])
            if raw.get("stack_set") is not None
            else None,
        )
        if environment.stack_set:
            self.check_stack_set(
                {"": raw, **{f"stacks.{name}.": one or {} for name, one in raw["stacks"].items()}}
            )
        self.check_references(environment)
        return environment

    def stack(self, name: str, raw: Any, common: dict[str, Any]) -> StackSettings:
        key = f"stacks.{name}"
        raw = self.mapping(key, raw, _STACK_KEYS)
        stack_name = common["prefix"] + name
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,127}", stack_name):
            raise self.fail(
                key,
                f"{stack_name!r} is no stack name: letters, digits and hyphens, a letter first, 128 at most",
            )
        regions = (
            self.regions(f"{key}.regions", raw["regions"])
            if "regions" in raw
            else common["regions"]
        )
        return StackSettings(
            name=name,
            stack_name=stack_name,
            template=self.text(f"{key}.template", raw.get("template")) or name,
            regions=regions,
            tags={**common["tags"], **self.tags(f"{key}.tags", raw.get("tags"))},
            policy=self.policy(f"{key}.policy", raw.get("policy")),
            role=self.role(f"{key}.role", raw.get("role", common["role"])),
            rollback_alarms=self.texts(
                f"{key}.rollback_alarms", raw.get("rollback_alarms", common["rollback_alarms"])
            ),
            rollback_minutes=self.number(
                f"{key}.rollback_minutes",
                raw.get("rollback_minutes", common["rollback_minutes"]) or 0,
                0,
                180,
            ),
            parameters={
                str(parameter): self.value(f"{key}.parameters.{parameter}", value, regions)
                for parameter, value in self.mapping(
                    f"{key}.parameters", raw.get("parameters"), None
                ).items()
            },
        )

    def stack_set(self, raw: Any) -> StackSet:
        raw = self.mapping("stack_set", raw, _STACK_SET_KEYS)
        permissions = raw.get("permissions", "SERVICE_MANAGED")
        if permissions not in ("SERVICE_MANAGED", "SELF_MANAGED"):
            raise self.fail(
                "stack_set.permissions",
                f"{_written(permissions)} is neither SERVICE_MANAGED nor SELF_MANAGED",
            )
        listed = self.items("stack_set.accounts", raw.get("accounts"))
        accounts = tuple(self.account("stack_set.accounts", one) or "" for one in listed)
        units = self.texts("stack_set.organizational_units", raw.get("organizational_units"))
        if permissions == "SELF_MANAGED" and (units or not accounts):
            raise self.fail("stack_set", "SELF_MANAGED takes accounts, and no organizational_units")
        if permissions == "SERVICE_MANAGED" and not units:
            raise self.fail(
                "stack_set",
                "SERVICE_MANAGED needs organizational_units (accounts only narrow them down)",
            )
        return StackSet(
            permissions=permissions,
            accounts=accounts,
            organizational_units=units,
            concurrency=self.number("stack_set.concurrency", raw.get("concurrency", 1), 1, 10_000),
            failure_tolerance=self.number(
                "stack_set.failure_tolerance", raw.get("failure_tolerance", 0), 0, 10_000
            ),
            auto_deployment=self.boolean(
                "stack_set.auto_deployment", raw.get("auto_deployment", False)
            ),
            administration_role=self.text(
                "stack_set.administration_role", raw.get("administration_role")
            ),
            execution_role=self.text("stack_set.execution_role", raw.get("execution_role")),
        )

    def check_stack_set(self, places: dict[str, dict[str, Any]]) -> None:
        for place, raw in places.items():
            if given := next((one for one in _NOT_OF_STACK_SETS if raw.get(one) is not None), None):
                raise self.fail(
                    f"{place}{given}", "stack sets know nothing like it", "Leave it out."
                )

    def check_references(self, environment: Environment) -> None:
        for stack in environment.stacks.values():
            for region in stack.regions:
                for parameter, value in stack.values(region).items():
                    if not isinstance(value, OutputReference):
                        continue
                    key = f"stacks.{stack.name}.parameters.{parameter}"
                    source = environment.stacks.get(value.stack)
                    if source is None or source is stack:
                        known = [one for one in environment.stacks if one != stack.name]
                        raise self.fail(
                            key,
                            f"{value}: there is no other stack {value.stack!r} in this environment"
                            + nearest(value.stack, known),
                        )
                    if (value.region or region) not in source.regions:
                        raise self.fail(
                            key,
                            f"{value}: {value.stack} is not deployed in {value.region or region}",
                            f"It is in: {', '.join(source.regions)}. Write {value}@region.",
                        )

    # --- single values ---------------------------------------------------------------------

    def mapping(self, key: str, raw: Any, known: tuple[str, ...] | None) -> dict[str, Any]:
        if raw is None:
            return {}
        if not isinstance(raw, dict):
            raise self.fail(key, "a mapping (key: value) belongs here")
        for one in raw:
            if isinstance(one, bool) or not isinstance(
                one, str | int | float
            ):  # true: is such, too
                raise self.fail(key, f"the key {_written(one)} is not text; put it in quotes")
            if known is not None and one not in known:
                place = f"{key}.{one}" if key else str(one)
                raise self.fail(
                    place,
                    f"unknown key{nearest(str(one), known)}",
                    f"Known here: {', '.join(known)}.",
                )
        return raw

    def text(self, key: str, raw: Any) -> str | None:
        if raw is None or raw == "":
            return None
        if not isinstance(raw, str):
            raise self.fail(key, f"{_written(raw)} is not text; put it in quotes")
        return raw

    def items(self, key: str, raw: Any) -> list[Any]:
        if raw is not None and not isinstance(raw, list):
            raise self.fail(key, "a list belongs here")
        if None in (raw or ()):
            raise self.fail(key, "an entry without a value")
        return raw or []

    def texts(self, key: str, raw: Any) -> tuple[str, ...]:
        return tuple(self.text(key, one) or "" for one in self.items(key, raw))

    def policy(self, key: str, raw: Any) -> dict[str, Any] | None:
        """Source: AWS CloudFormation User Guide, 'Prevent updates to stack resources'."""
        if raw is None:
            return None
        if "Statement" not in self.mapping(key, raw, None):
            raise self.fail(key, "a stack policy has a Statement")

        def refuse(one: Any) -> Any:
            raise self.fail(key, f"a stack policy is JSON, which has no place for {_written(one)}")

        try:
            found: dict[str, Any] = json.loads(json.dumps(raw, default=refuse))
        except (
            TypeError,
            ValueError,
            RecursionError,
        ):  # a key that is no text, an alias that holds itself
            raise self.fail(
                key, "a stack policy is JSON, and this cannot be written as such"
            ) from None
        return found

    def role(self, key: str, raw: Any) -> str | None:
        role = self.text(key, raw)
        if role is not None and not re.fullmatch(r"arn:[a-z-]+:iam::[0-9]{12}:role/\S+", role):
            raise self.fail(
                key,
                f"{role!r} is not the ARN of a role",
                "Write arn:aws:iam::<account>:role/<name>.",
            )
        return role

    def boolean(self, key: str, raw: Any) -> bool:
        if not isinstance(raw, bool):
            raise self.fail(key, f"{_written(raw)} is neither true nor false")
        return raw

    def number(self, key: str, raw: Any, least: int, most: int) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
            raise self.fail(key, f"{_written(raw)} is not a whole number from {least} to {most}")
        return raw

    def account(self, key: str, raw: Any) -> str | None:
        if raw is None:
            return None
        if isinstance(
            raw, int | _Misread
        ):  # YAML reads 012345670123 as an octal number: the id would be another one
            raise self.fail(
                key,
                "an account id without quotes is a number to YAML and may lose its zeros",
                "Put it in quotes.",
            )
        if not re.fullmatch(r"[0-9]{12}", str(raw)):
            raise self.fail(key, f"{_written(raw)} is not an account id of 12 digits")
        return str(raw)

    def prefix(self, raw: Any) -> str:
        prefix = self.text("prefix", raw) or ""
        if prefix and not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", prefix):
            raise self.fail(
                "prefix",
                f"{prefix!r} cannot start a stack name: letters, digits and hyphens, a letter first",
            )
        return prefix

    def regions(self, key: str, raw: Any) -> tuple[str, ...]:
        regions = self.texts(key, raw)
        if not regions:
            raise self.fail(key, "at least one region is needed")
        for region in regions:
            if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-[0-9]", region):
                raise self.fail(key, f"{region!r} is not the name of a region (us-east-1, say)")
            if regions.count(region) > 1:
                raise self.fail(key, f"{region} stands here twice")
        return regions

    def tags(self, key: str, raw: Any) -> dict[str, str]:
        tags = {
            str(one): self.scalar(f"{key}.{one}", value)
            for one, value in self.mapping(key, raw, None).items()
        }
        for one, value in tags.items():  # Source: API reference of Tag
            if one.lower().startswith("aws:"):
                raise self.fail(f"{key}.{one}", "tags that start with 'aws:' are AWS's own")
            if not 1 <= len(one) <= 128 or not 1 <= len(value) <= 256:
                raise self.fail(
                    f"{key}.{one}",
                    "a tag has a name of 1 to 128 characters and a value of 1 to 256",
                )
        return tags

    def value(self, key: str, raw: Any, regions: tuple[str, ...]) -> Value | dict[str, Value]:
        if not isinstance(raw, dict):
            return self.single(key, raw)
        if missing := [region for region in regions if region not in raw]:
            raise self.fail(key, f"a value per region, but none for {', '.join(missing)}")
        if unknown := [str(one) for one in raw if one not in regions]:
            raise self.fail(
                key, f"a value per region, but the stack is not in {', '.join(unknown)}"
            )
        return {region: self.single(f"{key}.{region}", raw[region]) for region in regions}

    def single(self, key: str, raw: Any) -> Value:
        if isinstance(raw, OutputReference):
            return raw
        if isinstance(raw, list):
            items = [self.scalar(key, one) for one in raw]
            if divided := next((one for one in items if "," in one), None):
                raise self.fail(
                    key,
                    f"{divided!r} holds a comma: CloudFormation would take it for several items",
                    "Give each an entry of its own, if it is several.",
                )
            return ",".join(items)
        return self.scalar(key, raw)

    def scalar(self, key: str, raw: Any) -> str:
        if isinstance(raw, _Misread):
            raise self.fail(
                key,
                f"{raw} is a number to YAML, and another one than it looks like",
                "Put it in quotes.",
            )
        if isinstance(raw, str | int | float):
            return documents.text_of(raw)
        raise self.fail(
            key,
            f"{_written(raw)} is no value for CloudFormation: text, a number, true or false, or a list of them",
        )
