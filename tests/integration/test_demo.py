"""`make demo`, as the first thing that anybody runs."""

import os
import re
import signal

import in_process
import pytest

from eventstacks import environment
from eventstacks.cli import project
from eventstacks.documents import packaged
from eventstacks.local import server

ALL = environment.load("local", packaged("parameters")).choose()
COUNT = len([one for one in ALL if one.settings.template in project.DEMO_STACKS])
pytestmark = pytest.mark.usefixtures("children_unmeasured")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(*arguments): a verb in an empty folder.

    ``run.started`` are the embedded AWSs of the demo.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_AWS_DIR", str(tmp_path / "aws"))
    monkeypatch.setenv("LOCAL_AWS_PORT", "0")
    start = server.start

    def noting(state=None, port=None):
        in_process.run.started.append(state)
        return start(state, port)

    monkeypatch.setattr(server, "start", noting)
    in_process.run.started = []
    yield in_process.run
    assert not any(server.status(state) for state in in_process.run.started if state)
    server.stop()


def test_every_delivery_is_seen_and_nothing_is_left(run, tmp_path):
    done = run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{COUNT} stacks deployed in" in done.stdout
    assert "All 8 expected deliveries were seen" in done.stdout
    groups = re.findall(r"✓ (\S+) +after [\d.]+ s", done.stdout)
    assert len(groups) == 8
    assert sum(one.startswith("/aws/lambda/") for one in groups) == 2
    assert run.started[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("unmeasured")
def test_a_missing_delivery_fails_it(run, monkeypatch):
    arrived = project._arrived

    def lose_orders(aws, region, group, mark, count):
        return [] if "custom-event-bus" in group else arrived(aws, region, group, mark, count)

    monkeypatch.setattr(project, "_arrived", lose_orders)
    done = run("demo")
    assert done.returncode == 1
    assert "Error: 2 of 8 expected deliveries were not seen" in done.stderr


def test_interrupted_it_leaves_nothing(run, monkeypatch):
    monkeypatch.setattr(project, "_play", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    done = run("demo")
    assert (done.returncode, run.started != []) == (130, True)
    assert "Interrupted." in done.stderr
