"""Where an account differs from the templates, in words; tests/integration/test_trace_agrees.py reads a real one."""

from dataclasses import replace

from scripts.documents import parse_template
from scripts.flow import graph, live
from scripts.flow.resolution import Stack

TEXT = """
Resources:
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: orders}}
  First: {Type: AWS::Events::Rule, Properties: {Name: first, EventBusName: !Ref Bus, EventPattern: {source: [shop]}}}
  Second: {Type: AWS::Events::Rule, Properties: {EventBusName: !Ref Bus, EventPattern: {source: [shop]}}}
"""


def test_each_difference_names_its_region():
    stacks = [Stack(parse_template(TEXT, "t"), name="s", region=one, account="123456789012")
              for one in ("us-east-1", "eu-west-1")]  # fmt: skip
    planned = graph.of_stacks(stacks)
    there = [one for one in planned.rules if "eu-west-1" not in one.bus]
    by_hand = replace(there[0], name="other", arn=there[0].arn.replace("first", "other"))
    changed = replace(there[0], state="DISABLED")
    found = graph.Flow(rules=[changed, there[1], by_hand], is_whole=True)
    assert live.differences(planned, found) == [
        "us-east-1: rule First: state is DISABLED, the template says ENABLED",
        "eu-west-1: rule First is not deployed",
        "eu-west-1: rule Second is not deployed",
        "us-east-1: rule other is on the bus and in no template",
    ]
