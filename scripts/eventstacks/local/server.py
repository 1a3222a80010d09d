"""The embedded AWS, seen from outside: start, look, stop. One lives per state directory."""

import json
import os
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventstacks import daemons

CHECKOUT = Path(__file__).resolve().parents[3]
STATUS_PATH = "/_local_aws/status"
DAEMON = "import sys; sys.path.insert(0, sys.argv[1]); from eventstacks.local import daemon; daemon.main()"
INHERITED = ("PATH", "LANG", "LC_ALL", "LOCAL_AWS_IDLE")


@dataclass(frozen=True)
class Endpoint:
    """Where an embedded AWS answers, and the made-up credentials that are root there (account 000000000000)."""

    url: str
    access_key: str = "test"
    secret_key: str = "test"  # noqa: S105 - made up, and the same for everyone


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
    """The state directory: the given one, else LOCAL_AWS_DIR, else .local-aws in the checkout."""
    return Path(state_dir or os.environ.get("LOCAL_AWS_DIR") or CHECKOUT / ".local-aws").resolve()


def ask(url: str) -> dict[str, Any] | None:
    """The daemon's account of its memory (bytes) and stacks, or None when it does not answer."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url + STATUS_PATH, timeout=5
        ) as answer:
            return dict(json.load(answer))
    except (OSError, ValueError):
        return None


def start(state_dir: Path | None = None, port: int | None = None) -> Endpoint:
    """The embedded AWS of the state directory, started as a daemon unless it runs already; it answers on return.

    ``port`` (else LOCAL_AWS_PORT, else 4566; 0: any free one) counts only when it has to be started. Raises ToolError
    when the port is taken or it does not come up within 30 seconds, with the last lines of its log.
    """
    where, asked = (
        directory(state_dir),
        port if port is not None else os.environ.get("LOCAL_AWS_PORT") or 4566,
    )
    # Lambda functions inherit the daemon's environment: nothing of the user's but the search path is in it.
    kept = {key: os.environ[key] for key in INHERITED if key in os.environ}
    paths = {"HOME": str(where), "TMPDIR": str(where / "tmp"), "STATE_DIR": str(where / "state")}
    command = [sys.executable, "-c", DAEMON, str(CHECKOUT), str(where), str(asked)]
    advice = "If the port is taken, choose another: LOCAL_AWS_PORT=4567 make local-up"
    found = daemons.start(
        where, command, kept | paths, lambda told: ask(told["url"]) is not None, advice
    )
    return Endpoint(found["url"])


def status(state_dir: Path | None = None) -> Status | None:
    """The running embedded AWS of the state directory, or None. One that does not answer has memory 0."""
    where = directory(state_dir)
    if found := daemons.living(where):
        return Status(
            **found, **(ask(found["url"]) or {"memory": 0, "stacks": []}), log=where / "log"
        )
    return None


def stop(state_dir: Path | None = None) -> bool:
    """Stop it and wait until it is gone, killing it if need be; False when none was running."""
    return daemons.stop(directory(state_dir))
