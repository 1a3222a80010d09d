"""The state directory of a background process: only its user can open it, and one process holds its lock.

The kernel releases the lock on the file ``alive`` when the process ends: the content is trusted, and the pid in it
signalled, only while the lock is held.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXIT_NO_SPACE = 5  # the log, which is on the same disk, may be empty


def open_private(path: Path, flags: int = os.O_APPEND) -> TextIO:
    """Open a file for writing that only this user can read, whatever the umask. Links are not followed."""
    file = os.fdopen(os.open(path, flags | os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600), "w")
    os.fchmod(file.fileno(), 0o600)
    return file


def secure(where: Path) -> None:
    """Create the directory if necessary and close it to other users. Raises OSError, also if it is another user's.

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
    """Return what the running process published, its pid included; None if none runs or it is still starting."""
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

    Yields the lock file for ``publish`` and ``is_held``. At the end of the block the processes that this one started
    end too. A full disk ends the process with EXIT_NO_SPACE.
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
    """Return False after the lock file was deleted or replaced: no process can find this one any more."""
    try:
        return os.path.samestat((where / "alive").stat(), os.fstat(alive.fileno()))
    except OSError:
        return False
