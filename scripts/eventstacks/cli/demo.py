"""The verb demo: deploy the packaged stacks to an embedded AWS and watch their events arrive."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from eventstacks import aws, documents, environment, rendering
from eventstacks.bus import send
from eventstacks.cli import output
from eventstacks.cloudformation import deploy, outputs, run
from eventstacks.errors import ToolError
from eventstacks.local import server

WAIT, POLL = 30.0, 0.05  # seconds
STACKS = ("custom-event-bus", "s3-object-events", "rds-snapshot-events")  # see _cause
WIDTH = 72  # characters of a log message: within 80 columns
ORDERS: dict[str, dict[str, Any]] = {
    "OrderPlaced": {"customer": "ana", "total": 42.5},
    "OrderPaid": {"method": "card"},
    "OrderShipped": {"carrier": "post", "parcels": 1},
}
# What is shown of the events of AWS, and of the log of the function.
FIELDS = ("eventName", "SourceIdentifier", "Message", "key", "bucket", "requestParameters")


@click.command()
def demo() -> int:
    """Deploy the packaged stacks to an embedded AWS, cause their events, show where they arrive.

    It works in any folder and needs no account. The embedded AWS is a new one that ends with the
    command. Exits with 0 only if every expected delivery was seen.

    \b
    Example:
      eventstacks demo
    """
    begun = time.monotonic()
    local = environment.load("local", documents.packaged("parameters"))
    chosen = replace(local, stacks={name: local.stacks[name] for name in STACKS})
    with tempfile.TemporaryDirectory(prefix="eventstacks-") as folder, ExitStack() as cleanup:
        templates = rendering.Templates(documents.packaged("templates"), Path(folder) / "build")
        endpoint = server.start(Path(folder) / "aws", port=0)
        cleanup.callback(server.stop, Path(folder) / "aws")
        connection, refs = aws.Aws(chosen, lambda: endpoint), chosen.choose()
        with output.progress("Deploying"):
            results = deploy.deploy(run.Scope(connection, refs), templates)
        if output.print_errors(result.problem for result in results):
            return output.EXIT_FAILED
        stacks = output.counted(len(results), "stack")
        output.echo(f"{stacks} deployed in {time.monotonic() - begun:.1f} s")
        seen = [arrived for ref in refs for arrived in _play(connection, ref)]
    if not all(seen):
        raise ToolError(f"{seen.count(False)} of {len(seen)} expected deliveries were not seen")
    output.echo(f"\nAll {len(seen)} expected deliveries were seen.", style="green")
    return 0


def _play(connection: aws.Aws, ref: environment.StackRef) -> list[bool]:
    """Cause the event of a stack and show what arrives; return whether each delivery was seen."""
    mark, begun = uuid.uuid4().hex[:8], time.monotonic()
    text, groups, count = _cause(connection, ref, mark)
    output.echo(f"\n{ref.region}: {text}", style="bold")
    seen = []
    for group in groups:
        messages = _arrived(connection, ref.region, group, mark, count)
        seen.append(len(messages) >= count)
        sign, style = ("✓", "green") if seen[-1] else ("✗", "red")
        result = f"after {time.monotonic() - begun:.2f} s" if seen[-1] else "not seen in time"
        output.echo(f"  {sign} {group:<58} {result}", style=style)
        for line in map(summarize, messages):
            output.echo(f"      {line[:WIDTH]}{'…' if len(line) > WIDTH else ''}")
    return seen


def _cause(connection: aws.Aws, ref: environment.StackRef, mark: str) -> tuple[str, list[str], int]:
    """Cause the event of a stack: return what was done, the log groups and the messages in each.

    ``mark`` is in every message.
    """
    stack, region = outputs.read(connection, ref), ref.region
    log_group = stack["EventLogGroupName"]
    match ref.settings.template:
        case "custom-event-bus":
            events = [
                {
                    "Source": "com.example.shop",
                    "DetailType": kind,
                    "Detail": {"order": mark, **detail},
                }
                for kind, detail in ORDERS.items()
            ]
            bus = stack["EventBusName"]
            send.send(events, connection.client("events", region), bus)
            return f"{len(events)} events sent to bus {bus}", [log_group], len(events)
        case "s3-object-events":
            key, s3 = f"demo/{mark}.txt", connection.client("s3", region)
            s3.put_object(Bucket=stack["DataBucketName"], Key=key, Body=b"Hello, EventBridge!\n")
            return f"S3 object {key} created", [log_group, stack["FunctionLogGroupName"]], 1
        case _:  # rds-snapshot-events
            rds, name = connection.client("rds", region), f"demo-{mark}"
            rds.create_db_instance(
                DBInstanceIdentifier=name,
                DBInstanceClass="db.t4g.micro",
                Engine="postgres",
                AllocatedStorage=20,
                ManageMasterUserPassword=True,
                MasterUsername="demo",
            )
            rds.create_db_snapshot(DBInstanceIdentifier=name, DBSnapshotIdentifier=name)
            return f"RDS snapshot {name} created", [log_group], 1


def _arrived(connection: aws.Aws, region: str, group: str, mark: str, count: int) -> list[str]:
    """Return the log messages with a mark, as soon as there are ``count``, or after WAIT."""
    deadline = time.monotonic() + WAIT
    pages = connection.client("logs", region).get_paginator("filter_log_events")
    while True:
        events = pages.paginate(logGroupName=group).search("events[]")
        messages = [event["message"].strip() for event in events if mark in event["message"]]
        if len(messages) >= count or time.monotonic() > deadline:
            return messages
        time.sleep(POLL)


def summarize(message: str) -> str:
    """Return the essence of a log message: of an event, or of a function's structured log."""
    record = json.loads(message)
    values = record.get("detail", record)
    if "detail" not in record or record["source"].startswith("aws."):
        values = {name: values[name] for name in FIELDS if name in values}
    return f"{record.get('detail-type') or record.get('message')} {json.dumps(values)}"
