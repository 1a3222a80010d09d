"""One background process per directory: started, found and stopped from any process.

A running daemon holds a lock on the file ``alive`` of its directory, and the kernel releases it when the process
ends: the file's content is trusted, and the pid in it signalled, only while the lock is held. Directory and files
belong to one user and nobody else can open them, so that no other user can hold the lock or read the content.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT = 30.0  # seconds for a start or a stop on a loaded machine
EXIT_ALREADY_RUNNING = 3  # the directory is locked by another daemon
EXIT_BAD_SETTING = 4  # the log holds one line that names the setting, and nothing else
EXIT_NO_SPACE = 5  # the log may be empty: it is on the same disk
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def _open(path: Path, flags: int) -> int:
    """Open a file that only this user can read, whatever the umask."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def _state_error(where: Path, problem: str) -> ToolError:
    return ToolError(
        f"cannot use the state directory: {problem}",
        code=ErrorCode.LOCAL_AWS_FAILED,
        where=str(where),
        advice="Set LOCAL_AWS_DIR to another directory, on a disk with free space.",
    )


@contextmanager
def _explained(where: Path) -> Iterator[None]:
    """Turn an OSError into a ToolError that names the directory and the problem."""
    try:
        yield
    except OSError as error:
        raise _state_error(where, error.strerror or str(error)) from error


def secure(where: Path) -> None:
    """Create the directory if necessary and close it to other users. Raises ToolError if it is not this user's.

    A directory that was open to others gets a new lock file: another user may hold the old one.
    """
    with _explained(where):
        where.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = where.stat()
        if status.st_uid != os.geteuid():
            raise _state_error(where, "it belongs to another user")
        was_open = status.st_mode & 0o077
        where.chmod(0o700)
        if was_open:
            (where / "alive").unlink(missing_ok=True)
        (where / "tmp").mkdir(exist_ok=True, mode=0o700)


def read_state(where: Path) -> dict[str, Any] | None:
    """Return what the running daemon published, its pid included; None if none runs or it is still starting."""
    with _explained(where):
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


def start(
    where: Path,
    command: list[str],
    environment: dict[str, str],
    is_ready: Callable[[dict[str, Any]], bool],
    advice: str,
) -> dict[str, Any]:
    """Return what the directory's daemon published; start it if none runs, and wait until it is ready.

    If several processes start one at once, one daemon wins and all callers get that one. It writes to the file ``log``
    and has a directory ``tmp`` while it runs. Raises ToolError with the last lines of the log, and the advice, when
    none is ready in time; with the log alone when a setting was wrong.
    """
    secure(where)
    child, deadline = None, time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if (state := read_state(where)) and is_ready(state):
            if (
                child and child.pid != state["pid"]
            ):  # it lost the race and must not outlive the winner
                child.kill()
                child.wait()
            return state
        # An EXIT_ALREADY_RUNNING without a running daemon: the other one has ended since.
        if not state and (child is None or child.poll() == EXIT_ALREADY_RUNNING):
            with _explained(where):
                log = _open(where / "log", os.O_APPEND)
                child = subprocess.Popen(
                    command,
                    cwd=where,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                os.close(log)
        if child and child.poll() not in (None, EXIT_ALREADY_RUNNING):
            break
        time.sleep(0.02)
    if child and child.poll() is None:
        child.kill()
    lines = (where / "log").read_text(errors="replace").splitlines()
    if child and child.poll() == EXIT_NO_SPACE:
        raise _state_error(where, os.strerror(errno.ENOSPC))
    if child and child.poll() == EXIT_BAD_SETTING:
        raise ToolError("\n".join(lines), code=ErrorCode.LOCAL_AWS_FAILED)
    raise ToolError(
        "\n".join(("the background process did not start:", *lines[-12:])),
        code=ErrorCode.LOCAL_AWS_FAILED,
        where=str(where / "log"),
        advice=advice,
    )


def stop(where: Path) -> bool:
    """Stop the directory's daemon and wait for its end, killing it if need be; False when none was running."""
    state, deadline = read_state(where), time.monotonic() + TIMEOUT
    if not state:
        return False
    os.kill(state["pid"], signal.SIGTERM)
    while (now := read_state(where)) and now["pid"] == state["pid"]:
        if time.monotonic() > deadline:
            os.kill(state["pid"], signal.SIGKILL)
        time.sleep(0.02)
    return True


@contextmanager
def lock(where: Path) -> Iterator[TextIO]:
    """In the daemon: hold the directory until the end of the block; end the process if another daemon holds it.

    Yields the lock file for ``publish`` and ``is_held``. At the end of the block the processes that the daemon
    started end too. A full disk ends the process with EXIT_NO_SPACE.
    """
    os.umask(0o077)  # functions that run here inherit it
    try:
        secure(where)  # also creates tmp, which a daemon that has just ended removes
        with os.fdopen(_open(where / "alive", os.O_APPEND), "a") as alive:
            try:
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.exit(EXIT_ALREADY_RUNNING)
            alive.truncate(0)  # the content of a daemon that was killed
            os.close(_open(where / "log", os.O_TRUNC))
            try:
                yield alive
            finally:
                shutil.rmtree(where / "tmp", ignore_errors=True)
                alive.truncate(0)
                if os.getpgrp() == os.getpid():
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    os.killpg(os.getpid(), signal.SIGTERM)
    except OSError as error:
        sys.exit(EXIT_NO_SPACE if error.errno in _NO_SPACE else f"{where}: {error}")


def publish(alive: TextIO, **state: Any) -> None:
    """In the daemon: write what ``read_state`` returns to other processes of this user."""
    alive.write(json.dumps({"pid": os.getpid(), "since": time.time(), **state}))
    alive.flush()


def is_held(where: Path, alive: TextIO) -> bool:
    """Return False after the lock file was deleted or replaced: no process can find this daemon any more."""
    try:
        return os.path.samestat((where / "alive").stat(), os.fstat(alive.fileno()))
    except OSError:
        return False
