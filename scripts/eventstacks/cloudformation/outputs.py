"""The outputs of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstacks.aws import Clock
from eventstacks.cloudformation.stack import Remote
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef


class NoStackError(ToolError):
    """A stack, or an output of it, that is asked for and is not there."""

    def __init__(self, what: str, ref: StackRef) -> None:
        super().__init__(what, where=str(ref), advice=ref.command("deploy"))


def of(stack: Mapping[str, Any]) -> dict[str, str]:
    """The outputs in an answer of DescribeStacks, by key."""
    return {one["OutputKey"]: one.get("OutputValue", "") for one in stack.get("Outputs") or ()}


def read(aws: Aws, ref: StackRef) -> dict[str, str]:
    """The outputs of a deployed stack, by key. Raises NoStackError when it is not there."""
    stack = Remote(ref, aws.client("cloudformation", ref.region), Clock()).stack()
    if stack is None or stack["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE"):
        raise NoStackError("this stack is not deployed", ref)
    return of(stack)
