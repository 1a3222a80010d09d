"""plan and deploy against a scripted CloudFormation."""

import json
import threading

import pytest
from botocore.exceptions import ConnectionClosedError, CredentialRetrievalError, EndpointConnectionError
from conftest_cloudformation import (
    CREATED,
    QUEUE,
    ROLLED_BACK,
    TEMPLATE,
    UPDATED,
    FakeAws,
    environment,
    refusal,
    stack,
    steps,
    throttle,
)

from scripts.cloudformation import deployment
from scripts.cloudformation.deployment import Interrupted, Listener
from scripts.cloudformation.options import Options
from scripts.environment import OutputReference

HERE = "us-east-1"


class Ear(Listener):
    def __init__(self, answer=True):  # noqa: FBT002
        self.answer, self.asked, self.heard, self.results = answer, [], [], []

    def confirm(self, plans):
        self.asked.append(list(plans))
        return self.answer(plans) if callable(self.answer) else self.answer

    def progressed(self, progress):
        self.heard.append(progress)

    def finished(self, result):
        self.results.append(result)


@pytest.fixture
def world(clock, build):
    """world(environment?): an object with aws, cfn (the one region's fake), deploy() and plan()."""

    class World:
        def __init__(self, found=None, **options):
            self.environment = found or environment()
            self.aws = FakeAws(self.environment, clock)
            self.cfn = self.aws.client("cloudformation", HERE)
            self.clock, self.ear = clock, Ear()
            self.options = {"build": build, **options}

        def _run(self, what, **options):
            return what(
                self.aws,
                {"queue": TEMPLATE},
                self.environment.choose(),
                clock=self.clock,
                options=Options(**{**self.options, **options}),
                listener=self.ear,
            )

        def deploy(self, **options):
            return self._run(deployment.deploy, **options)

        def plan(self, **options):
            return self._run(deployment.plan, **options)

    return World


def test_a_new_stack_is_created(world):
    w = world()
    w.cfn.outputs["t-bus"] = {"Arn": "arn:queue"}
    (result,) = w.deploy()
    assert (result.outcome, result.status, result.outputs) == ("created", "CREATE_COMPLETE", {"Arn": "arn:queue"})
    assert [one.event.logical_id for one in w.ear.heard] == ["t-bus", "Queue", "Queue", "t-bus"]
    assert (w.ear.heard[-1].done, w.ear.heard[-1].total) == (1, 1)


# --- 1: no change ---------------------------------------------------------------------------------


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
    assert (result.outcome, result.ok, w.cfn.change_sets, w.ear.asked) == ("unchanged", True, {}, [])


def test_another_reason_is_a_failure(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.reason = "Parameters: [X] must have values"
    (result,) = w.deploy()
    assert not result.ok
    assert "Parameters: [X] must have values" in str(result.problem)
    assert w.cfn.change_sets == {}


# --- 2: REVIEW_IN_PROGRESS --------------------------------------------------------------------------


def test_a_plan_leaves_neither_change_set_nor_stack(world):
    w = world()
    (plan,) = w.plan()
    assert plan.changes
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


def test_a_stack_in_review_is_created_and_kept_when_another_made_it(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", "REVIEW_IN_PROGRESS")
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


# --- 3 and 4: what a change set holds ----------------------------------------------------------------


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
    assert [one["LogicalResourceId"] for one in plan.change_set.changes] == [f"Queue{number}" for number in range(7)]


# --- 5: polled by ARN --------------------------------------------------------------------------------


def test_events_are_asked_by_arn(world):
    w = world()
    w.deploy()
    assert all(given["StackName"].startswith("arn:") for name, given in w.cfn.calls if name == "describe_stack_events")


@pytest.mark.parametrize("wording", ["Stack with id {} does not exist", "Stack [{}] does not exist"])
def test_a_stack_that_vanishes_is_a_deleted_one(world, wording):
    w = world()
    w.cfn.fail("describe_stack_events", refusal("ValidationError", wording.format("t-bus")), after=3)
    (result,) = w.deploy(on_failure="DELETE")
    assert not result.ok
    assert "DELETE_COMPLETE" in str(result.problem)


# --- 6 and 7: which events count ------------------------------------------------------------------------


def test_events_from_before_are_not_heard(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus", "UPDATE_IN_PROGRESS")
    w.cfn.emit(stack_id, "Old", "UPDATE_FAILED", "an old failure")
    w.cfn.emit(stack_id, "STACK", "UPDATE_COMPLETE")
    (result,) = w.deploy()
    assert result.outcome == "updated"
    assert "Old" not in [one.event.logical_id for one in w.ear.heard]
    assert len(w.ear.heard) == len(UPDATED)


def test_late_events_of_an_earlier_operation_do_not_end_this_one(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    execute = w.cfn.execute_change_set

    def late(**given):
        answer = execute(**given)
        w.cfn.emit(
            stack_id, "STACK", "UPDATE_ROLLBACK_COMPLETE", "from before", at=w.clock.now() - 0.01, token="another"
        )
        return answer

    w.cfn.execute_change_set = late
    (result,) = w.deploy()
    assert (result.outcome, len(w.ear.heard)) == ("updated", len(UPDATED))


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
    ids = [one.event.id for one in w.ear.heard]
    assert len(ids) == len(set(ids)) == len(UPDATED)


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
    assert len(w.ear.heard) == 22


def test_the_next_operation_of_somebody_else_is_not_this_ones_end(world):
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


# --- 9: eventual consistency --------------------------------------------------------------------------


def test_describe_stacks_that_lags_behind(world):
    w = world()
    w.cfn.lag = 2.5
    (result,) = w.deploy()
    assert (result.outcome, result.status) == ("created", "CREATE_COMPLETE")


def test_outputs_are_those_after_the_update(world):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_COMPLETE")
    w.clock.time = 50
    w.cfn.lag = 6  # longer than the update: at its end DescribeStacks shows the UPDATE_COMPLETE from before
    describe = w.cfn.describe_stacks

    def lagging(**given):
        found = describe(**given)
        fresh = "LastUpdatedTime" in found["Stacks"][0]
        found["Stacks"][0]["Outputs"] = [{"OutputKey": "Arn", "OutputValue": "new" if fresh else "old"}]
        return found

    w.cfn.describe_stacks = lagging
    (result,) = w.deploy()
    assert result.outputs == {"Arn": "new"}


# --- 10 and 15: trouble on the way ------------------------------------------------------------------------

TROUBLES = {
    "throttled": throttle(),
    "500": refusal("InternalFailure", "oops", 500),
    "503": refusal("ServiceUnavailable", "oops", 503),
    "cut": ConnectionClosedError(endpoint_url="http://x"),
    "unreachable": EndpointConnectionError(endpoint_url="http://x"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize(
    "operation",
    ["describe_stacks", "create_change_set", "describe_change_set", "describe_stack_events", "execute_change_set"],
)
def test_trouble_that_passes_does_not_fail_a_deployment(world, operation, trouble):
    w = world()
    w.cfn.fail(operation, TROUBLES[trouble], times=3)
    (result,) = w.deploy()
    assert result.outcome == "created"
    assert w.cfn.names().count("execute_change_set") == (4 if operation == "execute_change_set" else 1)


@pytest.mark.parametrize("operation", ["create_change_set", "execute_change_set"])
def test_a_lost_answer_is_not_done_twice(world, operation):
    w = world()
    w.cfn.fail(operation, TROUBLES["cut"], landed=True)
    (result,) = w.deploy()
    assert result.outcome == "created"
    assert [one.event.status for one in w.ear.heard].count("CREATE_IN_PROGRESS") == 2  # the stack's, and the queue's
    assert len(w.cfn.stacks) == 1


def test_long_throttling_while_following(world):
    w = world()
    w.cfn.fail("describe_stack_events", throttle(), times=25, after=2)
    (result,) = w.deploy()
    assert result.outcome == "created"
    assert max(w.clock.naps) <= 20


def test_a_finished_deployment_is_not_failed_by_the_last_question(world):
    w = world()
    w.cfn.fail("describe_stacks", refusal("AccessDenied", "no", 403), times=9, after=1)
    (result,) = w.deploy()
    assert result.outcome == "created"


@pytest.mark.parametrize(
    "error",
    [
        refusal("ExpiredToken", "The security token included in the request is expired", 403),
        CredentialRetrievalError(provider="sso", error_msg="expired"),
    ],
    ids=["token", "sso"],
)
def test_credentials_that_expire_say_what_goes_on(world, error):
    w = world()
    w.cfn.fail("describe_stack_events", error, times=99, after=4)
    (result,) = w.deploy()
    assert result.outcome == "unknown"
    text = str(result.problem)
    assert "credentials have expired" in text
    assert "CREATE_IN_PROGRESS" in text
    assert "make follow ENV=test STACK=bus REGION=us-east-1" in text


def test_trouble_without_end_ends_with_words(world):
    w = world()
    w.cfn.fail("describe_stack_events", TROUBLES["unreachable"], times=9999, after=2)
    (result,) = w.deploy()
    assert result.outcome == "unknown"
    assert "goes on in AWS" in str(result.problem)
    assert w.clock.time < 800


def test_a_rollback_is_no_success(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.timelines["UPDATE"] = steps(
        (0, "STACK", "UPDATE_IN_PROGRESS"),
        (1, "Queue", "UPDATE_FAILED", "no"),
        (2, "STACK", "UPDATE_ROLLBACK_IN_PROGRESS"),
        (3, "STACK", "UPDATE_ROLLBACK_COMPLETE"),
    )
    (result,) = w.deploy()
    assert (result.ok, result.status) == (False, "UPDATE_ROLLBACK_COMPLETE")


# --- the lag, and the calls -----------------------------------------------------------------------------------


def test_the_end_is_noticed_soon_with_one_call_per_tick(world):
    lags = []
    for number in range(60):
        w = world()
        end = 5 + number * 0.037
        w.clock.time, w.clock.naps = 0.0, []
        w.cfn.timelines["CREATE"] = steps((0, "STACK", "CREATE_IN_PROGRESS"), (end, "STACK", "CREATE_COMPLETE"))
        noticed = []
        w.ear.progressed = lambda progress, w=w, noticed=noticed: (
            noticed.append(w.clock.now()) if progress.event.status == "CREATE_COMPLETE" else None
        )
        w.deploy()
        lags.append(noticed[0] - end)
        polls = w.cfn.names().count("describe_stack_events")
        assert polls <= len(w.clock.naps) + 3  # the marker, the first and the last look
    assert sorted(lags)[len(lags) // 2] <= 0.5
    assert max(lags) <= 1.0


# --- 11: an update that hides a failure ------------------------------------------------------------------------


def test_a_failed_clean_up_is_told(world):
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


# --- 12: states ---------------------------------------------------------------------------------------------------


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
    ["UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE", "UPDATE_FAILED", "CREATE_FAILED"],
)
def test_other_states_can_be_updated(world, status):
    w = world()
    w.cfn.add_stack("t-bus", status)
    (result,) = w.deploy()
    assert result.outcome == "updated"


@pytest.mark.parametrize("begins", [3.01, 3.5, 4.3, 7])
def test_on_failure_delete_follows_to_the_deletion(world, begins):
    w = world()
    w.cfn.timelines["CREATE"] = [
        *ROLLED_BACK,
        *steps((begins, "STACK", "DELETE_IN_PROGRESS"), (60, "STACK", "DELETE_COMPLETE")),
    ]
    (result,) = w.deploy(on_failure="DELETE")
    assert not result.ok
    assert "Queue name is taken" in str(result.problem)
    assert "DELETE_COMPLETE" in str(result.problem)


def test_create_failed_is_an_end_when_nothing_is_rolled_back(world):
    w = world()
    w.cfn.timelines["CREATE"] = steps(
        (0, "STACK", "CREATE_IN_PROGRESS"), (1, "Queue", "CREATE_FAILED", "taken"), (2, "STACK", "CREATE_FAILED")
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


def test_an_operation_under_way_is_waited_for(world):
    w = world()
    stack_id = w.cfn.add_stack("t-bus")
    w.cfn.play(stack_id, steps((0, "STACK", "UPDATE_IN_PROGRESS"), (30, "STACK", "UPDATE_COMPLETE")))
    (result,) = w.deploy()
    assert result.outcome == "updated"
    assert w.clock.time > 30


# --- 13: parameters ---------------------------------------------------------------------------------------------


def test_values_of_the_file_and_nothing_else_are_sent(world):
    w = world(environment(stack(parameters={"Size": "3", "Secret": "s3cret"})))
    w.cfn.add_stack(
        "t-bus",
        Parameters=[
            {"ParameterKey": "Secret", "ParameterValue": "****"},
            {"ParameterKey": "Gone", "ParameterValue": "1"},
            {"ParameterKey": "Defaulted", "ParameterValue": "old"},
        ],
    )
    w.deploy()
    sent = next(given for name, given in w.cfn.calls if name == "create_change_set")["Parameters"]
    assert sent == [
        {"ParameterKey": "Size", "ParameterValue": "3"},
        {"ParameterKey": "Secret", "ParameterValue": "s3cret"},
    ]


def test_secrets_are_not_in_a_plan(world, monkeypatch):
    monkeypatch.setitem(
        TEMPLATE, "Parameters", {"Secret": {"Type": "String", "NoEcho": True}, "Size": {"Type": "String"}}
    )
    w = world(environment(stack(parameters={"Size": "3", "Secret": "s3cret"})))
    (plan,) = w.plan()
    assert plan.change_set.parameters == {"Size": "3", "Secret": "****"}


# --- 14: how ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "creating", "executing"),
    [
        ({}, {}, {"DisableRollback": False}),
        ({"disable_rollback": True}, {}, {"DisableRollback": True}),
        ({"on_failure": "DELETE"}, {"OnStackFailure": "DELETE"}, {}),
        ({"express": True}, {"DeploymentConfig": {"Mode": "EXPRESS", "DisableRollback": False}}, {}),
        (
            {"express": True, "disable_rollback": True},
            {"DeploymentConfig": {"Mode": "EXPRESS", "DisableRollback": True}},
            {},
        ),
        ({"import_existing": True}, {"ImportExistingResources": True}, {"DisableRollback": False}),
    ],
)
def test_disable_rollback_is_said_where_it_may_be(world, options, creating, executing):
    w = world()
    w.deploy(**options)
    made = next(given for name, given in w.cfn.calls if name == "create_change_set")
    done = next(given for name, given in w.cfn.calls if name == "execute_change_set")
    names = {"OnStackFailure", "DeploymentConfig", "ImportExistingResources", "DeploymentMode", "DisableRollback"}
    assert {name: value for name, value in made.items() if name in names} == creating
    assert {name: value for name, value in done.items() if name in names} == executing


def test_on_failure_delete_is_not_said_of_an_update(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.deploy(on_failure="DELETE")
    assert "OnStackFailure" not in next(given for name, given in w.cfn.calls if name == "create_change_set")
    assert next(given for name, given in w.cfn.calls if name == "execute_change_set")["DisableRollback"] is False


# --- 17: Ctrl-C ----------------------------------------------------------------------------------------------------------


def interrupt(w, monkeypatch, at):
    """Ctrl-C when the clock has come to ``at``: the main thread's wait is interrupted."""
    from scripts.cloudformation import schedule

    pressed = threading.Event()
    w.clock.at(at, lambda: (pressed.set(), w.clock.stop()))
    wait = schedule.wait

    def interrupted(*given, **more):
        found = wait(*given, **more)
        if pressed.is_set():
            pressed.clear()
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(schedule, "wait", interrupted)


def test_ctrl_c_while_change_sets_are_made_leaves_nothing(world, monkeypatch):
    w = world()
    w.cfn.change_set_delay = 10
    interrupt(w, monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        w.deploy()
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


def test_ctrl_c_at_the_question_leaves_nothing(world):
    w = world()

    def pressed(plans):
        raise KeyboardInterrupt

    w.ear.answer = pressed
    with pytest.raises(KeyboardInterrupt):
        w.deploy()
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


def test_ctrl_c_while_following_says_what_goes_on(world, monkeypatch):
    first, second = stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")})
    w = world(environment(first, second))
    w.cfn.timelines["CREATE"] = steps((0, "STACK", "CREATE_IN_PROGRESS"), (100, "STACK", "CREATE_COMPLETE"))
    w.cfn.outputs["t-bus"] = {"Arn": "arn:queue"}
    interrupt(w, monkeypatch, 5)
    with pytest.raises(Interrupted) as caught:
        w.deploy()
    assert [place.stack for place in caught.value.places] == ["bus"]
    assert [one["execution"] for one in w.cfn.change_sets.values()] == ["EXECUTE_IN_PROGRESS"]
    assert w.cfn.find("t-rules") is None
    assert w.cfn.names().count("execute_change_set") == 1


def test_what_a_killed_run_left_is_swept(world):
    w = world()
    w.cfn.add_stack("t-bus")
    from scripts.cloudformation import change_set

    gone = 2**22 + 1  # no such process
    for name in (f"stacks-{change_set._HOST}-{gone}-0123456789ab", "somebody-elses", "stacks-00000000-1-0123456789ab"):
        w.cfn.create_change_set(StackName="t-bus", ChangeSetType="UPDATE", ChangeSetName=name)
    w.plan()
    assert sorted(one["given"]["ChangeSetName"] for one in w.cfn.change_sets.values()) == [
        "somebody-elses",
        "stacks-00000000-1-0123456789ab",
    ]


def test_the_empty_stack_of_a_killed_run_is_swept_too(world):
    from scripts.cloudformation import change_set

    for others, left in ((), False), (("somebody-elses",), True):
        w = world()
        for name in (f"stacks-{change_set._HOST}-{2**22 + 1}-0123456789ab", *others):
            w.cfn.create_change_set(StackName="t-bus", ChangeSetType="CREATE", ChangeSetName=name)
        w.plan()
        assert (w.cfn.find("t-bus") is not None) == left


def test_a_policy_that_cannot_be_read_leaves_no_change_set(world):
    w = world(environment(stack(policy={"Statement": []})))
    w.cfn.add_stack("t-bus")
    w.cfn.fail("get_stack_policy", refusal("AccessDenied", "no", 403), times=9)
    (plan,) = w.plan()
    assert "AWS says: no" in str(plan.problem)
    assert w.cfn.change_sets == {}


def test_sweeping_is_no_condition(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.fail("list_change_sets", refusal("AccessDenied", "no", 403))
    assert w.deploy()[0].outcome == "updated"


# --- order ---------------------------------------------------------------------------------------------------------------


def three(**more):
    return environment(
        stack("bus"),
        stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}),
        stack("other"),
        stack("late", parameters={"Rules": OutputReference("rules", "Arn")}),
        **more,
    )


def test_a_taker_is_created_with_its_givers_output(world):
    w = world(three())
    w.cfn.outputs |= {f"t-{name}": {"Arn": f"arn:{name}"} for name in ("bus", "rules")}
    results = w.deploy()
    assert [one.outcome for one in results] == ["created"] * 4
    sent = {given["StackName"]: given["Parameters"] for name, given in w.cfn.calls if name == "create_change_set"}
    assert sent["t-rules"] == [{"ParameterKey": "Bus", "ParameterValue": "arn:bus"}]
    assert sent["t-late"] == [{"ParameterKey": "Rules", "ParameterValue": "arn:rules"}]
    assert len(w.ear.asked) == 1


def test_a_failure_stops_those_that_need_it_and_no_others(world):
    w = world(three())
    w.cfn.timelines["CREATE"] = CREATED
    play = w.cfn.play
    w.cfn.play = lambda stack_id, timeline, token="": play(
        stack_id, ROLLED_BACK if "/t-bus/" in stack_id else timeline, token
    )
    results = {one.place.stack: one for one in w.deploy()}
    assert {name: one.outcome for name, one in results.items()} == {
        "bus": "failed",
        "rules": "skipped",
        "other": "created",
        "late": "skipped",
    }
    assert "t-bus in us-east-1" in str(results["rules"].problem)
    assert w.cfn.find("t-rules") is None


def test_what_was_shown_is_executed_when_the_output_stays(world):
    w = world(three())
    for name in ("bus", "rules", "other", "late"):
        w.cfn.add_stack(f"t-{name}")
        w.cfn.outputs[f"t-{name}"] = {"Arn": f"arn:{name}"}
    w.deploy()
    shown = {plan.change_set.arn for plan in w.ear.asked[0]}
    executed = {given["ChangeSetName"] for name, given in w.cfn.calls if name == "execute_change_set"}
    assert executed == shown
    assert len(w.ear.asked) == 1


def test_another_output_than_was_shown_is_asked_again(world):
    w = world(environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")})))
    for name in ("bus", "rules"):
        w.cfn.add_stack(f"t-{name}")
    w.cfn.outputs["t-bus"] = {"Arn": "old"}
    execute = w.cfn.execute_change_set

    def executing(**given):
        w.cfn.outputs["t-bus"] = {"Arn": "new"}
        return execute(**given)

    w.cfn.execute_change_set = executing
    results = w.deploy()
    assert [one.outcome for one in results] == ["updated", "updated"]
    assert [[plan.place.stack for plan in plans] for plans in w.ear.asked] == [["bus", "rules"], ["rules"]]
    assert [given["Parameters"] for name, given in w.cfn.calls if name == "create_change_set"][-1] == [
        {"ParameterKey": "Bus", "ParameterValue": "new"}
    ]
    assert [one for one in w.cfn.change_sets.values() if one["execution"] == "AVAILABLE"] == []


def test_an_output_of_a_stack_that_is_not_there_says_what_to_deploy(world):
    w = world(environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")})))
    pairs = w.environment.choose("rules")
    (result,) = deployment.deploy(w.aws, {"queue": TEMPLATE}, pairs, clock=w.clock, listener=w.ear)
    assert "make deploy ENV=test STACK=bus REGION=us-east-1" in str(result.problem)


# --- protection ------------------------------------------------------------------------------------------------------------


LOSING = {"Action": "Modify", "LogicalResourceId": "Queue", "ResourceType": "AWS::SQS::Queue", "Replacement": "True"}


@pytest.mark.parametrize(
    "change",
    [
        LOSING,
        {**LOSING, "Replacement": "Conditional"},
        {**LOSING, "Action": "Remove", "Replacement": None, "PolicyAction": "Delete"},
    ],
)
def test_a_protected_environment_refuses_losses(world, change):
    from scripts.cloudformation.protection import ProtectedError

    w = world(environment(protect=True))
    w.cfn.add_stack("t-bus")
    w.cfn.changes = [change]
    with pytest.raises(ProtectedError, match="--allow-replace Queue"):
        w.deploy()
    assert (w.cfn.change_sets, "execute_change_set" in w.cfn.names()) == ({}, False)
    (result,) = w.deploy(allow_replace=frozenset({"Queue"}))
    assert result.outcome == "updated"


def test_a_protected_environment_protects_its_stacks(world):
    w = world(environment(stack(policy={"Statement": []}), protect=True))
    w.deploy()
    held = w.cfn.stacks[w.cfn.find("t-bus")]["more"]
    assert held["EnableTerminationProtection"] is True
    assert json.loads(held["policy"]) == {"Statement": []}


def test_protection_is_set_when_nothing_else_changes(world):
    w = world(environment(protect=True))
    stack_id = w.cfn.add_stack("t-bus")
    w.cfn.no_change = True
    (plan,) = w.plan()
    assert plan.settings == ("termination protection",)
    assert "EnableTerminationProtection" not in w.cfn.stacks[stack_id]["more"]
    (result,) = w.deploy()
    assert (result.outcome, w.cfn.stacks[stack_id]["more"]["EnableTerminationProtection"]) == ("updated", True)


def test_topics_alarms_and_the_role_are_sent_and_taken_away(world):
    w = world(
        environment(
            stack(role="arn:aws:iam::123456789012:role/deploy", rollback_alarms=("arn:alarm",), rollback_minutes=5),
            notifications=("arn:topic",),
        )
    )
    w.deploy()
    made = next(given for name, given in w.cfn.calls if name == "create_change_set")
    assert (made["RoleARN"], made["NotificationARNs"]) == ("arn:aws:iam::123456789012:role/deploy", ["arn:topic"])
    assert made["RollbackConfiguration"] == {
        "RollbackTriggers": [{"Arn": "arn:alarm", "Type": "AWS::CloudWatch::Alarm"}],
        "MonitoringTimeInMinutes": 5,
    }
    w = world()
    w.cfn.add_stack("t-bus", NotificationARNs=["arn:topic"], RollbackConfiguration={"MonitoringTimeInMinutes": 5})
    w.deploy()
    made = next(given for name, given in w.cfn.calls if name == "create_change_set")
    assert (made["NotificationARNs"], made["RollbackConfiguration"]) == (
        [],
        {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0},
    )


# --- many -----------------------------------------------------------------------------------------------------------------


def test_threads_are_bounded(world, monkeypatch):
    monkeypatch.setattr("scripts.cloudformation.schedule.THREADS", 4)
    w = world(environment(*[stack(f"s{number}", regions=("us-east-1", "eu-west-1")) for number in range(40)]))
    most = []
    w.ear.planned = lambda plan: most.append(threading.active_count())
    before = threading.active_count()
    results = w.deploy()
    assert {one.outcome for one in results} == {"created"}
    assert len(results) == 80
    assert max(most) <= before + 4


def test_half_answers_without_end_end_with_words(world):
    from botocore.parsers import ResponseParserError

    w = world()
    w.cfn.fail("describe_stack_events", ResponseParserError("Unable to parse response"), times=9999, after=2)
    (result,) = w.deploy()
    assert result.outcome == "unknown"
    assert "goes on in AWS" in str(result.problem)
