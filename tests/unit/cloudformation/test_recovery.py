"""Recovery from failed states, and the status that advises it."""

import pytest
from scripted_aws import environment, stack
from scripted_cloudformation import steps

from eventstacks.cloudformation import recover
from eventstacks.cloudformation.failure import DeploymentError
from eventstacks.errors import ErrorCode

UPDATE_ROLLED_BACK = steps(
    (0, "STACK", "UPDATE_ROLLBACK_IN_PROGRESS"), (5, "STACK", "UPDATE_ROLLBACK_COMPLETE")
)


def propose(w, **more):
    """The step for the world's only stack. Raises its problem."""
    (step,) = w.propose(**more)
    if step.problem:
        raise step.problem
    return step


@pytest.mark.parametrize(
    "state", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "REVIEW_IN_PROGRESS"]
)
def test_a_stack_that_was_never_created_is_deleted(world, state):
    w = world()
    w.cfn.add_stack("t-bus", state)
    assert propose(w).method == "delete_stack"
    assert w.cfn.find("t-bus")  # a proposal does nothing
    assert w.recover()[0].outcome == "deleted"
    assert w.cfn.find("t-bus") is None


@pytest.mark.parametrize("state", ["REVIEW_IN_PROGRESS", "CREATE_FAILED", "UPDATE_FAILED"])
def test_a_stack_that_was_deployed_since_the_question_is_left_alone(world, state):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", state)
    steps_shown = w.propose()
    w.cfn.emit(stack_id, "STACK", "UPDATE_COMPLETE")
    (result,) = recover.recover(w.scope(), steps_shown)
    assert (result.outcome, result.problem.code) == ("failed", ErrorCode.STACK_STUCK)
    assert not {"delete_stack", "rollback_stack"} & set(w.cfn.names())


def test_a_deletion_with_another_client_token_ends(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", "REVIEW_IN_PROGRESS")
    w.cfn.delete_stack = lambda **_: w.cfn.emit(
        stack_id, "STACK", "DELETE_COMPLETE"
    )  # with the token of no run
    assert w.recover()[0].outcome == "deleted"
    assert w.clock.now() < 20


def test_a_failed_rollback_is_continued_without_the_skipped_resources(world):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_ROLLBACK_FAILED")
    w.cfn.timelines["CONTINUE"] = UPDATE_ROLLED_BACK
    (result,) = w.recover(skip=["Queue"])
    assert (result.outcome, result.status) == ("recovered", "UPDATE_ROLLBACK_COMPLETE")
    assert w.cfn.arguments("continue_update_rollback")[0]["ResourcesToSkip"] == ["Queue"]


def test_a_continued_rollback_that_fails_gives_the_reason(world):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_ROLLBACK_FAILED")
    w.cfn.timelines["CONTINUE"] = steps(
        (0, "STACK", "UPDATE_ROLLBACK_IN_PROGRESS"),
        (1, "Queue", "UPDATE_FAILED", "still missing"),
        (5, "STACK", "UPDATE_ROLLBACK_FAILED"),
    )
    (result,) = w.recover()
    assert not result.ok
    assert "still missing" in str(result.problem)


def test_update_failed_is_rolled_back(world):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_FAILED")
    w.cfn.timelines["CONTINUE"] = UPDATE_ROLLED_BACK
    assert w.recover()[0].outcome == "recovered"
    assert "rollback_stack" in w.cfn.names()


def test_delete_failed_needs_retain_for_the_failed_resources(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", "DELETE_FAILED")
    w.cfn.emit(stack_id, "Bucket", "DELETE_FAILED", "not empty")
    w.cfn.emit(stack_id, "STACK", "DELETE_FAILED")
    with pytest.raises(DeploymentError, match="--retain Bucket"):
        propose(w)
    assert "delete_stack" not in w.cfn.names()
    assert w.recover(retain=["Bucket"])[0].outcome == "deleted"
    assert w.cfn.arguments("delete_stack")[0]["RetainResources"] == ["Bucket"]


def test_force_sets_the_deletion_mode(world):
    w = world()
    w.cfn.add_stack("t-bus", "DELETE_FAILED")
    assert propose(w, force=True).arguments == {"DeletionMode": "FORCE_DELETE_STACK"}


@pytest.mark.parametrize(
    "state", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"]
)
def test_a_stack_in_a_usable_state_needs_no_recovery(world, state):
    w = world()
    w.cfn.add_stack("t-bus", state)
    assert propose(w).method == ""


@pytest.mark.parametrize("told", [{"retain": ["Queue"]}, {"force": True}, {"skip": ["Queue"]}])
@pytest.mark.parametrize("state", ["CREATE_FAILED", "ROLLBACK_FAILED", "UPDATE_FAILED"])
def test_options_that_do_not_apply_to_the_state_are_refused(world, state, told):
    w = world()
    w.cfn.add_stack("t-bus", state)
    with pytest.raises(DeploymentError, match=f"not changed: the stack is in {state}"):
        propose(w, **told)


def test_options_are_ignored_for_a_stack_that_needs_no_recovery(world):
    w = world()
    w.cfn.add_stack("t-bus")
    assert propose(w, retain=["Queue"], skip=["Queue"]).method == ""


def test_status_shows_absent_stacks_and_advice_for_failed_ones(world):
    w = world(environment(stack("bus"), stack("rules"), stack("fine")))
    w.cfn.add_stack("t-rules", "UPDATE_ROLLBACK_FAILED")
    w.cfn.add_stack("t-fine")
    bus, rules, fine = w.status()
    assert (bus.status, rules.status, fine.status) == (
        "NOT_DEPLOYED",
        "UPDATE_ROLLBACK_FAILED",
        "CREATE_COMPLETE",
    )
    assert "make recover" in rules.advice
    assert fine.advice == ""
