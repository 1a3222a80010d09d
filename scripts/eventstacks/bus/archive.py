"""Archives of event buses, and replays of them."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.aws import RETRY_LONG, Clock, call
from eventstacks.bus.stacks import bus_name
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from eventstacks.aws import Aws
    from eventstacks.bus.stacks import Deployed

FINAL_STATES = ("COMPLETED", "CANCELLED", "FAILED")
POLL_SECONDS = 2.0
# Seconds until an event is in the archive. Source: EventBridge User Guide, 'Archiving events'.
ARCHIVE_DELAY = 600


@dataclass(frozen=True)
class Archive:
    """An archive. Its counts lag by up to 24 hours (EventBridge User Guide).

    ``bus`` is an ARN, ``size`` is in bytes, ``retention`` in days (0: unlimited).
    """

    region: str
    name: str
    arn: str
    bus: str
    state: str
    events: int
    size: int
    retention: int


def find(aws: Aws, stacks: Sequence[Deployed], name: str | None = None) -> list[Archive]:
    """Return the archives of stacks, or those of that name or logical id. Raises ToolError."""
    archives = []
    for stack in stacks:
        events = aws.client("events", stack.ref.region)
        for logical, physical in stack.of_type("AWS::Events::Archive").items():
            if name in (None, logical, physical):
                answer = events.describe_archive(ArchiveName=physical)
                archives.append(
                    Archive(
                        stack.ref.region,
                        physical,
                        answer["ArchiveArn"],
                        answer["EventSourceArn"],
                        answer["State"],
                        answer.get("EventCount", 0),
                        answer.get("SizeBytes", 0),
                        answer.get("RetentionDays", 0),
                    )
                )
    if not archives:
        raise ToolError(
            f"these stacks have no archive {name or ''}".rstrip(), code=ErrorCode.NOT_FOUND
        )
    return archives


def find_rules(
    aws: Aws, archive: Archive, names: Sequence[str], stacks: Sequence[Deployed]
) -> list[str]:
    """Return the ARNs of rules of the archive's bus, by name, ARN or logical id. Raises ToolError."""
    bus = bus_name(archive.bus)
    pages = aws.client("events", archive.region).get_paginator("list_rules")
    arns = {
        rule["Name"]: rule["Arn"]
        for page in pages.paginate(EventBusName=bus)
        for rule in page["Rules"]
        if not rule.get("ManagedBy")
    }
    known = {**arns, **{arn: arn for arn in arns.values()}}
    for stack in stacks:
        for logical, (bus_of_rule, name) in stack.rules.items():
            if (stack.ref.region, bus_of_rule) == (archive.region, bus) and name in arns:
                known[logical] = arns[name]
    for name in names:
        if name not in known:
            raise ToolError(
                f"event bus {bus} has no rule {name!r}",
                code=ErrorCode.NOT_FOUND,
                where=archive.region,
                advice=f"Its rules: {', '.join(arns) or 'none'}.",
            )
    return [known[name] for name in names]


def start(
    aws: Aws, archive: Archive, since: datetime, until: datetime, rules: Sequence[str]
) -> str:
    """Start a replay to the archive's bus, to the rules with these ARNs or to all; return its name."""
    name = f"{archive.name[:43]}-{until:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}"
    aws.client("events", archive.region).start_replay(
        ReplayName=name,
        EventSourceArn=archive.arn,
        EventStartTime=since,
        EventEndTime=until,
        Destination={"Arn": archive.bus, **({"FilterArns": list(rules)} if rules else {})},
    )
    return name


def cancel(aws: Aws, archives: Sequence[Archive], name: str) -> str:
    """Cancel a replay in the Regions of archives; return its state. Raises ToolError for none."""
    for archive in archives:
        events = aws.client("events", archive.region)
        replays = events.list_replays(NamePrefix=name)["Replays"]
        if any(replay["ReplayName"] == name for replay in replays):
            return str(events.cancel_replay(ReplayName=name)["State"])
    raise ToolError(
        f"no replay {name!r} in the Regions of these archives", code=ErrorCode.NOT_FOUND
    )


def follow(
    aws: Aws,
    replays: Sequence[tuple[Archive, str]],
    window: tuple[datetime, datetime],
    clock: Clock,
) -> Iterator[dict[str, Any]]:
    """Yield the progress of replays (archive, name) of a time window until all have ended.

    ``share`` is the replayed part of the window, 0 to 1.
    """
    running, (since, until) = list(replays), window
    while running:
        for archive, name in tuple(running):
            describe = aws.client("events", archive.region).describe_replay
            answer = call(describe, clock=clock, retry_for=RETRY_LONG, ReplayName=name)
            state, last = answer["State"], answer.get("EventLastReplayedTime") or since
            share = min(1.0, max(0.0, (last - since) / (until - since)))
            share = 1.0 if state == "COMPLETED" else share
            names = {"replay": name, "archive": archive.name, "region": archive.region}
            reason = answer.get("StateReason")
            yield {**names, "state": state, "share": share, "reason": reason}
            if state in FINAL_STATES:
                running.remove((archive, name))
        if running:
            clock.sleep(POLL_SECONDS)


def is_recent(until: datetime) -> bool:
    """Return True if events from before ``until`` may not be in the archive yet."""
    return time.time() - until.timestamp() < ARCHIVE_DELAY
