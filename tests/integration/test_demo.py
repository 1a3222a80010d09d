"""`make demo`, as the first thing that anybody runs."""

import os
import re
import subprocess
import sys

import pytest

from scripts.local_aws import server


@pytest.fixture
def run(tmp_path):
    """run(*arguments): python -m scripts … with an embedded AWS of its own, on a free port."""
    environment = {**os.environ, "LOCAL_AWS_DIR": str(tmp_path / "aws"), "LOCAL_AWS_PORT": "0"}

    def one(*arguments, **more):
        command = [sys.executable, "-m", "scripts", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env={**environment, **more}, check=False, timeout=120
        )

    yield one
    server.stop(tmp_path / "aws")


def test_every_delivery_is_seen_and_nothing_is_left(run, tmp_path):
    done = run("demo")
    assert done.returncode == 0, done.stderr
    assert "All 8 expected deliveries were seen" in done.stdout
    groups = re.findall(r"✓ (\S+) +after [\d.]+ s", done.stdout)
    assert len(groups) == 8
    assert sum(one.startswith("/aws/lambda/") for one in groups) == 2
    assert server.status(tmp_path / "aws") is None


def test_kept_stacks_stay_and_the_next_demo_takes_them_over(run, tmp_path):
    assert "What stays:" in run("demo", "--keep").stdout
    assert len(server.status(tmp_path / "aws").stacks) == 6
    assert run("demo").returncode == 0
    assert server.status(tmp_path / "aws").stacks == []  # it was running before: it goes on, without the stacks


def test_it_fails_when_a_delivery_is_missing(run, tmp_path):
    run("demo", "--keep")
    from scripts import environment
    from scripts.aws import Aws
    from scripts.environment import Environment

    local = environment.load("local")
    aws = Aws(Environment("t", local.path, local.regions, {}, endpoint=server.status(tmp_path / "aws").url))
    logs = aws.client("logs", "eu-west-1")
    for policy in logs.describe_resource_policies()["resourcePolicies"]:
        logs.delete_resource_policy(policyName=policy["policyName"])
    done = run("demo", "--keep", "--wait", "1")
    assert done.returncode == 1
    assert "Error: 3 of 8 expected deliveries were not seen" in done.stderr.splitlines()[-1]


def test_it_does_not_touch_the_stacks_of_the_environment(run, tmp_path):
    assert run("deploy", "--yes", "--region", "us-east-1").returncode == 0
    before = server.status(tmp_path / "aws").stacks
    assert run("demo").returncode == 0
    assert server.status(tmp_path / "aws").stacks == before


def test_on_an_account_it_asks_first(run):
    done = run("demo", "--env", "dev")
    assert done.returncode != 0
    assert "account 111122223333" in done.stderr
    assert "Traceback" not in done.stderr
