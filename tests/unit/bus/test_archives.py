# ruff: noqa: N803 - the arguments of AWS's operations
from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from refs import stack_ref
from tests.unit.bus.operations import FakeAws, Service, TurningClock

from eventstacks.bus import archives, log_groups
from eventstacks.bus.archives import Archive
from eventstacks.bus.stacks import Deployed
from eventstacks.cli import archive_replay
from eventstacks.flow import graph

ARCHIVE = Archive(
    "r",
    "kept",
    "arn:aws:events:r:1:archive/kept",
    "arn:aws:events:r:1:event-bus/orders",
    "ENABLED",
    9,
    99,
    7,
)
BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
WINDOW = (BEGIN, BEGIN + timedelta(hours=1))


class Events(Service):
    """A replay of an hour that goes on by half an hour with each look."""

    def __init__(self, *states):
        self.states = list(states)

    def describe_replay(self, ReplayName):
        state, minutes = self.states.pop(0)
        last = (
            {"EventLastReplayedTime": BEGIN + timedelta(minutes=minutes)}
            if minutes is not None
            else {}
        )
        return {"State": state, **last, "StateReason": "because"}


@pytest.mark.parametrize("end", ["COMPLETED", "CANCELLED", "FAILED"])
def test_a_replay_is_followed_to_its_end(end):
    events = Events(("STARTING", None), ("RUNNING", 30), (end, 45), ("never asked", 0))
    found = list(
        archives.follow(FakeAws(events=events), [(ARCHIVE, "it")], WINDOW, TurningClock(10))
    )
    last = 1.0 if end == "COMPLETED" else 0.75
    assert [(one.state, one.share) for one in found] == [
        ("STARTING", 0.0),
        ("RUNNING", 0.5),
        (end, last),
    ]
    assert found[-1].reason == "because"


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        ({"id": "1", "time": "2026-05-01T00:00:00Z", "detail-type": "T"}, True),
        ({"id": "1", "time": "2026-05-01T01:00:00Z", "detail-type": "T"}, True),
        ({"id": "1", "time": "2026-05-01T01:00:01Z", "detail-type": "T"}, False),
        ({"id": "1", "time": "2026-04-30T23:59:59Z", "detail-type": "T"}, False),
        (
            {"id": "1", "time": "2026-05-01T00:00:00Z", "detail-type": "T", "replay-name": "r"},
            False,
        ),
        ({"time": "2026-05-01T00:00:00Z", "detail-type": "T"}, False),
        (["id", "time", "detail-type"], False),
    ],
)
def test_events_of_the_window_count_and_replayed_ones_do_not(message, counts):
    found = archives._event_of(json.dumps(message), BEGIN, BEGIN + timedelta(hours=1))
    assert (found is not None) is counts


@pytest.mark.parametrize("message", ["START RequestId", 100_000 * "["])
def test_what_is_no_json_is_no_event(message):
    assert archives._event_of(message, BEGIN, BEGIN) is None


@pytest.mark.parametrize("bus", ["orders", "aws.partner/shop.com/orders"])
def test_rules_are_chosen_by_any_of_their_names(bus):
    arn = f"arn:aws:events:r:1:rule/{bus}/all"

    class Rules(Service):
        def get_paginator(self, name):
            return self

        def paginate(self, EventBusName):
            return [{"Rules": [{"Name": "all", "Arn": arn}] if EventBusName == bus else []}]

    archive = Archive(**{**ARCHIVE.__dict__, "bus": f"arn:aws:events:r:1:event-bus/{bus}"})
    stacks = [Deployed(stack_ref("dev", "s", "dev-s", "r"), {}, (), {"CatchAll": (bus, "all")})]
    names = ["all", arn, "CatchAll"]
    assert archives.choose_rules(FakeAws(events=Rules()), archive, names, stacks) == [arn] * 3


def test_the_list_names_a_partners_bus_whole(capsys):
    archive = Archive(
        **{**ARCHIVE.__dict__, "bus": "arn:aws:events:r:1:event-bus/aws.partner/shop.com/orders"}
    )
    archive_replay._list([ARCHIVE, archive], as_json=False)
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows] == ["BUS", "orders", "aws.partner/shop.com/orders"]


def test_two_rules_of_one_name_are_told_apart(monkeypatch):
    """Two stacks may call their rules alike, and have them on one bus."""
    event = {
        "id": "1",
        "time": "2026-05-01T00:00:00Z",
        "detail-type": "T",
        "source": "shop",
        "detail": {},
    }
    group = "arn:aws:logs:r:1:log-group:all"
    rules = [
        graph.Rule(
            "CatchAll",
            "a",
            "arn:aws:events:r:1:rule/orders/a",
            ARCHIVE.bus,
            {"source": ["shop"]},
            targets=(graph.Target("log", group),),
        ),
        graph.Rule(
            "CatchAll",
            "b",
            "arn:aws:events:r:1:rule/orders/b",
            ARCHIVE.bus,
            {"source": ["elsewhere"]},
        ),
    ]
    flow = graph.Flow(rules=rules, buses={ARCHIVE.bus: graph.Bus("orders", "orders", ARCHIVE.bus)})
    entry = SimpleNamespace(message=json.dumps(event))
    monkeypatch.setattr(log_groups, "merge", lambda *_: [entry])
    found = archives.preview(FakeAws(), ARCHIVE, flow, WINDOW)
    assert [(label, count, len(targets)) for label, count, targets in found.rules] == [
        ("CatchAll", 1, 1),
        ("CatchAll", 0, 0),
    ]
    only = archives.preview(FakeAws(), ARCHIVE, flow, WINDOW, [rules[1].arn])
    assert only.rules == [("CatchAll", 0, {})]


def test_a_name_of_a_replay_fits():
    started = {}

    class Starts(Service):
        def start_replay(self, **given):
            started.update(given)

    long = Archive(**{**ARCHIVE.__dict__, "name": "n" * 48})
    name = archives.start(FakeAws(events=Starts()), long, BEGIN, BEGIN + timedelta(hours=1), [])
    assert len(name) <= 64
    assert started["Destination"] == {"Arn": ARCHIVE.bus}


def test_a_window_that_ends_just_now_is_fresh():
    now = datetime.fromtimestamp(time.time(), UTC)
    assert archives.is_fresh(now)
    assert not archives.is_fresh(now - timedelta(minutes=11))
