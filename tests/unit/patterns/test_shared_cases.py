"""Cases recorded from AWS and answered by event-ruler, kept outside the project; read when they are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventstacks.patterns.verdict import judge

CASES = Path(__file__).parents[4] / "shared" / "patterns"


def read_cases(name):
    file = CASES / f"{name}.ndjson"
    if not file.exists():
        pytest.skip(
            f"the recorded cases are not beside the checkout: ../shared/patterns/{name}.ndjson"
        )
    return file.read_text(encoding="utf-8").splitlines()


def is_right(line):
    expected, answer = json.loads(line)["expect"], judge(line)
    if expected in {"error", "valid"}:
        return ("error" in answer) == (expected == "error")
    return answer == {"match": expected}


@pytest.mark.parametrize("name", ["aws-validated", "aws-docs"])
def test_every_verdict_of_aws(name):
    assert [line for line in read_cases(name) if not is_right(line)] == []


@pytest.mark.parametrize("name", ["event-ruler-tests", "matrix"])
def test_nearly_every_verdict_of_event_ruler(name):
    lines = read_cases(name)
    wrong = [line for line in lines if not is_right(line)]
    assert len(wrong) <= len(lines) * 0.002, wrong[:5]


def test_the_error_texts_of_aws():
    told = [(json.loads(line).get("error"), judge(line)) for line in read_cases("aws-validated")]
    assert [
        (error, answer) for error, answer in told if error and answer.get("error") != error
    ] == []
