from __future__ import annotations

import _thread
import tempfile
import threading
import time
from types import SimpleNamespace

import pytest
from tests.unit.bus.operations import FakeAws

from eventstacks.bus import tap

NAME = "eventbridge-tap-abc"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def beat(ago):
    return {"heartbeat": str(int(time.time() - ago))}


@pytest.mark.parametrize("name", ["orders", "aws.partner/shop.com/orders"])
@pytest.mark.parametrize("start", ["", "arn:aws:events:r:1:event-bus/"])
def test_a_tap_knows_its_bus_by_name(start, name):
    assert tap.Tap(FakeAws(events=None, sqs=None), "r", start + name).bus == name


@pytest.mark.parametrize(
    ("ago", "alive"),
    [(0, True), (tap.STALE_AFTER_SECONDS - 60, True), (tap.STALE_AFTER_SECONDS + 60, False)],
)
def test_of_another_machine_the_tag_tells(ago, alive):
    assert tap._is_alive(beat(ago)) is alive


@pytest.mark.parametrize("tags", [{}, {"heartbeat": "x"}])
def test_without_a_beat_there_is_no_life(tags):
    assert not tap._is_alive(tags)


def test_ctrl_c_is_heard_on_a_quiet_bus_though_it_wakes_nobody():
    """It may come between Python's last look at the signals and the wait itself, which then goes on."""
    ended, looks, late = threading.Event(), [], []

    def receive():
        looks.append(True)
        if len(looks) == 1:
            time.sleep(0.2)  # the main thread has begun to wait
            _thread.interrupt_main()
        if not ended.wait(20):
            late.append(True)
            raise TimeoutError  # it wakes the main thread
        return []

    quiet = SimpleNamespace(ended=ended, receive=receive)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(tap.follow([quiet]))
    finally:
        ended.set()
    assert late == []
