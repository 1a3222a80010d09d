from __future__ import annotations

import _thread
import fcntl
import tempfile
import threading
import time
from pathlib import Path
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


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_a_lock_file_that_cannot_be_removed_is_left(monkeypatch, error):
    """/tmp is sticky: nobody removes another user's file there."""
    asked = []

    def refuse(path, **_):
        asked.append(path.name)
        raise error

    gone = lambda **_: None  # noqa: E731
    events = SimpleNamespace(remove_targets=gone, delete_rule=gone)
    sqs = SimpleNamespace(get_queue_url=lambda **_: {"QueueUrl": "url"}, delete_queue=gone)
    monkeypatch.setattr(Path, "unlink", refuse)
    tap.remove(FakeAws(events=events, sqs=sqs), "r", "orders", NAME)
    assert asked == [f"{NAME}.lock"]


def test_a_held_lock_is_life_whatever_the_tag_says(tmp_path):
    with (tmp_path / f"{NAME}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert tap._is_alive(NAME, beat(10 * tap.STALE_AFTER_SECONDS))


def test_a_free_lock_is_death_whatever_the_tag_says(tmp_path):
    (tmp_path / f"{NAME}.lock").touch()
    assert not tap._is_alive(NAME, beat(0))


@pytest.mark.parametrize(
    ("ago", "alive"),
    [(0, True), (tap.STALE_AFTER_SECONDS - 60, True), (tap.STALE_AFTER_SECONDS + 60, False)],
)
def test_of_another_machine_the_tag_tells(ago, alive):
    assert tap._is_alive(NAME, beat(ago)) is alive


@pytest.mark.parametrize("tags", [{}, {"heartbeat": "x"}])
def test_without_a_beat_there_is_no_life(tags):
    assert not tap._is_alive(NAME, tags)


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
