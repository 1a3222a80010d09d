"""The contract with MiniStack: what is touched is listed, and what is listed is there."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.errors import ToolError
from scripts.local_aws import ministack

CHECKOUT = Path(__file__).parents[3]
ROOM = CHECKOUT / "scripts" / "local_aws"


def modules_of(tree):
    """Name in the file -> module of MiniStack below the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ministack"):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}".removeprefix("ministack.")


def private_names():
    """Every private attribute of a module of MiniStack that this room reads, sets, or names in a string to patch."""
    for path in ROOM.glob("*.py"):
        tree = ast.parse(path.read_text())
        modules = dict(modules_of(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                yield modules[node.value.id], node.attr
            if isinstance(node, ast.Tuple) and len(node.elts) > 1 and isinstance(node.elts[0], ast.Name):
                owner, name = node.elts[:2]
                if owner.id in modules and isinstance(name, ast.Constant):
                    yield modules[owner.id], name.value


def test_every_private_name_that_is_used_is_listed():
    used = {f"{module}.{name}" for module, name in private_names() if name.startswith("_")}
    assert len(used) > 20
    assert used == set(ministack.PRIVATE)


def test_the_pinned_ministack_has_them():
    ministack.check()


@pytest.mark.parametrize("missing", ["services.eventbridge._no_such_name", "services.no_such_service._x"])
def test_a_missing_name_stops_the_start_and_is_named(monkeypatch, missing):
    monkeypatch.setattr(ministack, "PRIVATE", [*ministack.PRIVATE, missing])
    with pytest.raises(ToolError, match=missing):
        ministack.check()


def test_a_worker_script_without_the_handlers_call_stops_the_start(monkeypatch):
    monkeypatch.setattr(ministack, "HANDLER_CALL", "something else")
    with pytest.raises(ToolError, match="_PYTHON_WORKER_SCRIPT"):
        ministack.check()


def test_the_daemon_ends_with_the_reason(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from scripts.local_aws import daemon, ministack;"
        "ministack.PRIVATE = ['services.sqs._gone']; daemon.main()"
    )
    run = [sys.executable, "-c", code, str(CHECKOUT), str(tmp_path), "0"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False, start_new_session=True)
    assert done.returncode
    assert "services.sqs._gone" in done.stderr
    assert "Traceback" not in done.stderr
