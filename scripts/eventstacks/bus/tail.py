"""Follow log groups, or an event bus through a temporary rule with a temporary queue.

Rule and queue have the same name. While a run lasts, it renews a tag of the queue. A run that was
killed leaves both; the next run removes them when the tag is old. The queue is created first and
deleted last, so that every rule is found by its queue.
"""

import heapq
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from eventstacks.aws import RETRY_LONG, Aws, Clock, call, suppress_aws_error
from eventstacks.bus.stacks import Deployed, bus_name, check_bus
from eventstacks.errors import ErrorCode, ToolError

# Seconds between two reads: FilterLogEvents has a quota of a few calls per second.
POLL_SECONDS = 1.0
# Milliseconds that are read again each time: events become visible late and out of order.
OVERLAP = 60_000
PREFIX = "eventbridge-tap-"
# The tag is renewed each HEARTBEAT_SECONDS; a tap whose tag is older than STALE_AFTER_SECONDS was
# left by a run that was killed.
HEARTBEAT_SECONDS, STALE_AFTER_SECONDS = 20.0, 120.0
ALL_EVENTS = json.dumps({"source": [{"prefix": ""}]})
MESSAGE_RETENTION = "300"  # seconds
_NO_RULE = "ResourceNotFoundException"
# As SQS answers, and as its model names it.
_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


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


def find_groups(aws: Aws, stacks: Sequence[Deployed]) -> list[Group]:
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


def read(aws: Aws, group: Group, since: int, pattern: str, clock: Clock) -> Iterator[Entry]:
    """Yield the events of a group from ``since`` (ms) on; none if the group does not exist (yet).

    FilterLogEvents returns them in the order of their timestamps (API reference). Transient errors
    are retried for ten minutes.
    """
    logs = aws.client("logs", group.region)
    arguments: dict[str, Any] = {"logGroupName": group.name, "startTime": since}
    arguments |= {"filterPattern": pattern} if pattern else {}
    # Not a paginator: each page is retried by itself.
    while True:
        page: dict[str, Any] = {"events": []}
        with suppress_aws_error("ResourceNotFoundException"):
            page = call(logs.filter_log_events, clock=clock, retry_for=RETRY_LONG, **arguments)
        for event in page["events"]:
            place = (event["timestamp"], event["eventId"], group, event["logStreamName"])
            yield Entry(*place, event["message"])
        if not page.get("nextToken"):
            return
        arguments["nextToken"] = page["nextToken"]


def merge(
    aws: Aws, groups: Sequence[Group], since: int, pattern: str, clock: Clock
) -> Iterator[Entry]:
    """Yield the events of groups from ``since`` (ms) on in time order, read page by page."""
    entries = [read(aws, group, since, pattern, clock) for group in groups]
    return heapq.merge(*entries, key=lambda entry: entry.timestamp)


def follow(
    aws: Aws, groups: Sequence[Group], since: int, pattern: str, clock: Clock
) -> Iterator[Entry]:
    """Yield as ``merge``, then new events without end, each once; those of one read in time order.

    An event that becomes visible over a minute after later ones of the same groups is missed.
    """
    seen: dict[tuple[Group, str], int] = {}  # what the next read can return again
    newest = since
    while True:
        for entry in merge(aws, groups, max(since, newest - OVERLAP), pattern, clock):
            if (entry.group, entry.id) in seen:
                continue
            seen[entry.group, entry.id] = entry.timestamp
            newest = max(newest, min(entry.timestamp, int(time.time() * 1000)))  # clocks differ
            while seen and seen[first := next(iter(seen))] < newest - OVERLAP:
                del seen[first]
            yield entry
        clock.sleep(POLL_SECONDS)


def remove_stale(aws: Aws, region: str) -> list[str]:
    """Remove what killed runs left in a Region, on any bus; return the names."""
    sqs = aws.client("sqs", region)
    stale = []
    for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=PREFIX):
        for url in page.get("QueueUrls", ()):
            with suppress_aws_error(*_NO_QUEUE):  # its run ended now
                tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
                beat = tags.get("heartbeat", "")
                if not beat.isdecimal() or abs(time.time() - int(beat)) > STALE_AFTER_SECONDS:
                    tap = Tap(aws, region, tags.get("bus", "default"))
                    tap.name = url.rsplit("/", 1)[-1]
                    stale.append(tap)
    for tap in stale:
        tap.__exit__()
    return [tap.name for tap in stale]


class Tap:
    """A temporary rule and queue on one bus, as a context manager."""

    def __init__(self, aws: Aws, region: str, bus: str, pattern: str = ALL_EVENTS) -> None:
        self.region, self.bus = region, bus_name(bus)
        self.name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
        self._events, self._sqs = aws.client("events", region), aws.client("sqs", region)
        self._pattern, self._url, self._beat_at = pattern, "", time.monotonic()

    def __enter__(self) -> Self:
        check_bus(self._events, self.bus)
        try:
            self._create()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _create(self) -> None:
        bus_arn = self._events.describe_event_bus(Name=self.bus)["Arn"]
        _, partition, _, region, account, _ = bus_arn.split(":")
        path = self.name if self.bus == "default" else f"{self.bus}/{self.name}"
        arn = f"arn:{partition}:sqs:{region}:{account}:{self.name}"
        rule = f"arn:{partition}:events:{region}:{account}:rule/{path}"
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
        }
        self._url = self._sqs.create_queue(
            QueueName=self.name,
            tags={"bus": self.bus, "heartbeat": str(int(time.time()))},
            Attributes={
                "Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
                "MessageRetentionPeriod": MESSAGE_RETENTION,
                "SqsManagedSseEnabled": "true",
            },
        )["QueueUrl"]
        self._events.put_rule(
            Name=self.name,
            EventBusName=self.bus,
            EventPattern=self._pattern,
            State="ENABLED",
            Description="Temporary: for eventstacks tail --bus.",
        )
        targets = [{"Id": "queue", "Arn": arn}]
        answer = self._events.put_targets(Rule=self.name, EventBusName=self.bus, Targets=targets)
        if answer["FailedEntryCount"]:
            raise ToolError(
                answer["FailedEntries"][0]["ErrorMessage"],
                code=ErrorCode.AWS_ERROR,
                where=f"rule {self.name} in {self.region}",
            )

    def __exit__(self, *_: object) -> None:
        with suppress_aws_error(_NO_RULE):
            self._events.remove_targets(Rule=self.name, EventBusName=self.bus, Ids=["queue"])
        with suppress_aws_error(_NO_RULE):
            self._events.delete_rule(Name=self.name, EventBusName=self.bus)
        with suppress_aws_error(*_NO_QUEUE):
            url = self._sqs.get_queue_url(QueueName=self.name)["QueueUrl"]
            self._sqs.delete_queue(QueueUrl=url)

    def receive(self, seconds: int) -> list[dict[str, Any]]:
        """Return new events as a target receives them, after ``seconds`` at most.

        Raises ToolError if the queue was deleted.
        """
        with suppress_aws_error(*_NO_QUEUE):
            if time.monotonic() - self._beat_at > HEARTBEAT_SECONDS:
                self._beat_at = time.monotonic()
                self._sqs.tag_queue(QueueUrl=self._url, Tags={"heartbeat": str(int(time.time()))})
            messages = self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=seconds
            ).get("Messages", [])
            if messages:
                handles = [
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages)
                ]
                self._sqs.delete_message_batch(QueueUrl=self._url, Entries=handles)
            events = [json.loads(one["Body"]) for one in messages]
            return sorted(events, key=lambda event: str(event.get("time", "")))
        raise ToolError(
            "the temporary queue was deleted (possibly by another run after this machine slept)",
            code=ErrorCode.NOT_FOUND,
            where=f"{self.name} in {self.region}",
            advice="Start again.",
        )
