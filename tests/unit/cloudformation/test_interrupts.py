"""Ctrl-C, and what a killed run left. Against a scripted CloudFormation."""

import _thread
import threading
import time

import pytest
from botocore.exceptions import NoCredentialsError
from scripted_aws import environment, stack
from scripted_cloudformation import steps, throttle

from eventstacks.aws import Cancelled, Clock
from eventstacks.cloudformation import run
from eventstacks.cloudformation.operation import LostSightError
from eventstacks.cloudformation.run import Interrupted
from eventstacks.environment import OutputReference

HERE = "us-east-1"


def interrupt(w, monkeypatch, at, times=1):
    """Ctrl-C when the clock has come to ``at``: then the main thread's waits are interrupted."""
    pressed, raised = threading.Event(), []
    w.clock.at(at, lambda: (pressed.set(), w.clock.stop()))
    wait = run.wait

    def interrupted(*given, **more):
        found = wait(*given, **more)
        if pressed.is_set() and len(raised) < times:
            raised.append(True)
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(run, "wait", interrupted)


def test_ctrl_c_while_change_sets_are_made_leaves_nothing(world, monkeypatch):
    w = world()
    w.cfn.change_set_delay = 10
    interrupt(w, monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        w.deploy()
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


def test_change_sets_are_deleted_after_ctrl_c_though_aws_throttles(world, monkeypatch):
    w = world()
    w.cfn.change_set_delay = 10
    w.cfn.fail("delete_change_set", throttle(), times=2)
    w.cfn.fail("list_change_sets", throttle())
    interrupt(w, monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        w.plan()
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


def test_ctrl_c_at_the_question_leaves_nothing(world):
    w = world()

    def pressed(plans):
        raise KeyboardInterrupt

    w.listener.answer = pressed
    with pytest.raises(KeyboardInterrupt):
        w.deploy()
    assert (w.cfn.change_sets, w.cfn.find("t-bus")) == ({}, None)


def test_ctrl_c_while_following_says_what_goes_on(world, monkeypatch):
    first, second = stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")})
    w = world(environment(first, second))
    w.cfn.timelines["CREATE"] = steps(
        (0, "STACK", "CREATE_IN_PROGRESS"), (100, "STACK", "CREATE_COMPLETE")
    )
    w.cfn.outputs["t-bus"] = {"Arn": "arn:queue"}
    interrupt(w, monkeypatch, 5)
    with pytest.raises(Interrupted) as caught:
        w.deploy()
    assert [place.stack for place in caught.value.refs] == ["bus"]
    assert [one["execution"] for one in w.cfn.change_sets.values()] == ["EXECUTE_IN_PROGRESS"]
    assert w.cfn.find("t-rules") is None
    assert w.cfn.names().count("execute_change_set") == 1


def test_ctrl_c_while_watching_says_what_goes_on(world, monkeypatch):
    w = world()
    w.cfn.add_stack("t-bus", "UPDATE_IN_PROGRESS")
    interrupt(w, monkeypatch, 5)
    with pytest.raises(Interrupted) as caught:
        w.follow()
    assert [ref.stack for ref in caught.value.refs] == ["bus"]


def test_ctrl_c_names_an_operation_that_was_lost_sight_of(world, monkeypatch):
    w = world(environment(stack("bus"), stack("other")))
    scope, lost = w.scope(), threading.Event()
    interrupt(w, monkeypatch, 1)

    def job(client, _task):
        scope.start(client.ref)
        if client.ref.stack == "bus":
            raise LostSightError("expired")
        assert lost.wait(10)
        client.clock.sleep(1)  # until Ctrl-C
        raise AssertionError

    w.listener.finished = lambda result: result.outcome == "unknown" and lost.set()
    with pytest.raises(Interrupted) as caught:
        scope.work([run.Report(ref) for ref in scope.refs], job)
    assert [ref.stack for ref in caught.value.refs] == ["bus", "other"]


def test_a_second_ctrl_c_still_says_what_goes_on_and_nothing_about_change_sets(world, monkeypatch):
    first, second = stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")})
    w = world(environment(first, second))
    w.cfn.add_stack("t-bus")
    w.cfn.add_stack("t-rules")
    w.cfn.outputs["t-bus"] = {"Arn": "arn:queue"}
    w.cfn.timelines["UPDATE"] = steps(
        (0, "STACK", "UPDATE_IN_PROGRESS"), (100, "STACK", "UPDATE_COMPLETE")
    )
    interrupt(w, monkeypatch, 5, times=2)  # the second one while change sets are deleted
    with pytest.raises(Interrupted) as caught:
        w.deploy()
    assert [ref.stack for ref in caught.value.refs] == ["bus"]
    assert "change set" not in str(caught.value)
    assert "change set" not in str(Interrupted())


@pytest.mark.parametrize(
    ("verb", "state", "call", "looks"),
    [
        (lambda w: w.deploy(), "CREATE_COMPLETE", "execute_change_set", 0),
        (lambda w: w.delete(), "CREATE_COMPLETE", "delete_stack", 1),
        (lambda w: w.recover(), "UPDATE_FAILED", "rollback_stack", 0),
    ],
    ids=["deploy", "delete", "recover"],
)
def test_what_was_not_begun_does_not_go_on(  # noqa: PLR0917
    world, monkeypatch, verb, state, call, looks
):
    w = world()
    w.cfn.add_stack("t-bus", state)
    # while the marker is taken
    w.cfn.fail("describe_stack_events", throttle(), times=99, after=looks)
    interrupt(w, monkeypatch, 5)
    with pytest.raises(Interrupted) as caught:
        verb(w)
    assert (caught.value.refs, w.cfn.change_sets, call in w.cfn.names()) == ([], {}, False)


@pytest.mark.parametrize("settings_only", [False, True])
def test_a_stack_whose_protection_was_being_set_does_not_go_on(world, monkeypatch, settings_only):
    w = world(environment(protect=True))
    w.cfn.add_stack("t-bus")
    w.cfn.no_change = settings_only
    w.cfn.fail("update_termination_protection", throttle(), times=99)
    interrupt(w, monkeypatch, 5)
    with pytest.raises(Interrupted) as caught:
        w.deploy()
    assert (caught.value.refs, w.cfn.change_sets) == ([], {})


def test_credentials_that_end_before_anything_is_executed_leave_nothing(world):
    w = world()
    w.cfn.add_stack("t-bus")
    w.cfn.fail("describe_stack_events", NoCredentialsError())
    (result,) = w.deploy()
    assert (result.outcome, w.cfn.change_sets) == ("failed", {})


@pytest.mark.parametrize("settings_only", [False, True])
def test_a_yes_that_comes_after_ctrl_c_starts_nothing(world, monkeypatch, settings_only):
    first = stack("bus")
    second = stack("rules", parameters={"Bus": OutputReference("bus", "Arn")})
    w = world(environment(first, second, protect=True))
    w.cfn.add_stack("t-bus")
    rules = w.cfn.add_stack("t-rules")
    w.cfn.outputs["t-bus"] = {"Arn": "old"}
    execute = w.cfn.execute_change_set

    def executing(**given):
        w.cfn.outputs["t-bus"] = {"Arn": "new"}
        w.cfn.no_change = settings_only
        return execute(**given)

    w.cfn.execute_change_set = executing
    asked, pressed, stopped = threading.Event(), threading.Event(), w.clock.stop

    def answer(plans):
        if len(plans) == 1:  # the second question, in a thread of its own
            asked.set()
            assert pressed.wait(10)
        return True

    w.listener.answer = answer
    w.clock.stop = lambda: (stopped(), pressed.set())
    wait = run.wait

    def interrupted(*given, **more):
        while not (found := wait(*given, **more | {"timeout": 0.02}))[0]:
            if asked.is_set():
                asked.clear()
                raise KeyboardInterrupt
        return found

    monkeypatch.setattr(run, "wait", interrupted)
    with pytest.raises(Interrupted) as caught:
        w.deploy()
    assert caught.value.refs == []
    assert [
        given["ChangeSetName"].split("/")[1].startswith("t-bus")
        for given in w.cfn.arguments("execute_change_set")
    ] == [True]
    assert "EnableTerminationProtection" not in w.cfn.stacks[rules]["more"]
    assert [one for one in w.cfn.change_sets.values() if one["execution"] == "AVAILABLE"] == []


def test_ctrl_c_interrupts_a_wait_that_the_signal_does_not_wake():
    """It may come between Python's last look at the signals and the wait, which then goes on."""
    clock, woken = Clock(), []

    def job(_item):
        time.sleep(0.2)  # the main thread has begun to wait
        _thread.interrupt_main()
        try:
            clock.sleep(60)
        except Cancelled:
            woken.append(True)

    with pytest.raises(KeyboardInterrupt):
        run.in_order({"one": ()}, job, clock)
    assert woken == [True]
