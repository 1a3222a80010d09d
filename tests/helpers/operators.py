"""Somebody who operates a deployed stack: the verbs and what AWS says afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import in_process

from eventstacks.bus import tail
from eventstacks.cloudformation import outputs

REGION, OTHER = "eu-central-1", "eu-west-1"
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds for what takes a fraction of one on a machine with nothing else to do


class Operator:
    """Somebody in a checkout with one deployed stack."""

    def __init__(self, aws, settings, template):
        self.aws, self.settings = aws, settings
        self.name = next(iter(settings.stacks))
        self.outputs = outputs.read(aws, settings.ref(self.name, REGION))
        self.bus = self.outputs.get("EventBusName", "default")
        self.running = []

    def client(self, service, region=REGION):
        return self.aws.client(service, region)

    def command(self, verb, *options):
        return [
            sys.executable,
            "-m",
            "eventstacks",
            verb,
            "--env",
            "test",
            "--region",
            REGION,
            "--stack",
            self.name,
            *options,
        ]

    def run(self, verb, *options, code=0):
        done = in_process.run(*self.command(verb, *options)[3:])
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def start(self, verb, *options, until):
        """A process, once its stderr contains ``until``; its stdout is a pipe."""
        process = subprocess.Popen(
            self.command(verb, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.variables,
            start_new_session=True,
        )
        self.running.append(process)
        said = ""
        while until not in said:
            line = process.stderr.readline()
            assert line, f"it ended after: {said}"
            said += line
        return process, said

    @property
    def variables(self):
        return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def put(self, marker, **entry):
        given = {
            "Source": "com.example.shop",
            "DetailType": "OrderPlaced",
            "Detail": json.dumps({"marker": marker}),
        }
        answer = self.client("events").put_events(
            Entries=[{**given, "EventBusName": self.bus, **entry}]
        )
        assert answer["FailedEntryCount"] == 0

    def logged(self, group="EventLogGroupName"):
        name = self.outputs[group]
        return [
            one["message"]
            for one in self.client("logs").filter_log_events(logGroupName=name)["events"]
        ]

    def dead_letter_messages(self):
        """What the dead-letter queue shows to everybody."""
        url = self.outputs["DeadLetterQueueUrl"]
        found = self.client("sqs").receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
        )
        return found.get("Messages", [])

    def lock_the_log_group(self):
        for one in self.client("logs").describe_resource_policies()["resourcePolicies"]:
            if one["policyName"].startswith(self.name):
                self.client("logs").delete_resource_policy(policyName=one["policyName"])

    def taps(self):
        """Names of temporary rules on the bus, and of temporary queues of the bus."""
        rules = self.client("events").list_rules(NamePrefix=tail.PREFIX, EventBusName=self.bus)[
            "Rules"
        ]
        sqs = self.client("sqs")
        urls = sqs.list_queues(QueueNamePrefix=tail.PREFIX).get("QueueUrls", [])
        own = [url for url in urls if sqs.list_queue_tags(QueueUrl=url)["Tags"]["bus"] == self.bus]
        return sorted(one["Name"] for one in rules), sorted(url.rsplit("/", 1)[-1] for url in own)


def open_queue(sqs, name, service="events.amazonaws.com"):
    """Create a queue to which a service may send from anywhere; return its URL and ARN."""
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": attributes["QueueArn"],
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    return url, attributes["QueueArn"]
