"""`make taskcat`: what it must not pass, and what it does on an account."""

import contextlib
import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import deliveries
import launcher
import pytest
import runner
import yaml
from click.testing import CliRunner

from eventstacks import rendering
from eventstacks.aws import Aws
from eventstacks.errors import ErrorCode

ROOT = Path(__file__).parents[2]
needs_taskcat = pytest.mark.skipif(
    not launcher.TASKCAT.joinpath("taskcat").exists(),
    reason="taskcat is not installed here: `make taskcat` installs it",
)


@needs_taskcat
def test_every_fault_is_named_and_the_exit_code_is_1(tmp_path, capfd):
    project = shutil.copytree(ROOT / "tests/fixtures/taskcat", tmp_path / "project")
    result = CliRunner().invoke(
        launcher.taskcat, ["--", "--project-root", str(project)], standalone_mode=False
    )
    said, problems = capfd.readouterr()
    assert result.return_value == 1, result.output
    no_bus = "Rule (AWS::Events::Rule) CREATE_FAILED: Event bus no-such-bus does not exist."
    nothing = "EventLogGroupName: no event arrived in /aws/events/tCaT-faults-not-delivered-"
    expected = [
        f"fails-in-one-region, eu-central-1: {no_bus}",
        f"not-delivered, eu-central-1: {nothing}",
        f"not-delivered, us-east-1: {nothing}",
        "refused, us-east-1: CREATE_FAILED: ",
        "eu-central-1: left behind: sqs QueueUrls http",
        "us-east-1: left behind: sqs QueueUrls http",
    ]
    for line in expected:
        assert line in problems
    assert (
        problems.count("the dead-letter message says NO_PERMISSIONS: the policy of arn:aws:logs:")
        == 2
    )
    assert problems.count("kept-") == 2, (
        "the buckets and logs of the run, and taskcat's own bucket, are deleted"
    )
    assert problems.count("left behind") == 2
    assert "fails-in-one-region, us-east-1" not in problems
    assert "fails-in-one-region        us-east-1        CREATE_COMPLETE" in said
    report = (project / "taskcat_outputs/index.html").read_text()
    assert report.count("class=test-green") == 5
    assert report.count("class=test-red") == 2


@needs_taskcat
def test_an_unknown_test_is_a_failure(tmp_path, capfd):
    project = shutil.copytree(ROOT / "tests/fixtures/taskcat", tmp_path / "project")
    arguments = ["--stack", "misspelt", "--", "--project-root", str(project)]
    assert CliRunner().invoke(launcher.taskcat, arguments, standalone_mode=False).return_value == 1
    assert "(tests: misspelt, Regions: ALL)" in capfd.readouterr().err


def test_a_template_that_only_aws_can_create_is_reported_as_skipped(tmp_path, capsys):
    (tmp_path / "new.yaml").write_text("Resources: {Bus: {Type: AWS::EventsV2::EventBus}}")
    (tmp_path / "old.yaml").write_text("Resources: {Bus: {Type: AWS::Events::EventBus}}")
    tests = {name: SimpleNamespace(template=f"{name}.yaml") for name in ("new", "old")}
    for chosen, lines in (("ALL", 1), ("new", 1), ("old", 0)):
        left = dict(tests)
        runner.skip_unknown(left, chosen, tmp_path)
        assert list(left) == ["old"]
        assert capsys.readouterr().out.count("new                        skipped: ") == lines


def event(name, status, reason="", kind="AWS::SQS::Queue"):
    return SimpleNamespace(logical_id=name, status=status, status_reason=reason, type=kind)


def test_the_first_failure_is_shown_without_its_consequences():
    newest_first = [
        event(
            "stack",
            "CREATE_FAILED",
            "The following resource(s) failed to create: [A, B]",
            "AWS::CloudFormation::Stack",
        ),
        event("C", "CREATE_FAILED", "Resource creation cancelled"),
        event("B", "CREATE_FAILED", "second"),
        event("A", "CREATE_FAILED", "first"),
        event("A", "CREATE_IN_PROGRESS"),
    ]
    assert runner.reasons(newest_first) == [
        "A (AWS::SQS::Queue) CREATE_FAILED: first",
        "B (AWS::SQS::Queue) CREATE_FAILED: second",
    ]


def test_a_stack_that_cannot_be_deleted_is_reported_with_its_resource():
    stack = SimpleNamespace(
        status="DELETE_FAILED",
        status_reason="",
        launch_exception=False,
        events=lambda refresh: [
            event("Bucket", "DELETE_FAILED", "not empty"),
            event("Bucket", "CREATE_FAILED", "old"),
        ],
    )
    assert runner.deletion_problems(stack) == ["Bucket (AWS::SQS::Queue) DELETE_FAILED: not empty"]


def test_every_template_has_a_test_in_four_regions_and_parameters_that_taskcat_passes_on():
    config, templates = yaml.safe_load(Path(".taskcat.yml").read_text()), rendering.render_all()
    tests = config["tests"].values()
    assert {Path(one["template"]).stem for one in tests} == set(templates)
    assert all(len(set(one.get("regions", config["project"]["regions"]))) >= 4 for one in tests)
    for one in tests:
        declared = templates[Path(one["template"]).stem].document["Parameters"]
        given = one.get("parameters", {})
        assert all(isinstance(declared[name].get("Default", ""), str) for name in given), (
            "taskcat would drop it"
        )
        missing = [
            name
            for name, parameter in declared.items()
            if "Default" not in parameter and name not in given
        ]
        assert not missing


# The embedded AWS has no buses of the new kind:
# tests/templates/test_event_bus_v2.py checks the template.
NOT_LOCAL = {"event-bus-v2"}
SENDERS = {"AWS::Events::Rule", "AWS::Pipes::Pipe", "AWS::Scheduler::Schedule"}


def test_every_template_with_rules_has_a_probe_or_a_sample():
    for name, template in rendering.render_all().items():
        types = {one["Type"] for one in template.document["Resources"].values()}
        if types & SENDERS and name not in NOT_LOCAL:
            assert name in deliveries.PROBES or deliveries.sample(name), (
                f"{name} has no sample that it takes"
            )


@pytest.mark.parametrize("arrives", [True, False])
def test_a_probe_with_a_check_of_its_own_decides_about_delivery(monkeypatch, arrives):
    probe = lambda *_arguments: contextlib.nullcontext(lambda: arrives)  # noqa: E731
    monkeypatch.setitem(deliveries.PROBES, "table-outbox", probe)
    monkeypatch.setattr(deliveries, "PATIENCE", 0.2)
    said, problems = deliveries.check("us-east-1", {"TemplateName": "table-outbox"}, {})
    assert said == ("delivered to its bus" if arrives else "FAILED")
    assert problems == ([] if arrives else ["probe: no event arrived in its bus within 0 s"])


def test_a_stack_without_a_probe_gets_its_sample_event(monkeypatch, tmp_path):
    samples = {
        "a-refused": {"event": {"source": "shop", "detail": {"n": 1}}, "expect": {}},
        "b-parametrized": {
            "event": {"source": "shop", "detail": {"n": 2}},
            "expect": {"R": ["T"]},
            "parameters": {"P": "x"},
        },
        "c-of-aws": {"event": {"source": "aws.s3", "detail": {"n": 3}}, "expect": {"R": ["T"]}},
        "d-taken": {"event": {"source": "shop", "detail": {"n": 4}}, "expect": {"R": ["T"]}},
    }
    (tmp_path / "mine").mkdir()
    for name, content in samples.items():
        (tmp_path / "mine" / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr(deliveries, "EVENTS", tmp_path)
    assert deliveries.sample("mine")["detail"] == {"n": 4}
    assert deliveries.sample("another") is None
    assert deliveries.check("us-east-1", {"TemplateName": "another"}, {}) == ("nothing sent", [])
    assert deliveries.check("us-east-1", {"TemplateName": "mine"}, {})[1] == [
        "no output names a log group in which to look for the event"
    ]


@pytest.fixture
def account_run(monkeypatch, tmp_path):
    """run(account, *arguments): the command for ENV=dev with these credentials.

    It returns the result and taskcat's arguments.
    """
    program, said = tmp_path / "python", tmp_path / "said"
    program.write_text(f'#!/bin/sh\necho "$@" >{said}\n')
    program.chmod(0o755)
    monkeypatch.setattr(launcher, "TASKCAT", tmp_path)

    def run(account, *arguments):
        monkeypatch.setattr(Aws, "account", property(lambda _self: account))
        result = CliRunner().invoke(
            launcher.taskcat, ["--env", "dev", *arguments], standalone_mode=False
        )
        return result, said.read_text().split() if said.exists() else None

    return run


def test_stock_taskcat_runs_on_an_account(account_run):
    result, arguments = account_run(
        "111122223333", "--yes", "--stack", "custom-event-bus", "--", "--no-delete"
    )
    assert result.return_value == 0, result.output
    assert arguments[0].endswith("tests/taskcat/stock.py")
    assert (
        " ".join(arguments[1:])
        == "test run --lint-disable --minimal-output --test-names custom-event-bus --no-delete"
    )


@needs_taskcat
def test_stock_taskcat_reads_its_settings_on_every_python(tmp_path):
    project = shutil.copytree(ROOT / "tests/fixtures/taskcat", tmp_path / "project")
    program = [ROOT / launcher.TASKCAT / "python", ROOT / "tests/taskcat/stock.py", "lint"]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=project)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "Linting passed for file" in done.stdout + done.stderr


def test_nothing_runs_on_another_account(account_run):
    result, arguments = account_run("999999999999", "--yes")
    assert result.exception.code == ErrorCode.WRONG_ACCOUNT
    assert arguments is None


def test_nothing_runs_without_confirmation(account_run):
    result, arguments = account_run("111122223333")
    assert result.exception
    assert arguments is None
