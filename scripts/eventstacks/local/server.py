"""Start, inspect and stop the embedded AWS from outside its process. One runs per state directory.

Only its user can open the state directory, and one process holds its lock. The kernel releases the
lock on the file ``alive`` when the process ends: the content is trusted, and the pid in it
signalled, only while the lock is held.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from eventstacks.aws import Endpoint
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = Path(__file__).resolve().parents[2]
STATUS_PATH = "/_local_aws/status"
DAEMON = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from eventstacks.local import daemon; daemon.main()"
)
INHERITED = ("PATH", "LANG", "LC_ALL")
TIMEOUT = 30.0  # seconds for a start or a stop on a loaded machine
EXIT_NO_SPACE = 5  # the log, which is on the same disk, may be empty


@dataclass(frozen=True)
class Status:
    """A running embedded AWS: ``since`` in epoch seconds, ``stacks`` as 'region/name'."""

    pid: int
    url: str
    since: float
    stacks: list[str]
    log: Path


def directory(state_dir: Path | None) -> Path:
    """Return the state directory.

    The given one, LOCAL_AWS_DIR, or that of the project in the current folder.

    Outside a project (no ``parameters`` folder) it is eventstacks/local-aws in XDG_STATE_HOME or
    ~/.local/state.
    """
    if given := state_dir or os.environ.get("LOCAL_AWS_DIR"):
        return Path(given).resolve()
    if Path("parameters").is_dir():
        return Path(".local-aws").resolve()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state, "eventstacks", "local-aws").resolve()


def open_private(path: Path, flags: int = os.O_APPEND) -> TextIO:
    """Open a file for writing that only this user can read, whatever the umask.

    Links are not followed.
    """
    file = os.fdopen(os.open(path, flags | os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600), "w")
    os.fchmod(file.fileno(), 0o600)
    return file


def secure(where: Path) -> None:
    """Create the directory if necessary and close it to other users.

    Raises OSError, also if it is another user's.

    A directory that was open to others gets a new lock file: another user may hold the old one.
    """
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = where.stat()
    if status.st_uid != os.geteuid():
        text = "belongs to another user: set LOCAL_AWS_DIR to another directory"
        raise PermissionError(errno.EPERM, text, str(where))
    where.chmod(0o700)
    if status.st_mode & 0o077:
        (where / "alive").unlink(missing_ok=True)
    (where / "tmp").mkdir(exist_ok=True, mode=0o700)


def read_state(where: Path) -> dict[str, Any] | None:
    """Return what the running process published, its pid included.

    None if none runs or it is still starting.
    """
    try:
        file = (where / "alive").open()
    except FileNotFoundError:
        return None
    with file:
        if os.fstat(file.fileno()).st_uid != os.geteuid() or where.stat().st_mode & 0o077:
            return None  # another user could hold the lock
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read()
            return dict(json.loads(text)) if text.endswith("}") else None
    return None


@contextmanager
def lock(where: Path) -> Iterator[TextIO]:
    """Hold the directory until the end of the block, once another process that holds it has ended.

    Yields the lock file for ``publish`` and ``is_held``. At the end of the block the processes that
    this one started end too. A full disk ends the process with EXIT_NO_SPACE.
    """
    os.umask(0o077)  # functions that run here inherit it
    try:
        secure(where)
        with open_private(where / "alive") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX)
            alive.truncate(0)  # the content of a process that was killed
            (where / "tmp").mkdir(exist_ok=True)  # the one before has removed it
            open_private(where / "log", os.O_TRUNC).close()
            try:
                yield alive
            finally:
                shutil.rmtree(where / "tmp", ignore_errors=True)
                alive.truncate(0)
                if os.getpgrp() == os.getpid():
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    os.killpg(os.getpid(), signal.SIGTERM)
    except OSError as error:
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        sys.exit(EXIT_NO_SPACE if is_full else f"{where}: {error}")


def publish(alive: TextIO, **state: Any) -> None:
    """Write what ``read_state`` returns to other processes of this user."""
    alive.write(json.dumps({"pid": os.getpid(), "since": time.time(), **state}))
    alive.flush()


def is_held(where: Path, alive: TextIO) -> bool:
    """Return False after the lock file was deleted or replaced.

    No process can find this one any more.
    """
    try:
        return os.path.samestat((where / "alive").stat(), os.fstat(alive.fileno()))
    except OSError:
        return False


def _endpoint(state: dict[str, Any]) -> Endpoint:
    return Endpoint(state["url"], state["access_key"], state["secret_key"])


def _stacks(state: dict[str, Any]) -> list[str] | None:
    """Return the stacks of a running process, or None if it does not answer."""
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={state['access_key']}/"}
    # Always http://127.0.0.1.
    request = urllib.request.Request(state["url"] + STATUS_PATH, headers=headers)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return list(json.load(answer))
    except (OSError, ValueError):
        return None


def _launch(where: Path, port: int | None) -> subprocess.Popen[bytes]:
    """Start the process. Raises ToolError for an invalid setting."""
    wanted = str(port) if port is not None else os.environ.get("LOCAL_AWS_PORT") or "4566"
    idle = os.environ.get("LOCAL_AWS_IDLE") or "1800"
    try:
        is_valid = 0 <= int(wanted) < 65536 and 0 < float(idle) < math.inf
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ToolError(
            f"invalid LOCAL_AWS_PORT {wanted!r} or LOCAL_AWS_IDLE {idle!r}: use a port from 0 (any "
            "free port) to 65535, and a number of seconds greater than 0",
            code=ErrorCode.LOCAL_AWS_FAILED,
        )
    # Lambda functions inherit this environment: of the user's only the search path and the locale.
    kept = {key: os.environ[key] for key in INHERITED if key in os.environ}
    paths = {"HOME": str(where), "TMPDIR": str(where / "tmp"), "STATE_DIR": str(where / "state")}
    with open_private(where / "log") as log:
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
    """Return the embedded AWS of the state directory, started in the background unless it runs.

    It answers on return.

    ``port`` (default: LOCAL_AWS_PORT, else 4566; 0: any free port) matters only if it is started.
    Raises ToolError if the port is in use or it does not answer within 30 seconds, OSError if the
    state directory cannot be used.
    """
    where, process, deadline = directory(state_dir), None, time.monotonic() + TIMEOUT
    secure(where)
    with open_private(where / "start") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)  # of several callers one starts it
        while time.monotonic() < deadline and not (process and process.poll() is not None):
            state = read_state(where)
            if state and _stacks(state) is not None:
                return _endpoint(state)
            if not state and not process:
                process = _launch(where, port)
            time.sleep(0.02)
        if process and process.poll() == EXIT_NO_SPACE:
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
    """Return the running embedded AWS of the state directory, or None."""
    where = directory(state_dir)
    if not (state := read_state(where)):
        return None
    stacks, log = _stacks(state) or [], where / "log"
    return Status(state["pid"], state["url"], state["since"], stacks, log)


def stop(state_dir: Path | None = None) -> bool:
    """Stop it and wait for its end, killing it if need be; False if none was running."""
    where, deadline = directory(state_dir), time.monotonic() + TIMEOUT
    if not (state := read_state(where)):
        return False
    os.kill(state["pid"], signal.SIGTERM)
    while read_state(where) == state:
        if time.monotonic() > deadline:
            os.kill(state["pid"], signal.SIGKILL)
        time.sleep(0.02)
    return True
