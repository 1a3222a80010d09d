"""Stacks made by CloudFormation's own calls, from a file of tests/fixtures or from a dict."""

import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from waiting import eventually

FIXTURES = Path(__file__).parents[1] / "fixtures"
ACCOUNT = "000000000000"


class Stack:
    def __init__(self, clients, name, body, region="eu-central-1", **parameters):
        self.name, self.region = name, region
        self.client = lambda service: clients(service, region)
        self.cloudformation = self.client("cloudformation")
        source = (
            {"TemplateURL": body}
            if str(body).startswith("https://")
            else {"TemplateBody": text_of(body)}
        )
        given = [
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ]
        self.cloudformation.create_stack(
            StackName=name, Parameters=given, Capabilities=["CAPABILITY_NAMED_IAM"], **source
        )
        self.settle()

    def settle(self):
        describe = self.cloudformation.describe_stacks
        eventually(
            lambda: (
                not describe(StackName=self.name)["Stacks"][0]["StackStatus"].endswith(
                    "IN_PROGRESS"
                )
            )
        )
        self.status = describe(StackName=self.name)["Stacks"][0]["StackStatus"]
        found = self.cloudformation.describe_stack_resources(StackName=self.name)["StackResources"]
        self.ids = {one["LogicalResourceId"]: one.get("PhysicalResourceId") for one in found}
        return self.status

    def update(self, body):
        self.cloudformation.update_stack(
            StackName=self.name, TemplateBody=text_of(body), Capabilities=["CAPABILITY_NAMED_IAM"]
        )
        return self.settle()

    def reasons(self):
        events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return " ".join(event.get("ResourceStatusReason", "") for event in events)

    def put(self, bus=None, **detail):
        entry = {"Source": "test", "DetailType": "t", "Detail": json.dumps(detail)}
        answer = self.client("events").put_events(
            Entries=[{**entry, "EventBusName": bus or self.ids["Bus"]}]
        )
        assert answer["FailedEntryCount"] == 0

    def messages(self, queue):
        receive = {"MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
        answer = self.client("sqs").receive_message(QueueUrl=self.ids[queue], **receive)
        return answer.get("Messages", [])

    def lines(self, group):
        found = self.client("logs").filter_log_events(logGroupName=group)["events"]
        return [event["message"] for event in found]


def refusal(clients, name, body, **parameters):
    """The message of CreateStack for parameters that it refuses."""
    with pytest.raises(ClientError) as refused:
        Stack(clients, name, body, **parameters)
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    return str(refused.value)


def text_of(body):
    if isinstance(body, Path):
        return body.read_text()
    return body if isinstance(body, str) else json.dumps(body)


def resource(kind, **properties):
    return {"Type": kind, "Properties": properties}


def template(**resources):
    return {"Resources": resources}


def snapshot(rds, name):
    keys = {"Engine": "postgres", "DBInstanceClass": "db.t4g.micro", "AllocatedStorage": 20}
    user = {"MasterUsername": "someone", "MasterUserPassword": "made-up-words"}
    rds.create_db_instance(DBInstanceIdentifier=name, **keys, **user)
    rds.create_db_snapshot(DBInstanceIdentifier=name, DBSnapshotIdentifier=f"{name}-s")
    return rds.describe_db_snapshots(DBSnapshotIdentifier=f"{name}-s")["DBSnapshots"][0][
        "DBSnapshotArn"
    ]
