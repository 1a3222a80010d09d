"""`make demo`, as the first thing that anybody runs."""

import os
import pty
import re
import signal
import subprocess
import sys

import in_process
import pytest

from eventstacks import environment
from eventstacks.aws import Aws
from eventstacks.cli import demo
from eventstacks.cloudformation.deployer import Stacks
from eventstacks.local import server
from eventstacks.packaged import packaged

COUNT = len(environment.load("local", packaged("parameters")).choose())
pytestmark = pytest.mark.usefixtures("children_unmeasured")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(*arguments): a verb, with an embedded AWS of its own, on a free port."""
    monkeypatch.setenv("LOCAL_AWS_DIR", str(tmp_path / "aws"))
    monkeypatch.setenv("LOCAL_AWS_PORT", "0")
    yield in_process.run
    server.stop()


@pytest.fixture
def interrupted(run, monkeypatch):
    """interrupted(*times): the demo, with Ctrl-C at these times, on an embedded AWS that was running before."""

    places = {
        "deploying": (Stacks, "deploy"),
        "waiting": (demo, "watch"),
        "deleting": (demo, "remove_snapshots"),
    }

    def pressing(function):
        left = [signal.SIGINT]  # once: the regions wait at the same time

        def call(*arguments, **more):
            result = function(*arguments, **more)
            if left:
                os.kill(os.getpid(), left.pop())
            return result

        return call

    def start(*times):
        server.start()
        with monkeypatch.context() as patched:
            for module, name in (places[time] for time in times):
                patched.setattr(module, name, pressing(getattr(module, name)))
            return run("demo")

    return start


def stacks():
    return server.status().stacks


def own_client(service, region):
    return Aws(environment.load("local"), server.start).client(service, region)


def test_every_delivery_is_seen_and_nothing_is_left(run):
    done = run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All 8 expected deliveries were seen" in done.stdout
    groups = re.findall(r"✓ (\S+) +after [\d.]+ s", done.stdout)
    assert len(groups) == 8
    assert sum(one.startswith("/aws/lambda/") for one in groups) == 2
    steps = [
        line
        for line in done.stdout.splitlines()
        if line.endswith(" s") and not line.startswith(" ")
    ]
    assert [line.split()[0] for line in steps] == [
        "Rendered",
        "Connected",
        "Deployed",
        "Deleted",
    ]
    assert max(map(len, steps)) < 80  # a narrow terminal
    assert server.status() is None


@pytest.mark.usefixtures("unmeasured")
def test_the_next_demo_takes_over_what_was_kept(run):
    assert run("demo", "--keep").returncode == 0
    assert len(stacks()) == COUNT
    assert run("demo").returncode == 0
    assert stacks() == []  # it was running before: it goes on, without the stacks


@pytest.mark.usefixtures("unmeasured")
def test_a_missing_delivery_fails_it_and_it_leaves_only_what_was_there_before(run):
    assert run("deploy", "--yes", "--stack", "custom-event-bus").returncode == 0
    before = stacks()
    kept = run("demo", "--keep")
    assert kept.returncode == 0, kept.stderr
    assert "Not deleted" in kept.stdout
    assert len(stacks()) == len(before) + COUNT
    events = own_client("events", "eu-west-1")
    for bus in events.list_event_buses()["EventBuses"]:
        for rule in events.list_rules(EventBusName=bus["Name"])["Rules"]:
            events.disable_rule(Name=rule["Name"], EventBusName=bus["Name"])
    done = run("demo", "--wait", "1")  # takes over what was kept, and deletes it whatever happens
    assert done.returncode == 1
    assert "Error: 4 of 8 expected deliveries were not seen" in done.stderr
    assert stacks() == before


@pytest.mark.parametrize("when", ["deploying", "waiting"])
def test_interrupted_it_deletes_what_it_has_made(interrupted, when):
    done = interrupted(when)
    assert done.returncode == 130
    assert "Interrupted." in done.stderr
    assert re.search(rf"^Deleted +{COUNT} stacks", done.stdout, re.MULTILINE)
    assert stacks() == []
    assert own_client("s3", "us-east-1").list_buckets()["Buckets"] == []


def test_interrupted_again_it_says_what_stays_and_the_next_one_deletes_it(interrupted, run):
    done = interrupted("waiting", "deleting")
    assert done.returncode == 130
    assert stacks()
    assert re.search(r"stacks demo-….* database and the snapshot demo-\w{8}", done.stdout)
    assert run("demo").returncode == 0
    assert stacks() == []


def test_on_an_account_it_asks_first(run):
    done = run("demo", "--env", "dev")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "Error: no terminal for the prompt; pass --yes. Nothing was changed.",
    )
    ours, theirs = pty.openpty()
    os.write(ours, b"n\n")
    done = subprocess.run(
        [sys.executable, "-m", "eventstacks", "demo", "--env", "dev"],
        stdin=theirs,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    os.close(ours)
    os.close(theirs)
    assert (done.returncode, done.stderr.endswith("Nothing was changed.\n")) == (1, True)
    count = len(environment.load("dev").choose())
    words = f"This deploys {count} stacks in us-east-1, eu-west-1 of account 111122223333"
    assert words in done.stderr
