"""One failure sends one notification: metric alarms act through the stack's composite alarm."""

import json
import re
from pathlib import Path

import pytest

from eventstacks import environment, rendering
from eventstacks.environment import OutputReference

PAGES = Path(__file__).parents[2] / "docs" / "stacks"
STACKS = [
    stack
    for stack in rendering.find(rendering.TEMPLATES)
    if any(
        one["Type"] == "AWS::CloudWatch::Alarm"
        for one in rendering.render(stack).document["Resources"].values()
    )
]


@pytest.fixture(params=STACKS)
def template(request):
    return rendering.render(request.param).document


def test_the_composite_alarm_covers_every_metric_alarm(template):
    resources = template["Resources"]
    alarms = {name for name, one in resources.items() if one["Type"] == "AWS::CloudWatch::Alarm"}
    rule = json.dumps(resources["StackAlarm"]["Properties"]["AlarmRule"])
    assert set(re.findall(r"\$\{(\w+)\}", rule)) == alarms


def test_only_the_composite_alarm_acts_and_also_when_it_is_over(template):
    for name, one in template["Resources"].items():
        properties = one.get("Properties", {})
        if one["Type"] == "AWS::CloudWatch::Alarm":
            assert not {"AlarmActions", "OKActions"} & set(properties), name
    composite = template["Resources"]["StackAlarm"]["Properties"]
    topic = "AlarmTopicArn" if "AlarmTopicArn" in template["Parameters"] else "Topic"
    assert composite["AlarmActions"] == composite["OKActions"] == [{"Ref": topic}]


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_example_environments_notify_one_topic_of_all_failures(name):
    stacks = environment.load(name).stacks
    wired = {
        stack
        for stack, one in stacks.items()
        if one.parameters.get("AlarmTopicArn") == OutputReference("alerts", "TopicArn")
    }
    assert wired == {
        stack
        for stack, one in stacks.items()
        if "AlarmTopicArn" in rendering.render(one.template).document["Parameters"]
    }


NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


@pytest.mark.parametrize("stack", STACKS)
def test_the_page_counts_the_metric_alarms_that_are_paid_for(stack):
    resources = rendering.render(stack).document["Resources"].values()
    alarms = [one for one in resources if one["Type"] == "AWS::CloudWatch::Alarm"]
    always = [one for one in alarms if one.get("Condition", "HasAlarmTopic") == "HasAlarmTopic"]
    page = " ".join((PAGES / f"{stack}.md").read_text(encoding="utf-8").split())
    told = re.findall(r"(\w+) metric alarms,? (?:at|and|for|\$)", page)
    assert told == [NUMBERS[len(always)]]
