"""Several log groups as one stream: merged in time order, and followed."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.aws import RETRY_LONG, Clock, call, suppress_aws_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eventstacks.aws import Aws
    from eventstacks.bus.stacks import Deployed

# Seconds between two reads: FilterLogEvents has a quota of a few calls per second.
POLL_SECONDS = 1.0
# Milliseconds that are read again each time: events become visible late and out of order.
OVERLAP = 60_000


@dataclass(frozen=True)
class Group:
    """A log group. ``label``: a short name for output."""

    region: str
    name: str
    label: str


@dataclass(frozen=True)
class Entry:
    """A log event. ``timestamp``: milliseconds since 1970."""

    timestamp: int
    id: str
    group: Group
    stream: str
    message: str


def find(aws: Aws, stacks: Sequence[Deployed]) -> list[Group]:
    """Return the log groups of the stacks, of their functions and of their rules' targets."""
    found: dict[tuple[str, str], None] = {}
    for stack in stacks:
        region = stack.ref.region
        names = list(stack.of_type("AWS::Logs::LogGroup").values())
        for function in stack.of_type("AWS::Lambda::Function").values():
            client = aws.client("lambda", region)
            settings = client.get_function_configuration(FunctionName=function)
            logging = settings.get("LoggingConfig") or {}
            names.append(logging.get("LogGroup") or f"/aws/lambda/{function}")
        for bus, rule in stack.rules.values():
            events = aws.client("events", region)
            targets = events.list_targets_by_rule(Rule=rule, EventBusName=bus)["Targets"]
            arns = [target["Arn"] for target in targets if target["Arn"].split(":")[2] == "logs"]
            names += [arn.partition(":log-group:")[2].removesuffix(":*") for arn in arns]
        found |= dict.fromkeys((region, name) for name in names)
    several = len({region for region, _ in found}) > 1
    return [
        Group(region, name, f"{region} {_short(name)}" if several else _short(name))
        for region, name in found
    ]


def _short(name: str) -> str:
    return name.removeprefix("/aws/events/").removeprefix("/aws/")


def read(
    aws: Aws, group: Group, since: int, pattern: str = "", clock: Clock | None = None
) -> Iterator[Entry]:
    """Yield the events of a group from ``since`` (ms) on; none if the group does not exist (yet).

    FilterLogEvents returns them in the order of their timestamps (API reference). Transient errors
    are retried for ten minutes.
    """
    logs, clock = aws.client("logs", group.region), clock or Clock()
    equal: Counter[tuple[str, int, str]] = Counter()
    arguments: dict[str, Any] = {"logGroupName": group.name, "startTime": since}
    arguments |= {"filterPattern": pattern} if pattern else {}
    # Not a paginator: each page is retried by itself.
    while True:
        page: dict[str, Any] = {"events": []}
        with suppress_aws_error("ResourceNotFoundException"):
            page = call(logs.filter_log_events, clock=clock, retry_for=RETRY_LONG, **arguments)
        for event in page["events"]:
            key = (event["logStreamName"], event["timestamp"], event["message"])
            equal[key] += 1  # MiniStack gives no ids to the events of functions
            id_ = event.get("eventId") or f"{equal[key]} {key}"
            yield Entry(event["timestamp"], id_, group, event["logStreamName"], event["message"])
        if not page.get("nextToken"):
            return
        arguments["nextToken"] = page["nextToken"]


def merge(
    aws: Aws,
    groups: Sequence[Group],
    since: int,
    pattern: str = "",
    *,
    clock: Clock | None = None,
) -> Iterator[Entry]:
    """Yield the events of groups from ``since`` (ms) on in time order, read page by page."""
    entries = [read(aws, group, since, pattern, clock) for group in groups]
    return heapq.merge(*entries, key=lambda entry: entry.timestamp)


def follow(
    aws: Aws,
    groups: Sequence[Group],
    since: int,
    pattern: str = "",
    *,
    clock: Clock | None = None,
) -> Iterator[Entry]:
    """Yield as ``merge``, then new events without end, each once; those of one read in time order.

    An event that becomes visible over a minute after later ones of the same groups is missed.
    """
    clock = clock or Clock()
    seen: dict[tuple[Group, str], int] = {}  # what the next read can return again
    newest = since
    while True:
        for entry in merge(aws, groups, max(since, newest - OVERLAP), pattern, clock=clock):
            if (entry.group, entry.id) in seen:
                continue
            seen[entry.group, entry.id] = entry.timestamp
            newest = max(newest, min(entry.timestamp, int(time.time() * 1000)))  # clocks differ
            while seen and seen[first := next(iter(seen))] < newest - OVERLAP:
                del seen[first]
            yield entry
        clock.sleep(POLL_SECONDS)
