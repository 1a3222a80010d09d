"""What is read from an account; tests/integration/test_trace_agrees.py reads the embedded AWS."""

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import pytest
from botocore.exceptions import ClientError

from eventstacks.documents import parse_template
from eventstacks.flow import graph, live, permissions
from eventstacks.flow.resolve import Stack

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
    denied: ClassVar = {}  # operation: its error

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
        return Client(service, self.answers, self.denied)


@dataclass
class Client:
    """Of one service: a queue of others needs its owner, and a key's policy is not to be had by an alias."""

    service: str
    answers: dict
    denied: dict

    def __getattr__(self, operation):
        return lambda **given: self.answer(operation, given)

    def answer(self, operation, given):
        if operation in self.denied:
            raise self.denied[operation]
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
        ("own", True, "q, key alias/mine"),
        ("theirs", False, "no_policy"),
        ("f", True, "F"),
        ("m", True, "x/same"),
    ],
)
def test_what_lets_events_pass_is_read(account, target, allowed, reason):
    [rule] = account[1].rules
    [found] = [
        permissions.of_target(account[1], rule, one) for one in rule.targets if one.id == target
    ]
    assert (found.allowed, reason in (found.reason, found.code)) == (allowed, True), found


@pytest.mark.parametrize("target", ["own", "m"])
def test_what_may_not_be_read_is_unknown(target):
    stack = Stack(parse_template(ACCOUNT, "t"), name="s", region="us-east-1", account=HERE)
    planned = graph.of_stacks([stack])
    reader = Account(planned)
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "x")
    reader.denied = {"get_queue_attributes": denied, "get_role": denied}
    found = live.read(reader, planned)
    [rule] = found.rules
    [one] = [one for one in rule.targets if one.id == target]
    assert permissions.of_target(found, rule, one).allowed is None


def test_the_permissions_boundary_of_a_role_is_read():
    stack = Stack(parse_template(ACCOUNT, "t"), name="s", region="us-east-1", account=HERE)
    planned = graph.of_stacks([stack])
    reader = Account(planned)
    reader.answers["get_role"]["Role"]["PermissionsBoundary"] = {"PermissionsBoundaryArn": "arn:p"}
    found = live.read(reader, planned)  # the boundary allows s3:GetObject only
    [rule] = found.rules
    [one] = [one for one in rule.targets if one.id == "m"]
    assert permissions.of_target(found, rule, one).code == "role_policy"


def test_a_stack_that_may_not_be_read_is_not_called_missing():
    def paginate(**which):
        text = f"not allowed to read {which['StackName']}"
        answer = {"Error": {"Code": "AccessDenied", "Message": text}}
        raise ClientError(answer, "ListStackResources")

    pages = SimpleNamespace(paginate=paginate)
    client = SimpleNamespace(get_paginator=lambda _name: pages)
    aws = SimpleNamespace(client=lambda *_: client)
    with pytest.raises(ClientError, match="not allowed to read orders"):
        live.locate(aws, [Stack({}, name="orders", region="us-east-1")], HERE)
