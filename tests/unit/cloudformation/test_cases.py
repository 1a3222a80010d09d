"""Cases from public reports about deployers: failed creations, local paths, one Region."""

import pytest
from botocore.exceptions import CredentialRetrievalError
from scripted_aws import environment, stack
from scripted_cloudformation import drifting, refusal

from eventstacks.cloudformation import outputs
from eventstacks.errors import ErrorCode, ToolError

# --- a stack that failed to create ---------------------------------------------------------------


def test_an_empty_stack_is_refused_recovered_and_created(world):
    w = world()
    first = w.cfn.add_stack("t-bus", "ROLLBACK_COMPLETE")
    (refused,) = w.deploy()
    assert (refused.problem.code, w.cfn.find("t-bus")) == (ErrorCode.STACK_STUCK, first)
    assert "make recover" in refused.problem.advice
    assert [one.outcome for one in w.recover()] == ["deleted"]
    assert [one.outcome for one in w.deploy()] == ["created"]
    assert (w.cfn.status(first), w.cfn.find("t-bus") == first) == ("DELETE_COMPLETE", False)


def test_a_failed_import_has_a_way_on_that_is_not_refused(world):
    w = world()
    w.cfn.add_stack("t-bus", "IMPORT_ROLLBACK_FAILED")
    (found,) = w.status()
    (step,) = w.propose()
    assert "make deploy ENV=test STACK=bus" in found.advice
    assert step.method == ""
    assert "make recover" not in found.advice
    assert w.deploy()[0].outcome == "updated"


# --- what a plan shows, and what is refused -------------------------------------------------------


def test_a_plan_shows_outputs_that_come_and_go(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.outputs["t-bus"] = {"Old": "1"}
    w.cfn.changes = []
    (plan,) = w.plan()
    assert plan.outputs == {"Arn": "added", "Old": "removed"}
    w.cfn.no_change = True
    assert w.plan()[0].outputs == {}


# --- one Region of several -----------------------------------------------------------------------


@pytest.fixture
def half(world):
    """A stack in two Regions, the second of which refuses every call."""
    w = world(environment(stack(regions=("us-east-1", "eu-west-1"))))
    w.cfn.add_stack("t-bus", "UPDATE_IN_PROGRESS")
    w.cfn.emit(w.cfn.find("t-bus"), "STACK", "UPDATE_COMPLETE", at=5)
    closed = w.aws.client("cloudformation", "eu-west-1")
    closed.fail("describe_stacks", refusal("AccessDenied", "not in this Region", 403), times=99)
    return w


def test_the_status_of_the_other_region_is_shown(half):
    here, there = half.status()
    assert (here.status, there.status) == ("UPDATE_IN_PROGRESS", "UNKNOWN")
    assert (there.problem.code, there.problem.where) == (
        ErrorCode.ACCESS_DENIED,
        "t-bus in eu-west-1",
    )


def test_the_outputs_of_the_other_region_can_be_read(half):
    here, there = half.environment.choose()
    assert outputs.read(half.aws, here) == {}
    with pytest.raises(ToolError) as caught:
        outputs.read(half.aws, there)
    assert (caught.value.code, caught.value.where) == (ErrorCode.ACCESS_DENIED, str(there))


def test_the_operation_in_the_other_region_is_followed(half):
    here, there = half.follow()
    assert (here.outcome, there.outcome) == ("updated", "failed")


def test_the_stack_in_the_other_region_is_recovered(half):
    stack_id = half.cfn.find("t-bus")
    half.cfn.emit(stack_id, "STACK", "ROLLBACK_COMPLETE", at=6)
    half.clock.time = 10
    results = half.recover()
    assert [one.outcome for one in results] == ["deleted", "failed"]


# --- drift ---------------------------------------------------------------------------------------


def test_drift_is_reported_by_resource(world):
    w = world()
    assert [one.status for one in w.drift()] == ["NOT_DEPLOYED"]
    w.cfn.add_stack("t-bus")
    drifting(w)
    (found,) = w.drift()
    assert (found.status, found.problem) == ("DRIFTED", None)
    assert [one["LogicalResourceId"] for one in found.resources] == ["Queue"]


def test_drift_that_could_not_be_detected_is_a_problem(world):
    w = world()
    reason = {"DetectionStatus": "DETECTION_FAILED", "DetectionStatusReason": "no right to read"}
    w.cfn.add_stack("t-bus")
    drifting(w, **reason)
    (found,) = w.drift()
    assert "no right to read" in found.problem.what


@pytest.mark.parametrize(
    "trouble",
    [refusal("AccessDenied", "no", 403), CredentialRetrievalError(provider="sso", error_msg="no")],
)
def test_a_new_stack_whose_protection_cannot_be_set_is_created_with_a_warning(world, trouble):
    w = world(environment(protect=True))
    w.cfn.fail("update_termination_protection", trouble)
    (result,) = w.deploy()
    assert (result.outcome, len(result.warnings)) == ("created", 1)
    assert "not set: termination protection: " in result.warnings[0]


def test_an_existing_stack_whose_protection_cannot_be_set_is_not_changed(world):
    w = world(environment(protect=True))
    w.cfn.add_stack("t-bus")
    w.cfn.fail("update_termination_protection", refusal("AccessDenied", "no", 403))
    (result,) = w.deploy()
    assert (result.outcome, result.problem.code) == ("failed", ErrorCode.ACCESS_DENIED)
    assert ("execute_change_set" in w.cfn.names(), w.cfn.change_sets) == (False, {})
