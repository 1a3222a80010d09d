# ruff: noqa: N803 - the arguments of AWS's operations
from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from refs import stack_ref
from tests.unit.bus.operations import FakeAws, Service, TurningClock

from eventstacks.bus import archive as archives
from eventstacks.bus.archive import Archive
from eventstacks.bus.stacks import Deployed
from eventstacks.cli import replays

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
    assert [(one["state"], one["share"]) for one in found] == [
        ("STARTING", 0.0),
        ("RUNNING", 0.5),
        (end, last),
    ]
    assert found[-1]["reason"] == "because"


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
    assert archives.find_rules(FakeAws(events=Rules()), archive, names, stacks) == [arn] * 3


def test_the_list_names_a_partners_bus_whole(capsys):
    archive = Archive(
        **{**ARCHIVE.__dict__, "bus": "arn:aws:events:r:1:event-bus/aws.partner/shop.com/orders"}
    )
    replays._list_archives([ARCHIVE, archive], as_json=False)
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows] == ["BUS", "orders", "aws.partner/shop.com/orders"]


def test_a_name_of_a_replay_fits():
    started = {}

    class Starts(Service):
        def start_replay(self, **given):
            started.update(given)

    long = Archive(**{**ARCHIVE.__dict__, "name": "n" * 48})
    name = archives.start(FakeAws(events=Starts()), long, BEGIN, BEGIN + timedelta(hours=1), [])
    assert len(name) <= 64
    assert started["Destination"] == {"Arn": ARCHIVE.bus}


def test_a_window_that_ends_just_now_is_recent():
    now = datetime.fromtimestamp(time.time(), UTC)
    assert archives.is_recent(now)
    assert not archives.is_recent(now - timedelta(minutes=11))
