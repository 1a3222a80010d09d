"""Archives of buses, and what is replayed from them."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.aws import RETRY_LONG, Clock, call
from eventstacks.bus import buses, log_groups
from eventstacks.errors import ToolError
from eventstacks.flow import trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from eventstacks.aws import Aws
    from eventstacks.bus.stacks import Deployed
    from eventstacks.flow.graph import Flow

OVER = ("COMPLETED", "CANCELLED", "FAILED")
PAUSE = 2.0


@dataclass(frozen=True)
class Archive:
    """An archive as DescribeArchive gives it. Its counts lag behind by up to a day (EventBridge guide)."""

    region: str
    name: str
    arn: str
    bus: str  # ARN
    state: str
    events: int
    size: int  # bytes
    retention: int  # days; 0 is for ever


@dataclass(frozen=True)
class Progress:
    """How far a replay is; ``share`` of its window from 0 to 1."""

    archive: Archive
    replay: str
    state: str
    share: float
    reason: str = ""


@dataclass(frozen=True)
class Preview:
    """What a replay would do, as far as the log groups of the bus tell.

    ``events`` is None where no rule writes whole events to a log group. ``rules``: the label of each rule, how many
    events it would match, and its targets with their fate as ``flow.trace`` has it.
    """

    archive: Archive
    groups: list[str]
    events: int | None
    rules: list[tuple[str, int, dict[str, str]]]


def of_stacks(aws: Aws, stacks: Sequence[Deployed], name: str | None = None) -> list[Archive]:
    """The archives of stacks, or the one of that name (in each region where it is). Raises ToolError for none."""
    found = []
    for one in stacks:
        for logical, physical in one.of_type("AWS::Events::Archive").items():
            if name in (None, logical, physical):
                told = aws.client("events", one.ref.region).describe_archive(ArchiveName=physical)
                found.append(
                    Archive(
                        one.ref.region,
                        physical,
                        told["ArchiveArn"],
                        told["EventSourceArn"],
                        told["State"],
                        told.get("EventCount", 0),
                        told.get("SizeBytes", 0),
                        told.get("RetentionDays", 0),
                    )
                )
    if not found:
        raise ToolError(
            f"these stacks have no archive {name}" if name else "these stacks have no archive"
        )
    return found


def choose_rules(
    aws: Aws, archive: Archive, names: Sequence[str], stacks: Sequence[Deployed]
) -> list[str]:
    """The ARNs of rules of the archive's bus, given by name, ARN or logical id. Raises ToolError."""
    bus = buses.name_of(archive.bus)
    pages = (
        aws.client("events", archive.region).get_paginator("list_rules").paginate(EventBusName=bus)
    )
    arns = {
        one["Name"]: one["Arn"]
        for page in pages
        for one in page["Rules"]
        if not one.get("ManagedBy")
    }
    known = {**arns, **{arn: arn for arn in arns.values()}}
    for one in stacks:
        if one.ref.region == archive.region:
            known |= {
                key: arns[name]
                for key, (its, name) in one.rules.items()
                if its == bus and name in arns
            }
    for wanted in names:
        if wanted not in known:
            raise ToolError(
                f"the bus {bus} has no rule {wanted!r}",
                where=archive.region,
                advice=f"It has: {', '.join(arns) or 'none'}.",
            )
    return [known[wanted] for wanted in names]


def start(
    aws: Aws, archive: Archive, since: datetime, until: datetime, rules: Sequence[str]
) -> str:
    """Starts a replay to the archive's bus, to all its rules or those with these ARNs; gives its name."""
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
    """Cancels a replay of one of the archives; gives the state it is in then. Raises ToolError for none."""
    for one in archives:
        events = aws.client("events", one.region)
        if any(
            replay["ReplayName"] == name
            for replay in events.list_replays(NamePrefix=name)["Replays"]
        ):
            return str(events.cancel_replay(ReplayName=name)["State"])
    raise ToolError(f"there is no replay {name!r} where these archives are")


def follow(
    aws: Aws,
    replays: Sequence[tuple[Archive, str]],
    window: tuple[datetime, datetime],
    clock: Clock,
) -> Iterator[Progress]:
    """The progress of replays (archive, name) of a window until all are over."""
    running = list(replays)
    while running:
        for archive, name in tuple(running):
            ask = aws.client("events", archive.region).describe_replay
            told = call(ask, clock=clock, retry_for=RETRY_LONG, ReplayName=name)
            last = (
                told.get("EventLastReplayedTime") or window[0]
            )  # the time of the event that was replayed last
            share = min(1.0, max(0.0, (last - window[0]) / (window[1] - window[0])))
            share = 1.0 if told["State"] == "COMPLETED" else share
            yield Progress(archive, name, told["State"], share, told.get("StateReason", ""))
            if told["State"] in OVER:
                running.remove((archive, name))
        if running:
            clock.sleep(PAUSE)


def preview(
    aws: Aws,
    archive: Archive,
    flow: Flow,
    window: tuple[datetime, datetime],
    rules: Sequence[str] = (),
) -> Preview:
    """What a replay would bring to which targets. ``flow``: the account's, as ``flow.live.read`` has it.

    Nothing reads an archive but a replay. What its bus wrote to log groups tells how many events there are at least.
    """
    on_bus = flow.rules_on(archive.bus)
    whole = [
        target.arn
        for rule in on_bus
        for target in rule.targets
        if target.service == "logs" and not any(key.startswith("Input") for key in target.settings)
    ]
    groups = sorted({arn.partition(":log-group:")[2] for arn in whole})
    kept = next((one.pattern for one in flow.archives if one.arn == archive.arn), None)
    counts = {one.arn: 0 for one in on_bus if not rules or one.arn in rules}
    targets, met = dict[str, dict[str, str]](), set[str]()
    places = [log_groups.Group(archive.region, name, name) for name in groups]
    for entry in log_groups.merge(aws, places, int(window[0].timestamp() * 1000)):
        event = _event_of(entry.message, *window)
        if (
            event is None
            or event["id"] in met
            or (isinstance(kept, dict) and not trace.match(kept, event)[0])
        ):
            continue
        met.add(event["id"])
        event["replay-name"] = "a replay"  # replayed events carry it, and rules may refuse it
        for route in trace.trace(flow, event, archive.bus).routes:
            if route.matched and route.rule.arn in counts:
                counts[route.rule.arn] += 1
                fates = {
                    f"{one.target.service} {one.label}": str(one.fate) for one in route.deliveries
                }
                targets.setdefault(route.rule.arn, fates)
    told = [
        (one.label, counts[one.arn], targets.get(one.arn, {}))
        for one in on_bus
        if one.arn in counts
    ]
    return Preview(archive, groups, len(met) if groups else None, told)


def _event_of(message: str, since: datetime, until: datetime) -> dict[str, Any] | None:
    """The event of a log message, if it is one, of the window, and no replayed one (archives keep none of those)."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if (
        not isinstance(event, dict)
        or {"id", "time", "detail-type"} - event.keys()
        or "replay-name" in event
    ):
        return None
    stamp = f"{since:%Y-%m-%dT%H:%M:%SZ}", f"{until:%Y-%m-%dT%H:%M:%SZ}"
    return event if stamp[0] <= str(event["time"]) <= stamp[1] else None


def is_fresh(until: datetime) -> bool:
    """Whether the window ends less than ten minutes ago: events may reach an archive that late (EventBridge guide)."""
    return time.time() - until.timestamp() < 600
