"""Trouble on the way: throttling, lost answers, credentials that expire.

Against a scripted CloudFormation.
"""

import threading

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    CredentialRetrievalError,
    EndpointConnectionError,
)
from scripted_aws import environment, stack
from scripted_cloudformation import refusal, steps, throttle

from eventstacks.errors import ErrorCode

HERE = "us-east-1"


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
    [
        "describe_stacks",
        "create_change_set",
        "describe_change_set",
        "describe_stack_events",
        "execute_change_set",
    ],
)
def test_trouble_that_passes_does_not_fail_a_deployment(world, operation, trouble):
    w = world()
    w.cfn.fail(operation, TROUBLES[trouble], times=3)
    (result,) = w.deploy()
    assert result.outcome == "created"
    assert w.cfn.names().count("execute_change_set") == (
        4 if operation == "execute_change_set" else 1
    )


@pytest.mark.parametrize("operation", ["create_change_set", "execute_change_set"])
def test_a_lost_answer_is_not_done_twice(world, operation):
    w = world()
    w.cfn.fail(operation, TROUBLES["cut"], landed=True)
    (result,) = w.deploy()
    assert result.outcome == "created"
    assert [one.status for one in w.listener.events].count(
        "CREATE_IN_PROGRESS"
    ) == 2  # the stack's, and the queue's
    assert len(w.cfn.stacks) == 1


def test_long_throttling_while_following(world):
    w = world()
    w.cfn.fail("describe_stack_events", throttle(), times=25, after=2)
    (result,) = w.deploy()
    assert result.outcome == "created"
    assert max(w.clock.naps) <= 20


def test_long_throttling_at_the_start_of_an_operation(world):
    w = world()
    w.cfn.fail("execute_change_set", throttle(), times=15)
    (result,) = w.deploy()
    assert (result.outcome, w.clock.time > 100) == ("created", True)


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
    assert result.problem.code == ErrorCode.OUTCOME_UNKNOWN
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


def test_threads_are_bounded(world, monkeypatch):
    monkeypatch.setattr("eventstacks.cloudformation.run.THREADS", 4)
    w = world(
        environment(
            *[stack(f"s{number}", regions=("us-east-1", "eu-west-1")) for number in range(40)]
        )
    )
    most = []
    w.listener.progressed = lambda *_: most.append(threading.active_count())
    before = threading.active_count()
    results = w.deploy()
    assert {one.outcome for one in results} == {"created"}
    assert len(results) == 80
    assert max(most) <= before + 4


def test_half_answers_without_end_end_with_words(world):
    from botocore.parsers import ResponseParserError

    w = world()
    w.cfn.fail(
        "describe_stack_events",
        ResponseParserError("Unable to parse response"),
        times=9999,
        after=2,
    )
    (result,) = w.deploy()
    assert result.outcome == "unknown"
    assert result.problem.code == ErrorCode.OUTCOME_UNKNOWN
