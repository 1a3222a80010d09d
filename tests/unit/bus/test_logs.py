# ruff: noqa: N803 - the arguments of AWS's operations
from __future__ import annotations

from types import SimpleNamespace

import pytest
from tests.unit.bus.operations import FakeAws, MissingError, Service, TurningClock

from eventstacks.aws import Cancelled
from eventstacks.bus import tail

A, B = ("r", "a"), ("r", "b")
NOW = 1_760_000_000_000


@pytest.fixture(autouse=True)
def _still(monkeypatch):
    """A fixed time of day: a test can run minutes after NOW was read."""
    monkeypatch.setattr(tail, "time", SimpleNamespace(time=lambda: NOW / 1000))


class Logs(Service):
    """Log groups with pages of two events; ``groups`` is name → [(time stamp, id, message)]."""

    def __init__(self, **groups):
        self.groups = groups

    def filter_log_events(self, logGroupName, startTime, nextToken="0", filterPattern=""):
        if logGroupName not in self.groups:
            raise MissingError
        found = sorted(
            one
            for one in self.groups[logGroupName]
            if one[0] >= startTime and filterPattern in one[2]
        )
        at = int(nextToken)
        page = [
            {"timestamp": stamp, "message": text, "logStreamName": "s", "eventId": key}
            for stamp, key, text in found[at : at + 2]
        ]
        return {"events": page} | ({"nextToken": str(at + 2)} if at + 2 < len(found) else {})


def messages(entries):
    """What came until the clock ended."""
    found = []
    with pytest.raises(Cancelled):
        found += (found.append(one.message) for one in entries)
    return [one for one in found if one]


def test_what_is_older_than_since_is_not_shown():
    service = Logs(a=[(NOW - 30_000, "1", "old"), (NOW, "2", "new")])
    found = tail.follow(FakeAws(logs=service), [A], NOW, "", TurningClock(2))
    assert messages(found) == ["new"]


def test_groups_are_merged_in_the_order_of_time_over_all_pages():
    service = Logs(
        a=[(1, "1", "a1"), (3, "3", "a3"), (5, "5", "a5"), (6, "6", "a6")],
        b=[(2, "2", "b2"), (4, "4", "b4")],
    )
    found = tail.merge(FakeAws(logs=service), [A, B], 2, "", TurningClock(1))
    assert [one.message for one in found] == ["b2", "a3", "b4", "a5", "a6"]


def test_a_missing_group_is_read_once_it_exists():
    service = Logs(a=[(NOW, "1", "a1")])
    clock = TurningClock(
        6, lambda number: number == 1 and service.groups.update(b=[(NOW + 1, "2", "b2")])
    )
    assert messages(tail.follow(FakeAws(logs=service), [A, B], NOW - 5, "", clock)) == [
        "a1",
        "b2",
    ]


def test_an_event_that_is_read_twice_is_yielded_once():
    service = Logs(a=[(NOW, "1", "x"), (NOW, "2", "x")])
    clock = TurningClock(
        6, lambda number: service.groups["a"].append((NOW + number, str(number + 2), "y"))
    )
    assert messages(tail.follow(FakeAws(logs=service), [A], NOW - 5, "", clock)) == [
        "x",
        "x",
        *"yyyyy",
    ]


def test_equal_events_of_two_groups_are_both_yielded():
    service = Logs(a=[(NOW, "1", "x")], b=[])
    clock = TurningClock(
        6, lambda number: number == 1 and service.groups["b"].append((NOW, "1", "x"))
    )
    assert messages(tail.follow(FakeAws(logs=service), [A, B], NOW - 5, "", clock)) == [
        "x",
        "x",
    ]


def test_late_events_are_yielded():
    service = Logs(a=[(NOW, "1", "now")], b=[])
    late = (NOW - tail.OVERLAP + 2_000, "2", "a minute ago")
    clock = TurningClock(6, lambda number: number == 2 and service.groups["b"].append(late))
    since = NOW - tail.OVERLAP
    assert messages(tail.follow(FakeAws(logs=service), [A, B], since, "", clock)) == [
        "now",
        "a minute ago",
    ]


def test_an_event_from_the_future_hides_no_others():
    service = Logs(a=[(NOW + 3_600_000, "1", "of tomorrow")])
    clock = TurningClock(
        6, lambda number: number == 1 and service.groups["a"].append((NOW + 1, "2", "of today"))
    )
    found = messages(tail.follow(FakeAws(logs=service), [A], NOW - 5, "", clock))
    assert sorted(found) == ["of today", "of tomorrow"]


def test_an_event_from_before_the_start_does_not_end_following(monkeypatch):
    service = Logs(a=[(NOW, "2", "now")])
    early = {"timestamp": NOW - 3_600_000, "message": "early", "logStreamName": "s", "eventId": "1"}
    monkeypatch.setattr(service, "filter_log_events", lambda **_: {"events": [early]})
    assert messages(tail.follow(FakeAws(logs=service), [A], NOW - 5, "", TurningClock(3)))[:1] == [
        "early"
    ]


def test_ids_of_old_events_are_forgotten(monkeypatch):
    monkeypatch.setattr(tail, "OVERLAP", 10)
    service = Logs(a=[(NOW - 1000 + number, str(number), "x") for number in range(500)])
    entries = tail.follow(FakeAws(logs=service), [A], 0, "", TurningClock(3))
    for _ in range(500):
        next(entries)
    assert len(entries.gi_frame.f_locals["seen"]) <= 11
