"""Verdicts of AWS and of aws/event-ruler 2.0.1, one JSON object a line.

aws.ndjson: ``recorded`` from TestEventPattern and PutEvents on AWS, and ``guide``: the operators of
the EventBridge User Guide. ruler.ndjson: the shapes of event-ruler's own tests. matrix.ndjson:
operators x values, answered by event-ruler. Names and values were replaced by a permutation of the
letters (vowels by vowels, consonants by consonants, upper case as lower case), which keeps
equality, prefixes, suffixes, case folding and wildcards; addresses, operators and reserved names
are unchanged. This matcher gave the same verdicts before and after.

``expect``: true, false, "error" (the pattern is refused,
with the text ``error`` if it is known) or "valid" (there is no event).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventstacks.patterns.matcher import judge


def read_cases(name):
    return (Path(__file__).parent / f"{name}.ndjson").read_text(encoding="utf-8").splitlines()


def is_right(line):
    case, answer = json.loads(line), judge(line)
    if case["expect"] in {"error", "valid"}:
        is_refused = case["expect"] == "error"
        return ("error" in answer) == is_refused and case.get("error", "") in answer.get(
            "error", ""
        )
    return answer == {"match": case["expect"]}


@pytest.mark.parametrize(("name", "count"), [("aws", 149), ("ruler", 542), ("matrix", 1538)])
def test_every_verdict_is_the_same(name, count):
    lines = read_cases(name)
    assert len(lines) == count
    assert [line for line in lines if not is_right(line)] == []


def test_error_texts_of_aws_are_compared():
    errors = [json.loads(line).get("error") for line in read_cases("aws")]
    assert sum(map(bool, errors)) >= 26
