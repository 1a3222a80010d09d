"""The verb: what it prints, and with which exit code."""

from __future__ import annotations

import json
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from eventstacks.cli.flow import match
from eventstacks.errors import ToolError


@pytest.fixture
def run(tmp_path):
    (tmp_path / "pattern.json").write_text(
        '{"source": ["shop"], "detail": {"n": [{"numeric": [">", 3]}]}}'
    )
    (tmp_path / "good.json").write_text('{"source": "shop", "detail": {"n": 4}}')
    (tmp_path / "bad.json").write_text('{"source": "shop", "detail": {"n": 2}}')
    (tmp_path / "list.json").write_text("[]")
    event = '{"source": "shop", "detail": {"n": 4}}'
    sample = f'{{"description": "A sample.", "event": {event}, "expect": {{}}}}'
    (tmp_path / "sample.json").write_text(sample)
    (tmp_path / "odd.json").write_text('{"event": {"source": "shop"}, "expected": {}}')
    (tmp_path / "refused.json").write_text('{"detail": {"n": [{"Numeric": []}]}}')

    def invoke(*arguments, stdin=None):
        paths = [str(tmp_path / one) if one.endswith(".json") else one for one in arguments]
        result = CliRunner().invoke(match, paths, input=stdin, standalone_mode=False)
        is_usage = isinstance(result.exception, click.UsageError)
        code = 2 if is_usage else result.return_value
        return SimpleNamespace(exit_code=code, stdout=result.stdout, exception=result.exception)

    return invoke


def test_one_event(run):
    good = run("--pattern", "pattern.json", "--event", "good.json")
    assert (good.exit_code, good.stdout) == (0, "true\n")
    bad = run("--pattern", "pattern.json", "--event", "bad.json")
    assert (bad.exit_code, bad.stdout) == (1, "false\n  detail.n: 2; would match: a number > 3\n")


def test_the_event_of_a_sample_is_what_is_compared(run):
    answer = run("--pattern", "pattern.json", "--event", "sample.json")
    assert (answer.exit_code, answer.stdout) == (0, "true\n")


def test_as_json(run):
    answer = run("--json", "--pattern", "pattern.json", "--event", "bad.json")
    assert answer.exit_code == 1
    why_not = {
        "path": "detail.n",
        "found": [2],
        "wanted": "a number > 3",
        "one_of": False,
        "hint": "",
    }
    assert json.loads(answer.stdout) == {"match": False, "why_not": [why_not]}


def test_a_pattern_alone_is_checked(run):
    assert run("--pattern", "pattern.json").stdout == "valid\n"


@pytest.mark.parametrize(
    ("arguments", "where", "what"),
    [
        (
            ["--pattern", "refused.json"],
            "refused.json: detail.n",
            "Unrecognized match type Numeric",
        ),
        (
            ["--pattern", "pattern.json", "--event", "list.json"],
            "list.json",
            "an event must be a JSON object",
        ),
        (
            ["--pattern", "pattern.json", "--event", "odd.json"],
            "odd.json",
            "unknown key, or value of the wrong type: 'expected'",
        ),
    ],
)
def test_what_is_wrong_names_the_file(run, arguments, where, what):
    error = run(*arguments).exception
    assert isinstance(error, ToolError)
    assert error.where.endswith(where)
    assert error.what == what


@pytest.mark.parametrize(
    "arguments", [[], ["--ndjson", "--pattern", "pattern.json"], ["--event", "good.json"]]
)
def test_wrong_use(run, arguments):
    assert run(*arguments).exit_code == 2


def test_every_line_gets_a_line(run):
    lines = [
        b'{"pattern": {"a": [1]}, "event": {"a": 1.0}}',
        b'{"pattern_text": "{\\"a\\": [1]}", "event_text": "{\\"a\\": 2}"}',
        b'{"pattern": {"a": [1]}}',
        b'{"pattern": {"a": []}}',
        b'{"pattern": {"a": [1]}, "event": []}',
        b'{"pattern": {"a": [1]}, "event_text": "{"}',
        b'{"event": {}}',
        b"not json",
        b"\xff",
        b"",
        b'{"pattern": ' + b"[" * 4000,
        b'{"pattern": {"x": [{"numeric": ["=", 2.0e422]}]}}',
    ]
    result = run("--ndjson", stdin=b"\n".join(lines) + b"\n")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert answers[:4] == [
        {"match": True},
        {"match": False},
        {"valid": True},
        {"error": "Empty arrays are not allowed", "where": "a"},
    ]
    assert len(answers) == len(lines)
    assert all(set(answer) <= {"error", "where"} for answer in answers[3:])
    assert answers[-1]["error"] == "Cannot compare number : 2.0e422"
