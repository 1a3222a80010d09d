"""table-outbox on the embedded AWS: a transaction becomes an event.

An event that cannot be sent is not lost. The code of docs/stacks/table-outbox.md is run unchanged.
"""

import json
import re
import time
from pathlib import Path

import pytest
from operators import open_queue
from raw_stacks import Stack, refusal
from waiting import eventually

from eventstacks import rendering
from eventstacks.flow import graph, payload, samples, trace

PAGE = Path(__file__).parents[2] / "docs" / "stacks" / "table-outbox.md"
SAMPLE = PAGE.parents[2] / "tests" / "events" / "table-outbox" / "outbox-item-inserted.json"
TEMPLATE = rendering.render_all()["table-outbox"].text


@pytest.fixture(scope="module")
def page():
    """The functions of the page."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    return names


@pytest.fixture
def deploy(clients, unique):
    """deploy(**parameters): a stack, and a queue with what arrives on its bus."""
    made = []
    events, sqs = clients("events"), clients("sqs")
    url, arn = open_queue(sqs, unique)
    events.create_event_bus(Name=unique)
    events.put_rule(Name=unique, EventBusName=unique, EventPattern='{"source": [{"prefix": ""}]}')
    events.put_targets(Rule=unique, EventBusName=unique, Targets=[{"Id": "q", "Arn": arn}])

    def create(**parameters):
        stack = Stack(clients, unique, TEMPLATE, EventBusName=unique, **parameters)
        made.append(stack)
        assert stack.status == "CREATE_COMPLETE", stack.reasons()
        stack.ids["Arrived"] = url
        return stack

    yield create
    for stack in made:
        stack.cloudformation.delete_stack(StackName=stack.name)
        table = stack.ids["Table"]  # retained
        stack.client("dynamodb").update_table(TableName=table, DeletionProtectionEnabled=False)
        stack.client("dynamodb").delete_table(TableName=table)


def received(stack):
    """The new events on the bus."""
    answer = stack.client("sqs").receive_message(
        QueueUrl=stack.ids["Arrived"], MaxNumberOfMessages=10
    )
    return [json.loads(one["Body"]) for one in answer.get("Messages", [])]


def arrived(stack, count=1):
    """The new events on the bus, once there are so many."""
    found = []
    eventually(lambda: found.extend(received(stack)) or len(found) >= count)
    return found


def forbid(stack, action):
    """Deny the pipe's role an action, and return a function that allows it again."""
    denied = {"Effect": "Deny", "Action": action, "Resource": "*"}
    given = {"RoleName": stack.ids["OutboxPipeRole"], "PolicyName": "deny"}
    iam = stack.client("iam")
    document = {"Version": "2012-10-17", "Statement": [denied]}
    iam.put_role_policy(**given, PolicyDocument=json.dumps(document))
    return lambda: iam.delete_role_policy(**given)


def test_a_transaction_becomes_an_event(deploy, page):
    stack = deploy(EventSource="com.example.shop")
    event_id = page["place_order"](stack.client("dynamodb"), stack.ids["Table"], "4711", 42)
    (event,) = arrived(stack)
    assert (event["source"], event["detail-type"]) == ("com.example.shop", "OrderPlaced")
    detail = event["detail"]
    assert (detail["id"], detail["key"]) == (event_id, "ORDER#4711")
    assert detail["data"] == {"order": {"S": "4711"}, "total": {"N": "42"}}
    assert detail["sequence"].isdecimal()


def test_the_event_is_what_trace_says(deploy):
    stack, sample = deploy(), samples.parse(SAMPLE.read_text(), str(SAMPLE))
    item = sample.event["dynamodb"]["NewImage"]
    stack.client("dynamodb").put_item(TableName=stack.ids["Table"], Item=item)
    (event,) = arrived(stack)
    document = rendering.render("table-outbox").document
    flow = graph.of_template(document, name="s", region="us-east-1", account="000000000000")
    record = samples.complete(sample, flow, "us-east-1", "000000000000")
    [stream] = trace.entrances(flow, record)
    [route] = trace.trace(flow, record, stream).routes
    [delivery] = route.deliveries
    made = json.loads(delivery.payload.text)
    traced = payload.event_of(route.rule, delivery.target, record, made)
    made["sequence"] = event["detail"]["sequence"]
    for key in ("source", "detail-type", "detail"):
        assert event[key] == traced[key]


def test_a_transaction_that_is_canceled_sends_nothing_and_a_repeat_neither(deploy, page):
    stack = deploy()
    dynamodb, table = stack.client("dynamodb"), stack.ids["Table"]
    page["place_order"](dynamodb, table, "4711", 42)
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
        page["place_order"](dynamodb, table, "4711", 42)
    page["place_order"](dynamodb, table, "4712", 1)
    assert [one["detail"]["key"] for one in arrived(stack, 2)] == ["ORDER#4711", "ORDER#4712"]
    time.sleep(0.5)
    assert received(stack) == []


def test_only_new_outbox_items_are_sent(deploy):
    stack = deploy(EventSource="$.dynamodb.NewImage.source.S", DetailType="OrderChanged")
    dynamodb, table = stack.client("dynamodb"), {"TableName": stack.ids["Table"]}
    key = {"pk": {"S": "ORDER#1"}, "sk": {"S": "EVENT#1"}}
    item = {**key, "id": {"S": "1"}, "source": {"S": "com.example.pay"}, "data": {"M": {}}}
    dynamodb.put_item(**table, Item={"pk": {"S": "ORDER#1"}, "sk": {"S": "ORDER"}})
    dynamodb.put_item(**table, Item=item)
    dynamodb.put_item(**table, Item={**item, "changed": {"BOOL": True}})
    dynamodb.delete_item(**table, Key=key)
    dynamodb.put_item(**table, Item={**item, "sk": {"S": "EVENT#2"}, "id": {"S": "2"}})
    events = arrived(stack, 2)
    assert [one["detail"]["id"] for one in events] == ["1", "2"]
    assert {(one["source"], one["detail-type"]) for one in events} == {
        ("com.example.pay", "OrderChanged")
    }


def test_a_record_that_fails_is_retried_and_the_order_is_kept(deploy, page):
    stack = deploy()
    allow = forbid(stack, "events:PutEvents")
    dynamodb, table = stack.client("dynamodb"), stack.ids["Table"]
    for number in range(3):
        page["place_order"](dynamodb, table, str(number), number)
    time.sleep(1)
    assert received(stack) == []
    allow()
    keys = [one["detail"]["key"] for one in arrived(stack, 3)]
    assert keys == ["ORDER#0", "ORDER#1", "ORDER#2"]
    assert stack.messages("DeadLetterQueue") == []


def test_retries_end_in_the_dead_letter_queue_from_which_the_event_is_sent_again(deploy, page):
    stack = deploy(MaximumRetryAttempts="1")
    allow = forbid(stack, "events:PutEvents")
    dynamodb, sqs = stack.client("dynamodb"), stack.client("sqs")
    table, queue = stack.ids["Table"], stack.ids["DeadLetterQueue"]
    event_id = page["place_order"](dynamodb, table, "4711", 42)
    (message,) = eventually(lambda: stack.messages("DeadLetterQueue"))
    body = json.loads(message["Body"])
    assert body["context"]["condition"] == "RetryAttemptsExhausted"
    assert body["context"]["partnerResourceArn"].endswith(f":pipe/{stack.name}-outbox")
    assert "4711" not in message["Body"], "the position only"
    allow()
    sqs.change_message_visibility(
        QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
    )
    streams = stack.client("dynamodbstreams")
    assert page["redrive"](dynamodb, streams, sqs, table, queue) == 1
    (event,) = arrived(stack)
    assert event["detail"]["id"] == event_id
    assert page["redrive"](dynamodb, streams, sqs, table, queue) == 0


def test_a_poisonous_item_does_not_stop_the_others(deploy):
    """One has no detail type, another one that is too long."""
    stack = deploy(MaximumRetryAttempts="0")
    dynamodb, table = stack.client("dynamodb"), {"TableName": stack.ids["Table"]}
    for number, kind in enumerate(["a", "", "x" * 129, "b"]):
        item = {"pk": {"S": "p"}, "sk": {"S": f"EVENT#{number}"}, "id": {"S": str(number)}}
        given = {"type": {"S": kind}} if kind else {}
        dynamodb.put_item(**table, Item={**item, **given, "data": {"M": {}}})
    assert [one["detail-type"] for one in arrived(stack, 2)] == ["a", "b"]
    assert eventually(lambda: len(stack.messages("DeadLetterQueue")) == 2)


def test_the_table_outlives_its_stack(deploy, page):
    stack = deploy(DeletionProtection="yes")
    dynamodb, table = stack.client("dynamodb"), stack.ids["Table"]
    with pytest.raises(dynamodb.exceptions.ClientError) as refused:
        dynamodb.delete_table(TableName=table)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    page["place_order"](dynamodb, table, "4711", 42)
    stack.cloudformation.delete_stack(StackName=stack.name)
    assert dynamodb.scan(TableName=table)["Count"] == 2


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"EventSource": "aws.dynamodb"}, "EventSource"),
        ({"EventSource": "$.dynamodb.OldImage.source.S"}, "EventSource"),
        ({"DetailType": "x" * 129}, "DetailType"),
        ({"MaximumRetryAttempts": "-1"}, "MaximumRetryAttempts"),
        ({"MaximumRecordAgeInSeconds": "86401"}, "MaximumRecordAgeInSeconds"),
    ],
)
def test_an_invalid_parameter_is_named(clients, unique, parameters, named):
    assert named in refusal(clients, unique, TEMPLATE, **parameters)
