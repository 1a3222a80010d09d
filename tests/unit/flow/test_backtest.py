"""Recorded events against a changed template."""

import pytest

from eventstacks.documents import parse_template
from eventstacks.errors import ToolError
from eventstacks.flow import backtest, graph

WHERE = {"name": "s", "region": "us-east-1", "account": "1"}
BUS = "  B: {Type: AWS::Events::EventBus, Properties: {Name: b}}\n"
EVENTS = [{"source": "a", "n": 1}, {"source": "a", "n": 2}, {"source": "b", "n": 3}]


def flow(**patterns):
    rules = "".join(
        f"  {name}: {{Type: AWS::Events::Rule, Properties: {{Name: {name}, EventBusName: !Ref B, EventPattern: {one}}}}}\n"
        for name, one in patterns.items()
    )
    return graph.of_template(parse_template("Resources:\n" + BUS + rules, "t"), **WHERE)


def test_what_a_change_gains_and_loses():
    [found] = backtest.compare(flow(R="{source: [b], n: [3]}"), flow(R="{source: [a]}"), EVENTS)
    assert (found.events, found.before, found.after) == (3, 2, 1)
    assert (found.gained, found.lost) == ([EVENTS[2]], EVENTS[:2])
    assert found.as_data(1)["lost"] == {"count": 2, "examples": EVENTS[:1]}


def test_a_new_rule_gains_and_one_that_goes_loses():
    new, old = backtest.compare(flow(New="{source: [a]}"), flow(Old="{source: [b]}"), EVENTS)
    assert (new.rule, new.before, new.after) == ("New", 0, 2)
    assert (old.rule, old.before, old.after) == ("Old", 1, 0)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{source: a}", "rule R: source"),
        ("'{source'", "rule R: .*not valid JSON"),
        ("{source: [!Ref Q]}", "only AWS knows"),
    ],
)
def test_a_pattern_that_cannot_be_judged_is_named(pattern, words):
    with pytest.raises(ToolError, match=words):
        backtest.compare(flow(R=pattern), flow(R="{source: [a]}"), EVENTS)
