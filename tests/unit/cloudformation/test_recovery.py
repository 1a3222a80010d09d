"""Recovery, deletion, following, status."""

import pytest
from scripted_cloudformation import DELETED, environment, refusal, stack, steps

from eventstacks.cloudformation.failure import DeploymentError
from eventstacks.environment import OutputReference
from eventstacks.errors import ErrorCode


def propose(w, **more):
    """The step for the world's only stack. Raises its problem."""
    (step,) = w.deployer().propose_recovery(**more)
    if step.problem:
        raise step.problem
    return step


@pytest.mark.parametrize("state", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED"])
def test_a_failed_creation_is_deleted(world, state):
    w = world()
    w.cfn.add_stack("t-bus", state)
    assert propose(w).method == "delete_stack"
    assert w.cfn.find("t-bus")  # a proposal does nothing
    assert w.recover()[0].outcome == "deleted"
    assert w.cfn.find("t-bus") is None


def test_a_stack_in_review_is_deleted(world):
    w = world()
    w.cfn.add_stack("t-bus", "REVIEW_IN_PROGRESS")
    assert w.recover()[0].outcome == "deleted"


def test_a_deletion_without_events_ends_too(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", "REVIEW_IN_PROGRESS")
    w.cfn.delete_stack = lambda **_: w.cfn.emit(
        stack_id, "STACK", "DELETE_COMPLETE"
    )  # with the token of no run
    assert w.recover()[0].outcome == "deleted"
    assert w.clock.now() < 20


def test_a_rollback_that_is_stuck_goes_on_and_skips_what_it_is_told(world):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_ROLLBACK_FAILED")
    w.cfn.timelines["CONTINUE"] = steps(
        (0, "STACK", "UPDATE_ROLLBACK_IN_PROGRESS"), (5, "STACK", "UPDATE_ROLLBACK_COMPLETE")
    )
    (result,) = w.recover(skip=["Queue"])
    assert (result.outcome, result.status) == ("recovered", "UPDATE_ROLLBACK_COMPLETE")
    assert next(given for name, given in w.cfn.calls if name == "continue_update_rollback")[
        "ResourcesToSkip"
    ] == ["Queue"]


def test_a_rollback_that_fails_again_says_why(world):
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


def test_a_failed_update_that_stays_is_rolled_back(world):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_FAILED")
    w.cfn.timelines["CONTINUE"] = steps(
        (0, "STACK", "UPDATE_ROLLBACK_IN_PROGRESS"), (5, "STACK", "UPDATE_ROLLBACK_COMPLETE")
    )
    assert w.recover()[0].outcome == "recovered"
    assert "rollback_stack" in w.cfn.names()


def test_a_failed_deletion_wants_to_be_told_how(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", "DELETE_FAILED")
    w.cfn.emit(stack_id, "Bucket", "DELETE_FAILED", "not empty")
    w.cfn.emit(stack_id, "STACK", "DELETE_FAILED")
    with pytest.raises(DeploymentError, match="--retain Bucket"):
        propose(w)
    assert not w.delete()[0].ok
    assert "delete_stack" not in w.cfn.names()
    assert w.recover(retain=["Bucket"])[0].outcome == "deleted"
    assert next(given for name, given in w.cfn.calls if name == "delete_stack")[
        "RetainResources"
    ] == ["Bucket"]


def test_force_is_a_mode_of_deletion(world):
    w = world()
    w.cfn.add_stack("t-bus", "DELETE_FAILED")
    assert propose(w, force=True).arguments == {"DeletionMode": "FORCE_DELETE_STACK"}


@pytest.mark.parametrize(
    "state", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"]
)
def test_a_sound_stack_is_left_alone(world, state):
    w = world()
    w.cfn.add_stack("t-bus", state)
    assert propose(w).method == ""


@pytest.mark.parametrize("told", [{"retain": ["Queue"]}, {"force": True}, {"skip": ["Queue"]}])
@pytest.mark.parametrize("state", ["CREATE_FAILED", "ROLLBACK_FAILED", "UPDATE_FAILED"])
def test_what_a_step_cannot_keep_is_refused_and_not_dropped(world, state, told):
    w = world()
    w.cfn.add_stack("t-bus", state)
    with pytest.raises(DeploymentError, match=f"not changed: the stack is in {state}"):
        propose(w, **told)


def test_a_sound_stack_beside_a_stuck_one_does_not_stand_in_the_way(world):
    w = world()
    w.cfn.add_stack("t-bus")
    assert propose(w, retain=["Queue"], skip=["Queue"]).method == ""


# --- deletion ----------------------------------------------------------------------------------------


def test_takers_are_deleted_before_givers(world):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    w.cfn.add_stack("t-bus")
    w.cfn.add_stack("t-rules")
    assert [one.outcome for one in w.delete()] == ["deleted", "deleted"]
    assert [
        given["StackName"].split("/")[1] for name, given in w.cfn.calls if name == "delete_stack"
    ] == [
        "t-rules",
        "t-bus",
    ]


def test_a_giver_stays_while_its_taker_cannot_be_deleted(world):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    w.cfn.add_stack("t-bus")
    w.cfn.add_stack("t-rules")
    w.cfn.timelines["DELETE"] = [
        *DELETED[:1],
        *steps((1, "Queue", "DELETE_FAILED", "in use"), (2, "STACK", "DELETE_FAILED")),
    ]
    bus, rules = w.delete()
    assert (bus.outcome, rules.outcome) == ("skipped", "failed")
    assert "in use" in str(rules.problem)
    assert w.cfn.find("t-bus")


class Bucket:
    """S3 with one bucket, which holds objects and what was deleted of them."""

    def __init__(self, errors=()):
        self.versions = [{"Key": "a", "VersionId": "1"}, {"Key": "a", "VersionId": "2"}]
        self.markers = [{"Key": "b", "VersionId": "3"}]
        self.errors = list(errors)

    def list_object_versions(self, **_):
        return {"Versions": self.versions, "DeleteMarkers": self.markers}

    def get_paginator(self, name):
        assert name == "list_object_versions"
        return self

    def paginate(self, **_):
        yield self.list_object_versions()

    def delete_objects(self, Bucket, Delete):  # noqa: N803
        refused = [one["Key"] for one in self.errors]
        missing = [one for one in Delete["Objects"] if one["Key"] not in refused]
        self.versions = [one for one in self.versions if one not in missing]
        self.markers = [one for one in self.markers if one not in missing]
        return {"Errors": self.errors} if self.errors else {}


@pytest.fixture
def full(world):
    """full(status): a stack in that state, with a queue and a bucket that holds objects, as ``w.s3``."""

    def make(status="CREATE_COMPLETE", found=None, **more):
        w = world(found)
        w.s3 = w.aws.fakes["s3", "us-east-1"] = Bucket(**more)
        w.stack_id = w.cfn.add_stack("t-bus")
        w.cfn.emit(w.stack_id, "Queue", "CREATE_COMPLETE")
        w.cfn.emit(w.stack_id, "Store", "CREATE_COMPLETE", ResourceType="AWS::S3::Bucket")
        w.cfn.emit(w.stack_id, "STACK", status)
        return w

    return make


def test_a_bucket_that_is_not_empty_is_in_the_way_until_it_may_be_emptied(full):
    w = full()
    (result,) = w.delete()
    assert "--empty-buckets" in str(result.problem)
    assert ("delete_stack" in w.cfn.names(), len(w.s3.versions)) == (False, 2)
    (result,) = w.delete(empty_buckets=True)
    assert (result.outcome, w.s3.versions, w.s3.markers) == ("deleted", [], [])


def test_an_object_that_cannot_be_deleted_is_named_and_its_stack_stays(full):
    w = full(errors=[{"Key": "a", "Message": "Access Denied"}])
    (result,) = w.delete(empty_buckets=True)
    assert "cannot delete a: Access Denied" in str(result.problem)
    assert "delete_stack" not in w.cfn.names()


def test_a_stack_that_is_not_there_is_no_failure(world):
    assert world().delete()[0].outcome == "unchanged"


@pytest.mark.parametrize("protect", ["environment", "stack"])
def test_what_is_protected_is_not_deleted(world, protect):
    w = world(environment(protect=protect == "environment"))
    w.cfn.add_stack("t-bus", EnableTerminationProtection=protect == "stack")
    (result,) = w.delete()
    assert not result.ok
    assert "protected" in str(result.problem)
    assert w.cfn.find("t-bus")


def test_what_is_retained_is_told_before(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    resources = {
        "Queue": {"Type": "AWS::SQS::Queue"},
        "Table": {"DeletionPolicy": "RetainExceptOnCreate"},
        "Database": {"DeletionPolicy": "Snapshot"},
        "Missing": {"Type": "AWS::RDS::DBInstance", "DeletionPolicy": "Delete"},
    }
    for name in resources:
        w.cfn.emit(stack_id, name, "CREATE_COMPLETE")
    w.cfn.get_template = lambda **_: {"TemplateBody": {"Resources": resources}}
    (one,) = w.deployer().preview_deletion()
    assert set(one.deleted) == resources.keys() - {"Table"}
    assert (list(one.retained), one.snapshots) == (["Table"], ("Database",))


def exporting(w, *importers):
    """The world's stack exports X, and these import it."""
    w.cfn.outputs["t-bus"] = {"Arn": "arn:queue", "Free": "1"}
    w.cfn.exports["t-bus"] = {"Arn": "X", "Free": "Y"}
    w.cfn.imports["X"] = list(importers)
    for one in importers:
        w.cfn.add_stack(one)


def test_a_bucket_is_not_emptied_while_an_export_is_in_use(full):
    w = full()
    exporting(w, "t-rules", "t-late")
    (result,) = w.delete(empty_buckets=True)
    assert result.problem.code == ErrorCode.STACK_IN_USE
    assert "X is imported by t-rules, t-late" in result.problem.what
    assert ("delete_stack" in w.cfn.names(), len(w.s3.versions)) == (False, 2)


def test_an_importer_that_is_deleted_first_is_in_nobodys_way(world):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    w.cfn.add_stack("t-bus")
    exporting(w, "t-rules")
    assert [one.outcome for one in w.delete()] == ["deleted", "deleted"]


def test_who_may_not_list_imports_may_delete(world):
    w = world()
    w.cfn.add_stack("t-bus")
    exporting(w)
    w.cfn.fail("list_imports", refusal("AccessDenied", "no", 403), times=9)
    assert w.delete()[0].outcome == "deleted"


@pytest.mark.parametrize("before", [None, "ROLLBACK_COMPLETE"])
def test_a_deletion_does_not_end_by_what_describe_stacks_knew_some_seconds_ago(world, before):
    w = world()
    if before:  # a first stack of the name, deleted since
        first = w.cfn.add_stack("t-bus", before)
        answer = w.cfn.describe_stacks(StackName=first)
        w.cfn.emit(first, "STACK", "DELETE_COMPLETE")
    w.clock.time = 10
    stack_id = w.cfn.add_stack("t-bus")
    describe = w.cfn.describe_stacks

    def late(StackName):  # noqa: N803
        if StackName == "t-bus" and before:
            return answer
        if not before and w.clock.now() < 12:
            raise refusal("ValidationError", f"Stack with id {StackName} does not exist")
        return describe(StackName=StackName)

    w.cfn.describe_stacks = late
    (result,) = w.delete()
    assert (result.outcome, w.cfn.status(stack_id)) == ("deleted", "DELETE_COMPLETE")
    assert "delete_stack" in w.cfn.names()


def consuming():
    """A bus and two stacks that use its output, one of them by way of the other's Region."""
    return environment(
        stack("bus"),
        stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}),
        stack("audit", parameters={"Bus": OutputReference("bus", "Arn", "us-east-1")}),
    )


def test_a_stack_whose_output_is_used_is_not_deleted_alone(full):
    w = full(found=consuming())
    w.cfn.add_stack("t-rules")  # audit is not deployed: it needs nothing
    (preview,) = w.deployer("bus").preview_deletion()
    assert preview.consumers == {"Arn": ["t-rules in us-east-1"]}
    (result,) = w.delete("bus", empty_buckets=True)
    assert (result.outcome, result.problem.code) == ("failed", ErrorCode.STACK_IN_USE)
    assert "t-rules in us-east-1" in result.problem.what
    assert ("delete_stack" in w.cfn.names(), len(w.s3.versions)) == (False, 2)
    assert [one.outcome for one in w.delete(empty_buckets=True)] == [
        "deleted",
        "deleted",
        "unchanged",
    ]


EXPORTED = "Export X cannot be deleted as it is in use by t-rules"


@pytest.mark.parametrize("token", ["its own", "none"])
@pytest.mark.parametrize("begun", [True, False])
def test_an_export_in_use_ends_where_the_stack_was_and_says_so(world, begun, token):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")

    def refuse(StackName, ClientRequestToken):  # noqa: N803
        mine = ClientRequestToken if token == "its own" else ""
        told = steps(
            (0.1, "STACK", "DELETE_IN_PROGRESS"), (0.3, "STACK", "CREATE_COMPLETE", EXPORTED)
        )
        w.cfn.play(stack_id, told if begun else told[1:], mine)

    w.cfn.delete_stack = refuse
    (result,) = w.delete()
    assert (result.outcome, result.status) == ("failed", "CREATE_COMPLETE")
    assert EXPORTED in str(result.problem)
    assert w.clock.now() < 40


@pytest.mark.parametrize("end", ["DELETE_FAILED", "DELETE_COMPLETE"])
def test_a_deletion_that_is_under_way_is_followed(world, end):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    w.cfn.play(
        stack_id,
        steps(
            (0, "STACK", "DELETE_IN_PROGRESS"),
            (30, "Queue", "DELETE_FAILED", "in use"),
            (31, "STACK", end),
        ),
        "somebody",
    )
    (result,) = w.delete()
    assert (result.outcome, result.status) == (
        "deleted" if end == "DELETE_COMPLETE" else "failed",
        end,
    )
    assert ("in use" in str(result.problem)) == (end == "DELETE_FAILED")
    assert "delete_stack" not in w.cfn.names()
    assert w.clock.now() < 33


def test_a_deletion_that_somebody_else_begins_first_ends_too(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")

    def late(**_):
        w.cfn.play(
            stack_id,
            steps((0, "STACK", "DELETE_IN_PROGRESS"), (30, "STACK", "DELETE_FAILED", "no")),
            "other",
        )

    w.cfn.delete_stack = late
    (result,) = w.delete()
    assert (result.outcome, result.status) == ("failed", "DELETE_FAILED")
    assert "no" in result.problem.what


def test_a_stack_that_is_deleted_between_the_survey_and_its_turn_is_deleted(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    previews = w.deployer().preview_deletion()
    w.cfn.emit(stack_id, "STACK", "DELETE_COMPLETE")
    (result,) = w.deployer().delete(previews)
    assert (result.outcome, "delete_stack" in w.cfn.names()) == ("deleted", False)


# --- following ---------------------------------------------------------------------------------------


def test_another_run_is_followed_from_its_start(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    w.cfn.play(
        stack_id,
        steps(
            (1, "STACK", "UPDATE_IN_PROGRESS"),
            (2, "Queue", "UPDATE_COMPLETE"),
            (60, "STACK", "UPDATE_COMPLETE"),
        ),
        "somebody",
    )
    w.clock.time = 10
    (result,) = w.deployer().follow()
    assert (result.outcome, result.status) == ("updated", "UPDATE_COMPLETE")
    assert w.clock.time < 62


def test_an_update_that_rolls_back_while_it_is_followed_is_a_failure(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    w.cfn.play(
        stack_id,
        steps(
            (1, "STACK", "UPDATE_IN_PROGRESS"),
            (2, "Queue", "UPDATE_FAILED", "no"),
            (3, "STACK", "UPDATE_ROLLBACK_IN_PROGRESS"),
            (60, "STACK", "UPDATE_ROLLBACK_COMPLETE"),
        ),
        "somebody",
    )
    w.clock.time = 10  # the rollback is in progress already
    (result,) = w.deployer().follow()
    assert not result.ok
    assert "Queue (AWS::SQS::Queue) could not be updated: no" in str(result.problem)


def test_what_failed_and_stayed_before_is_no_reason_of_what_is_followed(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    begun, ended = (0, "STACK", "UPDATE_IN_PROGRESS"), (20, "STACK", "UPDATE_FAILED")
    w.cfn.play(
        stack_id, steps(begun, (1, "Queue", "UPDATE_FAILED", "the first one's"), ended), "first"
    )
    w.clock.time = 50
    w.cfn.play(
        stack_id, steps(begun, (1, "Queue", "UPDATE_FAILED", "the second one's"), ended), "second"
    )
    w.clock.time = 60
    (result,) = w.deployer().follow()
    assert (result.outcome, result.status) == ("failed", "UPDATE_FAILED")
    assert "the first one's" not in str(result.problem)
    assert "the second one's" in str(result.problem)


STUCK = steps(
    (0, "STACK", "UPDATE_IN_PROGRESS"),
    (1, "Queue", "UPDATE_FAILED", "no"),
    (2, "STACK", "UPDATE_ROLLBACK_IN_PROGRESS"),
    (3, "Queue", "UPDATE_FAILED", "missing"),
    (4, "STACK", "UPDATE_ROLLBACK_FAILED"),
)


def test_a_continued_rollback_is_followed_from_its_own_start(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    w.cfn.play(stack_id, STUCK, "first")
    w.clock.time = 100
    again = steps(
        (0, "STACK", "UPDATE_ROLLBACK_IN_PROGRESS"), (100, "STACK", "UPDATE_ROLLBACK_COMPLETE")
    )
    w.cfn.play(stack_id, again, "second")
    w.clock.time = 110
    (result,) = w.deployer().follow()
    assert (result.outcome, result.status) == ("recovered", "UPDATE_ROLLBACK_COMPLETE")
    assert 200 <= w.clock.now() < 202


def test_what_ends_before_it_can_be_followed_is_told(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    w.clock.time = 10
    w.cfn.play(
        stack_id,
        steps((0, "STACK", "UPDATE_IN_PROGRESS"), (5, "STACK", "UPDATE_COMPLETE")),
        "somebody",
    )
    w.clock.time = 12
    describe = w.cfn.describe_stack_events

    def ended(**given):
        w.clock.time = max(w.clock.time, 16)
        return describe(**given)

    w.cfn.describe_stack_events = ended
    (result,) = w.deployer().follow()
    assert (result.outcome, result.status) == ("updated", "UPDATE_COMPLETE")
    assert w.clock.now() < 17


def test_nothing_under_way_is_nothing_to_follow(world):
    w = world()
    w.cfn.add_stack("t-bus")
    assert w.deployer().follow() == []


def test_status_names_what_is_not_there_and_advises_on_what_is_stuck(world):
    w = world(environment(stack("bus"), stack("rules"), stack("fine")))
    w.cfn.add_stack("t-rules", "UPDATE_ROLLBACK_FAILED")
    w.cfn.add_stack("t-fine")
    bus, rules, fine = w.deployer().status()
    assert (bus.status, rules.status, fine.status) == (
        "NOT_DEPLOYED",
        "UPDATE_ROLLBACK_FAILED",
        "CREATE_COMPLETE",
    )
    assert "make recover" in rules.advice
    assert fine.advice == ""
