"""One background process per directory: started, found and stopped from any process.

A living daemon holds a lock on the file ``alive`` of its directory, and the kernel lets go of it when the process dies:
what the file says is believed, and the pid in it signalled, only while the lock is held.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 30.0  # seconds for a start or a stop on a loaded machine
ANOTHER_LIVES = 3  # exit code of a daemon that found its directory taken
MISUSED = 4  # exit code of a daemon that was started with a wrong setting: its log names it, and nothing else


def living(where: Path) -> dict[str, Any] | None:
    """What the directory's living daemon told about itself, its pid included; None when there is none, or not yet."""
    try:
        with (where / "alive").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = (where / "alive").read_text()
        return dict(json.loads(text)) if text.endswith("}") else None  # else it is just starting
    except FileNotFoundError:
        pass
    return None


def start(
    where: Path,
    command: list[str],
    environment: dict[str, str],
    is_ready: Callable[[dict[str, Any]], bool],
    advice: str,
) -> dict[str, Any]:
    """What the directory's daemon tells about itself; it is started unless it lives, and waited for until it is ready.

    Of several that are started at once one wins, and all callers get that one. It writes to the file ``log`` and has
    a directory ``tmp`` while it lives. Raises ToolError with the last lines of the log, and the advice, when none is
    ready in time; with the log alone when a setting was wrong.
    """
    (where / "tmp").mkdir(parents=True, exist_ok=True, mode=0o700)
    child, deadline = None, time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (found := living(where)) and is_ready(found):
            if (
                child and child.pid != found["pid"]
            ):  # it came late, and must not outlive the one that won
                child.kill()
                child.wait()
            return found
        if not found and (
            child is None or child.poll() == ANOTHER_LIVES
        ):  # the other one may just have ended
            with (where / "log").open("a") as log:
                child = subprocess.Popen(
                    command,
                    cwd=where,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        if child and child.poll() not in (None, ANOTHER_LIVES):
            break
        time.sleep(0.02)
    if child and child.poll() is None:
        child.kill()
    if child and child.poll() == MISUSED:
        raise ToolError((where / "log").read_text(errors="replace").strip())
    last = "\n".join((where / "log").read_text(errors="replace").splitlines()[-12:])
    raise ToolError(
        f"the background process does not come up:\n{last}", where=str(where / "log"), advice=advice
    )


def stop(where: Path) -> bool:
    """Stop the directory's daemon and wait until it is gone, killing it if need be; False when none was living."""
    found, deadline = living(where), time.monotonic() + PATIENCE
    if not found:
        return False
    os.kill(found["pid"], signal.SIGTERM)
    while (now := living(where)) and now["pid"] == found["pid"]:
        if time.monotonic() > deadline:
            os.kill(found["pid"], signal.SIGKILL)
        time.sleep(0.02)
    return True


@contextmanager
def claimed(where: Path) -> Iterator[Callable[..., None]]:
    """In the daemon: the directory, held until the end of the block, and how to tell what others are to know.

    Ends the process when another holds it. At the end of the block the processes that the daemon started end too.
    """
    with (where / "alive").open("a") as alive:
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(ANOTHER_LIVES)
        (where / "tmp").mkdir(exist_ok=True, mode=0o700)  # one that ended meanwhile has removed it
        alive.truncate(0)  # what a dead one told
        (where / "log").write_text("")

        def tell(**what: Any) -> None:
            alive.write(json.dumps({"pid": os.getpid(), "since": time.time(), **what}))
            alive.flush()

        try:
            yield tell
        finally:
            shutil.rmtree(where / "tmp", ignore_errors=True)
            alive.truncate(0)
            if os.getpgrp() == os.getpid():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.killpg(os.getpid(), signal.SIGTERM)
