"""A second rule to a log group, as docs/stacks/custom-event-bus.md shows it: what both rules match arrives from both."""

import json
import re
from pathlib import Path

import pytest
from operators import eventually

from eventstacks import rendering

PAGE = Path(__file__).parents[2] / "docs" / "stacks" / "custom-event-bus.md"
CALL = re.compile(
    r"\{\{ (event_log\.log_group|delivery\.dead_letter_queue|alarms\.rule)\(.*?\) \}\}\n", re.DOTALL
)


def as_documented(template):
    """The template with the page's rule before its log group, and the page's calls in the places of its own."""
    (block,) = re.findall(r"```jinja\n(.*?)```", PAGE.read_text(), re.DOTALL)
    calls = {}
    for call in CALL.finditer(block):
        calls[call[1]] = calls.get(call[1], "") + call[0]
    calls["event_log.log_group"] = (
        block[: CALL.search(block).start()] + calls["event_log.log_group"]
    )
    return CALL.sub(lambda call: calls.pop(call[1]), template)


@pytest.mark.parametrize("scope", ["account", "log-group"])
def test_both_rules_write_to_the_log_group(checkout, operate, scope):
    path = checkout / "templates" / "custom-event-bus.yaml.j2"
    path.write_text(as_documented(path.read_text()))
    shop = operate("custom-event-bus", LogsPolicyScope=scope)
    shop.put("a", DetailType="order placed")
    assert eventually(lambda: len(shop.logged()) == 2)
    assert shop.letters() == []


def test_one_rule_is_a_string_in_the_policy_and_several_are_a_list(checkout):
    def rules():
        policy = rendering.render("custom-event-bus").document["Resources"]["EventLogGroupPolicy"][
            "Properties"
        ]
        statements = json.loads(policy["PolicyDocument"]["Fn::Sub"])["Statement"]
        return statements[1]["Condition"]["ArnEquals"]["aws:SourceArn"]

    path = checkout / "templates" / "custom-event-bus.yaml.j2"
    assert rules() == "${CatchAllRule.Arn}"
    path.write_text(path.read_text().replace("rule='CatchAllRule'", "rule=['CatchAllRule']"))
    assert rules() == "${CatchAllRule.Arn}"
    path.write_text(as_documented(path.read_text()))
    assert rules() == ["${CatchAllRule.Arn}", "${OrderRule.Arn}"]
