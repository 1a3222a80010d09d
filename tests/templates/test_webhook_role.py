"""The role of webhook-out: it may call its API destination for its rule, and nothing else."""

import pytest

from eventstacks import rendering
from eventstacks.flow import graph, permissions
from eventstacks.flow.policies import policy_of

WHERE = {"name": "hook", "region": "eu-central-1", "account": "111122223333"}
EVENTS = "arn:aws:events:eu-central-1:111122223333:"


def role_of(bus):
    template = rendering.render("webhook-out").document
    flow = graph.of_template(template, {"EventBusName": bus}, **WHERE)
    (role,) = [one for one in flow.resources.values() if one.type == "AWS::IAM::Role"]
    return flow, role


def test_it_may_invoke_its_destination_by_the_arn_that_is_for_policies():
    resources = rendering.render("webhook-out").document["Resources"]
    (policy,) = resources["InvokeRole"]["Properties"]["Policies"]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == "events:InvokeApiDestination"
    assert statement["Resource"] == {"Fn::GetAtt": ["ApiDestination", "ArnForPolicy"]}


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("events:InvokeApiDestination", f"{EVENTS}api-destination/other/1"),
        ("events:PutEvents", f"{EVENTS}event-bus/default"),
        (
            "secretsmanager:GetSecretValue",
            "arn:aws:secretsmanager:eu-central-1:111122223333:secret:x",
        ),
    ],
)
def test_it_may_do_nothing_else(action, resource):
    flow, role = role_of("default")
    policies = permissions.policies_of_role(flow, role)
    assert not permissions.evaluate(policies, None, action, resource, {}).allowed


@pytest.mark.parametrize(
    ("bus", "rule", "trusted"),
    [
        ("default", "rule/hook-webhook", True),
        ("default", "rule/other-webhook", False),
        ("shop", "rule/shop/hook-webhook", True),
        ("shop", "rule/hook-webhook", False),
        ("shop", "rule/other/hook-webhook", False),
    ],
)
def test_only_its_rule_may_use_it(bus, rule, trusted):
    _, role = role_of(bus)
    policy = policy_of("trust", role.arn, role.properties["AssumeRolePolicyDocument"])
    context = {"aws:sourcearn": f"{EVENTS}{rule}", "aws:sourceaccount": "111122223333"}
    found = permissions.evaluate([policy], "events.amazonaws.com", "sts:AssumeRole", None, context)
    assert (found.allowed is True) is trusted
