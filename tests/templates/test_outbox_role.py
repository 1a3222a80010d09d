"""The role of table-outbox's pipe: what it must be able to do, and not the next thing."""

import pytest

from eventstacks import rendering
from eventstacks.flow import graph, permissions
from eventstacks.flow.policies import policy_of
from eventstacks.flow.symbols import documents_of

ACCOUNT, REGION = "111122223333", "eu-central-1"
WHERE = {"name": "orders", "region": REGION, "account": ACCOUNT}
PIPE = f"arn:aws:pipes:{REGION}:{ACCOUNT}:pipe/orders-outbox"
BUS = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/"


@pytest.fixture(scope="module")
def flow():
    template = rendering.render("table-outbox").document
    return graph.of_template(template, {"EventBusName": "shop"}, **WHERE)


@pytest.fixture
def role(flow):
    (role,) = [one for one in flow.resources.values() if one.type == "AWS::IAM::Role"]
    return role


@pytest.fixture
def allows(flow, role):
    """allows(action, resource): the decision of the role's policies."""
    policies = permissions.policies_of_role(flow, role)

    def decide(action, resource):
        return permissions.evaluate(policies, None, action, resource, {}).allowed is True

    return decide


def arn_of(flow, kind):
    return next(arn for arn, one in flow.resources.items() if one.type == kind)


def test_it_may_put_events_on_its_bus_only(allows):
    assert allows("events:PutEvents", f"{BUS}shop")
    assert not allows("events:PutEvents", f"{BUS}default")
    assert not allows("events:PutRule", f"{BUS}shop")


def test_it_may_read_the_stream_and_not_the_table(flow, role, allows):
    (read,) = [
        one
        for one in documents_of(role.properties["Policies"][0]["PolicyDocument"])
        if one["Sid"] == "ReadStream"
    ]
    assert "/stream/" in str(read["Resource"])
    table = arn_of(flow, "AWS::DynamoDB::Table")
    for action in ("GetRecords", "GetItem", "PutItem", "Scan", "DeleteTable"):
        assert not allows(f"dynamodb:{action}", table)
    assert not allows("dynamodb:GetRecords", f"{table}-other/stream/2026-11-29T00:00:00.000")


def test_it_may_send_to_its_dead_letter_queue_only(flow, allows):
    queue = arn_of(flow, "AWS::SQS::Queue")
    assert allows("sqs:SendMessage", queue)
    assert not allows("sqs:SendMessage", f"{queue}-other")
    assert not allows("sqs:ReceiveMessage", queue)


@pytest.mark.parametrize(
    ("service", "pipe", "account", "trusted"),
    [
        ("pipes.amazonaws.com", PIPE, ACCOUNT, True),
        ("pipes.amazonaws.com", f"{PIPE}-other", ACCOUNT, False),
        ("pipes.amazonaws.com", PIPE, "444455556666", False),
        ("events.amazonaws.com", PIPE, ACCOUNT, False),
    ],
)
def test_only_its_pipe_may_assume_it(role, service, pipe, account, trusted):
    policy = policy_of("trust", role.arn, role.properties["AssumeRolePolicyDocument"])
    context = {"aws:sourcearn": pipe, "aws:sourceaccount": account}
    found = permissions.evaluate([policy], service, "sts:AssumeRole", None, context)
    assert (found.allowed is True) is trusted
