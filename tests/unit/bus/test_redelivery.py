# ruff: noqa: N803 - the arguments of AWS's operations
from __future__ import annotations

import json

import boto3
import pytest
from botocore.exceptions import ClientError, ParamValidationError
from botocore.stub import Stubber
from tests.unit.bus.operations import FakeAws, MissingError, Service

from eventstacks.bus.dead_letters import Redelivery, parse
from eventstacks.errors import ErrorCode, ToolError

RULE = "arn:aws:events:r:1:rule/orders/all"
EVENT = {
    "id": "i",
    "source": "com.example",
    "detail-type": "T",
    "detail": {"a": 1},
    "resources": ["x"],
    "time": "2026-05-01T08:00:00Z",
}
ENCRYPTED = {
    **EVENT,
    "source": "aws.events",
    "detail-type": "Encrypted Events",
    "detail": {"event-bus-arn": "arn:aws:events:r:1:event-bus/orders", "encrypted-payload": "AgR4"},
}


def letter(rule, target, event):
    names = {"RULE_ARN": rule, "TARGET_ARN": target, "ERROR_CODE": "NO_PERMISSIONS"}
    attributes = {key: {"StringValue": one} for key, one in names.items() if one}
    body = {"ReceiptHandle": "h", "MessageAttributes": attributes, "Body": json.dumps(event)}
    return parse(body)


LOG_GROUP = "arn:aws:logs:r:1:log-group:/aws/events/x"


class Events(Service):
    def __init__(self, *targets, buses=("orders", "default"), refuses=False):
        self.targets, self.buses, self.refuses, self.entries = targets, buses, refuses, []
        self.meta = type("Meta", (), {"region_name": "r"})

    def describe_event_bus(self, Name):
        if Name not in self.buses:
            raise MissingError

    def list_targets_by_rule(self, Rule, EventBusName):
        if (Rule, EventBusName) != ("all", "orders"):
            raise MissingError
        return {"Targets": [{"Id": str(number), **one} for number, one in enumerate(self.targets)]}

    def put_events(self, Entries):
        if self.refuses:
            return {
                "FailedEntryCount": 1,
                "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slower"}],
            }
        self.entries += Entries
        return {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}


class Logs(Service):
    def __init__(self, **answer):
        self.answer, self.events = answer, []

    def create_log_stream(self, logGroupName, logStreamName):
        raise MissingError("ResourceAlreadyExistsException")

    def put_log_events(self, logGroupName, logStreamName, logEvents):
        self.events += [(logGroupName, one) for one in logEvents]
        return self.answer


class Sqs(Service):
    def __init__(self):
        self.messages = []

    def get_queue_url(self, QueueName, QueueOwnerAWSAccountId):
        return {"QueueUrl": f"{QueueOwnerAWSAccountId}/{QueueName}"}

    def send_message(self, **message):
        self.messages.append(message)


@pytest.mark.parametrize("bus", ["orders", "default", "aws.partner/shop.com/orders"])
def test_an_event_goes_back_to_its_bus_as_it_was_put(bus):
    events, path = Events(buses=[bus]), "all" if bus == "default" else f"{bus}/all"
    Redelivery(FakeAws(events=events), to_bus=True).deliver(
        letter(f"arn:aws:events:r:1:rule/{path}", "arn:aws:sqs:r:1:q", EVENT)
    )
    (entry,) = events.entries
    assert entry.pop("Time").isoformat() == "2026-05-01T08:00:00+00:00"
    assert entry == {
        "EventBusName": bus,
        "Source": "com.example",
        "DetailType": "T",
        "Detail": '{"a":1}',
        "Resources": ["x"],
    }


@pytest.mark.parametrize(
    ("way", "rule", "events", "event", "code"),
    [
        ("bus", RULE, Events(refuses=True), EVENT, ErrorCode.EVENT_REJECTED),
        ("bus", RULE, Events(buses=()), EVENT, ErrorCode.NOT_FOUND),
        ("bus", RULE, Events(), {**EVENT, "source": "aws.s3"}, ErrorCode.EVENT_REJECTED),
        ("bus", "", Events(), EVENT, ErrorCode.EVENT_REJECTED),
        ("target", RULE, Events(), EVENT, ErrorCode.EVENT_REJECTED),
        (
            "target",
            RULE,
            Events({"Arn": LOG_GROUP}, {"Arn": LOG_GROUP, "Input": "{}"}),
            EVENT,
            ErrorCode.EVENT_REJECTED,
        ),
        ("target", RULE, Events({"Arn": LOG_GROUP}), None, ErrorCode.EVENT_REJECTED),
        ("bus", RULE, Events(), ["no", "event"], ErrorCode.EVENT_REJECTED),
        ("bus", RULE, Events(), {"source": "x"}, ErrorCode.EVENT_REJECTED),
        ("bus", RULE, Events(), ENCRYPTED, ErrorCode.EVENT_REJECTED),
        (
            "target",
            RULE,
            Events({"Arn": LOG_GROUP}),
            ENCRYPTED,
            ErrorCode.EVENT_REJECTED,
        ),
        ("target", "", Events(), ENCRYPTED, ErrorCode.EVENT_REJECTED),
    ],
)
def test_a_rejected_event_is_an_error(way, rule, events, event, code):
    logs = Logs()
    with pytest.raises(ToolError) as caught:
        Redelivery(FakeAws(events=events, logs=logs), to_bus=way == "bus").deliver(
            letter(rule, LOG_GROUP, event)
        )
    assert (events.entries, logs.events) == ([], [])
    assert caught.value.code is code


@pytest.mark.parametrize("arn", ["arn:aws:kinesis:r:1:stream/x", "arn:aws:events:r:1:event-bus/x"])
def test_a_kind_of_target_that_cannot_be_called_is_an_error(arn):
    with pytest.raises(ToolError) as caught:
        Redelivery(FakeAws(events=Events({"Arn": arn})), to_bus=False).deliver(
            letter(RULE, arn, EVENT)
        )
    assert (caught.value.code, caught.value.where) == (ErrorCode.EVENT_REJECTED, arn)
    assert "--to bus" in caught.value.advice


def test_a_log_group_gets_the_event():
    logs = Logs()
    Redelivery(FakeAws(events=Events({"Arn": f"{LOG_GROUP}:*"}), logs=logs), to_bus=False).deliver(
        letter(RULE, LOG_GROUP, EVENT)
    )
    ((group, entry),) = logs.events
    assert (group, entry["message"][:10]) == ("/aws/events/x", '{"id":"i",')


def test_a_log_group_gets_what_the_transformer_makes():
    transformer = {
        "InputPathsMap": {"d": "$.detail.a"},
        "InputTemplate": '{"timestamp": 5, "message": "a <d>"}',
    }
    logs = Logs()
    events = Events({"Arn": LOG_GROUP, "InputTransformer": transformer})
    aws = FakeAws(events=events, logs=logs)
    Redelivery(aws, to_bus=False).deliver(letter(RULE, LOG_GROUP, EVENT))
    assert [entry for _, entry in logs.events] == [{"timestamp": 5, "message": "a 1"}]


@pytest.mark.parametrize(
    "template", ['{"a": 1}', '{"timestamp": "noon", "message": 1}', '{"timestamp": null}', "[]"]
)
def test_boto3_refuses_what_is_not_a_log_event(template):
    """``redrive`` then leaves the message in the queue."""
    events = Events({"Arn": LOG_GROUP, "InputTransformer": {"InputTemplate": template}})
    logs = boto3.client(
        "logs", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(logs) as stubber:
        stubber.add_client_error("create_log_stream", "ResourceAlreadyExistsException")
        stubber.add_response("put_log_events", {})
        with pytest.raises((ToolError, ParamValidationError)):
            Redelivery(FakeAws(events=events, logs=logs), to_bus=False).deliver(
                letter(RULE, LOG_GROUP, EVENT)
            )


def test_a_log_event_that_is_too_old_for_the_group_is_an_error():
    aws = FakeAws(
        events=Events({"Arn": LOG_GROUP}),
        logs=Logs(rejectedLogEventsInfo={"tooOldLogEventEndIndex": 0}),
    )
    with pytest.raises(ToolError, match="tooOldLogEventEndIndex"):
        Redelivery(aws, to_bus=False).deliver(letter(RULE, LOG_GROUP, EVENT))


def test_a_fifo_queue_gets_its_group():
    arn, sqs = "arn:aws:sqs:r:1:q.fifo", Sqs()
    events = Events({"Arn": arn, "SqsParameters": {"MessageGroupId": "g"}, "InputPath": "$.detail"})
    Redelivery(FakeAws(events=events, sqs=sqs), to_bus=False).deliver(letter(RULE, arn, EVENT))
    assert sqs.messages == [
        {"QueueUrl": "1/q.fifo", "MessageBody": '{"a":1}', "MessageGroupId": "g"}
    ]


def test_a_deleted_log_group_is_an_error():
    class Missing(Logs):
        def create_log_stream(self, logGroupName, logStreamName):
            raise MissingError

    aws = FakeAws(events=Events({"Arn": LOG_GROUP}), logs=Missing())
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        Redelivery(aws, to_bus=False).deliver(letter(RULE, LOG_GROUP, EVENT))


def test_a_deleted_rule_is_an_error():
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        Redelivery(FakeAws(events=Events()), to_bus=False).deliver(
            letter("arn:aws:events:r:1:rule/missing", LOG_GROUP, EVENT)
        )
