"""rds-snapshot-copy on the embedded AWS.

A snapshot in one Region becomes a copy in the other, or a dead-letter message.
"""

import json
import uuid

import pytest
from operators import open_queue
from waiting import eventually

from eventstacks import rendering

HERE, THERE = "eu-central-1", "eu-west-1"


@pytest.fixture(scope="module")
def stack(clients):
    """The outputs of a deployed stack: one for all tests, each of which has its own databases."""
    cloudformation, name = clients("cloudformation", HERE), f"t{uuid.uuid4().hex[:8]}"
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=rendering.render("rds-snapshot-copy").text,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": "DestinationRegion", "ParameterValue": THERE},
            {"ParameterKey": "DestinationKmsKeyArn", "ParameterValue": ""},
        ],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 0.2}
    )
    (found,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    yield {"name": name, **{one["OutputKey"]: one["OutputValue"] for one in found["Outputs"]}}
    cloudformation.delete_stack(StackName=name)


def tags(one):
    return {tag["Key"]: tag["Value"] for tag in one["TagList"]}


def copies_of(clients, source):
    """The copies in the destination Region of the snapshot with this ARN."""
    rds = clients("rds", THERE)
    found = rds.describe_db_snapshots()["DBSnapshots"]
    found += rds.describe_db_cluster_snapshots()["DBClusterSnapshots"]
    return [one for one in found if tags(one).get("source-arn") == source]


def make_snapshot(clients, unique, kind):
    rds = clients("rds", HERE)
    common = {
        "MasterUsername": "probe",
        "MasterUserPassword": uuid.uuid4().hex,
    }
    if kind == "instance":
        rds.create_db_instance(
            DBInstanceIdentifier=unique,
            DBInstanceClass="db.t4g.micro",
            Engine="postgres",
            AllocatedStorage=20,
            **common,
        )
        return rds.create_db_snapshot(DBInstanceIdentifier=unique, DBSnapshotIdentifier=unique)[
            "DBSnapshot"
        ]["DBSnapshotArn"]
    rds.create_db_cluster(DBClusterIdentifier=unique, Engine="aurora-postgresql", **common)
    return rds.create_db_cluster_snapshot(
        DBClusterIdentifier=unique, DBClusterSnapshotIdentifier=unique
    )["DBClusterSnapshot"]["DBClusterSnapshotArn"]


def reconcile(clients, stack):
    answer = clients("lambda", HERE).invoke(FunctionName=stack["FunctionArn"], Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()
    return json.loads(answer["Payload"].read())


@pytest.mark.parametrize("kind", ["instance", "cluster"])
def test_a_snapshot_is_copied_when_rds_reports_it(clients, stack, unique, kind):
    source = make_snapshot(clients, unique, kind)
    (copy,) = eventually(lambda: copies_of(clients, source), seconds=90)
    assert tags(copy)["copied-by"] == f"{HERE}/{stack['name']}"


def test_a_finished_copy_is_announced_and_then_no_more(clients, stack, unique):
    events, sqs = clients("events", THERE), clients("sqs", THERE)
    url, arn = open_queue(sqs, unique)
    source = make_snapshot(clients, unique, "instance")
    pattern = {"source": ["rds-snapshot-copy"], "detail": {"sourceArn": [source]}}
    events.put_rule(Name=unique, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=unique, Targets=[{"Id": "queue", "Arn": arn}])
    assert eventually(lambda: copies_of(clients, source), seconds=90)

    def announcements():
        """Reconcile; return the messages that were not received before."""
        reconcile(clients, stack)
        received = []
        while found := sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1
        ).get("Messages"):
            received += [json.loads(one["Body"])["detail-type"] for one in found]
        return received

    # The stack's own schedule can run at the same time, and announces it as well then.
    assert set(announcements()) == {"RDS Snapshot Copy Available"}
    assert announcements() == []
    events.remove_targets(Rule=unique, Ids=["queue"])
    events.delete_rule(Name=unique)


def test_the_schedule_copies_a_snapshot_that_no_event_reported(clients, stack, unique):
    events = clients("events", HERE)
    rule = stack["SnapshotRuleArn"].rsplit("/", 1)[1]
    events.disable_rule(Name=rule)
    try:
        source = make_snapshot(clients, unique, "instance")
        assert copies_of(clients, source) == []
        assert reconcile(clients, stack)["CopiesMissing"] >= 1
        assert eventually(lambda: copies_of(clients, source), seconds=90)
    finally:
        events.enable_rule(Name=rule)


def test_a_message_that_cannot_be_copied_is_kept_with_its_reason(clients, stack, unique):
    sqs = clients("sqs", HERE)
    arn = f"arn:aws:rds:{HERE}:000000000000:snapshot:{unique}"
    sqs.send_message(
        QueueUrl=stack["WorkQueueUrl"], MessageBody=json.dumps({"detail": {"SourceArn": arn}})
    )

    def look():
        answer = sqs.receive_message(
            QueueUrl=stack["DeadLetterQueueUrl"],
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            VisibilityTimeout=1,
        )
        return [one for one in answer.get("Messages", []) if unique in one["Body"]]

    (message,) = eventually(look, seconds=90)
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "DBSnapshotNotFound"


def test_the_function_writes_metrics_and_json_lines(clients, stack):
    reconcile(clients, stack)
    logs = clients("logs", HERE)
    lines = eventually(
        lambda: [
            one["message"]
            for one in logs.filter_log_events(logGroupName=stack["FunctionLogGroupName"])["events"]
            if "CopiesOverdue" in one["message"]
        ]
    )
    assert "_aws" in json.loads(lines[-1])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"DestinationRegion": HERE}, "must not be the Region"),
        ({"DestinationRegion": "nowhere"}, "DestinationRegion"),
        ({"DestinationRegion": THERE, "TagValue": "yes"}, "TagValue needs a TagKey"),
        ({"DestinationRegion": THERE, "MinimumCopies": "0"}, "MinimumCopies"),
        ({"DestinationRegion": THERE, "SnapshotTypes": "shared"}, "SnapshotTypes"),
        ({"DestinationRegion": THERE, "DestinationKmsKeyArn": "alias/x"}, "DestinationKmsKeyArn"),
    ],
)
def test_parameters_that_contradict_are_refused_before_anything_is_created(
    clients, unique, parameters, message
):
    with pytest.raises(Exception, match=message):
        clients("cloudformation", HERE).create_stack(
            StackName=unique,
            TemplateBody=rendering.render("rds-snapshot-copy").text,
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
        )


MAY = [
    ("rds:CopyDBSnapshot", f"arn:aws:rds:{THERE}:000000000000:snapshot:copy-orders-1", True),
    ("rds:CopyDBSnapshot", f"arn:aws:rds:{HERE}:000000000000:snapshot:rds:orders", True),
    ("rds:CopyDBSnapshot", f"arn:aws:rds:{THERE}:000000000000:snapshot:orders", False),
    ("rds:CopyDBSnapshot", "arn:aws:rds:ap-south-1:000000000000:snapshot:copy-x", False),
    ("rds:DeleteDBSnapshot", f"arn:aws:rds:{HERE}:000000000000:snapshot:orders", False),
    ("rds:DeleteDBSnapshot", f"arn:aws:rds:{THERE}:000000000000:snapshot:copy-x", False),
    ("rds:DeleteDBInstance", f"arn:aws:rds:{HERE}:000000000000:db:orders", False),
    ("rds:AddTagsToResource", f"arn:aws:rds:{HERE}:000000000000:snapshot:orders", False),
    ("rds:RestoreDBInstanceFromDBSnapshot", f"arn:aws:rds:{HERE}:000000000000:db:x", False),
    ("sqs:SendMessage", "arn:aws:sqs:eu-central-1:000000000000:other", False),
]


@pytest.mark.parametrize(("action", "resource", "allowed"), MAY)
def test_the_function_can_do_what_it_must_and_not_the_next_thing(
    clients, stack, action, resource, allowed
):
    function = clients("lambda", HERE).get_function_configuration(FunctionName=stack["FunctionArn"])
    answer = clients("iam").simulate_principal_policy(
        PolicySourceArn=function["Role"], ActionNames=[action], ResourceArns=[resource]
    )
    assert [one["EvalDecision"] == "allowed" for one in answer["EvaluationResults"]] == [allowed]
