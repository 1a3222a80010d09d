"""docs/deploying.md: its files are read as they stand, and name every key that there is."""

import re
from pathlib import Path

import pytest
import yaml

from eventstacks import environment
from eventstacks.environment import OutputReference

EXAMPLES = re.findall(
    r"```yaml\n(.*?)```", Path("docs/deploying.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture(params=EXAMPLES, ids=["one account", "many accounts"])
def example(request, tmp_path):
    (tmp_path / "prod.yaml").write_text(request.param)
    return environment.load("prod", tmp_path)


def test_each_file_is_one_that_can_be_read(example):
    assert example.account == "111122223333"


def test_every_key_is_named():
    whole, sets = (yaml.load(one, environment.Loader) for one in EXAMPLES)
    text = Path("docs/deploying.md").read_text(encoding="utf-8")
    schema = environment.validator().schema
    beside = {key for key in ("endpoint", "stack_set") if f"`{key}`" in text}
    assert {*whole, *beside} == {*schema["properties"], "x-common"}
    stack = schema["$defs"]["stack"]["properties"]
    assert {key for one in whole["stacks"].values() for key in one} == set(stack)
    named = {"accounts"} if "`accounts`" in text else set()  # instead of organizational units
    assert {*sets["stack_set"], *named} == set(schema["$defs"]["stack_set"]["properties"])
    assert all(f"`!{kind} " in text or f"`!{kind}`" in text for kind in ("Env", "Ssm", "Previous"))


def test_what_the_comments_say_is_so(tmp_path):
    (tmp_path / "prod.yaml").write_text(EXAMPLES[0])
    bus, second = (
        environment.load("prod", tmp_path).stacks[one] for one in ("custom-event-bus", "second-bus")
    )
    assert (bus.stack_name, bus.template, bus.rollback_minutes) == (
        "prod-custom-event-bus",
        "custom-event-bus",
        10,
    )
    assert bus.values("eu-west-1")["ArchiveRetentionInDays"] == "30"
    assert second.tags == {"environment": "prod", "team": "billing"}
    assert ([*second.rollback_alarms], second.rollback_minutes) == ([], 0)
    assert second.values("eu-west-1")["AlarmTopicArn"] == OutputReference("alerts", "TopicArn")
