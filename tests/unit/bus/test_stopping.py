"""When sending ends before everything is sent: after a stop, or without answers."""

import itertools
import json
import threading
import time

import pytest

from eventstacks.bus import send as sender
from eventstacks.bus.journal import Journal
from eventstacks.bus.send import OutageError, Sender, Settings, send

FAST = Settings(threads=4, base=0.01)
EVENT = {"Source": "a.b", "DetailType": "x", "Detail": {}}


def test_a_delivery_may_take_longer_than_the_time_to_give_up(stub):
    settings = Settings(threads=4, give_up_after=1)
    summary = send([EVENT] * 480, stub("--delay", "200").client(), "orders", settings)
    assert (summary.acknowledged, summary.seconds > 2) == (480, True)


@pytest.mark.parametrize("fault", ["hang", "503"])
def test_a_stop_ends_sending_in_time(stub, monkeypatch, fault):
    assert sender.GRACE <= 3  # seconds
    monkeypatch.setattr(sender, "GRACE", 0.3)
    bus, stop = stub("--fault", fault), threading.Event()

    def stop_at_the_first_failure() -> None:
        while not bus.counts()["faulty_calls"]:
            time.sleep(0.005)
        stop.set()

    threading.Thread(target=stop_at_the_first_failure, daemon=True).start()
    journal, began = Journal(), time.monotonic()
    lists = [[json.dumps(EVENT).encode()] * 10 for _ in range(10)]
    Sender(bus.client(), "orders", journal, FAST, stop).run(lists)
    assert time.monotonic() - began < 2
    assert (journal.summary.acknowledged, journal.summary.rejected) == (0, 0)
    assert journal.open_records() == [(0, journal.summary.records - 1)]


def test_after_a_stop_what_was_read_is_sent_and_nothing_more_is_read(stub):
    bus, stop, journal = stub("--delay", "20"), threading.Event(), Journal()

    def lists():
        for number in itertools.count():
            if number == 5:
                stop.set()
            yield [json.dumps(EVENT).encode()] * 10

    Sender(bus.client(), "orders", journal, FAST, stop).run(lists())
    assert bus.counts()["acknowledged"] == journal.summary.acknowledged < 200
    assert journal.open_records() == []


def test_unanswered_calls_are_given_up_in_time(stub):
    """Long before botocore's read timeout of 60 seconds."""
    client, settings = stub("--fault", "hang").client(), Settings(threads=1, give_up_after=0.3)
    journal, began = Journal(), time.monotonic()
    with pytest.raises(OutageError):
        send([EVENT], client, "orders", settings, journal)
    assert 0.3 <= time.monotonic() - began < 5
    assert journal.open_records() == [(0, 0)]
