"""The demonstration: makes each stack's event happen and watches for it at every place where it has to arrive."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstacks.bus.codes import Ignoring
from eventstacks.bus.send import Destination, send
from eventstacks.cloudformation import outputs
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eventstacks.aws import Aws

ORDERS = Path("tests/events/orders.ndjson")
PREFIX = "demo-"
PAUSE = 0.05  # seconds between two looks at a log group; grows to PAUSE_LIMIT
PAUSE_LIMIT = 5.0
HEARING = 0.5  # seconds: a Ctrl-C that comes in the moment before a wait is heard when that ends


@dataclass
class Delivery:
    """What one act has to bring to one log group: ``count`` messages that hold ``marker``.

    ``since`` is when the act was done and ``after`` how long the last message took to be there (both in seconds);
    ``after`` is None while something is missing.
    """

    group: str
    marker: str
    count: int
    since: float = 0.0
    messages: list[str] = field(default_factory=list)
    after: float | None = None


@dataclass
class Act:
    """Something that was done in one region, and the deliveries that must follow from it."""

    region: str
    words: str
    deliveries: list[Delivery]


def perform(aws: Aws, region: str, run: str) -> Iterator[Act]:
    """Does in one region what the deployed stacks wait for: sends events, puts an object, takes a snapshot.

    ``run`` marks what this run made, so that it is told from what was there before. Raises NoStackError.
    """
    acts = {
        "custom-event-bus": _send_events,
        "s3-object-events": _put_object,
        "rds-snapshot-events": _take_snapshot,
    }
    for stack in aws.environment.stacks.values():
        if stack.template in acts and region in stack.regions:
            found = outputs.read(aws, aws.environment.ref(stack.name, region))
            words, deliveries = acts[stack.template](aws, region, found, run)
            yield Act(region, words, deliveries)


def _send_events(
    aws: Aws, region: str, found: dict[str, str], run: str
) -> tuple[str, list[Delivery]]:
    lines = [json.loads(line) for line in ORDERS.read_text(encoding="utf-8").splitlines()]
    events = [{**line, "Detail": {**line["Detail"], "run": run}} for line in lines]
    since = time.time()
    summary = send(events, [Destination(aws.client("events", region), found["EventBusName"])])
    if summary.rejected:
        raise ToolError(
            f"{summary.rejected} events were refused: {summary.by_code}",
            where=f"{ORDERS}, {region}",
        )
    words = f"{len(events)} events of {ORDERS} sent to the bus {found['EventBusName']}"
    return words, [Delivery(found["EventLogGroupName"], run, len(events), since)]


def _put_object(
    aws: Aws, region: str, found: dict[str, str], run: str
) -> tuple[str, list[Delivery]]:
    key, since = f"demo/{run}.txt", time.time()
    aws.client("s3", region).put_object(
        Bucket=found["DataBucketName"], Key=key, Body=b"Hello, EventBridge!\n"
    )
    groups = (found["EventLogGroupName"], found["FunctionLogGroupName"])
    return f"object {key} put into the bucket {found['DataBucketName']}", [
        Delivery(one, key, 1, since) for one in groups
    ]


def _take_snapshot(
    aws: Aws, region: str, found: dict[str, str], run: str
) -> tuple[str, list[Delivery]]:
    rds, name = aws.client("rds", region), _snapshot(run)
    rds.create_db_instance(
        DBInstanceIdentifier=name,
        DBInstanceClass="db.t4g.micro",
        Engine="postgres",
        AllocatedStorage=20,
        BackupRetentionPeriod=0,
        ManageMasterUserPassword=True,
        MasterUsername="demo",
        PubliclyAccessible=False,
    )
    rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier=name)
    since = time.time()
    rds.create_db_snapshot(DBInstanceIdentifier=name, DBSnapshotIdentifier=name)
    return f"RDS snapshot {name} created", [Delivery(found["EventLogGroupName"], name, 1, since)]


def _snapshot(run: str) -> str:
    return f"demo-{run}"


def remove_snapshots(aws: Aws, regions: list[str], run: str) -> None:
    """Deletes the databases and snapshots that ``perform`` made in these regions."""
    for region in regions:
        rds, name = aws.client("rds", region), _snapshot(run)
        with Ignoring("DBSnapshotNotFound"):
            rds.describe_db_snapshots(
                DBSnapshotIdentifier=name
            )  # the waiter has an error of its own for it
            rds.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier=name)
            rds.delete_db_snapshot(DBSnapshotIdentifier=name)
        with Ignoring("DBInstanceNotFound"):
            rds.delete_db_instance(
                DBInstanceIdentifier=name, SkipFinalSnapshot=True, DeleteAutomatedBackups=True
            )


def new_run() -> str:
    """A mark for one run, fit for names, keys and identifiers."""
    return uuid.uuid4().hex[:8]


def play(aws: Aws, regions: Sequence[str], run: str, wait: float) -> list[Act]:
    """Performs and watches in all regions at once. Ctrl-C ends it: nobody waits for a database that is being made."""
    stop = threading.Event()

    def work(region: str) -> list[Act]:
        acts = []
        for act in perform(aws, region, run):
            acts.append(watch(aws, act, wait, stop))
            if stop.is_set():
                break
        return acts

    try:
        with ThreadPool(
            len(regions)
        ) as pool:  # its threads are daemons, which the end of the block does not wait for
            made, found = pool.imap_unordered(work, regions), list[list[Act]]()
            while len(found) < len(regions):
                with contextlib.suppress(multiprocessing.TimeoutError):
                    found.append(made.next(HEARING))
            return [act for acts in found for act in acts]
    finally:
        stop.set()


def watch(aws: Aws, act: Act, wait: float, stop: threading.Event | None = None) -> Act:
    """Looks into the log groups until everything of the act is there, ``wait`` seconds at the most after it.

    ``stop`` ends it earlier.
    """
    stop = stop or threading.Event()
    with ThreadPoolExecutor(max_workers=len(act.deliveries)) as pool:
        list(
            pool.map(
                lambda one: _watch(aws.client("logs", act.region), one, wait, stop), act.deliveries
            )
        )
    return act


def _watch(logs: Any, delivery: Delivery, wait: float, stop: threading.Event) -> None:
    pause = PAUSE
    while True:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=delivery.group, startTime=int(delivery.since * 1000) - 60_000
        )
        messages = [event["message"] for page in pages for event in page["events"]]
        delivery.messages = [one.strip() for one in messages if delivery.marker in one]
        if len(delivery.messages) >= delivery.count:
            delivery.after = time.time() - delivery.since
            return
        if time.time() - delivery.since > wait or stop.wait(pause):
            return
        pause = min(pause * 1.5, PAUSE_LIMIT)


def remove_buckets(aws: Aws, region: str, retained: Mapping[str, str]) -> None:
    """Empties and deletes the buckets that a stack leaves behind; ``retained``: logical id → physical id, or ""."""
    from eventstacks.cloudformation.deletion import empty_bucket

    s3 = aws.client("s3", region)
    for bucket in filter(None, map(retained.get, ("DataBucket", "TrailBucket"))):
        with Ignoring("NoSuchBucket"):  # of a stack that was interrupted before it had one
            empty_bucket(s3, bucket)
            s3.delete_bucket(Bucket=bucket)
