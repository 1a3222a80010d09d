"""What an environment is: which stacks go where, with which values."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

EMBEDDED = "embedded"


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

    def choose(
        self, stack: str | None = None, region: str | None = None
    ) -> list[tuple[StackSettings, str]]:
        """The (stack, region) pairs that a command is for. Raises EnvironmentFileError when nothing is left."""
        if stack is not None and stack not in self.stacks:
            raise EnvironmentFileError(
                f"there is no stack {stack!r} in this environment{nearest(stack, self.stacks)}",
                where=f"{self.path}: stacks",
                advice=f"It has: {', '.join(self.stacks)}. Another template gets an entry of its own there.",
            )
        wanted = [self.stacks[stack]] if stack else list(self.stacks.values())
        pairs = [(one, where) for one in wanted for where in one.regions if region in (None, where)]
        if not pairs:
            known = sorted({where for one in wanted for where in one.regions})
            raise EnvironmentFileError(
                f"nothing here is for the region {region!r}",
                where=f"{self.path}: regions",
                advice=f"The regions are: {', '.join(known) or 'none'}.",
            )
        return pairs

    def prefixed(self, prefix: str) -> Environment:
        """A second copy of everything, each stack's name beginning with ``prefix``; unprotected: it can be deleted."""
        stacks = {
            name: replace(one, stack_name=prefix + one.stack_name)
            for name, one in self.stacks.items()
        }
        return replace(self, prefix=prefix + self.prefix, stacks=stacks, protect=False)


def nearest(name: str, known: Iterable[str]) -> str:
    """What a misspelt name was probably meant to be, as the end of a sentence, or ''."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
