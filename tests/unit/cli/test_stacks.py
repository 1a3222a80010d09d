"""The verbs for stacks, on results that are made up: what is printed, and the exit code."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from refs import stack_ref

from eventstacks.__main__ import cli
from eventstacks.cli import stack_view, stacks
from eventstacks.cloudformation import delete, deploy, inspect, recover
from eventstacks.cloudformation.change_set import ChangeSet
from eventstacks.cloudformation.run import Drift, Plan, Preview, Result, Status, Step
from eventstacks.errors import ErrorCode, ToolError

BUS = stack_ref("dev", "bus", "dev-bus", "us-east-1")
OBJECTS = stack_ref("dev", "objects", "dev-objects", "eu-west-1")
CHANGED = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def aws(monkeypatch):
    """Connect to nothing; the environment is not protected."""
    environment = SimpleNamespace(name="dev", protect=False, endpoint=None, prefix="")
    aws = SimpleNamespace(environment=environment)
    monkeypatch.setattr(stacks, "connect", lambda *_: (aws, [BUS, OBJECTS]))
    return aws


def run(*arguments, exit_code=0):
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if done.exception:
        raise done.exception
    assert (done.return_value or 0) == exit_code
    return done


def plans(*given):
    return lambda *_, **__: list(given)


CHANGE = Plan(BUS, ChangeSet("arn", "id", "CREATE"))
SAME = Plan(OBJECTS)
FAILED = Plan(BUS, problem=ToolError("denied", where=str(BUS), advice="Ask somebody."))


@pytest.mark.parametrize(
    ("found", "exit_code"), [((SAME,), 0), ((SAME, CHANGE), 3), ((CHANGE, FAILED), 1)]
)
@pytest.mark.parametrize("form", [[], ["--json"], ["--markdown"]])
def test_the_exit_code_of_a_plan(monkeypatch, found, exit_code, form):
    monkeypatch.setattr(deploy, "plan", plans(*found))
    done = run("plan", *form, exit_code=exit_code)
    if form == ["--json"]:
        assert len(json.loads(done.stdout)) == len(found)
    assert ("<!-- plan of local -->" in done.stdout) == (form == ["--markdown"])
    assert ("Error: denied" in done.stderr) == (FAILED in found)


def test_a_deletion_asks_and_no_changes_nothing(monkeypatch):
    survey = Preview(
        BUS, {"StackStatus": "CREATE_COMPLETE"}, deleted={"Bus": "AWS::Events::EventBus"}
    )
    monkeypatch.setattr(delete, "preview", plans(survey, Preview(OBJECTS)))

    def no(question, *_, **__):
        raise ToolError(question, code=ErrorCode.DECLINED)

    monkeypatch.setattr(stack_view.output, "confirm", no)
    with pytest.raises(ToolError, match="Delete 1 stack of local") as caught:
        run("delete")
    assert caught.value.code == ErrorCode.DECLINED


def test_a_deletion_is_summarized(monkeypatch):
    monkeypatch.setattr(delete, "preview", plans(Preview(BUS, {"StackStatus": "CREATE_COMPLETE"})))
    monkeypatch.setattr(
        delete, "delete", plans(Result(BUS, "deleted"), Result(OBJECTS, "unchanged"))
    )
    assert "dev-bus\tus-east-1\tdeleted" in run("delete", "--yes").stdout
    assert len(json.loads(run("delete", "--yes", "--json").stdout)) == 2


STATUSES = [
    Status(BUS, "CREATE_COMPLETE", CHANGED),
    Status(
        OBJECTS, "UPDATE_ROLLBACK_COMPLETE", CHANGED, "IN_SYNC", protected=True, advice="Do it."
    ),
]


def test_the_status_is_a_table_with_heads_zones_and_advice(monkeypatch):
    monkeypatch.setattr(inspect, "status", plans(*STATUSES))
    assert run("status").stdout.splitlines() == [
        "STACK NAME\tREGION\tSTATUS\tCHANGED\tDRIFT\tPROTECTED",
        "dev-bus\tus-east-1\tCREATE_COMPLETE\t2026-05-01 12:30:00Z\t\t",
        "dev-objects\teu-west-1\tUPDATE_ROLLBACK_COMPLETE\t2026-05-01 12:30:00Z\tIN_SYNC\tyes",
        "    Do it.",
    ]
    (first, _) = json.loads(run("status", "--json").stdout)
    assert (first["stack_name"], first["changed"]) == ("dev-bus", "2026-05-01T12:30:00Z")


def test_outputs_of_one_stack_are_shown_though_another_is_not_deployed(monkeypatch):
    found = [
        Status(BUS, "CREATE_COMPLETE", outputs={"EventBusName": "it's"}),
        Status(OBJECTS, "NOT_DEPLOYED"),
    ]
    monkeypatch.setattr(inspect, "status", plans(*found))
    done = run("outputs", exit_code=1)
    assert done.stdout.splitlines()[:2] == [str(BUS), f"  {'EventBusName':<28} it's"]
    assert str(OBJECTS) in done.stderr
    (first, _) = json.loads(run("outputs", "--json", exit_code=1).stdout)
    assert first["outputs"] == {"EventBusName": "it's"}


def test_drift_is_exit_code_3(monkeypatch):
    queue = {
        "LogicalResourceId": "Queue",
        "ResourceType": "AWS::SQS::Queue",
        "StackResourceDriftStatus": "MODIFIED",
        "PropertyDifferences": [
            {"PropertyPath": "/DelaySeconds", "ExpectedValue": "0", "ActualValue": "9"}
        ],
    }
    monkeypatch.setattr(inspect, "drift", plans(Drift(BUS, "DRIFTED", (queue,))))
    done = run("drift", exit_code=3)
    assert done.stdout.splitlines() == [
        "dev-bus in us-east-1: DRIFTED",
        "  Queue  AWS::SQS::Queue  MODIFIED",
        "      DelaySeconds: 0 → 9",
    ]
    problem = ToolError("denied")
    monkeypatch.setattr(inspect, "drift", plans(Drift(BUS, "UNKNOWN", problem=problem)))
    run("drift", "--json", exit_code=1)


def test_nothing_in_progress_is_no_error(monkeypatch):
    monkeypatch.setattr(recover, "follow", plans())
    assert run("follow").stderr == "No operation is in progress.\n"


@pytest.mark.parametrize(
    "options",
    [("--skip", "A", "--retain", "B"), ("--retain", "B", "--force"), ("--skip", "A", "--force")],
)
def test_options_of_recovery_exclude_each_other(monkeypatch, options):
    monkeypatch.setattr(stacks, "connect", lambda *_: pytest.fail("it asks AWS"))
    with pytest.raises(click.UsageError, match="exclude each other"):
        run("recover", *options)


def test_recovery_asks_only_if_there_is_something_to_do(monkeypatch):
    monkeypatch.setattr(recover, "propose", plans(Step(BUS)))
    monkeypatch.setattr(recover, "recover", plans())
    assert run("recover").stderr == "Nothing to recover. See: make status ENV=local\n"
