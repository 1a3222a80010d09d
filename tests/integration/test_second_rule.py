"""A second rule to a log group, as docs/stacks/custom-event-bus.md shows it.

What both rules match arrives from both.
"""

import json
import re
from pathlib import Path

import pytest
from waiting import eventually

from eventstacks import rendering

PAGE = Path(__file__).parents[2] / "docs" / "stacks" / "custom-event-bus.md"
CALL = re.compile(
    r"\{\{ (event_log\.log_group|delivery\.dead_letter_queue|alarms\.(?:rule|composite))"
    r"\(.*?\) \}\}\n",
    re.DOTALL,
)


def as_documented(template):
    """The template with the page's rule before its log group.

    The page's calls are in the places of its own.
    """
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
    assert shop.dead_letter_messages() == []


def test_both_policies_name_both_rules(checkout):
    path = checkout / "templates" / "custom-event-bus.yaml.j2"
    path.write_text(as_documented(path.read_text()))
    resources = rendering.render("custom-event-bus").document["Resources"]
    account = json.loads(
        resources["EventLogGroupPolicy"]["Properties"]["PolicyDocument"]["Fn::Sub"]
    )
    group = resources["EventLogGroup"]["Properties"]["ResourcePolicyDocument"]["Fn::If"][1]
    for document in (account, group):
        arns = document["Statement"][1]["Condition"]["ArnEquals"]["aws:SourceArn"]
        assert [json.dumps(one).strip('"}').rsplit("-", 1)[1] for one in arns] == ["all", "orders"]
