"""Progress, prompts, interruptions and the summary of an operation."""

import io
import threading
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from refs import stack_ref
from rich.console import Console

from eventstacks.cli import output, stack_view
from eventstacks.cloudformation.failure import DeploymentError
from eventstacks.cloudformation.operation import Event
from eventstacks.cloudformation.run import Interrupted, Result
from eventstacks.errors import ToolError

STACK = stack_ref("test", "bus", "t-bus", "us-east-1")


def event(name="t-bus", status="CREATE_IN_PROGRESS"):
    at, is_root = datetime(2026, 1, 1, tzinfo=UTC), name == "t-bus"
    return Event(at, name, "id", "AWS::SQS::Queue", status, is_root=is_root)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_row_on_a_terminal_and_a_line_in_a_pipe(monkeypatch, terminal):
    out = io.StringIO()
    monkeypatch.setattr(
        output,
        "console",
        lambda **_: Console(file=out, force_terminal=terminal, width=100, highlight=False),
    )
    reporter = stack_view.Reporter(
        SimpleNamespace(name="test", protect=False), 1, yes=True, as_json=False
    )
    with reporter.progress:
        for one in (event(), event("Topic", "CREATE_COMPLETE"), event("Queue")):
            reporter.progressed(STACK, 4, one)
        rendered = Console(width=100, file=io.StringIO())
        rendered.print(reporter.progress.get_renderable())
        row = rendered.file.getvalue().splitlines()[-1]
        reporter.finished(Result(STACK, "created", 3.21))
    assert [word for word in ("t-bus", "1/4", "Queue") if word in row] == ["t-bus", "1/4", "Queue"]
    assert ("Queue CREATE_IN_PROGRESS" in out.getvalue()) is not terminal


def test_the_reason_of_a_failure_cannot_look_like_another_line(capsys):
    reporter = stack_view.Reporter(
        SimpleNamespace(name="test", protect=False), 1, yes=True, as_json=False
    )
    failed = replace(event("Queue", "CREATE_FAILED"), reason="no\n12:00:00Z all is well\x1b[2K")
    with reporter.progress:
        reporter.progressed(STACK, 1, failed)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(r"CREATE_FAILED  no\n12:00:00Z all is well\x1b[2K")


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_no_progress_table_is_drawn_over_a_prompt(monkeypatch, answer, running):
    drawn = []

    def ask(*_, **__):
        if running:  # another thread's stack begins meanwhile
            begins = threading.Thread(target=reporter.progressed, args=(STACK, 4, event()))
            begins.start()
            begins.join()
        drawn.append(reporter.progress.live.is_started)
        if not answer:
            raise ToolError("not confirmed")

    monkeypatch.setattr(
        output, "console", lambda **_: Console(file=io.StringIO(), force_terminal=True)
    )
    monkeypatch.setattr(output, "confirm", ask)
    reporter = stack_view.Reporter(
        SimpleNamespace(name="dev", protect=False), 1, yes=False, as_json=False
    )
    with reporter.progress:
        with nullcontext() if answer else pytest.raises(ToolError):
            reporter.confirm([])
        assert drawn == [False]
        assert reporter.progress.live.is_started


def test_the_summary_gives_the_exit_code_and_the_reason_last(capsys):
    good, bad = (
        Result(STACK, "created", outputs={"Arn": "x"}),
        Result(
            STACK,
            "failed",
            problem=DeploymentError(
                "no", where="t-bus in us-east-1", advice="make recover ENV=test"
            ),
        ),
    )
    assert stack_view.summarize([good], as_json=False) == 0
    assert "created" in capsys.readouterr().out
    assert stack_view.summarize([bad, good], as_json=True) == 1
    assert capsys.readouterr().err.splitlines() == [
        "Error: no",
        "  t-bus in us-east-1",
        "  Run: make recover ENV=test",
    ]


def test_a_summary_without_changes_says_so(capsys):
    same, new = Result(STACK, "unchanged"), Result(STACK, "created")
    assert stack_view.summarize([same, same], as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "No changes."
    stack_view.summarize([same], as_json=True)
    assert capsys.readouterr().err == "No changes.\n"
    stack_view.summarize([same, new], as_json=False)
    assert "No changes." not in capsys.readouterr().out


def test_a_summary_names_the_command_for_outputs(capsys):
    stack_view.summarize([Result(STACK, "created", outputs={"Arn": "x"})], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["t-bus\tus-east-1\tcreated\t0.0", "Outputs: make outputs ENV=test"]


def test_an_interruption_lists_what_continues_and_how_to_cancel_it():
    for error, words in (
        (
            Interrupted([STACK]),
            [
                "t-bus in us-east-1 continues",
                STACK.command("follow"),
                "cancel-update-stack --region us-east-1 --stack-name t-bus",
            ],
        ),
        (Interrupted([]), ["No operation continues in AWS"]),
    ):
        with (
            pytest.raises(KeyboardInterrupt) as caught,
            stack_view.Reporter(SimpleNamespace(name="t"), 1, yes=True, as_json=False).progress,
        ):
            raise error
        assert [one for one in words if one not in str(caught.value)] == []
