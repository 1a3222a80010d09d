"""Start, inspect and stop the embedded AWS from outside its process. One runs per state directory."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventstacks.aws import Endpoint
from eventstacks.local import daemons

PACKAGES = Path(__file__).resolve().parents[2]
STATUS_PATH = "/_local_aws/status"
DAEMON = "import sys; sys.path.insert(0, sys.argv.pop(1)); from eventstacks.local import daemon; daemon.main()"
INHERITED = ("PATH", "LANG", "LC_ALL", "LOCAL_AWS_IDLE")


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


def _ask(endpoint: Endpoint) -> dict[str, Any] | None:
    """Return memory (bytes) and stacks, or None if it does not answer."""
    authorization = f"AWS4-HMAC-SHA256 Credential={endpoint.access_key}/"
    request = urllib.request.Request(  # noqa: S310 - the URL is http://127.0.0.1
        endpoint.url + STATUS_PATH, headers={"Authorization": authorization}
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            request, timeout=5
        ) as answer:
            return dict(json.load(answer))
    except (OSError, ValueError):
        return None


def start(state_dir: Path | None = None, port: int | None = None) -> Endpoint:
    """Return the embedded AWS of the state directory, started as a daemon unless it runs; it answers on return.

    ``port`` (default: LOCAL_AWS_PORT, else 4566; 0: any free port) matters only if it is started. Raises ToolError if
    the port is taken, the state directory cannot be used, or it does not answer within 30 seconds.
    """
    where = directory(state_dir)
    wanted = port if port is not None else os.environ.get("LOCAL_AWS_PORT") or 4566
    # Lambda functions inherit this environment: nothing of the user's except the search path and the locale.
    kept = {key: os.environ[key] for key in INHERITED if key in os.environ}
    paths = {"HOME": str(where), "TMPDIR": str(where / "tmp"), "STATE_DIR": str(where / "state")}
    state = daemons.start(
        where,
        [sys.executable, "-c", DAEMON, str(PACKAGES), str(where), str(wanted)],
        kept | paths,
        lambda state: _ask(_endpoint(state)) is not None,
        "If the port is in use, choose another one: LOCAL_AWS_PORT=4567 (0: any free port).",
    )
    return _endpoint(state)


def status(state_dir: Path | None = None) -> Status | None:
    """Return the running embedded AWS of the state directory, or None. One that does not answer has memory 0."""
    where = directory(state_dir)
    if not (state := daemons.read_state(where)):
        return None
    answer = _ask(_endpoint(state)) or {"memory": 0, "stacks": []}
    return Status(state["pid"], state["url"], state["since"], **answer, log=where / "log")


def stop(state_dir: Path | None = None) -> bool:
    """Stop it and wait for its end, killing it if need be; False if none was running."""
    return daemons.stop(directory(state_dir))
