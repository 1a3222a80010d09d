"""What goes into a stack, and must come out.

It comes out in the log groups that its outputs name, on its bus, or as a finished workflow.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3

# Seconds for an event to come through. The embedded AWS needs less than one, unless the machine
# is busy.
PATIENCE = 60.0
EVENTS = Path(__file__).parents[1] / "events"
Values = Mapping[str, str]  # outputs or parameters
HasArrived = Callable[[], bool]
# Region, outputs, parameters, marker. A probe gives what tells whether the event arrived;
# None: look in the log groups.
Probe = Callable[[str, Values, Values, str], AbstractContextManager[HasArrived | None]]
_session, _lock = boto3.session.Session(), threading.Lock()


@functools.cache
def _made(service: str, region: str) -> Any:
    return _session.client(service, region_name=region)


def client(service: str, region: str) -> Any:
    """A boto3 client; they are safe to share between threads, their making is not."""
    with _lock:
        return _made(service, region)


def sample(template: str) -> dict[str, Any] | None:
    """The first event of tests/events/<template>/ that a stack with the defaults must take.

    None if no such event may be sent.
    """
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
    """An object in the stack's bucket.

    It stays there, so that the bucket is kept as one in use is.
    """
    key = f"{parameters.get('ObjectKeyPrefix', '')}{marker}.txt"
    client("s3", region).put_object(Bucket=outputs["DataBucketName"], Key=key, Body=b"")
    yield


@contextlib.contextmanager
def database(region: str, marker: str) -> Iterator[None]:
    """A database, which is deleted afterwards."""
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
        yield
    finally:
        rds.delete_db_instance(DBInstanceIdentifier=marker, SkipFinalSnapshot=True)


@contextlib.contextmanager
def make_snapshot(
    region: str, _outputs: Values, _parameters: Values, marker: str
) -> Iterator[None]:
    """A snapshot of a database made for it; both are deleted afterwards."""
    rds = client("rds", region)
    with database(region, marker):
        rds.create_db_snapshot(DBInstanceIdentifier=marker, DBSnapshotIdentifier=marker)
        try:
            yield
        finally:
            rds.delete_db_snapshot(DBSnapshotIdentifier=marker)


@contextlib.contextmanager
def copy_snapshot(region: str, outputs: Values, parameters: Values, marker: str) -> Iterator[None]:
    """A snapshot, and the copy that the stack makes of it; both are deleted afterwards."""
    with make_snapshot(region, outputs, parameters, marker):
        yield
    there = client("rds", parameters["DestinationRegion"])
    for one in there.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]:
        if one["DBSnapshotIdentifier"].startswith(f"copy-{marker}"):
            there.delete_db_snapshot(DBSnapshotIdentifier=one["DBSnapshotIdentifier"])


@contextlib.contextmanager
def received(region: str, bus: str, name: str, detail: Mapping[str, Any]) -> Iterator[HasArrived]:
    """A rule on a bus for events with this detail, and a queue that receives them.

    Both are deleted afterwards.
    """
    events, sqs = client("events", region), client("sqs", region)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    (arn,) = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])[
        "Attributes"
    ].values()
    allow = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn}
    policy = {"Statement": [{**allow, "Principal": {"Service": "events.amazonaws.com"}}]}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    rule = {"EventBusName": bus, "Rule": name}
    events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps({"detail": detail}))
    try:
        events.put_targets(**rule, Targets=[{"Id": "queue", "Arn": arn}])
        yield lambda: bool(sqs.receive_message(QueueUrl=url).get("Messages"))
    finally:
        events.remove_targets(**rule, Ids=["queue"])
        events.delete_rule(EventBusName=bus, Name=name)
        sqs.delete_queue(QueueUrl=url)


@contextlib.contextmanager
def write_item(
    region: str, outputs: Values, _parameters: Values, marker: str
) -> Iterator[HasArrived]:
    """An outbox item in the stack's table, which has to come out on the bus."""
    item = {"pk": marker, "sk": "EVENT#1", "id": marker, "type": "Probe"}
    typed = {key: {"S": value} for key, value in item.items()}
    with received(region, outputs["EventBusName"], marker, {"id": [marker]}) as has_arrived:
        client("dynamodb", region).put_item(
            TableName=outputs["TableName"], Item={**typed, "data": {"M": {}}}
        )
        yield has_arrived


@contextlib.contextmanager
def run_schedule(
    region: str, outputs: Values, _parameters: Values, marker: str
) -> Iterator[HasArrived]:
    """A run of the stack's schedule in two seconds: the one at its creation is over."""
    scheduler = client("scheduler", region)
    key = {"idempotencyKey": [{"prefix": f"{outputs['ScheduleArn']}@"}]}
    with received(region, outputs["EventBusName"], marker, key) as has_arrived:
        found = scheduler.get_schedule(
            Name=outputs["ScheduleName"], GroupName=outputs["ScheduleGroupName"]
        )
        moment = datetime.now(UTC) + timedelta(seconds=2)
        scheduler.update_schedule(
            **{key: found[key] for key in ("Name", "GroupName", "FlexibleTimeWindow", "Target")},
            ScheduleExpression=f"at({moment:%Y-%m-%dT%H:%M:%S})",
        )
        yield has_arrived


@contextlib.contextmanager
def run_workflow(
    region: str, outputs: Values, parameters: Values, marker: str
) -> Iterator[HasArrived]:
    """An execution of the stack's workflow, which an event has to finish.

    Its snapshot is deleted afterwards.
    """
    workflows = client("stepfunctions", region)

    def has_succeeded() -> bool:
        found = workflows.describe_execution(executionArn=execution)
        if found["status"] not in ("RUNNING", "SUCCEEDED"):
            raise RuntimeError(f"the workflow ended as {found['status']}: {found.get('cause')}")
        return bool(found["status"] == "SUCCEEDED")

    with database(region, marker):
        execution = workflows.start_execution(
            stateMachineArn=outputs["WorkflowArn"],
            input=json.dumps({"DBInstanceIdentifier": marker}),
        )["executionArn"]
        try:
            yield has_succeeded
        finally:
            rds = client("rds", region)
            for one in rds.describe_db_snapshots(DBInstanceIdentifier=marker)["DBSnapshots"]:
                rds.delete_db_snapshot(DBSnapshotIdentifier=one["DBSnapshotIdentifier"])


# What it takes to make AWS itself send an event, by the stack's output TemplateName. Other stacks
# get their sample event; those without one are created and deleted, and nothing is sent through
# them.
PROBES: dict[str, Probe] = {
    "rds-snapshot-copy": copy_snapshot,
    "rds-snapshot-events": make_snapshot,
    "rds-snapshot-workflow": run_workflow,
    "s3-object-events": put_object,
    "scheduled-task": run_schedule,
    "table-outbox": write_item,
}
# Where the event of a probe arrives that does not look in log groups.
ARRIVALS = {
    "rds-snapshot-workflow": "its workflow",
    "scheduled-task": "its bus",
    "table-outbox": "its bus",
}
# Stacks whose receiver does not exist,
# and the codes of the message with which an event has to end in the dead-letter queue.
WITHOUT_RECEIVER = {
    "event-spoke": ("NO_PERMISSIONS", "NO_RESOURCE"),
    "webhook-out": ("CONNECTION_FAILURE",),
}


def check(region: str, outputs: Values, parameters: Values) -> tuple[str, list[str]]:
    """Send an event through a stack: what became of it, and what went wrong, one sentence each."""
    template = outputs.get("TemplateName", "")
    probe = PROBES.get(template) or (send_sample if template and sample(template) else None)
    if not probe:
        return "nothing sent", []
    groups = {key: value for key, value in outputs.items() if key.endswith("LogGroupName")}
    expected = WITHOUT_RECEIVER.get(template, ())
    if expected or template in ARRIVALS:
        missing = {"probe": ARRIVALS.get(template, "the dead-letter queue")}
    elif not (missing := groups):
        return "FAILED", ["no output names a log group in which to look for the event"]
    marker, dead = f"probe-{uuid.uuid4().hex[:12]}", ""
    with probe(region, outputs, parameters, marker) as has_arrived:
        deadline = time.monotonic() + PATIENCE
        while missing and not dead and time.monotonic() < deadline:
            dead = dead_letter(region, outputs.get("DeadLetterQueueUrl"), marker)
            if has_arrived:
                missing = {} if has_arrived() else missing
            elif not expected:
                missing = {
                    key: name for key, name in missing.items() if not holds(region, name, marker)
                }
            time.sleep(0.1 if missing else 0)
    if expected and dead.startswith(expected):
        return "dead-lettered, as it has to be without a receiver", []
    if missing:
        why = f"; the dead-letter message says {dead}" if dead else f" within {PATIENCE:.0f} s"
        return "FAILED", [
            f"{key}: no event arrived in {name}{why}" for key, name in missing.items()
        ]
    if has_arrived:
        return f"delivered to {ARRIVALS[template]}", []
    return f"delivered to {len(groups)} log group{'s' * (len(groups) > 1)}", []


def holds(region: str, group: str, marker: str) -> bool:
    """Whether a log group has a line with the marker."""
    pages = client("logs", region).get_paginator("filter_log_events").paginate(logGroupName=group)
    return any(marker in event["message"] for page in pages for event in page["events"])


def dead_letter(region: str, url: str | None, marker: str) -> str:
    """Return the error in a message of the stack's dead-letter queue, "" if there is none.

    Those of other probes do not count:
    stacks in one Region see the snapshots that others make and delete.
    """
    asked = {"MessageAttributeNames": ["All"], "MaxNumberOfMessages": 10}
    messages = (
        client("sqs", region).receive_message(QueueUrl=url, **asked).get("Messages", [])
        if url
        else []
    )
    found = [one for one in messages if marker in one["Body"] or "probe-" not in one["Body"]]
    attributes = found[0].get("MessageAttributes", {}) if found else {}
    words = [
        attributes[key]["StringValue"]
        for key in ("ERROR_CODE", "ERROR_MESSAGE")
        if key in attributes
    ]
    return ": ".join(words) or ("nothing of why" if found else "")
