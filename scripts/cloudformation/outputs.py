"""The outputs of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.cloudformation import calls
from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripts.aws import Aws


class NoStackError(ToolError):
    """A stack that is asked for and is not there."""


def of(stack: Mapping[str, Any]) -> dict[str, str]:
    """The outputs in an answer of DescribeStacks, by key."""
    return {one["OutputKey"]: one.get("OutputValue", "") for one in stack.get("Outputs") or ()}


def read(aws: Aws, stack_name: str, region: str) -> dict[str, str]:
    """The outputs of a deployed stack, by key. Raises NoStackError when it is not there."""
    stack = calls.find_stack(aws.client("cloudformation", region), stack_name, clock=calls.Clock())
    if stack is None or stack["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE"):
        environment = aws.environment
        name = next((one.name for one in environment.stacks.values() if one.stack_name == stack_name), "")
        raise NoStackError(
            "this stack is not deployed", where=f"{stack_name} in {region}",
            advice=f"make deploy ENV={environment.name}" + (f" STACK={name} REGION={region}" if name else ""),
        )  # fmt: skip
    return of(stack)
