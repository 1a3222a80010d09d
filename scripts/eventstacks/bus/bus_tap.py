"""A bus, listened to through a temporary rule with a temporary queue.

Rule and queue share a name. A run that dies leaves both behind, and the next run removes them: a living run holds a
lock on a file of this machine, which the kernel lets go of when the process dies, and for runs on other machines it
renews a tag of the queue. The queue is made first and removed last, so that every rule is found through its queue.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from eventstacks.bus import buses
from eventstacks.bus.codes import GONE, NO_QUEUE, Ignoring
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eventstacks.aws import Aws

PREFIX = "eventbridge-tap-"
BEAT, EXPIRY = (
    30.0,
    300.0,
)  # seconds between two signs of life, and without one until a tap of elsewhere counts as dead
EVERYTHING = json.dumps({"source": [{"prefix": ""}]})
HEARING = 0.5  # seconds: a Ctrl-C that comes in the moment before a wait is heard when that ends
_RETENTION, _WAIT = "300", 5  # seconds: of messages that nobody fetches; of one long poll


@dataclass(frozen=True)
class Seen:
    """An event as a rule's target gets it, and where it was seen."""

    region: str
    bus: str
    event: dict[str, Any]


def remove(aws: Aws, region: str, bus: str, name: str) -> None:
    """Removes a tap, as far as it is there."""
    events, sqs = aws.client("events", region), aws.client("sqs", region)
    with Ignoring(GONE):
        events.remove_targets(Rule=name, EventBusName=bus, Ids=["queue"])
    with Ignoring(GONE):
        events.delete_rule(Name=name, EventBusName=bus)
    with Ignoring(*NO_QUEUE):
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"])
    with contextlib.suppress(OSError):  # gone already, or of another user of this machine
        _lock_file(name).unlink()


def sweep(aws: Aws, region: str, bus: str) -> list[str]:
    """Removes what dead runs have left in a region, on whatever bus; gives the names. Living taps stay."""
    events, sqs = aws.client("events", region), aws.client("sqs", region)
    taps: dict[str, str] = {}
    for page in sqs.get_paginator("list_queues").paginate(QueueNamePrefix=PREFIX):
        for url in page.get("QueueUrls", ()):
            with Ignoring(*NO_QUEUE):  # its run ended just now
                tags, name = (
                    sqs.list_queue_tags(QueueUrl=url).get("Tags", {}),
                    url.rsplit("/", 1)[-1],
                )
                if not _is_alive(name, tags):
                    taps[name] = tags.get("bus", bus)
    for page in events.get_paginator("list_rules").paginate(NamePrefix=PREFIX, EventBusName=bus):
        for name in (one["Name"] for one in page["Rules"]):
            with Ignoring(*NO_QUEUE):
                sqs.get_queue_url(QueueName=name)
                continue
            taps[name] = (
                bus  # somebody removed its queue by hand; the rule keeps the bus from deletion
            )
    for name, its_bus in taps.items():
        remove(aws, region, its_bus, name)
    return list(taps)


def _lock_file(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{name}.lock"


def _is_alive(name: str, tags: dict[str, str]) -> bool:
    try:
        with _lock_file(name).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # not of this machine, or not of this user
        beat = tags.get("heartbeat", "")
        return beat.isdecimal() and abs(time.time() - int(beat)) < EXPIRY
    return False


class Tap:
    """One bus, tapped while the context lasts."""

    def __init__(self, aws: Aws, region: str, bus: str, pattern: str = EVERYTHING) -> None:
        self.region, self.bus, self.name = (
            region,
            buses.name_of(bus),
            f"{PREFIX}{uuid.uuid4().hex[:12]}",
        )
        self.ended = threading.Event()
        self._aws, self._pattern, self._url = aws, pattern, ""
        self._met: dict[str, None] = {}  # ids of messages: a queue gives one out twice at times
        self._lock = -1

    def __enter__(self) -> Self:
        events = self._aws.client("events", self.region)
        buses.check(events, self.bus)
        self._lock = os.open(
            _lock_file(self.name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600
        )
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            self._make(events)
        except BaseException:
            self.__exit__()
            raise
        threading.Thread(target=self._live, daemon=True).start()
        return self

    def _make(self, events: Any) -> None:
        _, partition, _, region, account, _ = events.describe_event_bus(Name=self.bus)["Arn"].split(
            ":"
        )
        path = self.name if self.bus == "default" else f"{self.bus}/{self.name}"
        rule = f"arn:{partition}:events:{region}:{account}:rule/{path}"
        arn = f"arn:{partition}:sqs:{region}:{account}:{self.name}"
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
            "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._url = self._aws.client("sqs", self.region).create_queue(
            QueueName=self.name,
            tags={"bus": self.bus, "heartbeat": str(int(time.time()))},
            Attributes={
                "Policy": policy,
                "MessageRetentionPeriod": _RETENTION,
                "SqsManagedSseEnabled": "true",
            },
        )["QueueUrl"]
        events.put_rule(
            Name=self.name,
            EventBusName=self.bus,
            EventPattern=self._pattern,
            State="ENABLED",
            Description="Temporary: somebody follows this bus (eventstacks tail --bus).",
        )
        answer = events.put_targets(
            Rule=self.name, EventBusName=self.bus, Targets=[{"Id": "queue", "Arn": arn}]
        )
        if answer["FailedEntryCount"]:
            raise ToolError(
                answer["FailedEntries"][0]["ErrorMessage"],
                where=f"rule {self.name} in {self.region}",
            )

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        try:
            remove(self._aws, self.region, self.bus, self.name)
        finally:
            os.close(self._lock)

    def _live(self) -> None:
        sqs = self._aws.client("sqs", self.region)
        while not self.ended.wait(BEAT):
            with contextlib.suppress(Exception):  # the next one is soon
                sqs.tag_queue(QueueUrl=self._url, Tags={"heartbeat": str(int(time.time()))})

    def receive(self) -> list[Seen]:
        """What has come, after a few seconds at the most. Raises ToolError when somebody removed the queue."""
        sqs = self._aws.client("sqs", self.region)
        with Ignoring(*NO_QUEUE):
            answer = sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=_WAIT
            )
            messages = answer.get("Messages", [])
            handles = [
                {"Id": str(at), "ReceiptHandle": one["ReceiptHandle"]}
                for at, one in enumerate(messages)
            ]
            if handles:
                sqs.delete_message_batch(QueueUrl=self._url, Entries=handles)
            new = [one for one in messages if one["MessageId"] not in self._met]
            self._met |= dict.fromkeys(one["MessageId"] for one in new)
            while len(self._met) > 10_000:
                del self._met[next(iter(self._met))]
            found = [Seen(self.region, self.bus, json.loads(one["Body"])) for one in new]
            return sorted(found, key=lambda one: str(one.event.get("time", "")))
        raise ToolError(
            "the temporary queue is gone",
            where=f"{self.name} in {self.region}",
            advice="Did this machine sleep? Another run removes what looks dead. Start again.",
        )


def follow(taps: Sequence[Tap]) -> Iterator[Seen]:
    """What comes over several taps, without end, as it comes. Raises what ``Tap.receive`` raises."""
    seen: queue.Queue[Seen | Exception] = queue.Queue(maxsize=1000)

    def listen(tap: Tap) -> None:
        while not tap.ended.is_set():
            try:
                for one in tap.receive():
                    seen.put(one)
            except Exception as error:  # noqa: BLE001 - it is raised where the events are wanted
                if not tap.ended.is_set():
                    seen.put(error)
                return

    for tap in taps:
        threading.Thread(target=listen, args=(tap,), daemon=True).start()
    while True:
        try:
            one = seen.get(timeout=HEARING)
        except queue.Empty:
            continue
        if isinstance(one, Exception):
            raise one
        yield one
