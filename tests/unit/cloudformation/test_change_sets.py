"""Change sets: made, shown, executed, and never left behind. Against a scripted CloudFormation."""

import json

import pytest
from scripted_cloudformation import (
    QUEUE,
    TEMPLATE,
    environment,
    refusal,
    stack,
    steps,
)

from eventstacks.errors import ErrorCode

HERE = "us-east-1"


def test_a_new_stack_is_created(world):
    w = world()
    w.cfn.outputs["t-bus"] = {"Arn": "arn:queue"}
    (result,) = w.deploy()
    assert (result.outcome, result.status, result.outputs) == (
        "created",
        "CREATE_COMPLETE",
        {"Arn": "arn:queue"},
    )
    assert [one.event.logical_id for one in w.ear.heard] == ["t-bus", "Queue", "Queue", "t-bus"]
    assert w.ear.heard[-1].resources == {"Queue": "CREATE_COMPLETE"}
    assert w.ear.totals == [1]


@pytest.mark.parametrize(
    "reason",
    [
        "The submitted information didn't contain changes. Submit different information to create a change set.",
        "No updates are to be performed.",
    ],
)
def test_no_change_is_no_failure_and_leaves_no_change_set(world, reason):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.reason = reason
    (result,) = w.deploy()
    assert (result.outcome, result.ok, w.cfn.change_sets, w.ear.asked) == (
        "unchanged",
        True,
        {},
        [],
    )


@pytest.mark.parametrize("status", [None, "REVIEW_IN_PROGRESS"])
@pytest.mark.parametrize("verb", ["plan", "deploy"])
def test_a_new_stack_without_resources_is_a_fault_of_its_template(world, status, verb):
    w = world()
    if status:
        w.cfn.add_stack("t-bus", status)
    w.cfn.no_change = True
    (found,) = getattr(w, verb)()
    assert found.problem.code == ErrorCode.TEMPLATE_INVALID
    assert found.problem.where == "build/queue.yaml"
    assert w.cfn.change_sets == {}


@pytest.mark.parametrize("missing", ["change set", "stack"])
def test_what_another_deployment_has_taken_away_is_said_to_be(world, missing):
    w = world()

    def another(_):
        w.cfn.change_sets.clear()
        if missing == "stack":
            w.cfn.stacks.clear()
        return True

    w.ear.confirm = another
    (result,) = w.deploy()
    assert result.problem.code == ErrorCode.STACK_BUSY
    assert "make follow ENV=test STACK=bus" in result.problem.advice


def test_another_reason_is_a_failure(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.reason = "Parameters: [X] must have values"
    (result,) = w.deploy()
    assert not result.ok
    assert "Parameters: [X] must have values" in str(result.problem)
    assert w.cfn.change_sets == {}


def test_a_plan_leaves_neither_change_set_nor_stack(world):
    w = world()
    (plan,) = w.plan()
    assert plan.changes
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


def test_a_stack_in_review_is_created_and_kept_with_the_change_set_of_another(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", "REVIEW_IN_PROGRESS")
    w.cfn.create_change_set(StackName="t-bus", ChangeSetName="theirs", ChangeSetType="CREATE")
    w.plan()
    assert w.cfn.find("t-bus") == stack_id
    (result,) = w.deploy()
    assert (result.outcome, w.cfn.find("t-bus")) == ("created", stack_id)


def test_saying_no_leaves_nothing(world):
    w = world()
    w.ear.answer = False
    assert w.deploy() == []
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


def test_a_stack_that_somebody_fills_meanwhile_is_not_deleted(world):
    w = world()

    def no(plans):
        stack_id = w.cfn.find("t-bus")
        w.cfn.emit(stack_id, "STACK", "CREATE_COMPLETE")
        return False

    w.ear.answer = no
    w.deploy()
    assert w.cfn.find("t-bus")
    assert "delete_stack" not in w.cfn.names()


@pytest.mark.parametrize("others", [1, 4])
def test_a_stack_in_review_with_somebody_elses_change_set_is_not_deleted(world, others):
    w = world()

    def no(plans):
        for number in range(others):
            w.cfn.create_change_set(
                StackName="t-bus", ChangeSetType="CREATE", ChangeSetName=f"theirs-{number}"
            )
        for one in list(w.cfn.change_sets.values())[
            1:others
        ]:  # all but the last: the first page tells nothing
            one["status"] = "DELETE_IN_PROGRESS"
        return False

    w.ear.answer = no
    w.deploy()
    assert w.cfn.status(w.cfn.find("t-bus")) == "REVIEW_IN_PROGRESS"
    assert sorted(one["given"]["ChangeSetName"] for one in w.cfn.change_sets.values()) == [
        f"theirs-{number}" for number in range(others)
    ]


def test_the_name_of_a_change_set_is_its_client_token_and_no_other_ones(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.deploy()
    w.deploy()
    made = [given for name, given in w.cfn.calls if name == "create_change_set"]
    assert [one["ClientToken"] for one in made] == [one["ChangeSetName"] for one in made]
    assert len({one["ClientToken"] for one in made}) == 2


def test_a_refused_execution_leaves_no_change_set(world):
    w = world()
    w.cfn.fail("execute_change_set", refusal("ValidationError", "not now"))
    (result,) = w.deploy()
    assert "not now" in str(result.problem)
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


def test_an_empty_change_set_is_executed(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.changes = []
    (result,) = w.deploy()
    assert result.outcome == "updated"


def test_all_pages_of_a_change_set_are_read(world):
    w = world()
    w.cfn.changes = [{**QUEUE, "LogicalResourceId": f"Queue{number}"} for number in range(7)]
    (plan,) = w.plan()
    assert [one["LogicalResourceId"] for one in plan.change_set.changes] == [
        f"Queue{number}" for number in range(7)
    ]


def test_values_of_the_file_and_nothing_else_are_sent(world):
    w = world(environment(stack(parameters={"Size": "3", "Secret": "s3cret"})))
    w.cfn.add_stack(
        "t-bus",
        Parameters=[
            {"ParameterKey": "Secret", "ParameterValue": "****"},
            {"ParameterKey": "Missing", "ParameterValue": "1"},
            {"ParameterKey": "Defaulted", "ParameterValue": "old"},
        ],
    )
    w.deploy()
    sent = next(given for name, given in w.cfn.calls if name == "create_change_set")["Parameters"]
    assert sent == [
        {"ParameterKey": "Size", "ParameterValue": "3"},
        {"ParameterKey": "Secret", "ParameterValue": "s3cret"},
    ]


SECRET = {
    "Parameters": {"Secret": {"Type": "String", "NoEcho": True}, "Size": {"Type": "String"}},
    "Resources": {
        "Store": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {
                "Value": {"Fn::Sub": "db://u:${Secret}@h"},
                "Description": {"Ref": "Size"},
            },
        },
        "Reader": {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "Environment": {"Variables": {"URL": {"Fn::GetAtt": ["Store", "Value"]}}},
                "MemorySize": {"Ref": "Size"},
            },
        },
    },
}


def changed(resource, path, before, after, **more):
    return {
        "Action": "Modify",
        "LogicalResourceId": resource,
        "ResourceType": "AWS::SSM::Parameter",
        "Details": [
            {
                "Target": {
                    "Attribute": "Properties",
                    "Path": f"/Properties/{path}",
                    "BeforeValue": before,
                    "AfterValue": after,
                }
            }
        ],
        **more,
    }


def secretive(world, *, deployed=True):
    w = world(environment(stack(parameters={"Size": "3", "Secret": "s3cret-now"})))
    w.template = SECRET
    if deployed:
        hidden = [{"ParameterKey": "Secret", "ParameterValue": "****"}]
        w.cfn.add_stack("t-bus", Parameters=hidden)
        w.cfn.get_template = lambda **_: {"TemplateBody": SECRET}
    return w


def test_secrets_are_not_in_a_plan(world):
    w = secretive(world)
    w.cfn.changes = [
        changed("Store", "Value", "db://u:before@h", "db://u:s3cret-now@h"),
        changed(
            "Reader",
            "Environment/Variables/URL",
            "db://u:before@h",
            "db://u:s3cret-now@h",
            AfterContext='{"Properties":{"Value":"db://u:before@h"}}',
        ),
        changed("Reader", "MemorySize", "1", "3"),
        changed("Other", "Name", "x", "of s3cret-now"),
    ]
    (plan,) = w.plan()
    assert plan.change_set.parameters == {"Size": "3", "Secret": "****"}
    values = [
        (one["Details"][0]["Target"]["BeforeValue"], one["Details"][0]["Target"]["AfterValue"])
        for one in plan.change_set.changes
    ]
    assert values == [("****", "****"), ("****", "****"), ("1", "3"), ("x", "of ****")]
    text = json.dumps(plan.document())
    assert "before" not in text
    assert "s3cret-now" not in text


def test_a_secret_of_the_deployed_template_is_not_in_a_plan_either(world):
    w = secretive(world)
    w.template = TEMPLATE
    w.cfn.changes = [changed("Store", "Value", "db://u:before@h", "plain")]
    (plan,) = w.plan()
    assert "before" not in json.dumps(plan.document())


@pytest.mark.parametrize("at", ["create_change_set", "execute_change_set"])
def test_secrets_are_not_in_a_refusal(world, at):
    w = secretive(world)
    w.cfn.fail(at, refusal("ValidationError", "Value 's3cret-now' at 'x' is too long"), times=9)
    (result,) = w.deploy()
    assert result.problem.what == "AWS says: Value '****' at 'x' is too long"


@pytest.mark.parametrize("deployed", [True, False])
def test_secrets_are_not_in_the_reason_of_a_failure(world, deployed):
    w = secretive(world, deployed=deployed)
    failed = steps(
        (0, "STACK", "CREATE_IN_PROGRESS"),
        (1, "Store", "CREATE_FAILED", "invalid value db://u:s3cret-now@h"),
        (2, "STACK", "ROLLBACK_COMPLETE"),
    )
    w.cfn.timelines |= {"CREATE": failed, "UPDATE": failed}
    (result,) = w.deploy()
    assert "invalid value db://u:****@h" in result.problem.what
    assert "s3cret-now" not in "".join(one.event.reason for one in w.ear.heard)
    w = secretive(world)
    w.cfn.reason = "Parameter Secret: s3cret-now is not allowed"
    (result,) = w.deploy()
    assert "Secret: **** is not allowed" in result.problem.what


@pytest.mark.parametrize("chosen", [False, True])
def test_disable_rollback_is_said_when_the_change_set_is_executed(world, chosen):
    w = world()
    w.deploy(disable_rollback=chosen)
    done = next(given for name, given in w.cfn.calls if name == "execute_change_set")
    assert done["DisableRollback"] is chosen


LOSING = {
    "Action": "Modify",
    "LogicalResourceId": "Queue",
    "ResourceType": "AWS::SQS::Queue",
    "Replacement": "True",
}


@pytest.mark.parametrize(
    "change",
    [
        LOSING,
        {**LOSING, "Replacement": "Conditional"},
        {**LOSING, "Action": "Remove", "Replacement": None, "PolicyAction": "Delete"},
    ],
)
def test_a_protected_environment_refuses_losses(world, change):
    from eventstacks.errors import ToolError

    w = world(environment(protect=True))
    w.cfn.add_stack("t-bus")
    w.cfn.changes = [change]
    with pytest.raises(ToolError, match="--allow-replace Queue"):
        w.deploy()
    assert (w.cfn.change_sets, "execute_change_set" in w.cfn.names()) == ({}, False)
    (result,) = w.deploy(allow_replace=frozenset({"Queue"}))
    assert result.outcome == "updated"


def test_a_protected_environment_protects_its_stacks(world):
    w = world(environment(protect=True))
    w.deploy()
    assert w.cfn.stacks[w.cfn.find("t-bus")]["more"]["EnableTerminationProtection"] is True


def test_protection_is_set_when_nothing_else_changes(world):
    w = world(environment(protect=True))
    stack_id = w.cfn.add_stack("t-bus")
    w.cfn.no_change = True
    (plan,) = w.plan()
    assert plan.settings == ("termination protection",)
    assert "EnableTerminationProtection" not in w.cfn.stacks[stack_id]["more"]
    (result,) = w.deploy()
    assert (result.outcome, w.cfn.stacks[stack_id]["more"]["EnableTerminationProtection"]) == (
        "updated",
        True,
    )


def test_topics_alarms_and_the_role_are_sent_and_taken_away(world):
    w = world(
        environment(
            stack(
                role="arn:aws:iam::123456789012:role/deploy",
                rollback_alarms=("arn:alarm",),
                rollback_minutes=5,
            ),
            notifications=("arn:topic",),
        )
    )
    w.deploy()
    made = next(given for name, given in w.cfn.calls if name == "create_change_set")
    assert (made["RoleARN"], made["NotificationARNs"]) == (
        "arn:aws:iam::123456789012:role/deploy",
        ["arn:topic"],
    )
    assert made["RollbackConfiguration"] == {
        "RollbackTriggers": [{"Arn": "arn:alarm", "Type": "AWS::CloudWatch::Alarm"}],
        "MonitoringTimeInMinutes": 5,
    }
    w = world()
    w.cfn.add_stack(
        "t-bus",
        NotificationARNs=["arn:topic"],
        RollbackConfiguration={"MonitoringTimeInMinutes": 5},
    )
    w.deploy()
    made = next(given for name, given in w.cfn.calls if name == "create_change_set")
    assert (made["NotificationARNs"], made["RollbackConfiguration"]) == (
        [],
        {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0},
    )
