"""Any value at any place of a template: reading, judging and drawing the flow raises nothing."""

import copy

import pytest

from dev import docs
from eventstacks import rendering
from eventstacks.flow import graph, permissions, trace

STACKS = ["custom-event-bus", "s3-object-events", "rds-snapshot-events"]
WHERE = {"name": "s", "region": "us-east-1", "account": "123456789012"}
RELEVANT = ("AWS::Events", "AWS::Logs", "AWS::SQS", "AWS::Lambda", "AWS::CloudTrail")


def places(value, path=()):
    """Every path below a value."""
    for key, inner in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        yield (*path, key)
        yield from places(inner, (*path, key))


def replaced(value, path, by):
    """A copy with ``by`` at the path; all other parts are shared."""
    if not path:
        return by
    changed = copy.copy(value)
    changed[path[0]] = replaced(value[path[0]], path[1:], by)
    return changed


ANYTHING = [{"Ref": "Unknown"}, None, [], {}, 7, "text", "", {"Fn::If": ["Unknown", 1, 2]}]


@pytest.mark.usefixtures("unmeasured")  # the other tests measure; these are thousands of readings
@pytest.mark.parametrize("by", ANYTHING, ids=str)
@pytest.mark.parametrize("stack", STACKS)
def test_anything_anywhere(stack, by):
    template = rendering.render(stack).document
    template["Resources"] = {
        key: one for key, one in template["Resources"].items() if one["Type"].startswith(RELEVANT)
    }
    event = {
        "source": "aws.s3",
        "account": "1",
        "region": "us-east-1",
        "detail-type": "x",
        "detail": {"a": 1},
    }
    paths = [p for p in places(template["Resources"]) if not {"Tags", "Code"} & set(p)]
    # Each value at every fourth place, each place with two values.
    for path in paths[ANYTHING.index(by) % 4 :: 4]:
        flow = graph.of_template(
            {**template, "Resources": replaced(template["Resources"], path, by)}, **WHERE
        )
        for rule in flow.rules:
            for target in rule.targets:
                permissions.of_target(flow, rule, target)
        for bus in list(flow.buses):
            trace.as_data(trace.trace(flow, event, bus))
        docs.mermaid(flow)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("depth", [90, 900, 3_000, 9_000, 90_000])
def test_json_that_is_text_may_be_as_deep_as_it_likes(depth):
    template = rendering.render("custom-event-bus").document
    text = '{"detail":' * depth + "[1]" + "}" * depth
    for resource in template["Resources"].values():
        if resource["Type"] in ("AWS::Events::Rule", "AWS::Events::Archive"):
            resource["Properties"]["EventPattern"] = text
        elif resource["Type"] == "AWS::Logs::ResourcePolicy":
            resource["Properties"]["PolicyDocument"] = text
    everything = {
        "EventPattern": {"source": ["a"]},
        "Targets": [{"Id": "t", "Arn": "x", "Input": text}],
    }
    template["Resources"]["Everything"] = {"Type": "AWS::Events::Rule", "Properties": everything}
    flow = graph.of_template(template, **WHERE)
    event = {
        "source": "a",
        "account": "1",
        "region": "us-east-1",
        "detail-type": "x",
        "detail": {"a": 1},
    }
    for bus in list(flow.buses):
        trace.as_data(trace.trace(flow, event, bus))
    docs.mermaid(flow)
