"""The live table, and a question that comes while it stands."""

import io
import threading
from types import SimpleNamespace

import pytest
from refs import stack_ref
from rich.console import Console

from eventstacks.cli import output, stack_view


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_no_table_is_drawn_over_a_question(monkeypatch, answer, running):
    drawn = []

    def ask(*_, **__):
        if running:  # another thread's stack begins meanwhile
            begins = threading.Thread(
                target=reporter.started, args=(stack_ref("dev", "bus", "bus", "us-east-1"), 3)
            )
            begins.start()
            begins.join()
        drawn.append(reporter._progress.live.is_started)
        return answer

    monkeypatch.setattr(
        output, "console", lambda **_: Console(file=io.StringIO(), force_terminal=True)
    )
    monkeypatch.setattr(output, "confirm", ask)
    with stack_view.Reporter(
        SimpleNamespace(name="dev", protect=False), 1, yes=False, as_json=False
    ) as reporter:
        assert reporter.confirm([]) is answer
        assert drawn == [False]
        assert reporter._progress.live.is_started
