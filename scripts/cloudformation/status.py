"""What is deployed where, and in what state."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scripts.cloudformation import calls, events, failure, schedule
from scripts.cloudformation.place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from scripts.aws import Aws
    from scripts.cloudformation.order import Key, Pair
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
    aws.guard()
    clock = calls.Clock()
    places = {place.key: place for place in (Place.of(environment, pair) for pair in pairs)}

    def job(key: Key) -> Status:
        place = places[key]
        stack = calls.find_stack(aws.client("cloudformation", place.region), place.stack_name, clock=clock)
        if stack is None:
            return Status(place, "NOT_DEPLOYED")
        drift = (stack.get("DriftInformation") or {}).get("StackDriftStatus", "")
        status = stack["StackStatus"]
        return Status(
            place, status, stack.get("LastUpdatedTime") or stack["CreationTime"], "" if drift == "NOT_CHECKED" else drift,
            bool(stack.get("EnableTerminationProtection")), "" if status in events.GOOD_ENDS else failure.advice(status, place),
        )  # fmt: skip

    found = schedule.run({key: set() for key in places}, job, threads=16, clock=clock)
    return [found[key] for key in places]
