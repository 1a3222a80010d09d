"""Deletion of stacks: order, protection, buckets, exports, and other runs."""

import pytest
from scripted_aws import environment, stack
from scripted_cloudformation import DELETED, refusal, steps

from eventstacks.cloudformation import delete
from eventstacks.environment import OutputReference
from eventstacks.errors import ErrorCode

BUS_AND_RULES = (
    stack("bus"),
    stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}),
)


def test_consumers_are_deleted_before_producers(world):
    w = world(environment(*BUS_AND_RULES))
    w.cfn.add_stack("t-bus")
    w.cfn.add_stack("t-rules")
    assert [one.outcome for one in w.delete()] == ["deleted", "deleted"]
    calls = [given["StackName"] for given in w.cfn.arguments("delete_stack")]
    assert [arn.split("/")[1] for arn in calls] == ["t-rules", "t-bus"]


def test_a_producer_is_skipped_if_the_deletion_of_its_consumer_fails(world):
    w = world(environment(*BUS_AND_RULES))
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
    """full(status): a stack in that state with a queue and a bucket with objects, as ``w.s3``."""

    def make(status="CREATE_COMPLETE", found=None, **more):
        w = world(found)
        w.s3 = w.aws.fakes["s3", "us-east-1"] = Bucket(**more)
        w.stack_id = w.cfn.add_stack("t-bus")
        w.cfn.emit(w.stack_id, "Queue", "CREATE_COMPLETE")
        w.cfn.emit(w.stack_id, "Store", "CREATE_COMPLETE", ResourceType="AWS::S3::Bucket")
        w.cfn.emit(w.stack_id, "STACK", status)
        return w

    return make


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "DELETE_FAILED"])
def test_a_bucket_with_objects_is_deleted_only_with_empty_buckets(full, status):
    w = full(status)
    (result,) = w.delete()
    assert "--empty-buckets" in str(result.problem)
    assert ("delete_stack" in w.cfn.names(), len(w.s3.versions)) == (False, 2)
    (result,) = w.delete(empty_buckets=True)
    assert (result.outcome, w.s3.versions, w.s3.markers) == ("deleted", [], [])


def test_a_deletion_that_has_failed_can_be_repeated(world):
    w = world()
    w.cfn.add_stack("t-bus", "DELETE_FAILED")
    assert w.delete()[0].outcome == "deleted"
    assert w.cfn.find("t-bus") is None


def test_an_object_that_cannot_be_deleted_is_named_and_its_stack_kept(full):
    w = full(errors=[{"Key": "a", "Message": "Access Denied"}])
    (result,) = w.delete(empty_buckets=True)
    assert "cannot delete a: Access Denied" in str(result.problem)
    assert "delete_stack" not in w.cfn.names()


def test_ctrl_c_stops_the_deletion_of_objects(full):
    w = full()
    pages = [
        {"Versions": [{"Key": "a", "VersionId": "1"}]},
        {"Versions": [{"Key": "a", "VersionId": "2"}]},
    ]

    def paginate(**_):
        yield pages[0]
        w.clock.stop()
        yield pages[1]

    w.s3.paginate = paginate
    (result,) = w.delete(empty_buckets=True)
    assert (result.outcome, w.s3.versions) == ("interrupted", pages[1]["Versions"])
    assert "delete_stack" not in w.cfn.names()


def test_deleting_an_absent_stack_is_unchanged(world):
    assert world().delete()[0].outcome == "unchanged"


@pytest.mark.parametrize("protect", ["environment", "stack"])
def test_protected_stacks_are_not_deleted(world, protect):
    w = world(environment(protect=protect == "environment"))
    w.cfn.add_stack("t-bus", EnableTerminationProtection=protect == "stack")
    (result,) = w.delete()
    assert not result.ok
    assert "protected" in str(result.problem)
    assert w.cfn.find("t-bus")


def test_the_preview_lists_retained_resources_and_snapshots(world):
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
    (one,) = w.preview()
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


def test_an_export_can_be_deleted_after_its_importer(world):
    w = world(environment(*BUS_AND_RULES))
    w.cfn.add_stack("t-bus")
    exporting(w, "t-rules")
    assert [one.outcome for one in w.delete()] == ["deleted", "deleted"]


def test_deletion_works_without_permission_to_list_imports(world):
    w = world()
    w.cfn.add_stack("t-bus")
    exporting(w)
    w.cfn.fail("list_imports", refusal("AccessDenied", "no", 403), times=9)
    assert w.delete()[0].outcome == "deleted"


@pytest.mark.parametrize("before", [None, "ROLLBACK_COMPLETE"])
def test_a_stale_answer_of_describe_stacks_does_not_end_a_deletion(world, before):
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
        *BUS_AND_RULES,
        stack("audit", parameters={"Bus": OutputReference("bus", "Arn", "us-east-1")}),
    )


def test_a_stack_whose_output_is_used_is_deleted_only_with_its_consumers(full):
    w = full(found=consuming())
    w.cfn.add_stack("t-rules")
    w.cfn.add_stack("t-audit", "REVIEW_IN_PROGRESS")  # not deployed: it needs nothing
    (preview,) = w.preview("bus")
    assert preview.consumers == {"Arn": ["t-rules in us-east-1"]}
    (result,) = w.delete("bus", empty_buckets=True)
    assert (result.outcome, result.problem.code) == ("failed", ErrorCode.STACK_IN_USE)
    assert "t-rules in us-east-1" in result.problem.what
    assert ("delete_stack" in w.cfn.names(), len(w.s3.versions)) == (False, 2)
    assert [one.outcome for one in w.delete(empty_buckets=True)] == [
        "deleted",
        "deleted",
        "deleted",
    ]


def test_a_consumer_that_cannot_be_read_counts_as_deployed(full):
    w = full(found=consuming())
    w.cfn.fail("describe_stacks", refusal("AccessDenied", "no", 403), times=2)
    (preview,) = w.preview("bus")
    assert preview.consumers["Arn"] == ["t-rules in us-east-1", "t-audit in us-east-1"]


def test_a_bucket_with_delete_markers_alone_is_not_empty(full):
    w = full()
    w.s3.versions = []
    assert w.preview()[0].full_buckets == ("physical-Store",)
    assert w.delete(empty_buckets=True)[0].outcome == "deleted"
    assert w.s3.markers == []


def test_an_importer_in_one_region_does_not_wait_for_its_namesake_in_another(world):
    """A stack of the same name elsewhere imports nothing from here."""
    rules = stack("rules", regions=("us-east-1", "eu-west-1"))
    w = world(environment(stack("bus"), rules))
    elsewhere = w.aws.client("cloudformation", "eu-west-1")
    for cfn in (w.cfn, elsewhere):
        cfn.add_stack("t-rules")
    w.cfn.add_stack("t-bus")
    w.cfn.outputs["t-bus"], w.cfn.exports["t-bus"] = {"Arn": "x"}, {"Arn": "bus-arn"}
    w.cfn.imports["bus-arn"] = ["t-rules"]
    elsewhere.fail("delete_stack", refusal("AccessDenied"), times=9)
    outcomes = {str(one.ref): one.outcome for one in w.delete()}
    assert outcomes == {
        "t-bus in us-east-1": "deleted",
        "t-rules in us-east-1": "deleted",
        "t-rules in eu-west-1": "failed",
    }


EXPORTED = "Export X cannot be deleted as it is in use by t-rules"


@pytest.mark.parametrize("token", ["its own", "none"])
@pytest.mark.parametrize("begun", [True, False])
def test_a_deletion_refused_for_an_export_in_use_fails_with_the_reason(world, begun, token):
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
def test_a_deletion_in_progress_is_followed(world, end):
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


def test_a_deletion_that_another_run_started_first_is_followed(world):
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


def test_a_stack_that_another_run_deleted_since_the_preview_counts_as_deleted(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    previews = w.preview()
    w.cfn.emit(stack_id, "STACK", "DELETE_COMPLETE")
    (result,) = delete.delete(w.scope(), previews)
    assert (result.outcome, "delete_stack" in w.cfn.names()) == ("deleted", False)
