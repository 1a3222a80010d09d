"""rds-snapshot-workflow on the embedded AWS: it waits without polling; no lost event stops it."""

import json

import pytest
from raw_stacks import FIXTURES, Stack
from waiting import eventually

from eventstacks import rendering

NAME = "rds-snapshot-workflow"
LOOKS = 30  # a polling loop that looks every minute at a snapshot that takes 30 minutes


@pytest.fixture
def stack(clients, unique):
    found = Stack(clients, unique, rendering.render_all()[NAME].text, WaitTimeoutInSeconds="60")
    assert found.status == "CREATE_COMPLETE", found.reasons()
    database = {"DBInstanceIdentifier": unique, "DBInstanceClass": "db.t3.micro"}
    found.client("rds").create_db_instance(
        **database,
        Engine="postgres",
        AllocatedStorage=20,
        MasterUsername="admin1",
        MasterUserPassword="example-only",
    )
    yield found
    found.client("rds").delete_db_instance(DBInstanceIdentifier=unique, SkipFinalSnapshot=True)
    found.cloudformation.delete_stack(StackName=unique)


def run(stack, machine, given):
    """Run an execution to its end; return its description and the number of state transitions."""
    workflows = stack.client("stepfunctions")
    arn = workflows.start_execution(stateMachineArn=machine, input=json.dumps(given))[
        "executionArn"
    ]
    finished = eventually(
        lambda: (
            (found := workflows.describe_execution(executionArn=arn))["status"] != "RUNNING"
            and found
        ),
        seconds=40,
    )
    assert finished, str(workflows.get_execution_history(executionArn=arn)["events"][-3:])[:3000]
    pages = workflows.get_paginator("get_execution_history").paginate(executionArn=arn)
    entered = [
        one for page in pages for one in page["events"] if one["type"].endswith("StateEntered")
    ]
    return finished, len(entered)


def shorten_wait(stack):
    """Let the workflow wait for one second only: the template's minimum is a minute."""
    workflows, machine = stack.client("stepfunctions"), stack.ids["Workflow"]
    definition = json.loads(workflows.describe_state_machine(stateMachineArn=machine)["definition"])
    definition["States"]["CreateSnapshotAndWait"]["TimeoutSeconds"] = 1
    workflows.update_state_machine(stateMachineArn=machine, definition=json.dumps(definition))


def messages(stack, queue):
    answer = stack.client("sqs").receive_message(
        QueueUrl=stack.ids[queue], MessageAttributeNames=["All"], MaxNumberOfMessages=10
    )
    return answer.get("Messages", [])


def test_it_needs_a_fifth_of_the_state_transitions_of_a_polling_loop(
    stack, clients, unique, capsys
):
    given = {"DBInstanceIdentifier": unique}
    finished, ours = run(stack, stack.ids["Workflow"], given)
    assert finished["status"] == "SUCCEEDED"
    snapshot = json.loads(finished["output"])["SnapshotArn"].rsplit(":", 1)[-1]
    (found,) = stack.client("rds").describe_db_snapshots(DBSnapshotIdentifier=snapshot)[
        "DBSnapshots"
    ]
    assert found["DBInstanceIdentifier"] == unique

    loop = Stack(clients, f"{unique}-loop", FIXTURES / "stacks/polling-loop.yaml", WaitSeconds="0")
    finished, polling = run(loop, loop.ids["Loop"], {"looks": 0, "needed": LOOKS})
    loop.cloudformation.delete_stack(StackName=loop.name)
    assert finished["status"] == "SUCCEEDED"
    with capsys.disabled():
        print(f"\nstate transitions: {ours} with a task token, {polling} polling {LOOKS} times")
    assert polling >= 5 * ours


def test_a_lost_event_delays_the_workflow_and_does_not_stop_it(stack, unique):
    shorten_wait(stack)
    stack.client("events").disable_rule(Name=stack.ids["SnapshotRule"])
    finished, _ = run(stack, stack.ids["Workflow"], {"DBInstanceIdentifier": unique})
    assert (finished["status"], json.loads(finished["output"])["Status"]) == (
        "SUCCEEDED",
        "available",
    )


def test_an_event_that_the_queue_rejects_is_kept(stack, unique):
    shorten_wait(stack)
    stack.client("sqs").set_queue_attributes(
        QueueUrl=stack.ids["ResumeQueue"], Attributes={"Policy": ""}
    )
    finished, _ = run(stack, stack.ids["Workflow"], {"DBInstanceIdentifier": unique})
    assert finished["status"] == "SUCCEEDED"
    (kept,) = eventually(lambda: messages(stack, "DeadLetterQueue"))
    assert kept["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"


def test_a_message_that_cannot_be_handled_moves_to_its_dead_letter_queue(stack):
    sqs = stack.client("sqs")
    sqs.set_queue_attributes(
        QueueUrl=stack.ids["ResumeQueue"], Attributes={"VisibilityTimeout": "1"}
    )
    sqs.send_message(QueueUrl=stack.ids["ResumeQueue"], MessageBody='{"detail": {}}')
    (kept,) = eventually(lambda: messages(stack, "ResumeDeadLetterQueue"), seconds=60)
    assert kept["Body"] == '{"detail": {}}'


@pytest.mark.parametrize(
    ("given", "error"),
    [({"DBInstanceIdentifier": "missing"}, "DBInstanceNotFound"), ({}, "InvalidInput")],
)
def test_a_workflow_without_a_database_fails_at_once_and_says_why(stack, given, error):
    finished, _ = run(stack, stack.ids["Workflow"], given)
    assert (finished["status"], finished["error"]) == ("FAILED", error)
