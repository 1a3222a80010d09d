"""Follow an event bus through a temporary rule with a temporary queue.

Rule and queue have the same name. While a run lasts, it renews a tag of the queue. A run that was
killed leaves both; the next run removes them when the tag is old. The queue is created first and
deleted last, so that every rule is found by its queue.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from eventstacks.aws import suppress_aws_error
from eventstacks.bus.stacks import bus_name, check_bus
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eventstacks.aws import Aws

PREFIX = "eventbridge-tap-"
# The tag is renewed each HEARTBEAT_SECONDS; a tap whose tag is older than STALE_AFTER_SECONDS was
# left by a run that was killed.
HEARTBEAT_SECONDS, STALE_AFTER_SECONDS = 20.0, 120.0
ALL_EVENTS = json.dumps({"source": [{"prefix": ""}]})
# Python can miss the wake-up by a signal that arrives just before it waits.
INTERRUPT_POLL_SECONDS = 0.5
MESSAGE_RETENTION, LONG_POLL = "300", 5  # seconds
_NO_RULE = "ResourceNotFoundException"
# As SQS answers, and as its model names it.
_NO_QUEUE = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")


@dataclass(frozen=True)
class Seen:
    """An event as a target of the bus receives it."""

    region: str
    bus: str
    event: dict[str, Any]


def remove(aws: Aws, region: str, bus: str, name: str) -> None:
    """Remove what exists of a tap."""
    events, sqs = aws.client("events", region), aws.client("sqs", region)
    with suppress_aws_error(_NO_RULE):
        events.remove_targets(Rule=name, EventBusName=bus, Ids=["queue"])
    with suppress_aws_error(_NO_RULE):
        events.delete_rule(Name=name, EventBusName=bus)
    with suppress_aws_error(*_NO_QUEUE):
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"])


def remove_stale(aws: Aws, region: str, bus: str) -> list[str]:
    """Remove what killed runs left in a Region, on any bus; return the names."""
    sqs = aws.client("sqs", region)
    stale: dict[str, str] = {}
    for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=PREFIX):
        for url in page.get("QueueUrls", ()):
            with suppress_aws_error(*_NO_QUEUE):  # its run ended now
                tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
                if not _is_alive(tags):
                    stale[url.rsplit("/", 1)[-1]] = tags.get("bus", bus)
    for name, bus_of_tap in stale.items():
        remove(aws, region, bus_of_tap, name)
    return list(stale)


def _is_alive(tags: dict[str, str]) -> bool:
    beat = tags.get("heartbeat", "")
    return beat.isdecimal() and abs(time.time() - int(beat)) < STALE_AFTER_SECONDS


class Tap:
    """A temporary rule and queue on one bus, as a context manager."""

    def __init__(self, aws: Aws, region: str, bus: str, pattern: str = ALL_EVENTS) -> None:
        self.region, self.bus = region, bus_name(bus)
        self.name = f"{PREFIX}{uuid.uuid4().hex[:12]}"
        self.ended = threading.Event()
        self._events, self._sqs = aws.client("events", region), aws.client("sqs", region)
        self._aws, self._pattern, self._url = aws, pattern, ""

    def __enter__(self) -> Self:
        check_bus(self._events, self.bus)
        try:
            self._create()
        except BaseException:
            self.__exit__()
            raise
        threading.Thread(target=self._send_heartbeats, daemon=True).start()
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
        self.ended.set()
        remove(self._aws, self.region, self.bus, self.name)

    def _send_heartbeats(self) -> None:
        while not self.ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(Exception):  # the next one follows soon
                now = str(int(time.time()))
                self._sqs.tag_queue(QueueUrl=self._url, Tags={"heartbeat": now})

    def receive(self) -> list[Seen]:
        """Return new events, after LONG_POLL seconds at most. Raises ToolError without a queue."""
        with suppress_aws_error(*_NO_QUEUE):
            messages = self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=LONG_POLL
            ).get("Messages", [])
            if messages:
                handles = [
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(messages)
                ]
                self._sqs.delete_message_batch(QueueUrl=self._url, Entries=handles)
            seen = [Seen(self.region, self.bus, json.loads(one["Body"])) for one in messages]
            return sorted(seen, key=lambda one: str(one.event.get("time", "")))
        raise ToolError(
            "the temporary queue was deleted (possibly by another run after this machine slept)",
            code=ErrorCode.NOT_FOUND,
            where=f"{self.name} in {self.region}",
            advice="Start again.",
        )


def follow(taps: Sequence[Tap]) -> Iterator[Seen]:
    """Yield the events of taps without end, as they arrive. Raises what ``Tap.receive`` raises."""
    inbox: queue.Queue[Seen | Exception] = queue.Queue(maxsize=1000)

    def listen(tap: Tap) -> None:
        while not tap.ended.is_set():
            try:
                for seen in tap.receive():
                    inbox.put(seen)
            except Exception as error:  # noqa: BLE001 - raised below, in the thread of the caller
                if not tap.ended.is_set():
                    inbox.put(error)
                return

    for tap in taps:
        threading.Thread(target=listen, args=(tap,), daemon=True).start()
    while True:
        with contextlib.suppress(queue.Empty):
            message = inbox.get(timeout=INTERRUPT_POLL_SECONDS)
            if isinstance(message, Exception):
                raise message
            yield message
