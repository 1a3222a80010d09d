"""The demo: cause the events that the stacks wait for, and watch them arrive."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import threading
import time
import uuid
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

from eventstacks.aws import AWS_ERRORS, error_message, suppress_aws_error
from eventstacks.bus.send import Destination, send
from eventstacks.cli import output
from eventstacks.cloudformation import delete, deployer, outputs
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef

PREFIX = "demo-"
INTERRUPT_POLL_SECONDS = 0.5
POLL_SECONDS, MAX_POLL_SECONDS = 0.05, 5.0
WIDTH = 110  # characters of a log message in a pipe
ORDERS: dict[str, dict[str, Any]] = {
    "OrderPlaced": {"order": "1001", "customer": "ana", "total": 42.5, "currency": "EUR"},
    "OrderPaid": {"order": "1001", "method": "card"},
    "OrderShipped": {"order": "1001", "carrier": "post", "parcels": 1},
}
# What is shown of the events of AWS, and of the log of the function.
FIELDS = (
    "eventName",
    "requestParameters",
    "EventID",
    "SourceIdentifier",
    "Message",
    "bucket",
    "key",
)


@dataclass
class Delivery:
    """What must arrive in a log group: ``count`` messages that contain ``marker``.

    ``since`` is the epoch time of the cause; ``seconds`` until the last one, or None if one is
    missing.
    """

    group: str
    marker: str
    count: int
    since: float = 0.0
    messages: list[str] = field(default_factory=list)
    seconds: float | None = None


@dataclass
class Act:
    """Something done in one Region, and the deliveries that must follow."""

    region: str
    text: str
    deliveries: list[Delivery]


def new_run() -> str:
    """Return a mark for one run that fits into names, keys and identifiers."""
    return uuid.uuid4().hex[:8]


def perform(aws: Aws, region: str, run: str) -> Iterator[Act]:
    """Cause the events of each stack in one Region; ``run`` marks everything this run creates."""
    acts = {
        "custom-event-bus": _send_events,
        "s3-object-events": _put_object,
        "rds-snapshot-events": _take_snapshot,
    }
    for ref in aws.environment.choose():
        if ref.region == region and ref.settings.template in acts:
            yield acts[ref.settings.template](aws, region, outputs.read(aws, ref), run)


def _send_events(aws: Aws, region: str, stack: Mapping[str, str], run: str) -> Act:
    events = [
        {"Source": "com.example.shop", "DetailType": kind, "Detail": {**detail, "run": run}}
        for kind, detail in ORDERS.items()
    ]
    since, bus = time.time(), stack["EventBusName"]
    summary = send(events, [Destination(aws.client("events", region), bus)])
    if summary.rejected:
        raise ToolError(
            f"{summary.rejected} events were rejected: {summary.by_code}",
            code=ErrorCode.EVENT_REJECTED,
            where=f"{bus} in {region}",
        )
    text = f"{len(events)} events ({', '.join(ORDERS)}) sent to the bus {bus}"
    return Act(region, text, [Delivery(stack["EventLogGroupName"], run, len(events), since)])


def _put_object(aws: Aws, region: str, stack: Mapping[str, str], run: str) -> Act:
    key, bucket, since = f"demo/{run}.txt", stack["DataBucketName"], time.time()
    aws.client("s3", region).put_object(Bucket=bucket, Key=key, Body=b"Hello, EventBridge!\n")
    groups = (stack["EventLogGroupName"], stack["FunctionLogGroupName"])
    deliveries = [Delivery(group, key, 1, since) for group in groups]
    return Act(region, f"object {key} put into the bucket {bucket}", deliveries)


def _take_snapshot(aws: Aws, region: str, stack: Mapping[str, str], run: str) -> Act:
    rds, name = aws.client("rds", region), PREFIX + run
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
    delivery = Delivery(stack["EventLogGroupName"], name, 1, since)
    return Act(region, f"RDS snapshot {name} created", [delivery])


def play(aws: Aws, regions: Sequence[str], run: str, wait: float) -> list[Act]:
    """Perform and watch in all Regions at once. Ctrl-C ends it, also while a database is created."""
    stop = threading.Event()

    def work(region: str) -> list[Act]:
        return [watch(aws, act, wait, stop) for act in perform(aws, region, run)]

    try:
        with ThreadPool(len(regions)) as pool:  # leaving the block does not wait for its threads
            results, found = pool.imap_unordered(work, regions), list[list[Act]]()
            while len(found) < len(regions):
                # With a timeout, since a Ctrl-C just before the wait does not end it.
                with contextlib.suppress(multiprocessing.TimeoutError):
                    found.append(results.next(INTERRUPT_POLL_SECONDS))
            return [act for acts in found for act in acts]
    finally:
        stop.set()


def watch(aws: Aws, act: Act, wait: float, stop: threading.Event | None = None) -> Act:
    """Read the log groups until everything has arrived, for ``wait`` seconds, or until ``stop``."""
    logs, pause, missing = aws.client("logs", act.region), POLL_SECONDS, act.deliveries
    while missing:
        for delivery in missing:
            pages = logs.get_paginator("filter_log_events").paginate(
                logGroupName=delivery.group, startTime=int(delivery.since * 1000) - 60_000
            )
            found = [event["message"].strip() for page in pages for event in page["events"]]
            delivery.messages = [message for message in found if delivery.marker in message]
            if len(delivery.messages) >= delivery.count:
                delivery.seconds = time.time() - delivery.since
        missing = [delivery for delivery in missing if delivery.seconds is None]
        is_late = any(time.time() - delivery.since > wait for delivery in missing)
        if is_late or (missing and (stop or threading.Event()).wait(pause)):
            break
        pause = min(pause * 1.5, MAX_POLL_SECONDS)
    return act


def describe(run: str) -> str:
    """Return what the demo creates."""
    name = PREFIX + run
    return f"the stacks {PREFIX}…, and in each Region the database and the snapshot {name}."


def remove(aws: Aws, refs: Sequence[StackRef], run: str) -> int:
    """Delete what the demo created, also the retained buckets. Return the number of stacks."""
    for region in dict.fromkeys(ref.region for ref in refs):
        try:
            remove_snapshots(aws, region, run)
        except AWS_ERRORS as error:  # the stacks are deleted in any case
            text = f"database or snapshot {PREFIX}{run} not deleted: {error_message(error)}"
            output.print_errors([ToolError(text, code=ErrorCode.AWS_ERROR, where=region)])
    chosen = deployer.create(aws, refs)
    surveys = chosen.preview_deletion()
    results = chosen.delete(surveys, empty_buckets=True)
    for survey in surveys:
        remove_buckets(aws, survey.ref.region, survey.retained)
    output.print_errors(result.problem for result in results)
    return sum(survey.stack is not None for survey in surveys)


def remove_snapshots(aws: Aws, region: str, run: str) -> None:
    """Delete the database and the snapshot of one Region."""
    rds, name = aws.client("rds", region), PREFIX + run
    with suppress_aws_error("DBSnapshotNotFound"):
        rds.describe_db_snapshots(DBSnapshotIdentifier=name)  # the waiter raises another error
        rds.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier=name)
        rds.delete_db_snapshot(DBSnapshotIdentifier=name)
    with suppress_aws_error("DBInstanceNotFound"):
        rds.delete_db_instance(
            DBInstanceIdentifier=name, SkipFinalSnapshot=True, DeleteAutomatedBackups=True
        )


def remove_buckets(aws: Aws, region: str, retained: Mapping[str, str]) -> None:
    """Empty and delete the buckets of ``retained``: logical id → physical id, or ""."""
    s3 = aws.client("s3", region)
    for bucket in filter(None, map(retained.get, ("DataBucket", "TrailBucket"))):
        with suppress_aws_error("NoSuchBucket"):
            delete.empty_bucket(s3, bucket)
            s3.delete_bucket(Bucket=bucket)


def show(acts: Sequence[Act]) -> None:
    """Print what was done in each Region, and what arrived where."""
    out = output.console()
    width = out.width - 7 if out.is_terminal else WIDTH
    for act in sorted(acts, key=lambda act: act.region):  # keeps the order within a Region
        output.echo(f"\n{act.region}: {act.text}", style="bold")
        for one in act.deliveries:
            mark, style = ("✗", "red") if one.seconds is None else ("✓", "green")
            result = f"after {one.seconds:.2f} s" if one.seconds is not None else "not seen in time"
            output.echo(f"  {mark} {one.group:<58} {result}", style=style)
            for text in map(summarize, one.messages):
                output.echo(f"      {text[:width]}{'…' if len(text) > width else ''}")


def summarize(message: str) -> str:
    """Return the essence of a log message: of an event, or of a function's structured log."""
    record = json.loads(message)
    values = record.get("detail", record)
    if "detail" not in record or record["source"].startswith("aws."):
        values = {name: values[name] for name in FIELDS if name in values}
    return f"{record.get('detail-type') or record.get('message')} {json.dumps(values)}"
