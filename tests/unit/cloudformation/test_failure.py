"""Root causes and advice."""

from datetime import timedelta

import pytest
from refs import stack_ref
from scripted_cloudformation import STACK, START, FakeCloudFormation, refusal, steps

from eventstacks.cloudformation import failure, operation
from eventstacks.cloudformation.stack import StackClient, advice_for

PLACE = stack_ref("test", "bus", "t-bus", "us-east-1")


@pytest.fixture
def cfn(clock):
    return FakeCloudFormation(clock)


def remote(cfn):
    return StackClient(PLACE, cfn, cfn.clock)


def begun(cfn, stack_id):
    """An operation that is about to start: the events before it are not its own."""
    return operation.Operation(
        stack_id, "mine", {raw["EventId"] for _, raw in cfn.events[stack_id]}
    )


def fails(cfn, clock, timeline, status="ROLLBACK_COMPLETE"):
    """The error for an operation that went like this."""
    stack_id = cfn.find("t-bus") or cfn.add_stack("t-bus", "REVIEW_IN_PROGRESS")
    running = begun(cfn, stack_id)
    clock.time += 1
    cfn.play(stack_id, timeline, running.token)
    clock.time += 100
    return failure.of_operation(remote(cfn), running, status)


def test_the_earliest_failure_that_is_no_cancellation(cfn, clock):
    error = fails(
        cfn,
        clock,
        steps(
            (0, "STACK", "CREATE_IN_PROGRESS"),
            (1, "First", "CREATE_FAILED", "Resource creation cancelled"),
            (2, "Second", "CREATE_FAILED", "Name is taken"),
            (3, "Third", "CREATE_FAILED", "Later"),
            (4, "STACK", "ROLLBACK_IN_PROGRESS", "failed to create: [First, Second]"),
            (5, "STACK", "ROLLBACK_COMPLETE"),
        ),
    )
    assert error.what == "Second (AWS::SQS::Queue) could not be created: Name is taken"
    assert error.where == "t-bus in us-east-1"


def test_the_cause_is_before_the_rollback_not_in_it(cfn, clock):
    error = fails(
        cfn,
        clock,
        steps(
            (0, "STACK", "UPDATE_IN_PROGRESS"),
            (1, "Queue", "UPDATE_FAILED", "bad value"),
            (2, "STACK", "UPDATE_ROLLBACK_IN_PROGRESS"),
            (3, "Other", "UPDATE_FAILED", "missing"),
            (4, "STACK", "UPDATE_ROLLBACK_FAILED"),
        ),
        "UPDATE_ROLLBACK_FAILED",
    )
    first, second = error.what.split("; ")
    assert first == "Queue (AWS::SQS::Queue) could not be updated: bad value"
    assert (
        second == "then the rollback failed: Other (AWS::SQS::Queue) could not be updated: missing"
    )
    assert "--skip" in error.advice


def test_nested_stacks_are_followed_to_the_bottom(cfn, clock):
    bottom = cfn.add_stack("t-bottom")
    middle = cfn.add_stack("t-middle")
    clock.time += 50  # what was before is another operation's
    cfn.play(
        bottom,
        steps(
            (-20, "Old", "UPDATE_FAILED", "an old failure"),
            (1.5, "Deep", "CREATE_FAILED", "Access denied to #/Policy/Statement"),
        ),
    )
    cfn.play(
        middle,
        steps(
            (
                2,
                "Bottom",
                "CREATE_FAILED",
                "Embedded stack was not created",
                {"ResourceType": STACK, "PhysicalResourceId": bottom},
            )
        ),
    )
    error = fails(
        cfn,
        clock,
        steps(
            (0, "STACK", "CREATE_IN_PROGRESS"),
            (1.8, "Beside", "CREATE_FAILED", "Later than Deep"),
            (
                3,
                "Middle",
                "CREATE_FAILED",
                "Embedded stack was not created",
                {"ResourceType": STACK, "PhysicalResourceId": middle},
            ),
        ),
    )
    assert error.what == (
        "Deep (AWS::SQS::Queue) in the nested stack Middle → Bottom could not be created: "
        "Access denied to #/Policy/Statement"
    )


def test_a_nested_stack_that_cannot_be_read_leaves_its_parents_words(cfn, clock):
    error = fails(
        cfn,
        clock,
        steps(
            (0, "STACK", "CREATE_IN_PROGRESS"),
            (
                1,
                "Nested",
                "CREATE_FAILED",
                "Embedded stack failed: [X]",
                {"ResourceType": STACK, "PhysicalResourceId": "arn:missing"},
            ),
        ),
    )
    assert "Embedded stack failed: [X]" in error.what


def test_a_hooks_own_reason(cfn, clock):
    error = fails(
        cfn,
        clock,
        steps(
            (0, "STACK", "CREATE_IN_PROGRESS"),
            (
                1,
                "Queue",
                "CREATE_IN_PROGRESS",
                "",
                {
                    "HookType": "Acme::Encrypt::Hook",
                    "HookStatus": "HOOK_COMPLETE_FAILED",
                    "HookStatusReason": "queues must be encrypted",
                },
            ),
            (2, "Queue", "CREATE_FAILED", "The following hook(s) failed: [Acme::Encrypt::Hook]"),
        ),
    )
    assert error.what == (
        "Queue (AWS::SQS::Queue) could not be created: "
        "hook Acme::Encrypt::Hook failed: queues must be encrypted"
    )


def test_events_that_come_late_are_read_once_more(cfn, clock):
    stack_id = cfn.add_stack("t-bus", "REVIEW_IN_PROGRESS")
    running = begun(cfn, stack_id)
    cfn.play(
        stack_id,
        steps((0, "STACK", "CREATE_IN_PROGRESS"), (1, "STACK", "ROLLBACK_COMPLETE")),
        running.token,
    )
    clock.time += 5
    assert operation.follow(remote(cfn), running) == "ROLLBACK_COMPLETE"
    cfn.emit(stack_id, "Queue", "CREATE_FAILED", "Name is taken", at=0.5, token=running.token)
    assert "Name is taken" in failure.of_operation(remote(cfn), running, "ROLLBACK_COMPLETE").what


VALIDATION = {
    "EventType": "VALIDATION_ERROR",
    "LogicalResourceId": "Queue",
    "ResourceType": "AWS::SQS::Queue",
    "ValidationFailureMode": "FAIL",
    "ValidationName": "PROPERTY_VALIDATION",
    "ValidationStatusReason": "Unsupported property [Foo]",
    "ValidationPath": "/Resources/Queue/Properties/Foo",
}


def test_early_validation_of_a_change_set_gives_its_path(cfn, clock):
    cfn.operation_events = [
        VALIDATION,
        {**VALIDATION, "ValidationFailureMode": "WARN", "LogicalResourceId": "Fine"},
    ]
    error = failure.of_change_set(
        remote(cfn), "arn:change-set", "The following hook(s)/validation failed"
    )
    place = "Queue (AWS::SQS::Queue, property Resources.Queue.Properties.Foo)"
    assert f"{place}: Unsupported property [Foo]" in error.what
    assert "Fine" not in error.what


def test_validation_of_a_stack_operation(cfn, clock):
    cfn.operation_events = [VALIDATION]
    error = fails(
        cfn,
        clock,
        steps(
            (0, "STACK", "CREATE_IN_PROGRESS"),
            (
                1,
                "STACK",
                "CREATE_FAILED",
                "1 validation error",
                {"DetailedStatus": "VALIDATION_FAILED"},
            ),
        ),
        "CREATE_FAILED",
    )
    assert "Unsupported property [Foo]" in error.what


def test_who_began_it_is_no_reason(cfn, clock):
    failed = steps(
        (0, "STACK", "DELETE_IN_PROGRESS", "User Initiated"), (5, "STACK", "DELETE_FAILED")
    )
    assert (
        fails(cfn, clock, failed, "DELETE_FAILED").what
        == "the stack is in DELETE_FAILED; AWS gives no reason"
    )


def test_a_failure_of_last_month_is_not_blamed(cfn, clock):
    clock.time = 2_000_000
    old = {**VALIDATION, "ValidationStatusReason": "of last month", "Timestamp": START}
    early, late = (
        {**VALIDATION, "Timestamp": START + timedelta(seconds=at)}
        for at in (1_999_999.5, 2_000_003)
    )
    failed = steps(
        (0, "STACK", "CREATE_IN_PROGRESS"), (5, "STACK", "ROLLBACK_COMPLETE", "an alarm")
    )
    cfn.operation_events = [old]
    assert fails(cfn, clock, failed).what == "an alarm"
    for ours in (early, late):
        clock.time = 2_000_000
        cfn.events.clear(), cfn.stacks.clear()
        cfn.operation_events = [old, old, old, ours]
        what = fails(cfn, clock, failed).what
        assert "Unsupported property [Foo]" in what
        assert "last month" not in what


def test_without_the_permission_for_describe_events_the_stacks_events_do(cfn, clock):
    cfn.fail(
        "describe_events",
        refusal("AccessDenied", "not authorized to perform: cloudformation:DescribeEvents", 403),
        times=9,
    )
    assert (
        failure.of_change_set(remote(cfn), "arn:change-set", "Template error: no such thing").what
        == "AWS refuses the change: Template error: no such thing"
    )
    error = fails(
        cfn,
        clock,
        steps(
            (0, "STACK", "CREATE_IN_PROGRESS"),
            (1, "STACK", "ROLLBACK_IN_PROGRESS", "Rollback requested by user"),
            (2, "STACK", "ROLLBACK_COMPLETE"),
        ),
    )
    assert error.what == "Rollback requested by user"


@pytest.mark.parametrize(
    "status",
    [
        "REVIEW_IN_PROGRESS",
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "CREATE_FAILED",
        "UPDATE_FAILED",
        "UPDATE_ROLLBACK_FAILED",
        "DELETE_FAILED",
    ],
)
def test_every_bad_state_has_advice_that_can_be_typed(status):
    assert "make recover ENV=test STACK=bus REGION=us-east-1" in advice_for(status, PLACE)


def test_whole_names_of_states_are_compared():
    assert "Delete it" in advice_for("ROLLBACK_COMPLETE", PLACE)
    assert "Delete" not in advice_for("UPDATE_ROLLBACK_COMPLETE", PLACE)
    assert "as it was before" in advice_for("UPDATE_ROLLBACK_COMPLETE", PLACE)
    assert "make follow" in advice_for("UPDATE_ROLLBACK_IN_PROGRESS", PLACE)
