"""The order of stacks, and outputs that another one takes. Against a scripted CloudFormation."""

import pytest
from botocore.exceptions import NoCredentialsError
from rendered import templates
from scripted_aws import environment, stack
from scripted_cloudformation import CREATED, ROLLED_BACK, TEMPLATE, refusal

from eventstacks.cloudformation import deploy
from eventstacks.cloudformation.run import Scope
from eventstacks.environment import OutputReference
from eventstacks.errors import ErrorCode

HERE = "us-east-1"


def three(**more):
    return environment(
        stack("bus"),
        stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}),
        stack("other"),
        stack("late", parameters={"Rules": OutputReference("rules", "Arn")}),
        **more,
    )


def test_a_consumer_is_created_with_the_output_of_its_producer(world):
    w = world(three())
    w.cfn.outputs |= {f"t-{name}": {"Arn": f"arn:{name}"} for name in ("bus", "rules")}
    results = w.deploy()
    assert [one.outcome for one in results] == ["created"] * 4
    sent = {
        given["StackName"]: given["Parameters"] for given in w.cfn.arguments("create_change_set")
    }
    assert sent["t-rules"] == [{"ParameterKey": "Bus", "ParameterValue": "arn:bus"}]
    assert sent["t-late"] == [{"ParameterKey": "Rules", "ParameterValue": "arn:rules"}]
    assert len(w.listener.asked) == 1


def test_a_failure_stops_those_that_need_it_and_no_others(world):
    w = world(three())
    w.cfn.timelines["CREATE"] = CREATED
    play = w.cfn.play
    w.cfn.play = lambda stack_id, timeline, token="": play(
        stack_id, ROLLED_BACK if "/t-bus/" in stack_id else timeline, token
    )
    results = {one.ref.stack: one for one in w.deploy()}
    assert {name: one.outcome for name, one in results.items()} == {
        "bus": "failed",
        "rules": "skipped",
        "other": "created",
        "late": "skipped",
    }
    assert "t-bus in us-east-1" in str(results["rules"].problem)
    assert w.cfn.find("t-rules") is None


def test_a_stack_that_was_lost_sight_of_stops_those_that_need_it(world):
    w = world(environment(stack("bus"), stack("rules", depends_on=("bus",))))
    w.cfn.fail("describe_stack_events", NoCredentialsError(), times=9, after=2)
    assert [one.outcome for one in w.deploy()] == ["unknown", "skipped"]
    assert len(w.cfn.arguments("execute_change_set")) == 1


def test_what_was_shown_is_executed_when_the_output_stays(world):
    w = world(three())
    for name in ("bus", "rules", "other", "late"):
        w.cfn.add_stack(f"t-{name}")
        w.cfn.outputs[f"t-{name}"] = {"Arn": f"arn:{name}"}
    w.deploy()
    shown = {plan.change_set.arn for plan in w.listener.asked[0]}
    executed = {given["ChangeSetName"] for given in w.cfn.arguments("execute_change_set")}
    assert executed == shown
    assert len(w.listener.asked) == 1


def test_another_output_than_was_shown_is_asked_again(world):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    w.cfn.add_stack("t-rules")
    taking(w)
    results = w.deploy()
    assert [one.outcome for one in results] == ["updated", "updated"]
    assert [[plan.ref.stack for plan in plans] for plans in w.listener.asked] == [
        ["bus", "rules"],
        ["rules"],
    ]
    assert [given["Parameters"] for given in w.cfn.arguments("create_change_set")][-1] == [
        {"ParameterKey": "Bus", "ParameterValue": "new"}
    ]
    assert [one for one in w.cfn.change_sets.values() if one["execution"] == "AVAILABLE"] == []


def test_a_second_question_that_is_declined_names_its_stack(world):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    w.cfn.add_stack("t-rules")
    taking(w)
    w.listener.answer = lambda plans: len(plans) == 2
    bus, rules = w.deploy()
    assert (bus.outcome, rules.outcome) == ("updated", "failed")
    assert (rules.problem.code, rules.problem.where) == (ErrorCode.DECLINED, "t-rules in us-east-1")
    assert [one for one in w.cfn.change_sets.values() if one["execution"] == "AVAILABLE"] == []


def test_an_output_of_a_stack_that_is_not_there_says_what_to_deploy(world):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    (result,) = w.deploy("rules")
    assert "make deploy ENV=test STACK=bus REGION=us-east-1" in str(result.problem)


@pytest.mark.parametrize("names", ["AB", "BA"])
def test_a_stack_that_is_not_coming_is_not_waited_for_beside_one_that_is(world, names):
    taken = dict(
        zip(names, (OutputReference("bus", "Arn"), OutputReference("other", "Arn")), strict=True)
    )
    w = world(
        environment(
            stack("bus"), stack("other"), stack("rules", parameters=dict(sorted(taken.items())))
        )
    )
    refs = [ref for ref in w.environment.choose() if ref.stack != "other"]
    plans = deploy.plan(Scope(w.aws, refs, clock=w.clock), templates(queue=TEMPLATE))
    assert [plan.waits_for for plan in plans] == [(), ()]
    assert "make deploy ENV=test STACK=other REGION=us-east-1" in str(plans[1].problem)


@pytest.mark.parametrize("exists", [True, False])
def test_an_output_that_the_deployed_stack_still_lacks_is_not_waited_for(world, exists):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    if exists:
        w.cfn.add_stack("t-rules")
    bus, rules = w.deploy()
    assert (bus.outcome, rules.outcome) == ("created", "failed")
    assert rules.problem.code == ErrorCode.STACK_NOT_DEPLOYED


def test_a_new_plan_without_changes_is_not_asked_about(world):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    w.cfn.add_stack("t-rules")
    taking(w)
    w.cfn.no_change = "t-rules"
    bus, rules = w.deploy()
    assert (bus.outcome, rules.outcome, len(w.listener.asked)) == ("updated", "unchanged", 1)


def taking(w):
    """The world's stack ``bus`` is there, and gives another output as soon as it is updated."""
    w.cfn.add_stack("t-bus")
    w.cfn.outputs["t-bus"] = {"Arn": "old"}
    execute = w.cfn.execute_change_set

    def executing(**given):
        w.cfn.outputs["t-bus"] = {"Arn": "new"}
        return execute(**given)

    w.cfn.execute_change_set = executing


def slow_deletion(w):
    """As AWS does it: DeleteStack returns before the stack is deleted."""

    def delete(StackName, **_):  # noqa: N803
        w.cfn.calls.append(("delete_stack", {"StackName": StackName}))
        now = w.clock.now()
        w.cfn.emit(StackName, "STACK", "DELETE_IN_PROGRESS", at=now)
        w.cfn.emit(StackName, "STACK", "DELETE_COMPLETE", at=now + 2)

    w.cfn.delete_stack = delete


@pytest.mark.parametrize("listing", ["at once", "late"])
def test_a_new_stack_is_planned_again_where_it_was_planned_before(world, listing):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    taking(w)
    slow_deletion(w)
    if listing == "late":  # a change set that has just been made need not be in the list yet
        w.cfn.list_change_sets = lambda **_: {"Summaries": []}
    assert [one.outcome for one in w.deploy()] == ["updated", "created"]
    assert "delete_stack" not in w.cfn.names()
    assert [one["given"]["Parameters"] for one in w.cfn.change_sets.values()][-1] == [
        {"ParameterKey": "Bus", "ParameterValue": "new"}
    ]
    assert [one for one in w.cfn.change_sets.values() if one["execution"] == "AVAILABLE"] == []


@pytest.mark.parametrize("at", ["create_change_set", "execute_change_set"])
def test_a_new_stack_that_cannot_be_planned_again_is_not_left_in_review(world, at):
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    taking(w)
    w.cfn.fail(
        at, refusal("ValidationError", "not now"), after=2 if at == "create_change_set" else 1
    )
    bus, rules = w.deploy()
    assert (bus.outcome, rules.outcome) == ("updated", "failed")
    assert "not now" in str(rules.problem)
    assert w.cfn.find("t-rules") is None


def test_a_loss_that_only_the_second_plan_shows_is_refused_and_says_no_more_than_that(world):
    first, second = stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")})
    w = world(environment(first, second, protect=True))
    taking(w)
    rules = w.cfn.add_stack("t-rules")
    execute = w.cfn.execute_change_set

    def executing(**given):
        w.cfn.changes = [
            {"Action": "Remove", "LogicalResourceId": "Queue", "ResourceType": "AWS::SQS::Queue"}
        ]
        return execute(**given)

    w.cfn.execute_change_set = executing
    bus, refused = w.deploy()
    assert (bus.outcome, refused.outcome) == ("updated", "failed")
    assert refused.problem.code == ErrorCode.STACK_PROTECTED
    assert "this stack was not changed: Queue" in refused.problem.what
    assert "nothing was changed" not in str(refused.problem)
    assert (w.cfn.status(rules), w.cfn.names().count("execute_change_set")) == (
        "CREATE_COMPLETE",
        1,
    )
    assert len(w.listener.asked) == 1
    assert [one for one in w.cfn.change_sets.values() if one["execution"] == "AVAILABLE"] == []


def test_a_loop_over_resources_does_not_stop_the_plan_of_a_stack_that_waits(world, monkeypatch):
    monkeypatch.setitem(
        TEMPLATE["Resources"], "Fn::ForEach::Topics", ["Name", ["a"], {"${Name}": {"Type": "x"}}]
    )
    w = world(
        environment(stack("bus"), stack("rules", parameters={"Bus": OutputReference("bus", "Arn")}))
    )
    _, rules = w.plan()
    assert (rules.problem, rules.waits_for) == (None, ("bus",))
