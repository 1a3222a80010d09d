"""What is deployed where, and in what state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.aws import Clock
from eventstacks.cloudformation import events, failure, schedule, stack_set, stack_sets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eventstacks.aws import Aws
    from eventstacks.cloudformation.stack import Remote
    from eventstacks.environment import StackRef


@dataclass(frozen=True)
class Status:
    """One stack in one region. ``status`` is CloudFormation's, or NOT_DEPLOYED."""

    ref: StackRef
    status: str
    changed: datetime | None = None
    drift: str = ""  # DRIFTED, IN_SYNC, or '' when nobody has looked
    protected: bool = False
    advice: str = ""  # '' when all is well

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return self.ref.document() | {
            name: value for name, value in vars(self).items() if name != "ref"
        }


def read(aws: Aws, refs: Sequence[StackRef]) -> list[Status]:
    """One DescribeStacks per ref, in their order. Raises aws.AccountError, ClientError."""
    if aws.environment.stack_set:
        found = stack_sets.count(aws, refs, Clock())
        return [
            Status(
                ref,
                ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
                or "NOT_DEPLOYED",
                advice=stack_set.command(ref, "deploy") if counts.keys() - {"CURRENT"} else "",
            )
            for ref, counts in found.items()
        ]
    return schedule.everywhere(aws, refs, _read)


def _read(remote: Remote) -> Status:
    stack = remote.stack()
    if stack is None:
        return Status(remote.ref, "NOT_DEPLOYED")
    status, drift = (
        stack["StackStatus"],
        (stack.get("DriftInformation") or {}).get("StackDriftStatus", ""),
    )
    return Status(
        remote.ref,
        status,
        stack.get("LastUpdatedTime") or stack["CreationTime"],
        drift="" if drift == "NOT_CHECKED" else drift,
        protected=bool(stack.get("EnableTerminationProtection")),
        advice="" if status in events.GOOD_ENDS else failure.advice(status, remote.ref),
    )
