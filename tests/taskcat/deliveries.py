"""What goes into a stack, and must come out in the log groups that its outputs name."""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import boto3

PATIENCE = 60.0  # seconds for an event to come through; the embedded AWS needs less than one, unless the machine is busy
EVENTS = Path(__file__).parents[1] / "events"
Values = Mapping[str, str]  # outputs or parameters
Probe = Callable[
    [str, Values, Values, str], AbstractContextManager[None]
]  # region, outputs, parameters, marker
_session, _lock = boto3.session.Session(), threading.Lock()


@functools.cache
def _made(service: str, region: str) -> Any:
    return _session.client(service, region_name=region)


def client(service: str, region: str) -> Any:
    """A boto3 client; they are safe to share between threads, their making is not."""
    with _lock:
        return _made(service, region)


def sample(template: str) -> dict[str, Any] | None:
    """The first event of tests/events/<template>/ that a stack with the template's defaults must take, if one may send it."""
    for path in sorted((EVENTS / template).glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        event = found.get("event", {})
        if (
            found.get("expect")
            and not found.get("parameters")
            and not event.get("source", "aws.").startswith("aws.")
        ):
            return dict(event)
    return None


@contextlib.contextmanager
def send_sample(region: str, outputs: Values, _parameters: Values, marker: str) -> Iterator[None]:
    """The stack's sample event, marked, on the bus that its outputs name."""
    event = sample(outputs["TemplateName"]) or {}
    entry = {
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "EventBusName": outputs.get("EventBusName", "default"),
    }
    detail = json.dumps({**event["detail"], "marker": marker})
    answer = client("events", region).put_events(Entries=[{**entry, "Detail": detail}])
    if answer["FailedEntryCount"]:
        raise RuntimeError(f"PutEvents: {answer['Entries'][0]['ErrorMessage']}")
    yield


@contextlib.contextmanager
def put_object(region: str, outputs: Values, parameters: Values, marker: str) -> Iterator[None]:
    """An object in the stack's bucket. It stays there, so that the bucket is kept as one in use is."""
    key = f"{parameters.get('ObjectKeyPrefix', '')}{marker}.txt"
    client("s3", region).put_object(Bucket=outputs["DataBucketName"], Key=key, Body=b"")
    yield


@contextlib.contextmanager
def make_snapshot(
    region: str, _outputs: Values, _parameters: Values, marker: str
) -> Iterator[None]:
    """A snapshot of a database made for it; both are deleted afterwards."""
    rds = client("rds", region)
    rds.create_db_instance(
        DBInstanceIdentifier=marker,
        DBInstanceClass="db.t4g.micro",
        Engine="postgres",
        AllocatedStorage=20,
        MasterUsername="probe",
        MasterUserPassword=uuid.uuid4().hex,
    )
    try:
        rds.create_db_snapshot(DBInstanceIdentifier=marker, DBSnapshotIdentifier=marker)
        try:
            yield
        finally:
            rds.delete_db_snapshot(DBSnapshotIdentifier=marker)
    finally:
        rds.delete_db_instance(DBInstanceIdentifier=marker, SkipFinalSnapshot=True)


@contextlib.contextmanager
def copy_snapshot(region: str, outputs: Values, parameters: Values, marker: str) -> Iterator[None]:
    """A snapshot, and the copy that the stack makes of it; both are deleted afterwards."""
    with make_snapshot(region, outputs, parameters, marker):
        yield
    there = client("rds", parameters["DestinationRegion"])
    for one in there.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]:
        if one["DBSnapshotIdentifier"].startswith(f"copy-{marker}"):
            there.delete_db_snapshot(DBSnapshotIdentifier=one["DBSnapshotIdentifier"])


# What it takes to make AWS itself send an event, by the stack's output TemplateName. Other stacks get their sample event;
# those without one are created and deleted, and nothing is sent through them.
PROBES: dict[str, Probe] = {
    "rds-snapshot-copy": copy_snapshot,
    "rds-snapshot-events": make_snapshot,
    "s3-object-events": put_object,
}


# Stacks whose receiver does not exist, and the codes of the message with which an event has to end in the dead-letter queue.
WITHOUT_RECEIVER = {
    "event-spoke": ("NO_PERMISSIONS", "NO_RESOURCE"),
    "webhook-out": ("CONNECTION_FAILURE",),
}


def check(region: str, outputs: Values, parameters: Values) -> tuple[int, list[str]]:
    """Send an event through a stack: how many log groups received it, and what went wrong, one sentence each."""
    template = outputs.get("TemplateName", "")
    probe = PROBES.get(template) or (send_sample if template and sample(template) else None)
    if not probe:
        return 0, []
    if template in WITHOUT_RECEIVER:
        with probe(region, outputs, parameters, f"probe-{uuid.uuid4().hex[:12]}"):
            deadline = time.monotonic() + PATIENCE
            while not (dead := dead_letter(region, outputs["DeadLetterQueueUrl"])):
                if time.monotonic() > deadline:
                    return 0, ["no message arrived in the dead-letter queue"]
                time.sleep(0.1)
            ok = dead.startswith(WITHOUT_RECEIVER[template])
            return int(ok), [] if ok else [f"a dead letter says {dead}"]
    groups = {key: value for key, value in outputs.items() if key.endswith("LogGroupName")}
    if not groups:
        return 0, ["no output names a log group in which to look for the event"]
    marker, missing, dead = f"probe-{uuid.uuid4().hex[:12]}", dict(groups), ""
    with probe(region, outputs, parameters, marker):
        deadline = time.monotonic() + PATIENCE
        while missing and not dead and time.monotonic() < deadline:
            dead = dead_letter(region, outputs.get("DeadLetterQueueUrl"))
            missing = {
                key: name for key, name in missing.items() if not holds(region, name, marker)
            }
            time.sleep(0.1 if missing else 0)
    why = f"; a dead letter says {dead}" if dead else f" within {PATIENCE:.0f} s"
    return len(groups) - len(missing), [
        f"{key}: no event arrived in {name}{why}" for key, name in missing.items()
    ]


def holds(region: str, group: str, marker: str) -> bool:
    """Whether a log group has a line with the marker."""
    pages = client("logs", region).get_paginator("filter_log_events").paginate(logGroupName=group)
    return any(marker in event["message"] for page in pages for event in page["events"])


def dead_letter(region: str, url: str | None) -> str:
    """What EventBridge wrote on a dead letter in the stack's queue; empty when there is none."""
    asked = {"MessageAttributeNames": ["All"], "MaxNumberOfMessages": 1}
    found = (
        client("sqs", region).receive_message(QueueUrl=url, **asked).get("Messages", [])
        if url
        else []
    )
    attributes = found[0].get("MessageAttributes", {}) if found else {}
    words = [
        attributes[key]["StringValue"]
        for key in ("ERROR_CODE", "ERROR_MESSAGE")
        if key in attributes
    ]
    return ": ".join(words) or ("nothing of why" if found else "")
