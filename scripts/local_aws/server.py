"""The life of the embedded AWS: one daemon per state directory, started, found and stopped from any process.

A living daemon holds a lock on the file ``alive`` of its directory, and the kernel lets go of it when the process dies:
what the file says (pid, url, since) is believed, and its pid signalled, only while the lock is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import ToolError

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds for a start or a stop on a loaded machine
STATUS_PATH, ANOTHER_LIVES = "/_local_aws/status", 3
DAEMON = "import sys; sys.path.insert(0, sys.argv[1]); from scripts.local_aws import daemon; daemon.main()"


@dataclass(frozen=True)
class Endpoint:
    """Where an embedded AWS answers, and the made-up credentials that are root there (account 000000000000)."""

    url: str
    access_key: str = "test"
    secret_key: str = "test"  # noqa: S105 - made up, and the same for everyone


@dataclass(frozen=True)
class Status:
    """A running embedded AWS: ``since`` in epoch seconds, ``memory`` in bytes, ``stacks`` as 'region/name'."""

    pid: int
    url: str
    since: float
    memory: int
    stacks: list[str]
    log: Path


def directory(state_dir: Path | None) -> Path:
    """The state directory: the given one, else LOCAL_AWS_DIR, else .local-aws in the checkout."""
    return Path(state_dir or os.environ.get("LOCAL_AWS_DIR") or CHECKOUT / ".local-aws").resolve()


def living(where: Path) -> dict[str, Any] | None:
    """What the directory's living daemon says about itself in its file; None when there is none, or not yet."""
    try:
        with (where / "alive").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = (where / "alive").read_text()
        return dict(json.loads(text)) if text.endswith("}") else None  # else it is just starting
    except FileNotFoundError:
        pass
    return None


def ask(url: str) -> dict[str, Any] | None:
    """The daemon's account of its memory (bytes) and stacks, or None when it does not answer."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url + STATUS_PATH, timeout=5) as answer:
            return dict(json.load(answer))
    except (OSError, ValueError):
        return None


def start(state_dir: Path | None = None, port: int | None = None) -> Endpoint:
    """The embedded AWS of the state directory, started as a daemon unless it runs already; it answers on return.

    ``port`` (else LOCAL_AWS_PORT, else 4566; 0: any free one) counts only when it has to be started. Raises ToolError
    when the port is taken or it does not come up within 30 seconds, with the last lines of its log.
    """
    where, child = directory(state_dir), None
    (where / "tmp").mkdir(parents=True, exist_ok=True, mode=0o700)
    asked = str(port if port is not None else os.environ.get("LOCAL_AWS_PORT") or 4566)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (found := living(where)) and ask(found["url"]):
            return Endpoint(found["url"])
        if not found and (child is None or child.poll() == ANOTHER_LIVES):  # the other one may just have ended
            # Lambda functions inherit the daemon's environment: nothing of the user's but the search path is in it.
            kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "LOCAL_AWS_IDLE") if key in os.environ}
            paths = {"HOME": str(where), "TMPDIR": str(where / "tmp"), "STATE_DIR": str(where / "state")}
            with (where / "log").open("a") as log:
                child = subprocess.Popen(
                    [sys.executable, "-c", DAEMON, str(CHECKOUT), str(where), asked], cwd=where, env=kept | paths,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
        if child and child.poll() not in (None, ANOTHER_LIVES):
            break
        time.sleep(0.02)
    if child and child.poll() is None:
        child.kill()
    last = "\n".join((where / "log").read_text(errors="replace").splitlines()[-12:])
    raise ToolError(f"the embedded AWS does not come up:\n{last}", where=str(where / "log"),
                    advice="If the port is taken, choose another: LOCAL_AWS_PORT=4567 make local-up")  # fmt: skip


def status(state_dir: Path | None = None) -> Status | None:
    """The running embedded AWS of the state directory, or None. One that does not answer has memory 0."""
    where = directory(state_dir)
    if found := living(where):
        return Status(**found, **(ask(found["url"]) or {"memory": 0, "stacks": []}), log=where / "log")
    return None


def stop(state_dir: Path | None = None) -> bool:
    """Stop it and wait until it is gone, killing it if need be; False when none was running."""
    where = directory(state_dir)
    found, deadline = living(where), time.monotonic() + PATIENCE
    if not found:
        return False
    os.kill(found["pid"], signal.SIGTERM)
    while (now := living(where)) and now["pid"] == found["pid"]:
        if time.monotonic() > deadline:
            os.kill(found["pid"], signal.SIGKILL)
        time.sleep(0.02)
    return True
