# ruff: noqa: N803 - the arguments of AWS's operations
"""The verb: in which queues it looks, and what it tells of messages in flight."""

import json

import pytest
from click.testing import CliRunner
from refs import stack_ref

from eventstacks.__main__ import cli
from eventstacks.bus.stacks import Deployed
from eventstacks.cli import replays
from eventstacks.errors import ErrorCode

OUTPUTS = {"DeadLetterQueueUrl": "rules", "BusDeadLetterQueueUrl": "bus", "Url": "other"}


class Sqs:
    """Each queue has one message; ``released`` are the queues whose messages are visible again."""

    environment = None

    def __init__(self, in_flight=0, body=None):
        self.released, self.in_flight, self.body, self.read = [], in_flight, body, set()

    def client(self, *_):
        return self

    def get_queue_attributes(self, QueueUrl, AttributeNames):
        counts = {"ApproximateNumberOfMessagesNotVisible": str(self.in_flight)}
        return {"Attributes": dict.fromkeys(AttributeNames, "0") | counts}

    def receive_message(self, QueueUrl, **_):
        if QueueUrl in self.read or self.body == "":
            return {}
        self.read.add(QueueUrl)
        body = self.body or QueueUrl
        return {"Messages": [{"MessageId": "1", "ReceiptHandle": "h", "Body": body}]}

    def change_message_visibility_batch(self, QueueUrl, Entries):
        assert Entries[0]["VisibilityTimeout"] == 0
        self.released.append(QueueUrl)


@pytest.fixture
def run(monkeypatch):
    def run_with(sqs, *options, outputs=OUTPUTS):
        stack = Deployed(stack_ref("dev", "orders", "dev-orders", "us-east-1"), outputs, ())
        monkeypatch.setattr(replays, "deployed", lambda *_: (sqs, [stack]))
        return CliRunner().invoke(cli, ["redrive", *options], standalone_mode=False)

    return run_with


def test_the_queue_of_the_bus_is_looked_at_too(run):
    sqs = Sqs()
    done = run(sqs, "--json")
    assert done.exit_code == 0, done.output
    assert [one["messages"] for one in json.loads(done.stdout)] == [2]
    assert sorted(sqs.released) == ["bus", "rules"]


def test_no_queue_is_not_no_messages(run):
    done = run(Sqs(), outputs={"Url": "other"})
    assert done.exception.code is ErrorCode.NOT_FOUND
    assert "dev-orders" in done.exception.where


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--to", "target"], 1)])
def test_messages_in_flight_are_reported_and_are_not_success(run, options, code):
    done = run(Sqs(in_flight=288, body=""), *options)
    assert done.return_value == code
    assert "576 in flight" in done.stderr  # two queues
    assert "120 seconds" in done.stderr


def test_a_message_cannot_add_lines_to_an_error(run):
    record = {
        "requestPayload": {},
        "requestContext": {
            "functionArn": "arn:aws:x:r:1:\nError: forged",
            "condition": "\u2028now",
        },
    }
    done = run(Sqs(body=json.dumps(record)), "--to", "target", "--yes")
    assert done.return_value == 1
    (error,) = [line for line in done.stderr.splitlines() if "Error" in line]
    assert error.startswith("Error: 2 left of (function) → ; Error: forged → ; now: ")


def test_control_characters_of_a_message_are_escaped(run):
    done = run(Sqs(body="evil \x1b[2J \x9b31m \u202e"))
    assert not set("\x1b\x9b\u202e") & set(done.stdout)
    assert "\\x1b[2J \\x9b31m \\u202e" in done.stdout
