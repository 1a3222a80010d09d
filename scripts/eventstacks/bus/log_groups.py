"""Several log groups as one stream: merged in the order of time, and followed."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

from eventstacks.aws import RETRY_LONG, Clock, call
from eventstacks.bus.codes import GONE, Ignoring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eventstacks.aws import Aws
    from eventstacks.bus.stacks import Deployed

PAUSE = 1.0  # seconds between two looks: FilterLogEvents has a quota of a few calls a second
SETTLE = 1.0  # seconds that an event waits for earlier ones out of other groups
OVERLAP = (
    60_000  # ms that are read again each time: events become visible late, and not in their order
)


@dataclass(frozen=True)
class Group:
    """A log group; ``label`` is what people call it."""

    region: str
    name: str
    label: str


@dataclass(frozen=True)
class Entry:
    """One log event; ``timestamp`` in ms since 1970."""

    timestamp: int
    id: str
    group: Group
    stream: str
    message: str


def of_stacks(aws: Aws, stacks: Sequence[Deployed]) -> list[Group]:
    """Every log group that the stacks write to: their own, and those of their functions and rules elsewhere."""
    found: dict[tuple[str, str], None] = {}
    for one in stacks:
        region = one.ref.region
        names = list(one.of_type("AWS::Logs::LogGroup").values())
        for function in one.of_type("AWS::Lambda::Function").values():
            settings = aws.client("lambda", region).get_function_configuration(
                FunctionName=function
            )
            names.append(
                (settings.get("LoggingConfig") or {}).get("LogGroup") or f"/aws/lambda/{function}"
            )
        for bus, rule in one.rules.values():
            targets = aws.client("events", region).list_targets_by_rule(
                Rule=rule, EventBusName=bus
            )["Targets"]
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
    """The events of one group from ``since`` (ms) on, page by page; none for a group that is not there (yet).

    FilterLogEvents gives them in the order of their time stamps (API reference).
    """
    logs, clock = aws.client("logs", group.region), clock or Clock()
    alike: Counter[tuple[str, int, str]] = Counter()
    given: dict[str, Any] = {"logGroupName": group.name, "startTime": since}
    given |= {"filterPattern": pattern} if pattern else {}
    while True:
        page: dict[str, Any] = {"events": []}
        with Ignoring(GONE):
            page = call(logs.filter_log_events, clock=clock, retry_for=RETRY_LONG, **given)
        for one in page["events"]:
            place = (one["logStreamName"], one["timestamp"], one["message"])
            alike[place] += 1  # MiniStack gives no ids to what functions write
            yield Entry(
                place[1], one.get("eventId") or f"{alike[place]} {place}", group, place[0], place[2]
            )
        if not page.get("nextToken"):
            return
        given["nextToken"] = page["nextToken"]


def merge(
    aws: Aws,
    groups: Sequence[Group],
    since: int,
    pattern: str = "",
    *,
    clock: Clock | None = None,
) -> Iterator[Entry]:
    """What the groups hold from ``since`` (ms) on, in the order of time, in the memory of a page a group."""
    return heapq.merge(
        *(read(aws, one, since, pattern, clock) for one in groups),
        key=lambda entry: entry.timestamp,
    )


def follow(
    aws: Aws,
    groups: Sequence[Group],
    since: int,
    pattern: str = "",
    *,
    clock: Clock | None = None,
) -> Iterator[Entry]:
    """Like ``merge``, and then what comes, without end; each event once, in the order of time as far as it is known.

    An event that becomes visible more than a minute after a later one of the same groups is not seen. Ten minutes
    without an answer are waited out.
    """
    clock = clock or Clock()
    seen: dict[tuple[Group, str], int] = {}  # what the next look may bring again
    newest, number = since, count()
    waiting: list[
        tuple[int, int, float, Entry]
    ] = []  # time stamp, order of arrival, when it may go
    for entry in merge(aws, groups, since, pattern=pattern, clock=clock):
        seen[entry.group, entry.id] = entry.timestamp
        newest = max(newest, min(entry.timestamp, int(time.time() * 1000)))  # some clocks run ahead
        while seen and seen[first := next(iter(seen))] < newest - OVERLAP:
            del seen[first]
        yield entry

    def look(group: Group) -> list[Entry]:
        return list(read(aws, group, start, pattern, clock))

    with ThreadPool(
        max(1, min(8, len(groups)))
    ) as pool:  # its end, and Python's, wait for none of its threads
        while True:
            start = max(since, newest - OVERLAP)
            looks = pool.map(look, groups)
            for entry in (
                entry for found in looks for entry in found if (entry.group, entry.id) not in seen
            ):
                seen[entry.group, entry.id] = entry.timestamp
                newest = max(newest, min(entry.timestamp, int(time.time() * 1000)))
                heapq.heappush(
                    waiting, (entry.timestamp, next(number), clock.now() + SETTLE, entry)
                )
            while waiting and waiting[0][2] <= clock.now():
                yield heapq.heappop(waiting)[3]
            seen = {key: stamp for key, stamp in seen.items() if stamp >= start}
            clock.sleep(PAUSE)
