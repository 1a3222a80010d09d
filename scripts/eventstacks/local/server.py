"""Start, inspect and stop the embedded AWS from outside its process. One runs per state directory."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventstacks.aws import Endpoint
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.local import daemons

PACKAGES = Path(__file__).resolve().parents[2]
STATUS_PATH = "/_local_aws/status"
DAEMON = "import sys; sys.path.insert(0, sys.argv.pop(1)); from eventstacks.local import daemon; daemon.main()"
INHERITED = ("PATH", "LANG", "LC_ALL")
TIMEOUT = 30.0  # seconds for a start or a stop on a loaded machine


@dataclass(frozen=True)
class Status:
    """A running embedded AWS: ``since`` in epoch seconds, ``memory`` (peak) in bytes, ``stacks`` as 'region/name'."""

    pid: int
    url: str
    since: float
    memory: int
    stacks: list[str]
    log: Path


def directory(state_dir: Path | None) -> Path:
    """Return the state directory: the given one, LOCAL_AWS_DIR, or that of the project in the current folder.

    Outside a project (no ``parameters`` folder) it is eventstacks/local-aws in XDG_STATE_HOME or ~/.local/state.
    """
    if given := state_dir or os.environ.get("LOCAL_AWS_DIR"):
        return Path(given).resolve()
    if Path("parameters").is_dir():
        return Path(".local-aws").resolve()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "eventstacks", "local-aws").resolve()


def _endpoint(state: dict[str, Any]) -> Endpoint:
    return Endpoint(state["url"], state["access_key"], state["secret_key"])


def _ask(state: dict[str, Any]) -> dict[str, Any] | None:
    """Return memory (bytes) and stacks, or None if it does not answer."""
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={state['access_key']}/"}
    request = urllib.request.Request(state["url"] + STATUS_PATH, headers=headers)  # noqa: S310 - http://127.0.0.1
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return dict(json.load(answer))
    except (OSError, ValueError):
        return None


def _is_valid(name: str, value: str) -> bool:
    """Return True for a port number, or a number of seconds."""
    if name == "LOCAL_AWS_PORT":
        return value.isdecimal() and int(value) < 65536
    try:
        return 0 < float(value) < math.inf
    except ValueError:
        return False


def _launch(where: Path, port: int | None) -> subprocess.Popen[bytes]:
    """Start the process. Raises ToolError for an invalid setting."""
    wanted = str(port) if port is not None else os.environ.get("LOCAL_AWS_PORT") or "4566"
    idle = os.environ.get("LOCAL_AWS_IDLE") or "1800"
    for name, value, form in (
        ("LOCAL_AWS_PORT", wanted, "a port from 0 (any free port) to 65535"),
        ("LOCAL_AWS_IDLE", idle, "a number of seconds greater than 0"),
    ):
        if not _is_valid(name, value):
            what = f"invalid {name} {value!r}: use {form}"
            raise ToolError(what, code=ErrorCode.LOCAL_AWS_FAILED)
    # Lambda functions inherit this environment: nothing of the user's except the search path and the locale.
    kept = {key: os.environ[key] for key in INHERITED if key in os.environ}
    paths = {"HOME": str(where), "TMPDIR": str(where / "tmp"), "STATE_DIR": str(where / "state")}
    with daemons.open_private(where / "log") as log:
        return subprocess.Popen(
            [sys.executable, "-c", DAEMON, str(PACKAGES), str(where), wanted, idle],
            cwd=where,
            env=kept | paths,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def start(state_dir: Path | None = None, port: int | None = None) -> Endpoint:
    """Return the embedded AWS of the state directory, started in the background unless it runs; it answers on return.

    ``port`` (default: LOCAL_AWS_PORT, else 4566; 0: any free port) matters only if it is started. Raises ToolError if
    the port is in use or it does not answer within 30 seconds, OSError if the state directory cannot be used.
    """
    where, process, deadline = directory(state_dir), None, time.monotonic() + TIMEOUT
    daemons.secure(where)
    with daemons.open_private(where / "start") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)  # of several callers one starts it
        while time.monotonic() < deadline and not (process and process.poll() is not None):
            state = daemons.read_state(where)
            if state and _ask(state):
                return _endpoint(state)
            if not state and not process:
                process = _launch(where, port)
            time.sleep(0.02)
        if process and process.poll() == daemons.EXIT_NO_SPACE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(where))
        if process:
            process.kill()
        lines = (where / "log").read_text(errors="replace").splitlines()
    raise ToolError(
        "\n".join(("the embedded AWS did not start:", *lines[-12:])),
        code=ErrorCode.LOCAL_AWS_FAILED,
        where=str(where / "log"),
        advice="If the port is in use, choose another one: LOCAL_AWS_PORT=4567 (0: any free port).",
    )


def status(state_dir: Path | None = None) -> Status | None:
    """Return the running embedded AWS of the state directory, or None. One that does not answer has memory 0."""
    where = directory(state_dir)
    if not (state := daemons.read_state(where)):
        return None
    answer = _ask(state) or {"memory": 0, "stacks": []}
    return Status(state["pid"], state["url"], state["since"], **answer, log=where / "log")


def stop(state_dir: Path | None = None) -> bool:
    """Stop it and wait for its end, killing it if need be; False if none was running."""
    where, deadline = directory(state_dir), time.monotonic() + TIMEOUT
    if not (state := daemons.read_state(where)):
        return False
    os.kill(state["pid"], signal.SIGTERM)
    while daemons.read_state(where) == state:
        if time.monotonic() > deadline:
            os.kill(state["pid"], signal.SIGKILL)
        time.sleep(0.02)
    return True
