"""Which differences between AWS and the environment a plan of a stack set reports."""

import pytest
from scripted_aws import stack
from scripted_cloudformation import refusal
from stack_sets import REGIONS, TEMPLATE, UNIT, by_unit

from eventstacks.environment import Source
from eventstacks.errors import ErrorCode


@pytest.mark.parametrize(
    ("given", "wanted", "changes"),
    [(False, False, False), (None, False, False), (False, True, True), (True, False, True)],
)
def test_auto_deployment_is_compared_with_the_environment(sets, given, wanted, changes):
    held = {"AutoDeployment": None if given is None else {"Enabled": given}}
    w = by_unit(sets, held=held, auto_deployment=wanted)
    assert [plan.settings for plan in w.plan()] == [
        ("stack set: auto deployment",) if changes else ()
    ]
    w.deploy()
    retention = {"RetainStacksOnAccountRemoval": False} if wanted else {}
    assert [(name, call["AutoDeployment"]) for name, call in w.calls] == [
        ("update_stack_set", {"Enabled": wanted, **retention})
    ] * changes


def test_stacks_missing_in_a_region_are_planned(sets):
    w = by_unit(sets)
    held = w.client.list_stack_instances()["Summaries"]
    only = [one for one in held if one["Region"] == "us-east-1"]
    w.answer("list_stack_instances", {"Summaries": only})
    assert [plan.settings for plan in w.plan()] == [(f"stacks of {UNIT} in eu-west-1",)]


def test_an_organizational_unit_without_accounts_is_no_change(sets):
    w = by_unit(sets, there=())
    assert [plan.changes for plan in w.plan()] == [False]


@pytest.mark.parametrize(
    ("values", "is_refused"),
    [
        ({"Size": {"us-east-1": "1", "eu-west-1": "2"}}, True),
        ({"Size": {"us-east-1": "1", "eu-west-1": "1"}}, False),
        ({"Size": Source("Env", "SIZE")}, True),
    ],
)
def test_a_parameter_must_be_literal_and_the_same_in_all_regions(sets, values, is_refused):
    w = sets(stack(regions=REGIONS, parameters=values))
    (plan,) = w.plan()
    assert (plan.problem is not None) == is_refused
    assert not is_refused or plan.problem.code == ErrorCode.UNSUPPORTED


def test_an_aws_error_is_the_problem_of_the_plan(sets):
    w = sets()

    def refuse(**_):
        raise refusal("InvalidAction", "no stack sets here")

    w.patch.setattr(w.client, "describe_stack_set", refuse)
    assert [plan.problem.code for plan in w.plan()] == [ErrorCode.AWS_ERROR]


def test_outdated_stacks_are_updated(sets):
    w = by_unit(sets)
    here = w.client.list_stack_instances()["Summaries"]
    w.answer("list_stack_instances", {"Summaries": [here[0] | {"Status": "OUTDATED"}, *here[1:]]})
    assert [plan.settings for plan in w.plan()] == [("stack set: 1 stacks not current",)]
    w.deploy()
    assert [name for name, _ in w.calls] == ["update_stack_set"]


def test_a_masked_noecho_value_is_no_change(sets, monkeypatch):
    w = sets(stack(regions=REGIONS, parameters={"Secret": "s3cret", "Size": "1"}))
    w.deploy()
    held = w.client.describe_stack_set(StackSetName="t-bus")
    given = [
        {"ParameterKey": "Secret", "ParameterValue": "****"},
        {"ParameterKey": "Size", "ParameterValue": "1"},
    ]
    held["StackSet"] |= {"Parameters": given}
    monkeypatch.setattr(w.client, "describe_stack_set", lambda **_: held)
    assert [plan.changes for plan in w.plan()] == [False]
    given[1]["ParameterValue"] = "2"
    assert [plan.settings for plan in w.plan()] == [("stack set: parameters",)]


@pytest.mark.parametrize("told", [True, False])
def test_a_default_value_is_no_change(sets, told):
    given = [
        {"ParameterKey": "Days", "ParameterValue": "7"},
        {"ParameterKey": "On", "ParameterValue": "true"},
    ]
    w = by_unit(sets, held={"Parameters": given if told else []})
    w.templates["queue"].document["Parameters"] = {"Days": {"Default": 7}, "On": {"Default": True}}
    assert [plan.changes for plan in w.plan()] == [False]
    w.templates["queue"].document["Parameters"]["Days"]["Default"] = 8
    assert [plan.changes for plan in w.plan()] == [told]
    given[0]["ParameterValue"] = "9"
    assert [plan.changes for plan in w.plan()] == [told]


@pytest.mark.parametrize("mangled", [True, False])
def test_characters_that_aws_replaces_by_question_marks_are_no_change(sets, mangled):
    text = TEMPLATE + "# Grüße é 請\n"
    w = by_unit(sets, held={"TemplateBody": text if not mangled else TEMPLATE + "# Gr??e ? ?\n"})
    w.write(text)
    assert [plan.changes for plan in w.plan()] == [False]
    w.write(text.replace("請", "x"))
    assert [plan.settings for plan in w.plan()] == [("stack set: template",)]


def test_a_changed_tag_updates_the_stack_set(sets):
    sets().deploy()
    w = sets(stack(regions=REGIONS, tags={"team": "stock"}))
    assert [plan.settings for plan in w.plan()] == [("stack set: tags",)]
