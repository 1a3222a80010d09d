# ruff: noqa: N803 - the arguments of AWS's operations
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from refs import stack_ref
from tests.unit.bus.operations import FakeAws, Service, TurningClock

from eventstacks.bus.stacks import Deployed, find_rules, start_replay, wait_for_replay
from eventstacks.cli import replays

ARCHIVE = {
    "region": "r",
    "name": "kept",
    "arn": "arn:aws:events:r:1:archive/kept",
    "bus": "arn:aws:events:r:1:event-bus/orders",
    "state": "ENABLED",
    "events": 9,
    "size": 99,
    "retention": 7,
}
BEGIN = datetime(2026, 5, 1, tzinfo=UTC)


class Events(Service):
    """A replay whose state is another one at each look."""

    def __init__(self, *states):
        self.states = list(states)

    def describe_replay(self, ReplayName):
        return {"State": self.states.pop(0), "StateReason": "because"}


@pytest.mark.parametrize("end", ["COMPLETED", "CANCELLED", "FAILED"])
def test_a_replay_is_followed_to_its_end(end):
    events = Events("STARTING", "RUNNING", "CANCELLING", end, "never asked")
    found = wait_for_replay(FakeAws(events=events), "r", "it", TurningClock(10))
    assert found == {"replay": "it", "region": "r", "state": end, "reason": "because"}
    assert events.states == ["never asked"]


@pytest.mark.parametrize("bus", ["orders", "aws.partner/shop.com/orders"])
def test_rules_are_chosen_by_name_or_logical_id(bus):
    class Rules(Service):
        def describe_rule(self, Name, EventBusName):
            return {"Arn": f"{EventBusName}/{Name}"}

    archive = {**ARCHIVE, "bus": f"arn:aws:events:r:1:event-bus/{bus}"}
    kind = "AWS::Events::Rule"
    rules = (("CatchAll", kind, f"{bus}|all"), ("Elsewhere", kind, "other|x"))
    stacks = [Deployed(stack_ref("dev", "s", "dev-s", "r"), {}, rules)]
    names = ["all", "CatchAll", "Elsewhere"]
    found = find_rules(FakeAws(events=Rules()), archive, names, stacks)
    assert found == [f"{bus}/all", f"{bus}/all", f"{bus}/Elsewhere"]


def test_the_list_has_the_whole_name_of_a_partner_bus(capsys):
    archive = {**ARCHIVE, "bus": "arn:aws:events:r:1:event-bus/aws.partner/shop.com/orders"}
    replays._list_archives([ARCHIVE, archive], as_json=False)
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows] == ["BUS", "orders", "aws.partner/shop.com/orders"]


def test_names_of_replays_are_within_the_limit():
    started = {}

    class Starts(Service):
        def start_replay(self, **given):
            started.update(given)

    long = {**ARCHIVE, "name": "n" * 48}
    name = start_replay(FakeAws(events=Starts()), long, BEGIN, BEGIN + timedelta(hours=1), [])
    assert len(name) <= 64
    assert started["Destination"] == {"Arn": ARCHIVE["bus"]}
