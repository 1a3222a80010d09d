"""Which buses a sending is for, and that they exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from eventstacks.bus.codes import GONE, Ignoring
from eventstacks.cloudformation import outputs
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef

OUTPUT = "EventBusName"


class BusError(ToolError):
    """A bus that is not there, or cannot be found."""


def parse(name: str) -> tuple[str, str | None]:
    """A name or an ARN as it was given, and the region of an ARN. Raises BusError for what is neither.

    Source: EventBridge API reference, DescribeEventBus, Name: letters, digits and ``/._-``, or an ARN.
    """
    found = re.fullmatch(
        r"(?:arn:[\w-]+:events:([a-z][a-z0-9-]+):\d{12}:event-bus/)?[/.\-\w]{1,1600}",
        name,
        re.ASCII,
    )
    if not found:
        raise BusError(
            f"{name!r} is no bus",
            where="--bus",
            advice="Give a name, or an ARN: arn:aws:events:REGION:ACCOUNT:event-bus/NAME.",
        )
    return name, found[1]


def name_of(bus: str) -> str:
    """The name of a bus given by name or ARN; that of a partner's bus has slashes in it."""
    return bus.rpartition(":event-bus/")[2]


def check(client: Any, bus: str) -> None:
    """Raises BusError when there is no such bus.

    PutEvents itself does not tell: it answers 200 for a bus that does not exist, and the event is gone.
    """
    with Ignoring(GONE):
        client.describe_event_bus(Name=bus)
        return
    raise BusError(
        f"there is no event bus {bus!r}",
        where=f"region {client.meta.region_name}",
        advice="Deploy its stack first, or give the right name with --bus.",
    )


def of_stack(aws: Aws, ref: StackRef) -> str:
    """The bus of a deployed stack: its output EventBusName. Raises BusError, or NotDeployedError: not deployed."""
    found = outputs.read(aws, ref)
    if OUTPUT not in found:
        raise BusError(
            f"the stack has no output {OUTPUT}",
            where=str(ref),
            advice="Name a stack with a bus (--stack), or the bus itself (--bus).",
        )
    return found[OUTPUT]
