# ruff: noqa: N803 - the arguments of AWS's operations
"""The verb: in which queues it looks."""

import json

from click.testing import CliRunner
from refs import stack_ref

from eventstacks.__main__ import cli
from eventstacks.bus.stacks import Deployed
from eventstacks.cli import _operations


class Sqs:
    """Each queue holds one letter; ``released`` are the queues whose letters can be seen again."""

    def __init__(self):
        self.released = []

    def client(self, *_):
        return self

    def get_queue_attributes(self, QueueUrl, AttributeNames):
        return {"Attributes": {AttributeNames[0]: "0"}}

    def receive_message(self, QueueUrl, **_):
        known = (
            {}
            if hasattr(self, QueueUrl)
            else {"MessageId": "1", "ReceiptHandle": "h", "Body": QueueUrl}
        )
        setattr(self, QueueUrl, True)
        return {"Messages": [known]} if known else {}

    def change_message_visibility_batch(self, QueueUrl, Entries):
        self.released.append(QueueUrl)


def test_the_queue_of_the_bus_is_looked_at_too(monkeypatch):
    outputs = {"DeadLetterQueueUrl": "rules", "BusDeadLetterQueueUrl": "bus", "QueueUrl": "other"}
    sqs = Sqs()
    stacks = [Deployed(stack_ref("dev", "orders", "dev-orders", "us-east-1"), outputs, (), {})]
    monkeypatch.setattr(_operations, "deployed", lambda *_: (sqs, stacks))
    done = CliRunner().invoke(cli, ["redrive", "--json"])
    assert done.exit_code == 0, done.output
    assert [one["letters"] for one in json.loads(done.stdout)] == [2]
    assert sqs.released == ["rules", "bus"]
