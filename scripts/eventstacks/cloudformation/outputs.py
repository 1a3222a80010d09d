"""What stacks use of each other.

Outputs, parameter values, and the order that follows from them.
"""

import contextlib
import functools
import graphlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from eventstacks.aws import AWS_ERRORS, Aws, Clock, error_code, error_message
from eventstacks.cloudformation import failure
from eventstacks.cloudformation.stack import DELETED, IN_REVIEW, StackClient
from eventstacks.environment import Environment, Source, StackRef, Value
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow.resolve import Stack
from eventstacks.rendering import RenderedTemplate


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
    if not description or description["StackStatus"] in (IN_REVIEW, DELETED):
        raise NotDeployedError("the stack is not deployed", ref)
    return of(description)


class Values:
    """The outputs of other stacks, each stack read once. Threads can share it."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self.known: dict[StackRef, dict[str, str]] = {}

    def output(self, ref: StackRef, name: str) -> str:
        """Return one output. Raises NotDeployedError if the stack or the output does not exist."""
        if ref not in self.known:
            self.known[ref] = read(self._aws, ref)
        if name not in self.known[ref]:
            raise NotDeployedError(f"the deployed stack has no output {name!r} yet", ref)
        return self.known[ref][name]

    def resolve(self, ref: StackRef) -> dict[str, str | None]:
        """Return parameter → value, all references replaced; None for !Previous.

        Raises NotDeployedError, and ToolError for an environment variable that is not set.
        """
        taken = self._aws.environment.references(ref)
        return {
            name: self.output(*taken[name]) if name in taken else self._look_up(ref, name, value)
            for name, value in ref.values().items()
        }

    def _look_up(self, ref: StackRef, name: str, value: Value) -> str | None:
        if not isinstance(value, Source):
            return str(value)
        if value.kind == "Previous":
            return None
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
                f"cannot read {name} from Parameter Store: "
                f"{error_message(error) or error_code(error)}",
                code=ErrorCode.NOT_FOUND,
                where=f"Region {region}",
            ) from None
        return str(answer["Parameter"]["Value"])


# --- order --------------------------------------------------------------------------------------


Uses = dict[StackRef, set[tuple[StackRef, str]]]  # stack → (stack, output) that it needs


def uses(environment: Environment, templates: Mapping[str, RenderedTemplate] | None = None) -> Uses:
    """Return the outputs that each stack uses, by ``!Output`` or, with ``templates``, by import.

    Fn::ImportValue counts as far as the names of exports can be resolved.
    """
    found = {ref: set(environment.references(ref).values()) for ref in environment.choose()}
    if templates is None:
        return found
    stacks = {}
    for ref in found:
        with contextlib.suppress(ToolError):  # a broken template matters only if it is deployed
            stacks[ref] = Stack(
                templates[ref.settings.template].document,
                {key: one for key, one in ref.values().items() if isinstance(one, str)},
                name=ref.stack_name,
                region=ref.region,
            )
    exporters = {
        (ref.region, str(stack.resolve(output["Export"].get("Name")))): (ref, name)
        for ref, stack in stacks.items()
        for name, output in (stack.template.get("Outputs") or {}).items()
        if isinstance(output, dict) and isinstance(output.get("Export"), dict)
    }
    for ref, stack in stacks.items():
        for argument in _imported(stack.template):
            exporter = exporters.get((ref.region, str(stack.resolve(argument))))
            if exporter and exporter[0] != ref:
                found[ref].add(exporter)
    return found


def _imported(node: Any) -> Iterator[Any]:
    """Yield the arguments of Fn::ImportValue in a template."""
    if isinstance(node, dict):
        if "Fn::ImportValue" in node:
            yield node["Fn::ImportValue"]
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from _imported(one)


def predecessors(
    environment: Environment, refs: Iterable[StackRef], used: Uses
) -> dict[StackRef, set[StackRef]]:
    """Return for each stack those of ``refs`` that come before it; ``used``: from ``uses``.

    A dependency through a stack that is not among ``refs`` counts, too. Raises ToolError for a
    circular dependency.
    """
    direct = {
        ref: environment.dependencies(ref) | {giver for giver, _ in outputs}
        for ref, outputs in used.items()
    }
    before: dict[StackRef, set[StackRef]] = {}
    try:
        for ref in graphlib.TopologicalSorter(direct).static_order():
            givers = direct.get(ref, set())
            before[ref] = givers.union(*(before.get(one, set()) for one in givers))
    except graphlib.CycleError as error:
        circle = " → ".join(f"{ref.stack} ({ref.region})" for ref in reversed(error.args[1]))
        raise ToolError(
            f"circular dependency: {circle}",
            code=ErrorCode.ENVIRONMENT_INVALID,
            where=f"{environment.path}: stacks",
        ) from None
    wanted = set(refs)
    return {ref: before[ref] & wanted for ref in wanted}
