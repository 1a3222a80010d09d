"""Stacks in every state. Against a scripted CloudFormation."""

import pytest
from scripted_cloudformation import steps

from eventstacks.errors import ErrorCode

HERE = "us-east-1"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("ROLLBACK_COMPLETE", "make recover"),
        ("ROLLBACK_FAILED", "make recover"),
        ("UPDATE_ROLLBACK_FAILED", "make recover"),
        ("DELETE_FAILED", "--retain"),
    ],
)
def test_a_stuck_stack_is_refused_with_advice_and_left_alone(world, status, words):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", status)
    (result,) = w.deploy()
    assert (result.ok, w.cfn.find("t-bus"), w.cfn.status(stack_id)) == (False, stack_id, status)
    assert status in str(result.problem)
    assert words in str(result.problem)


@pytest.mark.parametrize(
    "status",
    ["UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"],
)
def test_other_states_can_be_updated(world, status):
    w = world()
    w.cfn.add_stack("t-bus", status)
    (result,) = w.deploy()
    assert result.outcome == "updated"


@pytest.mark.parametrize("status", ["UPDATE_FAILED", "CREATE_FAILED"])
def test_updating_a_failed_stack_that_was_not_rolled_back_needs_disable_rollback(world, status):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", status)
    (plan,), (result,) = w.plan(), w.deploy()
    for problem in (plan.problem, result.problem):
        assert (problem.code, problem.status) == (ErrorCode.STACK_STUCK, status)
        assert "make deploy ENV=test STACK=bus REGION=us-east-1 ARGS=--disable-rollback" in str(
            problem
        )
        assert "make recover" in str(problem)
    assert (w.cfn.status(stack_id), "create_change_set" in w.cfn.names(), w.listener.asked) == (
        status,
        False,
        [],
    )


@pytest.mark.parametrize("status", ["UPDATE_FAILED", "CREATE_FAILED"])
def test_a_failed_stack_that_was_not_rolled_back_can_be_updated(world, status):
    w = world()
    w.cfn.add_stack("t-bus", status)
    (result,) = w.deploy(disable_rollback=True)
    assert result.outcome == "updated"


def test_create_failed_is_an_end_when_nothing_is_rolled_back(world):
    w = world()
    w.cfn.timelines["CREATE"] = steps(
        (0, "STACK", "CREATE_IN_PROGRESS"),
        (1, "Queue", "CREATE_FAILED", "taken"),
        (2, "STACK", "CREATE_FAILED"),
    )
    (result,) = w.deploy(disable_rollback=True)
    assert (result.ok, result.status) == (False, "CREATE_FAILED")


def test_create_failed_is_no_end_when_a_rollback_follows(world):
    w = world()
    w.cfn.timelines["CREATE"] = steps(
        (0, "STACK", "CREATE_IN_PROGRESS"),
        (1, "STACK", "CREATE_FAILED", "invalid"),
        (2, "STACK", "ROLLBACK_IN_PROGRESS"),
        (9, "STACK", "ROLLBACK_COMPLETE"),
    )
    (result,) = w.deploy()
    assert result.status == "ROLLBACK_COMPLETE"


def test_a_stack_with_an_operation_in_progress_is_refused(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    w.cfn.play(
        stack_id, steps((0, "STACK", "UPDATE_IN_PROGRESS"), (30, "STACK", "UPDATE_COMPLETE"))
    )
    (result,) = w.deploy()
    assert result.problem.code == ErrorCode.STACK_BUSY
    assert "make follow" in result.problem.advice
    assert "create_change_set" not in w.cfn.names()
