"""The outputs of deployed stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstacks.aws import Clock
from eventstacks.cloudformation import states
from eventstacks.cloudformation.stack import StackClient
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef


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
    """Return the outputs of a deployed stack, by key. Raises NotDeployedError."""
    description = StackClient(ref, aws.client("cloudformation", ref.region), Clock()).describe()
    if not description or description["StackStatus"] in (states.IN_REVIEW, states.DELETED):
        raise NotDeployedError("the stack is not deployed", ref)
    return of(description)
