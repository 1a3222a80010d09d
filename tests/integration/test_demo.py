"""`make demo`, as the first thing that anybody runs."""

import re

import in_process
import pytest

from scripts import environment
from scripts.aws import Aws
from scripts.environment import Environment
from scripts.local_aws import server


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(*arguments): a verb, with an embedded AWS of its own, on a free port."""
    monkeypatch.setenv("LOCAL_AWS_DIR", str(tmp_path / "aws"))
    monkeypatch.setenv("LOCAL_AWS_PORT", "0")
    yield in_process.run
    server.stop()


def stacks():
    return server.status().stacks


def test_every_delivery_is_seen_and_nothing_is_left(run):
    done = run("demo")
    assert done.returncode == 0, done.stderr
    assert "All 8 expected deliveries were seen" in done.stdout
    groups = re.findall(r"✓ (\S+) +after [\d.]+ s", done.stdout)
    assert len(groups) == 8
    assert sum(one.startswith("/aws/lambda/") for one in groups) == 2
    assert server.status() is None


def test_the_next_demo_takes_over_what_was_kept(run):
    assert run("demo", "--keep").returncode == 0
    assert len(stacks()) == 6
    assert run("demo").returncode == 0
    assert stacks() == []  # it was running before: it goes on, without the stacks


def test_a_missing_delivery_fails_it_and_it_leaves_only_what_was_there_before(run):
    assert run("deploy", "--yes", "--region", "us-east-1").returncode == 0
    before = stacks()
    kept = run("demo", "--keep")
    assert kept.returncode == 0, kept.stderr
    assert "What stays:" in kept.stdout
    assert len(stacks()) == len(before) + 6
    local = environment.load("local")
    aws = Aws(Environment("t", local.path, local.regions, {}, endpoint=server.status().url))
    logs = aws.client("logs", "eu-west-1")
    for policy in logs.describe_resource_policies()["resourcePolicies"]:
        logs.delete_resource_policy(policyName=policy["policyName"])
    done = run("demo", "--wait", "1")  # takes over what was kept, and deletes it whatever happens
    assert done.returncode == 1
    assert "Error: 3 of 8 expected deliveries were not seen" in done.stderr.splitlines()[-1]
    assert stacks() == before


def test_on_an_account_it_asks_first(run):
    done = run("demo", "--env", "dev")
    assert done.returncode != 0
    assert "account 111122223333" in done.stderr
    assert "Traceback" not in done.stderr
