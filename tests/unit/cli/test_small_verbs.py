"""The verb sample, and wrong use of archive-replay, lint and tail."""

import json

import click
import pytest
from click.testing import CliRunner

from eventstacks.__main__ import cli
from eventstacks.bus import entries

ENVELOPE = {
    *("version", "id", "detail-type", "source", "account"),
    *("time", "region", "resources", "detail"),
}


def run(*arguments):
    """The verb's exit code as __main__ makes it, stdout and stderr."""
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value or 0, done.stdout, done.stderr


def test_every_sample_is_listed_and_can_be_sent():
    lines = run("sample", "--list")[1].splitlines()[1:]
    names = [line.split("\t")[0] for line in lines]
    assert "s3-object-created" in names
    for name in names:
        event = json.loads(run("sample", name)[1])
        assert event.keys() == ENVELOPE
        assert entries.read_entry(json.dumps(event).encode())[0]["Source"] == event["source"]


@pytest.mark.parametrize("arguments", [(), ("order-place",)])
def test_a_sample_needs_a_known_name(arguments):
    with pytest.raises(click.UsageError, match="order-placed"):
        run("sample", *arguments)


def test_lint_takes_options_of_cfn_lint_but_no_files():
    with pytest.raises(click.UsageError, match=r"cfn-lint -a eventstacks.lint -- FILE"):
        run("lint", "templates/alerts.yaml.j2")


@pytest.mark.parametrize("option", [("--once",), ("--since", "1h")])
def test_options_that_read_log_groups_are_refused_for_a_bus(option):
    with pytest.raises(click.UsageError, match="a bus keeps no events"):
        run("tail", "--bus", "orders", *option)


@pytest.mark.parametrize("option", [("--until", "1h"), ("--rule", "all")])
def test_the_options_of_a_replay_need_its_start(option):
    with pytest.raises(click.UsageError, match="give --since"):
        run("archive-replay", *option)
