# ruff: noqa: N803 - the arguments of AWS's operations
"""The demo, as far as no AWS is needed: what it asks, where it goes, and that it leaves nothing behind."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from refs import stack_ref
from tests.unit.bus.operations import FakeAws, MissingError, Service

from eventstacks import aws, environment, parameter_checks, rendering
from eventstacks.__main__ import cli
from eventstacks.cli import demo, output
from eventstacks.cloudformation.deployer import Stacks
from eventstacks.environment import Environment, StackSettings

NAME = "demo-0123abcd"


@pytest.fixture
def asked(monkeypatch):
    """The questions that were asked on a terminal, each answered with no; the environment's region is not the stack's."""
    questions = []
    stacks = {"bus": StackSettings("bus", "bus", "bus", ("eu-west-1",))}
    chosen = Environment(
        "dev", Path("parameters/dev.yaml"), ("us-east-1",), stacks, account="111122223333"
    )
    monkeypatch.setattr(environment, "load", lambda *_: chosen)
    monkeypatch.setattr(parameter_checks, "check_parameters", lambda *_: None)
    confirm = output.confirm

    def answer(question, *arguments, yes):
        questions.append(question)
        return confirm(question, *arguments, yes=yes) if yes or questions[1:] else False

    monkeypatch.setattr(output, "confirm", answer)
    return questions


def test_no_is_an_answer_and_nobody_is_none(asked):
    done = CliRunner().invoke(cli, ["demo", "--env", "dev"], standalone_mode=False)
    assert (done.return_value, done.stderr) == (1, "Nothing was changed.\n")
    assert "1 stack in eu-west-1 of account 111122223333" in asked[0]
    done = CliRunner().invoke(cli, ["demo", "--env", "dev"])
    assert done.exit_code == 2
    assert "--yes" in done.stderr


@pytest.mark.usefixtures("asked")
def test_a_stack_may_be_where_its_environment_is_not(monkeypatch):
    monkeypatch.setattr(aws.Aws, "guard", lambda _: "111122223333")
    monkeypatch.setattr(parameter_checks, "check_parameters", lambda *_: None)
    monkeypatch.setattr(rendering, "render_all", dict)
    result = SimpleNamespace(
        ok=True, problem=None, ref=stack_ref("dev", "bus", "demo-bus", "eu-west-1")
    )
    monkeypatch.setattr(Stacks, "deploy", lambda *_: [result])
    monkeypatch.setattr(Stacks, "preview_deletion", lambda *_: [])
    monkeypatch.setattr(Stacks, "delete", lambda *_, **__: [])
    monkeypatch.setattr(
        demo, "remove_snapshots", lambda _, region, run: removed.append((region, run))
    )
    removed = []

    def play(_, regions, run, wait):
        return [
            demo.Act(one, "done", [demo.Delivery("group", run, 1, seconds=0.5)]) for one in regions
        ]

    monkeypatch.setattr(demo, "play", play)
    done = CliRunner().invoke(cli, ["demo", "--env", "dev", "--yes"], standalone_mode=False)
    assert done.exception is None
    assert (done.return_value, removed[0][0]) == (0, "eu-west-1")
    assert "\neu-west-1: done\n  ✓ group" in done.stdout
    assert "All 1 expected deliveries were seen." in done.stdout


class Rds(Service):
    """An account with many others' databases and snapshots, which stand before ours on the first page."""

    def __init__(self, *, snapshot, instance):
        self.others = [f"other-{number}" for number in range(100)]
        self.snapshots, self.instances = [NAME] * snapshot, [NAME] * instance

    def _page(self, kind, name, ours):
        if name and name not in ours:
            raise MissingError(f"{kind}NotFound")
        return {
            f"{kind}s": [{f"{kind}Identifier": one} for one in ([name] if name else self.others)]
        }

    def describe_db_snapshots(self, DBSnapshotIdentifier="", SnapshotType=""):
        return self._page("DBSnapshot", DBSnapshotIdentifier, self.snapshots)

    def describe_db_instances(self, DBInstanceIdentifier=""):
        return self._page("DBInstance", DBInstanceIdentifier, self.instances)

    def get_waiter(self, name):
        return SimpleNamespace(wait=lambda DBSnapshotIdentifier: None)

    def delete_db_snapshot(self, DBSnapshotIdentifier):
        self.snapshots.remove(DBSnapshotIdentifier)

    def delete_db_instance(self, DBInstanceIdentifier, SkipFinalSnapshot, DeleteAutomatedBackups):
        if DBInstanceIdentifier not in self.instances:
            raise MissingError("DBInstanceNotFound")
        self.instances.remove(DBInstanceIdentifier)


@pytest.mark.parametrize("snapshot", [True, False])
@pytest.mark.parametrize("instance", [True, False])
def test_a_database_among_many_is_found_and_goes(snapshot, instance):
    rds = Rds(snapshot=snapshot, instance=instance)
    demo.remove_snapshots(FakeAws(rds=rds), "us-east-1", NAME.removeprefix("demo-"))
    assert (rds.snapshots, rds.instances) == ([], [])


class S3(Service):
    def __init__(self, *buckets):
        self.buckets = list(buckets)

    def get_paginator(self, _name):
        return self

    def paginate(self, Bucket):
        if Bucket not in self.buckets:
            raise MissingError("NoSuchBucket")
        return []

    def delete_bucket(self, Bucket):
        self.buckets.remove(Bucket)


@pytest.mark.parametrize("there", [["data", "trail"], ["trail"], ["data"], []])
def test_a_bucket_that_was_never_made_keeps_none_behind(there):
    s3 = S3(*there)
    retained = {"TrailBucket": "trail", "DataBucket": "data", "LogGroup": "x"}
    demo.remove_buckets(FakeAws(s3=s3), "us-east-1", retained)
    demo.remove_buckets(FakeAws(s3=s3), "us-east-1", {"DataBucket": ""})
    assert s3.buckets == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_region_that_fails_ends_it_while_another_waits(monkeypatch, error):
    """A database takes minutes; who asks for the end does not wait for it."""

    def perform(_aws, region, _run):
        if region == "b" and error is ValueError:
            raise error
        if region == "b":
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
        yield

    monkeypatch.setattr(demo, "perform", perform)
    begun = time.monotonic()
    with pytest.raises(error):
        demo.play(FakeAws(), ["a", "b"], "run", 1.0)
    assert time.monotonic() - begun < 5
