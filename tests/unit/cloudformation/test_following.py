"""Following an operation by its events, to its end. Against a scripted CloudFormation."""

import pytest
from scripted_cloudformation import CREATED, STACK, UPDATED, refusal, steps

from eventstacks.errors import ErrorCode

HERE = "us-east-1"


def test_events_are_asked_by_arn(world):
    w = world()
    w.deploy()
    assert all(
        given["StackName"].startswith("arn:") for given in w.cfn.arguments("describe_stack_events")
    )


@pytest.mark.parametrize(
    "wording", ["Stack with id {} does not exist", "Stack [{}] does not exist"]
)
def test_a_stack_that_vanishes_is_a_deleted_one(world, wording):
    w = world()
    w.cfn.add_stack("t-bus")
    absent = refusal("ValidationError", wording.format("t-bus"))
    w.cfn.fail("describe_stack_events", absent, after=3)
    (result,) = w.delete()
    assert (result.outcome, result.status) == ("deleted", "DELETE_COMPLETE")


def test_events_without_a_token_belong_to_the_operation_that_runs(world):
    w = world()
    w.cfn.timelines["CREATE"] = [
        (*one[:4], {**one[4], "token": ""}) for one in w.cfn.timelines["CREATE"]
    ]
    (result,) = w.deploy()
    assert (result.outcome, result.status) == ("created", "CREATE_COMPLETE")


def test_events_of_earlier_operations_are_not_reported(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", "UPDATE_IN_PROGRESS")
    w.cfn.emit(stack_id, "Old", "UPDATE_FAILED", "an old failure")
    w.cfn.emit(stack_id, "STACK", "UPDATE_COMPLETE")
    (result,) = w.deploy()
    assert result.outcome == "updated"
    assert "Old" not in [one.logical_id for one in w.listener.events]
    assert len(w.listener.events) == len(UPDATED)


def test_late_events_of_an_earlier_operation_do_not_end_this_one(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    execute = w.cfn.execute_change_set

    def late(**given):
        answer = execute(**given)
        w.cfn.emit(
            stack_id,
            "STACK",
            "UPDATE_ROLLBACK_COMPLETE",
            "from before",
            at=w.clock.now() - 0.01,
            token="another",
        )
        return answer

    w.cfn.execute_change_set = late
    (result,) = w.deploy()
    assert (result.outcome, len(w.listener.events)) == ("updated", len(UPDATED))


@pytest.mark.parametrize(
    "disorder",
    [
        lambda seen: seen[::-1],
        lambda seen: seen + seen,
        lambda seen: sorted(seen, key=lambda one: one["EventId"][::-1]),
    ],
    ids=["oldest first", "twice", "mixed"],
)
def test_disordered_and_repeated_events(world, disorder):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.shuffle = disorder
    (result,) = w.deploy()
    assert result.outcome == "updated"
    heard = [(one.logical_id, one.status) for one in w.listener.events]
    assert len(heard) == len(set(heard)) == len(UPDATED)


def test_many_new_events_are_paged(world):
    w = world()
    w.cfn.page = 3
    w.cfn.timelines["CREATE"] = steps(
        (0, "STACK", "CREATE_IN_PROGRESS"),
        *[(1, f"Queue{number}", "CREATE_COMPLETE") for number in range(20)],
        (1.1, "STACK", "CREATE_COMPLETE"),
    )
    (result,) = w.deploy()
    assert result.outcome == "created"
    assert len(w.listener.events) == 22


def test_a_later_operation_of_another_run_does_not_end_this_one(world):
    w = world()
    w.cfn.timelines["CREATE"] = [
        *CREATED,
        *steps(
            (3.01, "STACK", "UPDATE_IN_PROGRESS", "", {"token": "another"}),
            (3.02, "STACK", "UPDATE_ROLLBACK_COMPLETE", "", {"token": "another"}),
        ),
    ]
    (result,) = w.deploy()
    assert (result.outcome, result.status) == ("created", "CREATE_COMPLETE")


def test_a_failed_update_stays_failed_after_a_later_success_of_another_run(world):
    w = world()
    w.cfn.add_stack("t-bus")
    other = ("", {"token": "another"})
    w.cfn.timelines["UPDATE"] = steps(
        (0, "STACK", "UPDATE_IN_PROGRESS"),
        (1, "Queue", "UPDATE_FAILED", "no"),
        (3, "STACK", "UPDATE_FAILED"),
        (3.01, "STACK", "UPDATE_IN_PROGRESS", *other),
        (3.02, "STACK", "UPDATE_COMPLETE", *other),
    )
    (result,) = w.deploy(disable_rollback=True)
    assert (result.outcome, result.problem.status) == ("failed", "UPDATE_FAILED")
    assert "could not be updated: no" in str(result.problem)
    assert w.clock.now() < 20


def test_describe_stacks_that_lags_behind(world):
    w = world()
    w.cfn.lag = 2.5
    (result,) = w.deploy()
    assert (result.outcome, result.status) == ("created", "CREATE_COMPLETE")


def test_outputs_are_those_after_the_update(world):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_COMPLETE")
    w.clock.time = 50
    w.cfn.lag = (
        6  # longer than the update: at its end DescribeStacks shows the UPDATE_COMPLETE from before
    )
    describe = w.cfn.describe_stacks

    def lagging(**given):
        found = describe(**given)
        fresh = "LastUpdatedTime" in found["Stacks"][0]
        found["Stacks"][0]["Outputs"] = [
            {"OutputKey": "Arn", "OutputValue": "new" if fresh else "old"}
        ]
        return found

    w.cfn.describe_stacks = lagging
    (result,) = w.deploy()
    assert result.outputs == {"Arn": "new"}


def test_the_end_is_noticed_soon_with_one_call_per_tick(world):
    lags = []
    for number in range(60):
        w = world()
        end = 5 + number * 0.037
        w.clock.time, w.clock.naps = 0.0, []
        w.cfn.timelines["CREATE"] = steps(
            (0, "STACK", "CREATE_IN_PROGRESS"), (end, "STACK", "CREATE_COMPLETE")
        )
        noticed = []
        w.listener.progressed = lambda _ref, _total, event, w=w, noticed=noticed: (
            noticed.append(w.clock.now()) if event.status == "CREATE_COMPLETE" else None
        )
        w.deploy()
        lags.append(noticed[0] - end)
        polls = w.cfn.names().count("describe_stack_events")
        assert polls <= len(w.clock.naps) + 3  # the marker, the first and the last look
    assert sorted(lags)[len(lags) // 2] <= 0.5
    assert max(lags) <= 1.0


def test_a_failed_cleanup_is_reported(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.timelines["UPDATE"] = [
        *UPDATED[:-1],
        *steps((3.5, "Old", "DELETE_FAILED", "bucket is not empty")),
        UPDATED[-1],
    ]
    (result,) = w.deploy()
    assert result.outcome == "updated"
    assert "Old" in result.warnings[0]
    assert "bucket is not empty" in result.warnings[0]


def test_an_execution_of_which_nothing_is_seen_is_no_success(world):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_COMPLETE")
    w.cfn.execute_change_set = lambda **_: {}  # accepted, and nothing ever comes of it
    (result,) = w.deploy()
    assert (result.outcome, result.ok) == ("unknown", False)
    assert result.problem.code == ErrorCode.OUTCOME_UNKNOWN
    assert "UPDATE_COMPLETE" in result.problem.what


def test_a_beginning_that_is_slow_to_show_is_waited_for(world):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_COMPLETE")
    w.cfn.timelines["UPDATE"] = steps(
        (15, "STACK", "UPDATE_IN_PROGRESS"), (90, "STACK", "UPDATE_COMPLETE")
    )
    (result,) = w.deploy()
    assert (result.outcome, result.status) == ("updated", "UPDATE_COMPLETE")
    assert w.clock.now() >= 90


def test_a_nested_stack_without_a_physical_id_is_not_the_root(world):
    w = world()
    early = {"ResourceType": STACK, "PhysicalResourceId": ""}
    w.cfn.timelines["CREATE"] = steps(
        (0, "STACK", "CREATE_IN_PROGRESS"),
        (1, "Orders", "CREATE_FAILED", "no such template", early),
        (40, "STACK", "ROLLBACK_IN_PROGRESS"),
        (41, "STACK", "ROLLBACK_COMPLETE"),
    )
    (result,) = w.deploy()
    assert (result.outcome, result.status) == ("failed", "ROLLBACK_COMPLETE")
    assert result.problem.what.startswith("Orders (AWS::CloudFormation::Stack)")
    assert w.clock.now() >= 41


def test_an_operation_of_another_run_is_followed_from_its_start(world):
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
    (result,) = w.follow()
    assert (result.outcome, result.status) == ("updated", "UPDATE_COMPLETE")
    assert w.clock.time < 62


def test_an_update_that_rolls_back_while_followed_fails_with_the_reason(world):
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
    (result,) = w.follow()
    assert not result.ok
    assert "Queue (AWS::SQS::Queue) could not be updated: no" in str(result.problem)


def test_failures_of_an_earlier_operation_are_not_reasons_of_the_followed_one(world):
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
    (result,) = w.follow()
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
    (result,) = w.follow()
    assert (result.outcome, result.status) == ("recovered", "UPDATE_ROLLBACK_COMPLETE")
    assert 200 <= w.clock.now() < 202


def test_an_operation_that_ends_before_its_first_events_are_read_is_reported(world):
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
    (result,) = w.follow()
    assert (result.outcome, result.status) == ("updated", "UPDATE_COMPLETE")
    assert w.clock.now() < 17


def test_without_an_operation_in_progress_follow_returns_nothing(world):
    w = world()
    w.cfn.add_stack("t-bus")
    assert w.follow() == []
