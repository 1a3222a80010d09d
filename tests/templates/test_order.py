"""A rule is created after all that lets its targets and its dead-letter queue receive events.

EventBridge does not retry a delivery without permission,
and what the dead-letter queue rejects is lost.
"""

import json
import re

import pytest

from eventstacks import rendering

GATES = ("AWS::SQS::QueuePolicy", "AWS::Lambda::Permission", "AWS::Logs::ResourcePolicy")
RULES = [
    (stack, name)
    for stack in rendering.find(rendering.TEMPLATES)
    for name, one in rendering.render(stack).document["Resources"].items()
    if one["Type"] == "AWS::Events::Rule"
]


def depends_on(resource, ids):
    text = json.dumps(resource)
    named = set(re.findall(r"\$\{(\w+)[.}]", text)) | set(re.findall(r'"Ref": "(\w+)"', text))
    named |= set(re.findall(r'"Fn::GetAtt": \["(\w+)"', text))
    listed = resource.get("DependsOn", [])
    return (named | set([listed] if isinstance(listed, str) else listed)) & ids


def dependencies(resources, name):
    found, queue = set(), [name]
    while queue:
        for one in depends_on(resources[queue.pop()], set(resources)) - found:
            found.add(one)
            queue.append(one)
    return found


@pytest.mark.parametrize(("stack", "rule"), RULES)
def test_policies_exist_before_the_rule(stack, rule):
    resources = rendering.render(stack).document["Resources"]
    properties = resources[rule]["Properties"]
    name = properties["Name"]["Fn::Sub"]
    gates = {
        one
        for one, resource in resources.items()
        if resource["Type"] in GATES and f"/{name}" in json.dumps(resource)
    }
    kinds = {resources[one]["Type"] for one in gates}
    assert "AWS::SQS::QueuePolicy" in kinds
    assert gates <= dependencies(resources, rule)
    assert not any(rule in dependencies(resources, one) for one in gates)


@pytest.mark.parametrize("stack", rendering.find(rendering.TEMPLATES))
def test_the_policy_of_a_log_group_names_rules_and_no_pattern(stack):
    for name, resource in rendering.render(stack).document["Resources"].items():
        document = json.dumps(resource.get("Properties", {}).get("ResourcePolicyDocument"))
        if "events.amazonaws.com" in document:
            assert "ArnLike" not in document, name
            assert ":rule/" in document, name
