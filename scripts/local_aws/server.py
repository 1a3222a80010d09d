"""The life of the embedded AWS: one daemon per state directory, started, found and stopped from any process.

The daemon holds a lock on ``alive`` as long as it lives, and the kernel lets go of it when it dies: so a number in
``server.json`` is only ever believed, and signalled, while that lock is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0  # seconds for a start or a stop, on a loaded machine
STATUS_PATH = "/_local_aws/status"


@dataclass(frozen=True)
class Endpoint:
    """Where an embedded AWS answers, and the made-up credentials that are root there."""

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
    log: Path
    stacks: list[str]


def directory(state_dir: Path | None) -> Path:
    """The state directory: as given, else LOCAL_AWS_DIR, else .local-aws in the checkout."""
    return Path(state_dir or os.environ.get("LOCAL_AWS_DIR") or CHECKOUT / ".local-aws").resolve()


@contextmanager
def locked(path: Path, patience: float) -> Iterator[IO[str] | None]:
    """The file, locked by this process; None when another held it for the whole of ``patience`` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + patience
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    yield None
                    return
                time.sleep(0.02)
            else:
                yield file
                return


def living(where: Path) -> dict[str, Any] | None:
    """What the living daemon of the directory wrote about itself: pid, port, url, since. None when there is none."""
    if not (where / "alive").exists():
        return None
    with locked(where / "alive", 0) as mine:
        if mine:
            return None
    try:
        found: dict[str, Any] = json.loads((where / "server.json").read_text())
    except (OSError, ValueError):
        return None  # it is just starting: it holds the lock and has not written yet
    return found


def start(state_dir: Path | None = None, port: int | None = None) -> Endpoint:
    """The embedded AWS of the state directory, started as a daemon unless it runs already; it answers on return.

    ``port`` (else LOCAL_AWS_PORT, else 4566; 0: any free one) counts only when it has to be started. Raises ToolError
    when the port is taken or the daemon does not come up within 30 seconds, with the last lines of its log.
    """
    where = directory(state_dir)
    with locked(where / "starting", 2 * PATIENCE) as mine:
        if not mine:
            raise ToolError("another process has been starting the embedded AWS for a minute", where=str(where),
                            advice="Look into its log, end that process, and try again.")  # fmt: skip
        if found := living(where):
            return Endpoint(found["url"])
        asked = port if port is not None else int(os.environ.get("LOCAL_AWS_PORT") or 4566)
        chosen = free_port(asked)
        (where / "server.json").unlink(missing_ok=True)
        (where / "tmp").mkdir(exist_ok=True)
        code = "import sys; sys.path.insert(0, sys.argv[1]); from scripts.local_aws.daemon import main; main(sys.argv[2])"
        with (where / "log").open("w") as log:
            child = subprocess.Popen(
                [sys.executable, "-c", code, str(CHECKOUT), str(where)], cwd=where, env=environment(where, chosen),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and child.poll() is None:
            if (found := living(where)) and found["pid"] == child.pid and ask(found["url"]):
                return Endpoint(found["url"])
            time.sleep(0.02)
        child.kill()
        child.wait()
        last = "\n".join((where / "log").read_text(errors="replace").splitlines()[-15:])
        raise ToolError(f"the embedded AWS did not start on port {chosen}:\n{last}", where=str(where / "log"))


def environment(where: Path, port: int) -> dict[str, str]:
    """The daemon's environment, which Lambda functions inherit: nothing of the user's but the search path."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL", "LOCAL_AWS_IDLE") if key in os.environ}
    return kept | {
        "HOME": str(where), "TMPDIR": str(where / "tmp"), "STATE_DIR": str(where / "state"), "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1", "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "AUTH": "true",
        "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "LOG_LEVEL": "WARNING",
    }  # fmt: skip


def free_port(port: int) -> int:
    """The port, or a free one for 0; ToolError when another process has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will: a closed one lingers
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ToolError(
                f"port {port} of 127.0.0.1 is taken by another process ({error.strerror})", where="embedded AWS",
                advice=f"Choose another: LOCAL_AWS_PORT={port + 1} make local-up",
            ) from error  # fmt: skip
        return int(probe.getsockname()[1])


def ask(url: str) -> dict[str, Any] | None:
    """The daemon's own account of itself, or None when it does not answer within two seconds."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url + STATUS_PATH, timeout=2) as answer:
            told: dict[str, Any] = json.load(answer)
            return told
    except (OSError, ValueError):
        return None


def status(state_dir: Path | None = None) -> Status | None:
    """The running embedded AWS of the state directory, or None. One that does not answer counts with memory 0."""
    where = directory(state_dir)
    found = living(where)
    if not found:
        return None
    told = ask(found["url"]) or {"memory": 0, "stacks": []}
    return Status(found["pid"], found["url"], found["since"], told["memory"], where / "log", told["stacks"])


def stop(state_dir: Path | None = None) -> bool:
    """Stop it and wait until it is gone, killing it if need be; False when none was running."""
    where = directory(state_dir)
    with locked(where / "starting", PATIENCE):
        found = living(where)
        for number in (signal.SIGTERM, signal.SIGKILL) if found else ():
            os.kill(found["pid"], number)
            with locked(where / "alive", PATIENCE / 3) as gone:
                if gone:
                    break
        return bool(found)
