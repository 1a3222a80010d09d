# ruff: noqa: N803 - the arguments of AWS's operations
from __future__ import annotations

import json
import time

import pytest
from tests.unit.bus.operations import FakeAws, MissingError, Service

from eventstacks.bus import tail
from eventstacks.errors import ErrorCode, ToolError

NAME = "eventbridge-tap-abc"


class Events(Service):
    def __init__(self):
        self.deleted = []

    def remove_targets(self, Rule, EventBusName, Ids):
        assert Ids == ["queue"]

    def delete_rule(self, Name, EventBusName):
        self.deleted.append((EventBusName, Name))


class Sqs(Service):
    def __init__(self, tags):
        self.tags, self.deleted, self.beats = tags, [], []

    def get_paginator(self, _name):
        return self

    def paginate(self, QueueNamePrefix):
        return [{}, {"QueueUrls": [f"https://sqs/1/{QueueNamePrefix}abc"]}]

    def list_queue_tags(self, QueueUrl):
        if self.tags is None:
            raise MissingError("QueueDoesNotExist")
        return {"Tags": self.tags}

    def get_queue_url(self, QueueName):
        return {"QueueUrl": QueueName}

    def delete_queue(self, QueueUrl):
        self.deleted.append(QueueUrl)

    def tag_queue(self, QueueUrl, Tags):
        self.beats.append(Tags)

    def receive_message(self, QueueUrl, MaxNumberOfMessages, WaitTimeSeconds):
        if self.tags is None:
            raise MissingError("QueueDoesNotExist")
        return {}


@pytest.mark.parametrize(("bus", "path"), [("orders", "orders/"), ("default", "")])
def test_only_the_rule_of_a_tap_may_send_to_its_queue(bus, path):
    events, sqs, queues = Events(), Sqs({}), []
    events.describe_event_bus = lambda Name: {"Arn": f"arn:aws:events:r:1:event-bus/{Name}"}
    events.put_rule = lambda **_: None
    events.put_targets = lambda **_: {"FailedEntryCount": 0}
    sqs.create_queue = lambda **queue: queues.append(queue) or {"QueueUrl": "url"}
    tap = tail.Tap(FakeAws(events=events, sqs=sqs), "r", bus)
    tap.create()
    (statement,) = json.loads(queues[0]["Attributes"]["Policy"])["Statement"]
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:events:r:1:rule/{path}{tap.name}"}
    }
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}


@pytest.mark.parametrize("name", ["orders", "aws.partner/shop.com/orders"])
@pytest.mark.parametrize("start", ["", "arn:aws:events:r:1:event-bus/"])
def test_a_tap_knows_its_bus_by_name(start, name):
    assert tail.Tap(FakeAws(events=None, sqs=None), "r", start + name).bus == name


@pytest.mark.parametrize(
    ("heartbeat", "is_stale"),
    [
        (0, False),
        (tail.STALE_AFTER_SECONDS - 60, False),
        (-300, False),  # AWS accepts calls of a machine whose clock is wrong by five minutes
        (300 + tail.HEARTBEAT_SECONDS, False),
        (tail.STALE_AFTER_SECONDS + 60, True),
        ("of another program", False),
        (None, False),
    ],
)
def test_a_tap_without_a_recent_heartbeat_is_removed(heartbeat, is_stale):
    if isinstance(heartbeat, int | float):
        heartbeat = str(int(time.time() - heartbeat))
    tags = heartbeat and {"heartbeat": heartbeat, "bus": "orders"}
    events, sqs = Events(), Sqs(tags)
    found = tail.remove_stale(FakeAws(events=events, sqs=sqs), "r")
    assert (found, sqs.deleted) == (([NAME], [NAME]) if is_stale else ([], []))
    assert events.deleted == ([("orders", NAME)] if is_stale else [])


def test_a_tap_renews_its_heartbeat(monkeypatch):
    sqs = Sqs({})
    following = tail.Tap(FakeAws(events=Events(), sqs=sqs), "r", "orders")
    following.receive(1)
    assert sqs.beats == []
    now = time.monotonic() + tail.HEARTBEAT_SECONDS + 1
    monkeypatch.setattr(tail.time, "monotonic", lambda: now)
    following.receive(1)
    following.receive(1)
    assert len(sqs.beats) == 1


def test_a_tap_whose_queue_was_deleted_is_an_error():
    with pytest.raises(ToolError) as caught:
        tail.Tap(FakeAws(events=Events(), sqs=Sqs(None)), "r", "orders").receive(1)
    assert caught.value.code is ErrorCode.NOT_FOUND
