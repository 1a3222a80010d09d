"""The contract with MiniStack: a name that is used exists, or the start names it."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

os.environ.setdefault("BIND_HOST", "127.0.0.1")  # MiniStack reads it when it is imported

from eventstacks.local import ministack

CHECKOUT = Path(__file__).parents[3]
ROOM = CHECKOUT / "scripts" / "eventstacks" / "local"


MODULE = """
from ministack.services import {module}

def use():
    return {module}.{name}
"""


def loaded(folder, monkeypatch, name, text):
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


def test_the_pinned_ministack_has_what_is_used():
    rooms = [
        importlib.import_module(f"eventstacks.local.{path.stem}") for path in ROOM.glob("[!_]*.py")
    ]
    assert len(rooms) > 5
    ministack.check(*rooms)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    room = loaded(
        tmp_path, monkeypatch, "room_a", MODULE.format(module="eventbridge", name="_no_such_name")
    )
    good = loaded(
        tmp_path, monkeypatch, "room_b", MODULE.format(module="eventbridge", name="_put_events")
    )
    ministack.check(good)
    with pytest.raises(
        AttributeError, match=r"ministack.services.eventbridge' has no attribute '_no_such_name'"
    ):
        ministack.check(good, room)


def test_a_function_goes_around_another():
    owner, table = ModuleType("owner"), {"double": lambda number: 20 * number}
    owner.double = lambda number: 2 * number

    @ministack.patch("double", owner, table)
    def one_more(original, number):
        return original(number) + 1

    assert (owner.double(5), table["double"](5)) == (11, 101)
    with pytest.raises(KeyError, match="triple"):
        ministack.patch("triple", owner)(one_more)


@pytest.mark.parametrize(
    ("spoil", "missing"),
    [
        (
            "from ministack.services import eventbridge; del eventbridge._invoke_target",
            "_invoke_target",
        ),
        (
            "from ministack.services import rds; del rds._snapshot_xml",
            "'ministack.services.rds' has no attribute '_snapshot_xml'",
        ),
        ("from ministack.core import responses; del responses.get_region", "get_region"),
        (
            "from ministack.core import lambda_runtime; lambda_runtime._PYTHON_WORKER_SCRIPT = ''",
            "handler_fn(event, context)",
        ),
        (
            (
                "from ministack.core import lambda_runtime; "
                "del lambda_runtime.Worker._drain_stderr_bounded"
            ),
            "_drain_stderr",
        ),
    ],
)
def test_the_daemon_ends_with_the_reason(tmp_path, spoil, missing):
    code = f"from eventstacks.local import server; {spoil}; server.main()"
    run = [sys.executable, "-c", code, str(tmp_path), "0", "60"]
    done = subprocess.run(
        run, capture_output=True, text=True, timeout=60, check=False, start_new_session=True
    )
    assert done.returncode
    assert missing in done.stderr
    assert "Traceback" not in done.stderr
