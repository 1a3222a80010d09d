"""Archives of event buses, and replays of them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from eventstacks.aws import RETRY_LONG, Clock, call
from eventstacks.bus.stacks import bus_name
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from eventstacks.aws import Aws
    from eventstacks.bus.stacks import Deployed

FINAL_STATES = ("COMPLETED", "CANCELLED", "FAILED")
POLL_SECONDS = 2.0


def find(aws: Aws, stacks: Sequence[Deployed]) -> list[dict[str, Any]]:
    """Return the archives of stacks. Raises ToolError if there are none.

    ``bus`` is an ARN, ``size`` is in bytes, ``retention`` in days (0: unlimited). The counts lag by
    up to 24 hours (EventBridge User Guide).
    """
    archives = []
    for stack in stacks:
        events = aws.client("events", stack.ref.region)
        for name in stack.of_type("AWS::Events::Archive").values():
            answer = events.describe_archive(ArchiveName=name)
            archives.append(
                {
                    "region": stack.ref.region,
                    "name": name,
                    "arn": answer["ArchiveArn"],
                    "bus": answer["EventSourceArn"],
                    "state": answer["State"],
                    "events": answer.get("EventCount", 0),
                    "size": answer.get("SizeBytes", 0),
                    "retention": answer.get("RetentionDays", 0),
                }
            )
    if not archives:
        raise ToolError("these stacks have no archive", code=ErrorCode.NOT_FOUND)
    return archives


def find_rules(
    aws: Aws, archive: Mapping[str, Any], names: Sequence[str], stacks: Sequence[Deployed]
) -> list[str]:
    """Return the ARNs of rules of the archive's bus, by name or logical id.

    Raises ClientError (ResourceNotFoundException) for a rule that the bus does not have.
    """
    region, bus = archive["region"], bus_name(archive["bus"])
    by_logical_id = {
        logical: name
        for stack in stacks
        for logical, (bus_of_rule, name) in stack.rules.items()
        if (stack.ref.region, bus_of_rule) == (region, bus)
    }
    describe = aws.client("events", region).describe_rule
    names = [by_logical_id.get(name, name) for name in names]
    return [describe(Name=name, EventBusName=bus)["Arn"] for name in names]


def start(
    aws: Aws, archive: Mapping[str, Any], since: datetime, until: datetime, rules: Sequence[str]
) -> str:
    """Start a replay to the archive's bus, to the rules with these ARNs or to all.

    Return its name.
    """
    name = f"{archive['name'][:43]}-{until:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}"
    aws.client("events", archive["region"]).start_replay(
        ReplayName=name,
        EventSourceArn=archive["arn"],
        EventStartTime=since,
        EventEndTime=until,
        Destination={"Arn": archive["bus"], **({"FilterArns": list(rules)} if rules else {})},
    )
    return name


def wait(aws: Aws, region: str, name: str, clock: Clock) -> dict[str, Any]:
    """Return the state of a replay, and its reason, when it has ended."""
    describe = aws.client("events", region).describe_replay
    while True:
        answer = call(describe, clock=clock, retry_for=RETRY_LONG, ReplayName=name)
        state, reason = answer["State"], answer.get("StateReason")
        if state in FINAL_STATES:
            return {"replay": name, "region": region, "state": state, "reason": reason}
        clock.sleep(POLL_SECONDS)
