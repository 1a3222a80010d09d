"""Pipes from a stream to targets other than a bus (for which see test_table_outbox.py)."""

import json
import os
import time
from pathlib import Path

import pytest
from raw_stacks import ACCOUNT, resource, template
from waiting import eventually

from eventstacks.local import server


def att(name, attribute="Arn"):
    return {"Fn::GetAtt": [name, attribute]}


def role(service, *actions):
    trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}}
    document = {"Statement": [{**trust, "Action": "sts:AssumeRole"}]}
    allow = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    policies = [{"PolicyName": "p", "PolicyDocument": {"Statement": [allow]}}] if actions else []
    return resource("AWS::IAM::Role", AssumeRolePolicyDocument=document, Policies=policies)


QUEUE = resource("AWS::SQS::Queue")
TABLE = resource(
    "AWS::DynamoDB::Table",
    AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    BillingMode="PAY_PER_REQUEST",
    StreamSpecification={"StreamViewType": "NEW_IMAGE"},
)
TARGETS = {
    "queue": (att("Queue"), "sqs:SendMessage", {}),
    "topic": (
        {"Ref": "Topic"},
        "sns:Publish",
        {
            "Topic": resource(
                "AWS::SNS::Topic",
                Subscription=[{"Protocol": "sqs", "Endpoint": att("Queue")}],
            ),
            "Policy": resource(
                "AWS::SQS::QueuePolicy",
                Queues=[{"Ref": "Queue"}],
                PolicyDocument={
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "sns.amazonaws.com"},
                            "Action": "sqs:SendMessage",
                            "Resource": "*",
                        }
                    ]
                },
            ),
        },
    ),
    "machine": (
        {"Ref": "Machine"},
        "states:StartExecution",
        {
            "MachineRole": role("states"),
            "Machine": resource(
                "AWS::StepFunctions::StateMachine",
                RoleArn=att("MachineRole"),
                DefinitionString='{"StartAt": "P", "States": {"P": {"Type": "Pass", "End": true}}}',
            ),
        },
    ),
    "stream": (
        f"arn:aws:kinesis:eu-central-1:{ACCOUNT}:stream/unsupported",
        "kinesis:PutRecord",
        {},
    ),
}


def pipe(source, target, **more):
    return resource("AWS::Pipes::Pipe", RoleArn=att("Role"), Source=source, Target=target, **more)


def stack_of(deploy, target, *actions, **more):
    """A table, a queue, and a pipe between the table and a target, that has been given an item."""
    source = {"StartingPosition": "TRIM_HORIZON", "MaximumRetryAttempts": 0}
    source["DeadLetterConfig"] = {"Arn": att("DeadLetters")}
    own = pipe(
        att("Table", "StreamArn"),
        target,
        SourceParameters={
            "DynamoDBStreamParameters": source,
            "FilterCriteria": {"Filters": [{"Pattern": '{"eventName": ["INSERT"]}'}]},
        },
        TargetParameters={"InputTemplate": '{"id": <$.dynamodb.NewImage.id.S>}'},
    )
    dynamodb = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator")
    stack = deploy(
        template(
            Table=TABLE,
            Queue=QUEUE,
            DeadLetters=QUEUE,
            Role=role("pipes", "sqs:SendMessage", *dynamodb, *actions),
            Pipe=own,
            **more,
        )
    )
    assert stack.status == "CREATE_COMPLETE", stack.reasons()
    item = {"id": {"S": "7"}}
    stack.client("dynamodb").put_item(TableName=stack.ids["Table"], Item=item)
    return stack


@pytest.mark.parametrize("kind", ["queue", "topic"])
def test_a_pipe_sends_its_filled_input_template(deploy, kind):
    target, action, more = TARGETS[kind]
    stack = stack_of(deploy, target, action, **more)
    [message] = eventually(lambda: stack.messages("Queue"))
    body = json.loads(message["Body"])
    assert (json.loads(body["Message"]) if kind == "topic" else body) == {"id": "7"}
    assert stack.messages("DeadLetters") == []


def test_a_pipe_has_the_parameters_that_the_api_gives_it(deploy):
    target, action, more = TARGETS["queue"]
    stack = stack_of(deploy, target, action, **more)
    eventually(lambda: stack.messages("Queue"))
    client = stack.client("pipes")
    old = client.describe_pipe(Name=stack.ids["Pipe"])
    template = {"InputTemplate": '{"new": <$.dynamodb.NewImage.id.S>}'}
    given = {"RoleArn": old["RoleArn"], "TargetParameters": template}
    client.update_pipe(Name=old["Name"], **given)
    second = f"{old['Name']}-2"
    client.create_pipe(Name=second, Source=old["Source"], Target=old["Target"], **given)
    item = {"id": {"S": "8"}}
    stack.client("dynamodb").put_item(TableName=stack.ids["Table"], Item=item)
    bodies = []

    def both():
        bodies.extend(json.loads(one["Body"]) for one in stack.messages("Queue"))
        return [one for one in bodies if "new" in one] == [{"new": "8"}] * 2

    assert eventually(both)
    client.delete_pipe(Name=second)


def test_a_pipe_sends_a_list_to_a_state_machine(deploy):
    target, action, more = TARGETS["machine"]
    stack = stack_of(deploy, target, action, **more)
    machine, states = {"stateMachineArn": stack.ids["Machine"]}, stack.client("stepfunctions")
    [run] = eventually(lambda: states.list_executions(**machine)["executions"])
    made = states.describe_execution(executionArn=run["executionArn"])["input"]
    assert json.loads(made) == [{"id": "7"}]


@pytest.mark.parametrize(("kind", "is_allowed"), [("machine", False), ("stream", True)])
def test_records_that_a_pipe_cannot_send_are_dead_lettered(deploy, kind, is_allowed):
    target, action, more = TARGETS[kind]
    stack = stack_of(deploy, target, *([action] if is_allowed else []), **more)
    [message] = eventually(lambda: stack.messages("DeadLetters"))
    assert json.loads(message["Body"])["context"]["condition"] == "RetryAttemptsExhausted"


def test_a_source_that_is_not_supported_is_logged_once(deploy):
    own = role("pipes", "sqs:*")
    stack = deploy(
        template(Role=own, Source=QUEUE, Queue=QUEUE, Pipe=pipe(att("Source"), att("Queue")))
    )
    log = server.status(Path(os.environ["LOCAL_AWS_DIR"])).log
    wanted = f"{stack.ids['Pipe']}: the embedded AWS does not read"
    assert eventually(lambda: wanted in log.read_text())
    stack.client("sqs").send_message(QueueUrl=stack.ids["Source"], MessageBody="x")
    time.sleep(1)  # it is read again meanwhile
    assert log.read_text().count(wanted) == 1
