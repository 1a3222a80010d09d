"""Change sets: created, shown, executed, and always deleted. Against a scripted CloudFormation."""

import pytest
from scripted_aws import environment, stack
from scripted_cloudformation import QUEUE, refusal

from eventstacks.errors import ErrorCode, ToolError

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
    assert [one.logical_id for one in w.listener.events] == [
        "t-bus",
        "Queue",
        "Queue",
        "t-bus",
    ]
    assert [*w.listener.totals.values()] == [1]


@pytest.mark.parametrize(
    "reason",
    [
        (
            "The submitted information didn't contain changes. "
            "Submit different information to create a change set."
        ),
        "No updates are to be performed.",
    ],
)
def test_a_change_set_without_changes_is_unchanged_and_deleted(world, reason):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.reason = reason
    (result,) = w.deploy()
    assert (result.outcome, result.ok, w.cfn.change_sets, w.listener.asked) == (
        "unchanged",
        True,
        {},
        [],
    )


@pytest.mark.parametrize("status", [None, "REVIEW_IN_PROGRESS"])
@pytest.mark.parametrize("verb", ["plan", "deploy"])
def test_a_new_stack_without_resources_has_an_invalid_template(world, status, verb):
    w = world()
    if status:
        w.cfn.add_stack("t-bus", status)
    w.cfn.no_change = True
    (found,) = getattr(w, verb)()
    assert found.problem.code == ErrorCode.TEMPLATE_INVALID
    assert found.problem.where == "build/queue.yaml"
    assert w.cfn.change_sets == {}


@pytest.mark.parametrize("missing", ["change set", "stack"])
def test_a_change_set_that_another_deployment_deleted_is_stack_busy(world, missing):
    w = world()

    def another(_):
        w.cfn.change_sets.clear()
        if missing == "stack":
            w.cfn.stacks.clear()
        return True

    w.listener.confirm = another
    (result,) = w.deploy()
    assert result.problem.code == ErrorCode.STACK_BUSY
    assert "make follow ENV=test STACK=bus" in result.problem.advice


def test_a_change_set_that_fails_gives_the_reason_and_is_deleted(world):
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


def test_declining_leaves_neither_change_set_nor_stack(world):
    w = world()
    w.listener.answer = False
    with pytest.raises(ToolError) as caught:
        w.deploy()
    assert caught.value.code == ErrorCode.DECLINED
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


@pytest.mark.parametrize("lag", [0, 60], ids=["current", "DescribeStacks is late"])
def test_declining_keeps_a_stack_that_another_run_created_meanwhile(world, lag):
    w = world()
    w.cfn.lag = lag

    def no(plans):
        stack_id = w.cfn.find("t-bus")
        w.cfn.emit(stack_id, "STACK", "CREATE_COMPLETE")
        return False

    w.listener.answer = no
    with pytest.raises(ToolError):
        w.deploy()
    assert w.cfn.find("t-bus")
    assert "delete_stack" not in w.cfn.names()


@pytest.mark.parametrize("others", [1, 4])
def test_declining_keeps_a_stack_in_review_with_change_sets_of_others(world, others):
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

    w.listener.answer = no
    with pytest.raises(ToolError):
        w.deploy()
    assert w.cfn.status(w.cfn.find("t-bus")) == "REVIEW_IN_PROGRESS"
    assert sorted(one["given"]["ChangeSetName"] for one in w.cfn.change_sets.values()) == [
        f"theirs-{number}" for number in range(others)
    ]


@pytest.mark.parametrize("listed", ["own", "other"])
def test_a_change_set_that_is_being_deleted_does_not_keep_a_stack_in_review(world, listed):
    """ListChangeSets is eventually consistent: it can still show the one just deleted."""
    w = world()

    def summaries(**_):
        own = next(
            given["ChangeSetName"] for name, given in w.cfn.calls if name == "delete_change_set"
        )
        one = {"ChangeSetId": own, "Status": "CREATE_COMPLETE"}
        other = {"ChangeSetId": "other", "Status": "DELETE_PENDING"}
        return {"Summaries": [one if listed == "own" else other]}

    w.cfn.list_change_sets = summaries
    w.plan()
    assert w.cfn.find("t-bus") is None


def test_a_change_set_that_became_obsolete_is_not_followed(world):
    w = world()
    w.listener.answer = lambda _: [
        one.update(execution="OBSOLETE") for one in w.cfn.change_sets.values()
    ]
    (result,) = w.deploy()
    assert (result.outcome, result.problem.code) == ("failed", ErrorCode.AWS_ERROR)


def test_each_change_set_has_a_name_of_its_own_as_client_token(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.deploy()
    w.deploy()
    made = w.cfn.arguments("create_change_set")
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


def test_only_parameters_of_the_environment_are_sent(world):
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
    sent = w.cfn.arguments("create_change_set")[0]["Parameters"]
    assert sent == [
        {"ParameterKey": "Size", "ParameterValue": "3"},
        {"ParameterKey": "Secret", "ParameterValue": "s3cret"},
    ]


@pytest.mark.parametrize("chosen", [False, True])
def test_disable_rollback_is_sent_with_the_execution(world, chosen):
    w = world()
    w.deploy(disable_rollback=chosen)
    done = w.cfn.arguments("execute_change_set")[0]
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
def test_a_protected_environment_refuses_replacement_and_deletion(world, change):
    w = world(environment(protect=True))
    w.cfn.add_stack("t-bus")
    w.cfn.changes = [change]
    with pytest.raises(ToolError, match="--allow-replace Queue"):
        w.deploy()
    assert (w.cfn.change_sets, "execute_change_set" in w.cfn.names()) == ({}, False)
    (result,) = w.deploy(allow_replace=frozenset({"Queue"}))
    assert result.outcome == "updated"


def test_the_advice_of_a_protected_environment_keeps_what_was_allowed(world):
    w = world(environment(protect=True))
    w.cfn.add_stack("t-bus")
    w.cfn.changes = [LOSING, {**LOSING, "LogicalResourceId": "Topic"}]
    with pytest.raises(ToolError, match="--allow-replace Queue --allow-replace Topic"):
        w.deploy(allow_replace=["Queue"])


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


def test_topics_alarms_and_the_role_are_set_and_removed(world):
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
    made = w.cfn.arguments("create_change_set")[0]
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
    made = w.cfn.arguments("create_change_set")[0]
    assert (made["NotificationARNs"], made["RollbackConfiguration"]) == (
        [],
        {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0},
    )
