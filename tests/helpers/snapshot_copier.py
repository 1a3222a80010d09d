"""The function that copies snapshots, run in a World of fake_rds.py."""

import importlib.util
import json
import sys
from datetime import datetime
from pathlib import Path

FILE = Path(__file__).parents[2] / "templates" / "functions" / "rds_snapshot_copy.py"
spec = importlib.util.spec_from_file_location("rds_snapshot_copy", FILE)
function = importlib.util.module_from_spec(spec)
sys.modules["rds_snapshot_copy"] = function
spec.loader.exec_module(function)

ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "OWNER": "us-east-1/backup",
    "DESTINATION_REGION": "eu-west-1",
    "QUEUE_URL": "work",
    "DEAD_LETTER_QUEUE_URL": "dead",
    "KMS_KEY": "",
    "TYPES": "manual,automated",
    "ENGINES": "",
    "DATABASE_PREFIX": "",
    "TAG_KEY": "",
    "TAG_VALUE": "",
    "RETENTION_DAYS": "35",
    "MINIMUM_COPIES": "1",
    "BACKFILL_DAYS": "7",
    "DEADLINE_HOURS": "6",
}


class Run:
    """The function in a world whose time it takes for its own."""

    def __init__(self, world, monkeypatch, **environment):
        self.world, self.sqs = world, world.client("sqs")

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return world.now

        monkeypatch.setattr(function, "datetime", Clock)
        monkeypatch.setattr(function.boto3, "client", world.client)
        for key, value in {**ENVIRONMENT, **environment}.items():
            monkeypatch.setenv(key, value)

    def event(self, arn):
        self.sqs.send_message(
            QueueUrl="work", MessageBody=json.dumps({"detail": {"SourceArn": arn}})
        )

    def reconcile(self):
        return function.handler({}, None)

    def work(self, *, again=False):
        """One batch; the answer."""
        records = self.sqs.receive(again=again)
        if records:
            answer = function.handler({"Records": records}, None)
            self.sqs.settle(records, answer)
        return len(records)

    def drain(self, hours, *, reconcile=True):
        for step in range(hours * 12):
            if reconcile and step % 12 == 0:
                self.reconcile()
            while self.work():
                pass
            self.world.pass_time(300)

    @property
    def messages(self):
        return self.sqs.state["messages"]

    @property
    def dead(self):
        return self.sqs.state["dead"]


def tags(one):
    return {tag["Key"]: tag["Value"] for tag in one["TagList"]}
