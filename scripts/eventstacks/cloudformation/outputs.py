"""Outputs of deployed stacks, and parameter values: from the file, outputs and other sources."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from eventstacks.aws import AWS_ERRORS, Aws, Clock, error_code, error_message
from eventstacks.cloudformation import failure, states
from eventstacks.cloudformation.stack import StackClient
from eventstacks.environment import Source, StackRef, Value
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping


class NotDeployedError(ToolError):
    """A stack, or an output of it, that is needed and does not exist."""

    default_code = ErrorCode.STACK_NOT_DEPLOYED

    def __init__(self, what: str, ref: StackRef) -> None:
        super().__init__(what, where=str(ref), advice=f"Deploy it: {ref.command('deploy')}")


def of(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the outputs in an answer of DescribeStacks, by key."""
    listed = description.get("Outputs") or ()
    return {one["OutputKey"]: one.get("OutputValue", "") for one in listed}


def read(aws: Aws, ref: StackRef) -> dict[str, str]:
    """Return the outputs of a deployed stack, by key. Raises NotDeployedError, DeploymentError."""
    try:
        description = StackClient(ref, aws.client("cloudformation", ref.region), Clock()).describe()
    except AWS_ERRORS as error:
        raise failure.wrap(error, ref) from None
    if not description or description["StackStatus"] in (states.IN_REVIEW, states.DELETED):
        raise NotDeployedError("the stack is not deployed", ref)
    return of(description)


class _Previous(str):
    """The value that a stack has now: sent as UsePreviousValue, compared and shown as nothing."""

    __slots__ = ()


PREVIOUS = _Previous()


def parameter_arguments(
    values: Mapping[str, str], held: Mapping[str, Any], where: str
) -> list[dict[str, Any]]:
    """Return ``Parameters`` as CloudFormation takes them; ``held``: the stack as DescribeStacks has it.

    Raises ToolError for !Previous where the stack has no such parameter yet: CloudFormation refuses it.
    """
    known = {one["ParameterKey"] for one in held.get("Parameters") or ()}
    if lacking := [
        name for name, value in values.items() if value is PREVIOUS and name not in known
    ]:
        raise ToolError(
            f"!Previous: the stack has no value for {', '.join(lacking)} yet",
            code=ErrorCode.PARAMETER_INVALID,
            where=where,
            advice="Deploy it with a value once, such as !Env NAME.",
        )
    return [
        {"ParameterKey": name, "UsePreviousValue": True}
        if value is PREVIOUS
        else {"ParameterKey": name, "ParameterValue": value}
        for name, value in values.items()
    ]


class Values:
    """The outputs of other stacks, each stack read once. Threads can share it."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._known: dict[StackRef, dict[str, str]] = {}

    def set(self, ref: StackRef, found: dict[str, str]) -> None:
        """Remember a stack's outputs after an operation."""
        self._known[ref] = found

    def output(self, ref: StackRef, name: str) -> str:
        """Return one output. Raises NotDeployedError if the stack or the output does not exist."""
        found = self._known.get(ref)
        if found is None:
            found = read(self._aws, ref)
            self.set(ref, found)
        if name not in found:
            raise NotDeployedError(f"the deployed stack has no output {name!r} yet", ref)
        return found[name]

    def resolve(self, ref: StackRef) -> dict[str, str]:
        """Return parameter → value, all references replaced; ``PREVIOUS`` for !Previous.

        Raises NotDeployedError, and ToolError for an environment variable that is not set.
        """
        taken = self._aws.environment.references(ref)
        return {
            name: self.output(*taken[name]) if name in taken else self._look_up(ref, name, value)
            for name, value in ref.values().items()
        }

    def _look_up(self, ref: StackRef, name: str, value: Value) -> str:
        if not isinstance(value, Source):
            return str(value)
        if value.kind == "Previous":
            return PREVIOUS
        if value.kind == "Ssm":
            return self._parameter(ref.region, value.name)
        if value.name in os.environ:
            return os.environ[value.name]
        raise ToolError(
            f"the environment variable {value.name} is not set",
            code=ErrorCode.NOT_FOUND,
            where=f"{self._aws.environment.path}: stacks.{ref.stack}.parameters.{name}",
            advice=f"Set it: export {value.name}=…",
        )

    @functools.cache  # noqa: B019 - as long as a run
    def _parameter(self, region: str, name: str) -> str:
        ssm = self._aws.client("ssm", region)
        try:
            answer = ssm.get_parameter(Name=name, WithDecryption=True)
        except AWS_ERRORS as error:
            raise ToolError(
                f"cannot read {name} from Parameter Store: {error_message(error) or error_code(error)}",
                code=ErrorCode.NOT_FOUND,
                where=f"Region {region}",
            ) from None
        return str(answer["Parameter"]["Value"])
