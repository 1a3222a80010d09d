"""Follow log groups, or an event bus through a temporary rule with a temporary queue.

Rule and queue have the same name. While a run lasts, it renews a tag of the queue. A run that was
killed leaves both; a later run removes them when the tag is old. The queue is created first and
deleted last, so that every rule is found by its queue.
"""

import heapq
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventstacks.aws import RETRY_LONG, Aws, Clock, call, suppress_aws_error
from eventstacks.bus.stacks import Deployed, describe_bus
from eventstacks.errors import ErrorCode, ToolError

# Seconds between two reads: FilterLogEvents has a quota of a few calls per second.
POLL_SECONDS = 1.0
# Milliseconds that are read again each time: events become visible late and out of order.
OVERLAP = 60_000
PREFIX = "eventbridge-tap-"
# The tag is renewed each HEARTBEAT_SECONDS; a tap whose tag is older than STALE_AFTER_SECONDS was
# left by a run that was killed. AWS accepts clocks that differ by up to five minutes.
HEARTBEAT_SECONDS, STALE_AFTER_SECONDS = 20.0, 600.0
ALL_EVENTS = json.dumps({"source": [{"prefix": ""}]})
MESSAGE_RETENTION = "300"  # seconds
_NO_RULE = "ResourceNotFoundException"
# As SQS answers, and as its model names it.
_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


Group = tuple[str, str]  # Region and name of a log group


@dataclass(frozen=True)
class Event:
    """An event of a bus or a log group.

    ``timestamp``: milliseconds since 1970. ``source``: where it comes from, as keys of JSON.
    """

    timestamp: int
    label: str
    message: str
    source: Mapping[str, str]


def find_groups(aws: Aws, stacks: Sequence[Deployed]) -> list[Group]:
    """Return the log groups of the stacks and of their functions."""
    found: dict[Group, None] = {}
    for stack in stacks:
        region = stack.ref.region
        names = list(stack.of_type("AWS::Logs::LogGroup").values())
        for function in stack.of_type("AWS::Lambda::Function").values():
            settings = aws.client("lambda", region).get_function_configuration(
                FunctionName=function
            )
            logging = settings.get("LoggingConfig") or {}
            names.append(logging.get("LogGroup") or f"/aws/lambda/{function}")
        found |= dict.fromkeys((region, name) for name in names)
    return list(found)


def read(aws: Aws, group: Group, since: int, pattern: str, clock: Clock) -> Iterator[Event]:
    """Yield the events of a group from ``since`` (ms) on; none if the group does not exist (yet).

    FilterLogEvents returns them in the order of their timestamps (API reference). Transient errors
    are retried for ten minutes.
    """
    region, name = group
    label = f"{region} {name.removeprefix('/aws/').removeprefix('events/')}"
    logs = aws.client("logs", region)
    arguments = {"logGroupName": name, "startTime": since, "filterPattern": pattern}
    # Not a paginator: each page is retried by itself.
    while True:
        page: dict[str, Any] = {"events": []}
        with suppress_aws_error("ResourceNotFoundException"):
            page = call(logs.filter_log_events, clock=clock, retry_for=RETRY_LONG, **arguments)
        for event in page["events"]:
            source = {
                "region": region,
                "log_group": name,
                "log_stream": event["logStreamName"],
                "id": event["eventId"],
            }
            yield Event(event["timestamp"], label, event["message"], source)
        if not page.get("nextToken"):
            return
        arguments["nextToken"] = page["nextToken"]


def merge(
    aws: Aws, groups: Sequence[Group], since: int, pattern: str, clock: Clock
) -> Iterator[Event]:
    """Yield the events of groups from ``since`` (ms) on in time order, read page by page."""
    events = [read(aws, group, since, pattern, clock) for group in groups]
    return heapq.merge(*events, key=lambda event: event.timestamp)


def follow(
    aws: Aws, groups: Sequence[Group], since: int, pattern: str, clock: Clock
) -> Iterator[Event]:
    """Yield as ``merge``, then new events without end, each once; those of one read in time order.

    An event that becomes visible over a minute after later ones of the same groups is missed.
    """
    seen: dict[tuple[str, ...], int] = {}  # what the next read can return again
    newest = since
    while True:
        for event in merge(aws, groups, max(since, newest - OVERLAP), pattern, clock):
            key = tuple(event.source.values())
            if key in seen:
                continue
            seen[key] = event.timestamp
            newest = max(newest, min(event.timestamp, int(time.time() * 1000)))  # clocks differ
            while seen and seen[first := next(iter(seen))] < newest - OVERLAP:
                del seen[first]
            yield event
        clock.sleep(POLL_SECONDS)


def remove_stale(aws: Aws, region: str) -> list[str]:
    """Remove what killed runs left in a Region, on any bus; return the names."""
    sqs, removed = aws.client("sqs", region), []
    pages = sqs.get_paginator("list_queues").paginate(QueueNamePrefix=PREFIX)
    for url in [url for page in pages for url in page.get("QueueUrls", ())]:
        with suppress_aws_error(*_NO_QUEUE):  # its run ended now
            tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
            beat = tags.get("heartbeat", "")
            if beat.isdecimal() and abs(time.time() - int(beat)) > STALE_AFTER_SECONDS:
                removed.append(url.rsplit("/", 1)[-1])
                Tap(aws, region, tags["bus"], name=removed[-1]).remove()
    return removed


class Tap:
    """A temporary rule and queue on one bus. ``remove`` also removes what ``create`` left half."""

    def __init__(
        self, aws: Aws, region: str, bus: str, pattern: str = ALL_EVENTS, name: str = ""
    ) -> None:
        self.region, self.bus = region, bus.rpartition(":event-bus/")[2]
        self.name = name or f"{PREFIX}{uuid.uuid4().hex[:12]}"
        self._events, self._sqs = aws.client("events", region), aws.client("sqs", region)
        self._pattern, self._url, self._beat_at = pattern, "", time.monotonic()

    def create(self) -> None:
        """Create the queue, then the rule. Raises BusError."""
        bus_arn = describe_bus(self._events, self.bus)["Arn"]
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
        answer = self._events.put_targets(
            Rule=self.name, EventBusName=self.bus, Targets=[{"Id": "queue", "Arn": arn}]
        )
        if answer["FailedEntryCount"]:
            raise ToolError(
                answer["FailedEntries"][0]["ErrorMessage"],
                code=ErrorCode.AWS_ERROR,
                where=f"rule {self.name} in {self.region}",
            )

    def remove(self) -> None:
        """Remove the rule, then the queue, as far as they exist."""
        with suppress_aws_error(_NO_RULE):
            self._events.remove_targets(Rule=self.name, EventBusName=self.bus, Ids=["queue"])
            self._events.delete_rule(Name=self.name, EventBusName=self.bus)
        with suppress_aws_error(*_NO_QUEUE):
            url = self._sqs.get_queue_url(QueueName=self.name)["QueueUrl"]
            self._sqs.delete_queue(QueueUrl=url)

    def receive(self, seconds: int) -> list[Event]:
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
            events = [self._event(message["Body"]) for message in messages]
            return sorted(events, key=lambda event: event.timestamp)
        raise ToolError(
            "the temporary queue was deleted (possibly by another run after this machine slept)",
            code=ErrorCode.NOT_FOUND,
            where=f"{self.name} in {self.region}",
            advice="Start again.",
        )

    def _event(self, body: str) -> Event:
        moment = datetime.fromisoformat(json.loads(body)["time"])
        source = {"region": self.region, "bus": self.bus}
        return Event(int(moment.timestamp() * 1000), f"{self.region} {self.bus}", body, source)
