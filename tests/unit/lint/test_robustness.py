"""A template that is broken, or says things in unexpected ways, breaks no rule of ours."""

import copy
import json
import random
from pathlib import Path

import pytest

FIXTURES = sorted(Path("tests/fixtures/lint").glob("*/bad*.yaml"))
ODD = (
    None,
    "x",
    5,
    True,
    [],
    {},
    [[]],
    ["x"],
    {"Ref": "Unknown"},
    {"Ref": "AWS::NoValue"},
    {"Fn::GetAtt": "Unknown.Arn"},
    {"Fn::If": ["Nothing", "x"]},
    {"Fn::If": ["Nothing", {"a": 1}, {"Ref": "AWS::NoValue"}]},
    {"Fn::Sub": ["${x}", {}]},
    {"Fn::Sub": None},
    {"Fn::Join": ["", None]},
    {"Fn::ImportValue": {"Fn::Sub": "${AWS::StackName}-x"}},
)


def places(value, path=()):
    """Every place of a template below its resources' types."""
    if path and path[-1] != "Type":
        yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in items:
        yield from places(inner, (*path, key))


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_value_in_any_place_makes_a_rule_fail(lint, tmp_path, path):
    _, template = lint(path)
    template = json.loads(json.dumps(template))
    chance = random.Random(path.parent.name)
    everywhere = list(places(template["Resources"]))
    for _ in range(15):
        changed = copy.deepcopy(template)
        where = chance.choice(everywhere)
        inner = changed["Resources"]
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = odd = chance.choice(ODD)
        file = tmp_path / "template.json"
        file.write_text(json.dumps(changed))
        try:
            lint(file)
        except Exception as error:
            error.add_note(f"{where}: {odd}")
            raise


def test_a_condition_that_does_not_exist_decides_nothing(lint, tmp_path):
    queue = {"Type": "AWS::SQS::Queue"}
    policy = {
        "Type": "AWS::SQS::QueuePolicy",
        "Condition": "Absent",
        "Properties": {"Queues": [{"Ref": "Queue"}], "PolicyDocument": {"Statement": []}},
    }
    properties = {
        "EventPattern": {"source": ["a"]},
        "Targets": [{"Id": "a", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}],
    }
    rule = {"Type": "AWS::Events::Rule", "Properties": properties}
    template = {"Resources": {"Queue": queue, "Policy": policy, "Rule": rule}}
    (tmp_path / "template.json").write_text(json.dumps(template))
    found, _ = lint(tmp_path / "template.json")
    assert "E9805" not in {one.rule.id for one in found}


def test_the_type_of_a_parameter_need_not_be_text(lint, tmp_path):
    properties = {"EventPattern": {"source": {"Ref": "P"}}, "Targets": [{"Id": "a", "Arn": "b"}]}
    rule = {"Type": "AWS::Events::Rule", "Properties": properties}
    template = {"Parameters": {"P": {"Type": {"a": "b"}}}, "Resources": {"Rule": rule}}
    (tmp_path / "template.json").write_text(json.dumps(template))
    lint(tmp_path / "template.json")


@pytest.mark.parametrize("depth", [90, 900, 9_000])
def test_a_deeply_nested_pattern_in_text_makes_no_rule_fail(lint, tmp_path, depth):
    text = '{"detail":' * depth + "[1]" + "}" * depth
    rule = {
        "Type": "AWS::Events::Rule",
        "Properties": {"EventPattern": text, "Targets": [{"Id": "a", "Arn": "b"}]},
    }
    (tmp_path / "template.json").write_text(json.dumps({"Resources": {"Rule": rule}}))
    lint(tmp_path / "template.json")


def test_the_same_one_of_several_problems_is_reported_every_time(lint, tmp_path):
    texts = [
        '{"source": ${Any}}' + " " * number for number in range(12)
    ]  # a set of each would have its own order
    patterns = [{"EventPattern": {"Fn::Sub": text}} for text in texts]
    rules = {
        f"Rule{n}": {"Type": "AWS::Events::Rule", "Properties": one}
        for n, one in enumerate(patterns)
    }
    template = {"Parameters": {"Any": {"Type": "String"}}, "Resources": rules}
    (tmp_path / "template.json").write_text(json.dumps(template))
    found, _ = lint(tmp_path / "template.json")
    assert len(found) == len(rules)
    assert len({one.message for one in found}) == 1
