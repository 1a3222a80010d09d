"""What is deployed where, and in what state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scripts.cloudformation import calls, events, failure, schedule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from scripts.aws import Aws
    from scripts.cloudformation.order import Pair
    from scripts.cloudformation.place import Place
    from scripts.environment import Environment


@dataclass(frozen=True)
class Status:
    """One stack in one region. ``status`` is CloudFormation's, or NOT_DEPLOYED."""

    place: Place
    status: str
    changed: datetime | None = None
    drift: str = ""  # DRIFTED, IN_SYNC, or '' when nobody has looked
    protected: bool = False
    advice: str = ""  # '' when all is well

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        found = asdict(self)
        return {**found.pop("place"), **found}


def read(aws: Aws, environment: Environment, pairs: Sequence[Pair]) -> list[Status]:
    """One DescribeStacks per pair, in their order. Raises aws.AccountError, ClientError."""
    if environment.stack_set:
        from scripts.cloudformation.stack_set import Sets  # it stands on this module

        return Sets(aws, environment, pairs).status()
    clock = calls.Clock()

    def job(place: Place, client: Any) -> Status:
        stack = calls.find_stack(client, place.stack_name, clock=clock)
        if stack is None:
            return Status(place, "NOT_DEPLOYED")
        drift = (stack.get("DriftInformation") or {}).get("StackDriftStatus", "")
        status, changed = stack["StackStatus"], stack.get("LastUpdatedTime") or stack["CreationTime"]
        advice = "" if status in events.GOOD_ENDS else failure.advice(status, place)
        protected = bool(stack.get("EnableTerminationProtection"))
        return Status(place, status, changed, "" if drift == "NOT_CHECKED" else drift, protected, advice)

    return schedule.everywhere(aws, pairs, job, clock=clock)
