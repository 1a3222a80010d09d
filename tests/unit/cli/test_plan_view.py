"""What people read: plans and progress."""

import io
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import click
import pytest
from refs import stack_ref
from rich.console import Console

from eventstacks.cli import _live, _plan_view, _stacks
from eventstacks.cloudformation.change_set import ChangeSet
from eventstacks.cloudformation.deployment import Plan
from eventstacks.cloudformation.events import Event
from eventstacks.cloudformation.failure import DeploymentError
from eventstacks.cloudformation.outputs import NoStackError
from eventstacks.cloudformation.results import Interrupted, Progress, Result


def plan(*changes, region="us-east-1", kind="UPDATE", **more):
    place = stack_ref("test", "bus", "t-bus", region)
    return Plan(
        place,
        ChangeSet(
            "arn",
            "stack",
            kind,
            made_stack=False,
            changes=changes,
            parameters=more.pop("parameters", {}),
        ),
        **more,
    )


def text(*plans):
    return [line.plain for line in _plan_view.show(plans)]


def change(action="Modify", *details, **more):
    return {
        "Action": action,
        "LogicalResourceId": "Queue",
        "ResourceType": "AWS::SQS::Queue",
        "Details": list(details),
        **more,
    }


def detail(before, after, **more):
    return {
        "Target": {
            "Attribute": "Properties",
            "Name": "DelaySeconds",
            "Path": "/Properties/DelaySeconds",
            "BeforeValue": before,
            "AfterValue": after,
            **more,
        }
    }


def test_what_systems_manager_holds_is_no_change_as_long_as_it_is_the_same():
    held = {"ParameterKey": "Ami", "ParameterValue": "/aws/ami", "ResolvedValue": "ami-1"}
    assert "Ami" not in " ".join(
        text(plan(parameters={"Ami": "ami-1"}, stack={"Parameters": [held]}))
    )
    assert "parameter Ami: ami-1 → ami-2" in " ".join(
        text(plan(parameters={"Ami": "ami-2"}, stack={"Parameters": [held]}))
    )


def test_a_problem_of_another_stack_names_it():
    giver = stack_ref("test", "orders", "t-orders", "eu-west-1")
    lines = text(replace(plan(), problem=NoStackError("this stack is not deployed", giver)))
    assert lines[1] == "  ! t-orders in eu-west-1: this stack is not deployed"
    own = text(replace(plan(), problem=NoStackError("this stack is not deployed", plan().ref)))
    assert own[1] == "  ! this stack is not deployed"


def test_a_property_before_and_after():
    lines = text(plan(change("Modify", detail("0", "5"))))
    assert lines == [
        "t-bus in us-east-1: update",
        "  ~ change   Queue  AWS::SQS::Queue",
        "      DelaySeconds: 0 → 5",
        "1 of 1 stacks to change.",
    ]


@pytest.mark.parametrize(
    "action", ["Add", "Modify", "Remove", "Import", "Dynamic", "SyncWithActual", "SomethingNew"]
)
def test_every_action_can_be_shown(action):
    assert any("Queue" in line for line in text(plan(change(action))))


def test_a_replacement_stands_out_and_says_what_happens_to_the_old_one():
    lines = list(
        _plan_view.show(
            [
                plan(
                    change(
                        "Modify",
                        detail("a", "b", RequiresRecreation="Always"),
                        Replacement="True",
                        PolicyAction="ReplaceAndDelete",
                        PhysicalResourceId="q-1",
                    )
                )
            ]
        )
    )
    assert lines[1].plain == "  ! REPLACE  Queue  AWS::SQS::Queue  q-1"
    assert "red" in str(lines[1].spans[0].style)
    assert lines[2].plain == "      the old one is deleted"
    assert lines[3].plain.endswith("a → b  replaces it")


def test_of_a_document_only_what_differs_is_shown():
    lines = text(
        plan(
            change(
                "Modify",
                detail(
                    '{"Statement": [{"Effect": "Allow", "Action": "x"}]}',
                    '{"Statement": [{"Effect": "Deny", "Action": "x"}]}',
                ),
            )
        )
    )
    assert lines[2] == "      DelaySeconds.Statement.0.Effect: Allow → Deny"


def test_drift_is_shown_where_it_is_known():
    lines = text(
        plan(
            change(
                "Modify",
                detail("1", "1", Drift={"PreviousValue": "1", "ActualValue": "9"}),
                ResourceDriftStatus="MODIFIED",
            )
        )
    )
    assert "      drifted: changed outside of CloudFormation" in lines
    assert any("is now 9" in line for line in lines)


def test_without_values_the_property_and_its_cause_are_named():
    lines = text(
        plan(
            change(
                "Modify",
                {
                    "Target": {"Attribute": "Properties", "Name": "DelaySeconds"},
                    "CausingEntity": "Delay",
                },
            )
        )
    )
    assert lines[2] == "      DelaySeconds (from Delay)"


def test_regions_with_the_same_changes_share_lines_and_others_do_not():
    same = [plan(change(), region=region) for region in ("us-east-1", "eu-west-1")]
    assert text(*same)[0] == "t-bus in us-east-1, eu-west-1: update"
    other = plan(change("Remove"), region="eu-west-1")
    assert sum("t-bus in" in line for line in text(same[0], other)) == 2


def test_that_there_is_nothing_to_do_is_said_in_words():
    place = stack_ref("test", "bus", "t-bus", "us-east-1")
    same = Plan(place, ChangeSet("arn", "stack", "UPDATE", made_stack=False, unchanged=True))
    assert text(same) == ["t-bus in us-east-1: no changes", "No changes."]


def test_secrets_are_not_shown():
    held = {
        "StackStatus": "CREATE_COMPLETE",
        "Parameters": [
            {"ParameterKey": "Secret", "ParameterValue": "****"},
            {"ParameterKey": "Size", "ParameterValue": "1"},
        ],
    }
    lines = text(plan(change(), stack=held, parameters={"Secret": "s3cret", "Size": "2"}))
    assert "    parameter Size: 1 → 2" in lines
    assert not any("s3cret" in line for line in lines)


def test_problems_and_waiting_are_told():
    place = stack_ref("test", "bus", "t-bus", "us-east-1")
    assert "  ! refused" in text(Plan(place, problem=DeploymentError("refused")))
    lines = text(Plan(place, waits_for=("rules",), resources={"Queue": "AWS::SQS::Queue"}))
    assert lines[0] == "t-bus in us-east-1: created after rules, whose outputs it takes"
    assert lines[1] == "  + add      Queue  AWS::SQS::Queue"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_on_a_terminal_is_a_row_and_in_a_pipe_a_line(monkeypatch, terminal):
    out = io.StringIO()
    monkeypatch.setattr(
        _stacks,
        "console",
        lambda **_: Console(file=out, force_terminal=terminal, width=100, highlight=False),
    )
    place = stack_ref("test", "bus", "t-bus", "us-east-1")
    event = Event(
        "1",
        datetime(2026, 1, 1, tzinfo=UTC),
        "arn",
        "Queue",
        "q",
        "AWS::SQS::Queue",
        "CREATE_IN_PROGRESS",
    )
    with _live.Reporter(
        SimpleNamespace(name="test", protect=False), 1, yes=True, as_json=False
    ) as reporter:
        reporter.started(place, 4)
        reporter.progressed(Progress(place, event, 1, 4, ("Queue",)))
        rendered = Console(width=100, file=io.StringIO())
        rendered.print(reporter._table())
        row = rendered.file.getvalue().splitlines()[0]
        reporter.finished(Result(place, "created", 3.21))
    assert [word for word in ("t-bus", "1/4", "Queue") if word in row] == ["t-bus", "1/4", "Queue"]
    assert ("Queue CREATE_IN_PROGRESS" in out.getvalue()) is not terminal
    assert "t-bus created (3.2 s)" in out.getvalue().replace("\x1b[32m", "").replace("\x1b[0m", "")


def test_the_summary_gives_the_exit_code_and_the_reason_last(capsys):
    place = stack_ref("test", "bus", "t-bus", "us-east-1")
    good, bad = (
        Result(place, "created", outputs={"Arn": "x"}),
        Result(
            place,
            "failed",
            problem=DeploymentError(
                "no", where="t-bus in us-east-1", advice="make recover ENV=test"
            ),
        ),
    )
    assert _stacks.summarize([good], as_json=False) == 0
    assert "Arn=x" in capsys.readouterr().out
    assert _stacks.summarize([bad, good], as_json=True) == 1
    assert capsys.readouterr().err.splitlines() == [
        "Error: no",
        "  t-bus in us-east-1",
        "  Run: make recover ENV=test",
    ]


def test_that_nothing_had_to_change_is_said_in_words(capsys):
    place = stack_ref("test", "bus", "t-bus", "us-east-1")
    same, new = Result(place, "unchanged"), Result(place, "created")
    assert _stacks.summarize([same, same], as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "No changes."
    _stacks.summarize([same], as_json=True)
    assert capsys.readouterr().err == "No changes.\n"
    _stacks.summarize([same, new], as_json=False)
    assert "No changes." not in capsys.readouterr().out


@pytest.mark.parametrize("width", [76, 100])
def test_on_a_narrow_terminal_only_the_outputs_of_the_summary_give_way(monkeypatch, width):
    out = io.StringIO()
    monkeypatch.setattr(
        _stacks, "console", lambda **_: Console(file=out, force_terminal=True, width=width)
    )
    place = stack_ref("test", "bus", "t-bus-with-a-long-name-of-its-own", "eu-central-1")
    _stacks.summarize(
        [Result(place, "unchanged", outputs={"Arn": "arn:aws:" + "x" * 200})], as_json=False
    )
    (row,) = (line for line in out.getvalue().splitlines() if "t-bus" in line)
    assert [
        one for one in (place.stack_name, place.region, "unchanged", "…") if one not in row
    ] == []


def test_after_ctrl_c_it_is_said_what_goes_on_and_how_to_end_it(capsys):
    place = stack_ref("test", "bus", "t-bus", "us-east-1")
    for error, words in (
        (
            Interrupted([place]),
            ["make follow ENV=test STACK=bus", "make recover ENV=test STACK=bus", "--cancel"],
        ),
        (Interrupted([]), ["Nothing goes on in AWS"]),
        (KeyboardInterrupt(), ["Interrupted."]),
    ):
        with (
            pytest.raises(click.exceptions.Exit) as ended,
            _live.Reporter(SimpleNamespace(name="test"), 1, yes=True, as_json=False),
        ):
            raise error
        assert ended.value.exit_code == 130
        said = capsys.readouterr().err
        assert [one for one in words if one not in said] == []
        assert ("Nothing goes on" in said) == (words == ["Nothing goes on in AWS"])


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_plain_lines_when_no_colour_is_wanted(monkeypatch, variable, value):
    for name in ("NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal then
    monkeypatch.setenv("TERM", "xterm")
    assert _stacks.console().is_terminal
    monkeypatch.setenv(variable, value)
    assert not _stacks.console().is_terminal
