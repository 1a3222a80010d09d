"""Where an account differs from the templates, in words; tests/integration/test_trace_agrees.py reads a real one."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from eventstacks.documents import parse_template
from eventstacks.flow import graph, live, permissions
from eventstacks.flow.resolve import Stack

TEXT = """
Resources:
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: orders}}
  First: {Type: AWS::Events::Rule, Properties: {Name: first, EventBusName: !Ref Bus, EventPattern: {source: [shop]}}}
  Second: {Type: AWS::Events::Rule, Properties: {EventBusName: !Ref Bus, EventPattern: {source: [shop]}}}
"""


def test_each_difference_names_its_region():
    stacks = [
        Stack(parse_template(TEXT, "t"), name="s", region=one, account="123456789012")
        for one in ("us-east-1", "eu-west-1")
    ]
    planned = graph.of_stacks(stacks)
    there = [one for one in planned.rules if "eu-west-1" not in one.bus]
    by_hand = replace(there[0], name="other", arn=there[0].arn.replace("first", "other"))
    changed = replace(there[0], state="DISABLED")
    found = graph.Flow(rules=[changed, there[1], by_hand], is_whole=True)
    assert live.differences(planned, found) == [
        "us-east-1: rule First: state is DISABLED, in the template ENABLED",
        "eu-west-1: rule First is not deployed",
        "eu-west-1: rule Second is not deployed",
        "us-east-1: rule other is on the bus but in no template",
    ]


UNKNOWN = """
Parameters: {Any: {Type: 'AWS::SSM::Parameter::Value<String>', Default: /a}}
Resources:
  Own: {Type: AWS::Events::EventBus, Properties: {Name: own}}
  Data: {Type: AWS::S3::Bucket}
  R: {Type: AWS::Events::Rule, Properties: {
    Name: r, EventBusName: %s, EventPattern: %s, State: %s, ScheduleExpression: %s}}
"""


@pytest.mark.parametrize(
    ("bus", "pattern", "state", "schedule", "differs"),
    [
        ("own", "{source: [{prefix: !Ref Data}]}", "ENABLED", "rate(1 day)", []),
        ("own", "!Ref Any", "ENABLED", "rate(1 day)", []),
        ("own", "{source: [shop]}", "!Ref Any", "rate(1 day)", []),
        ("own", "{source: [shop]}", "ENABLED", "!Ref Any", []),
        ("!Ref Any", "{source: [other]}", "ENABLED", "rate(1 day)", []),
        ("own", "{source: [shop]}", "ENABLED", "rate(2 days)", ["schedule"]),
    ],
)
def test_what_only_aws_knows_is_no_difference(bus, pattern, state, schedule, differs):
    def flow(*values):
        stack = Stack(
            parse_template(UNKNOWN % values, "t"),
            name="s",
            region="us-east-1",
            account="123456789012",
        )
        return graph.of_stacks([stack])

    deployed = flow("own", "{source: [shop]}", "ENABLED", "rate(1 day)")
    found = live.differences(
        flow(bus, pattern, state, schedule), graph.Flow(rules=deployed.rules, is_whole=True)
    )
    assert [one.split(": ")[2].split()[0] for one in found] == differs


def test_a_rule_with_a_name_on_a_bus_that_is_not_there_yet_is_not_deployed():
    text = UNKNOWN.replace("Properties: {Name: own}", "Properties: {}") % (
        "!Ref Own",
        "{source: [a]}",
        "ENABLED",
        "x",
    )
    stack = Stack(parse_template(text, "t"), name="s", region="us-east-1", account="123456789012")
    found = live.differences(graph.of_stacks([stack]), graph.Flow(is_whole=True))
    assert found == ["us-east-1: rule R is not deployed"]


HERE, THERE, KEY = "123456789012", "999999999999", "arn:aws:kms:us-east-1:123456789012:key/0-1"
ACCOUNT = """
Resources:
  R: {Type: AWS::Events::Rule, Properties: {Name: r, EventPattern: {source: [shop]}, Targets: [
    {Id: own, Arn: 'arn:aws:sqs:us-east-1:123456789012:q'}, {Id: theirs, Arn: 'arn:aws:sqs:us-east-1:999999999999:q'},
    {Id: f, Arn: !GetAtt F.Arn}, {Id: m, Arn: 'arn:aws:states:us-east-1:123456789012:stateMachine:m', RoleArn: 'arn:aws:iam::123456789012:role/x'}]}}
  F: {Type: AWS::Lambda::Function, Properties: {
    FunctionName: f, Runtime: python3.13, Handler: index.handler, Timeout: 20,
    Code: {ZipFile: "def handler(event, context): return event['source']"}}}
"""


def allow(*actions, principal=None):
    statement = {"Effect": "Allow", "Action": [*actions], "Resource": "*"}
    given = {"Principal": {"Service": "events.amazonaws.com"}} if principal is None else {}
    return {"Statement": [statement | given]}


class Account:
    """An account that answers as the API reference says."""

    environment = SimpleNamespace(regions=("us-east-1",))

    def __init__(self, planned):
        rule = planned.rules[0]
        self.answers = {
            "list_event_buses": {"EventBuses": [{"Name": "default", "Arn": rule.bus}]},
            "list_rules": {
                "Rules": [
                    {
                        "Name": "r",
                        "Arn": rule.arn,
                        "State": "ENABLED",
                        "EventBusName": "default",
                        "EventPattern": json.dumps(rule.pattern),
                    }
                ]
            },
            "list_targets_by_rule": {"Targets": [one.settings for one in rule.targets]},
            "get_queue_attributes": {
                "Attributes": {
                    "Policy": json.dumps(allow("sqs:SendMessage")),
                    "KmsMasterKeyId": "alias/mine",
                }
            },
            "describe_key": {"KeyMetadata": {"Arn": KEY, "KeyId": "0-1"}},
            "get_policy": {"Policy": json.dumps(allow("lambda:InvokeFunction"))},
            "get_role": {"Role": {"AssumeRolePolicyDocument": allow("sts:AssumeRole")}},
            "list_role_policies": {"PolicyNames": ["same"]},
            "get_role_policy": {"PolicyDocument": allow("states:StartExecution", principal=False)},
            "list_attached_role_policies": {
                "AttachedPolicies": [{"PolicyName": "same", "PolicyArn": "arn:p"}]
            },
            "get_policy_version": {
                "PolicyVersion": {"Document": allow("s3:GetObject", principal=False)}
            },
        }

    def client(self, service, _region=None):
        return Client(service, self.answers)


@dataclass
class Client:
    """Of one service: a queue of others needs its owner, and a key's policy is not to be had by an alias."""

    service: str
    answers: dict

    def __getattr__(self, operation):
        return lambda **given: self.answer(operation, given)

    def answer(self, operation, given):
        if operation == "get_queue_url":
            return {"QueueUrl": given.get("QueueOwnerAWSAccountId", HERE)}
        if given.get("QueueUrl") == THERE:
            return {"Attributes": {}}
        if operation == "get_key_policy":
            if given["KeyId"].startswith("alias/"):
                raise ClientError({"Error": {"Code": "NotFoundException"}}, operation)
            return {"Policy": json.dumps(allow("kms:*"))}
        if (self.service, operation) == ("iam", "get_policy"):
            return {"Policy": {"DefaultVersionId": "v1"}}
        return self.answers.get(operation, {})


@pytest.fixture(scope="module")
def account():
    """What the templates say of an account, and what is read there."""
    stack = Stack(parse_template(ACCOUNT, "t"), name="s", region="us-east-1", account=HERE)
    planned = graph.of_stacks([stack])
    return planned, live.read(Account(planned), planned)


@pytest.mark.parametrize(
    ("target", "allowed", "reason"),
    [
        ("own", True, "policy of q, key alias/mine"),
        ("theirs", False, "no_policy"),
        ("f", True, "policy of F"),
        ("m", True, "x/same"),
    ],
)
def test_what_lets_events_pass_is_read(account, target, allowed, reason):
    [rule] = account[1].rules
    [found] = [
        permissions.of_target(account[1], rule, one) for one in rule.targets if one.id == target
    ]
    assert (found.allowed, reason in (found.reason, found.code)) == (allowed, True), found


QUEUE_RULE = """
Parameters: {Key: {Type: String}}
Resources:
  R: {Type: AWS::Events::Rule, Properties: {Name: r, EventPattern: {source: [shop]}, Targets: [{Id: q, Arn: !GetAtt Q.Arn}]}}
  Q: {Type: AWS::SQS::Queue, Properties: {QueueName: q}}
  P: {Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref Q], PolicyDocument: {Statement: [
    {Effect: Allow, Principal: %s, Action: 'sqs:SendMessage', Resource: '*'}]}}}
"""


@pytest.mark.parametrize(
    ("principal", "differs"),
    [
        ("'*'", True),  # the template allows it, the account does not
        ("{Service: !Ref Key}", False),  # the template does not tell
    ],
)
def test_permissions_differ_only_where_the_template_tells(principal, differs):
    stack = Stack(
        parse_template(QUEUE_RULE % principal, "t"), name="s", region="us-east-1", account=HERE
    )
    planned = graph.of_stacks([stack])
    deployed = graph.Flow(rules=planned.rules, buses=planned.buses, is_whole=True)
    assert permissions.of_target(deployed, *_first(deployed)).allowed is False
    assert bool(live.differences(planned, deployed)) is differs


def _first(flow):
    return flow.rules[0], flow.rules[0].targets[0]
