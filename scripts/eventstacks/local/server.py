"""Start, inspect and stop the embedded AWS, and the process itself: one per state directory.

The process is MiniStack with this package's patches, behind a guard, on 127.0.0.1. Only its user
can open the state directory, and one process holds its lock. The kernel releases the lock on the
file ``alive`` when the process ends: the content is trusted, and the pid in it signalled, only
while the lock is held. What only the process needs is imported there: the tool has to start fast.
"""

import errno
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, TextIO

from eventstacks import local
from eventstacks.aws import Endpoint
from eventstacks.errors import ErrorCode, ToolError

PACKAGES = Path(__file__).resolve().parents[2]
STATUS_PATH = "/_local_aws/status"
DAEMON = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from eventstacks.local import server; server.main()"
)
INHERITED = ("PATH", "LANG", "LC_ALL")
SETTINGS = {
    "BIND_HOST": "127.0.0.1",
    "AUTH": "true",
    "IOT_MTLS_ENABLED": "0",
    "SFTP_ENABLED": "0",
    "TZ": "UTC",
    "LOG_LEVEL": "WARNING",
}
NOT_PATCHES = {"ministack", "server"}  # all other modules here patch MiniStack
CHECK_SECONDS = 1.0  # between two looks whether the state directory still exists
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
        raise PermissionError(
            errno.EPERM,
            "belongs to another user: set LOCAL_AWS_DIR to another directory",
            str(where),
        )
    where.chmod(0o700)
    if status.st_mode & 0o077:
        (where / "alive").unlink(missing_ok=True)


def read_state(where: Path) -> dict[str, Any] | None:
    """Return what the running process published, its pid included.

    None if none runs or it is still starting.
    """
    with suppress(FileNotFoundError), (where / "alive").open() as file:
        is_own = os.fstat(file.fileno()).st_uid == os.geteuid()
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read()
            # Else another user could hold the lock.
            if is_own and not where.stat().st_mode & 0o077 and text.endswith("}"):
                return dict(json.loads(text))
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
            shutil.rmtree(where / "tmp", ignore_errors=True)  # functions of a killed process
            (where / "tmp").mkdir()
            open_private(where / "log", os.O_TRUNC).close()
            try:
                yield alive
            finally:
                shutil.rmtree(where / "tmp", ignore_errors=True)
                if os.getpgrp() == os.getpid():
                    signal.signal(signal.SIGTERM, signal.SIG_IGN)
                    os.killpg(os.getpid(), signal.SIGTERM)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            os._exit(EXIT_NO_SPACE)  # sys.exit would fail to flush the log, and exit with 120
        sys.exit(f"{where}: {error}")


def publish(alive: TextIO, **state: Any) -> None:
    """Write what ``read_state`` returns to other processes of this user."""
    alive.write(json.dumps({"pid": os.getpid(), "since": time.time(), **state}))
    alive.flush()


def is_held(where: Path, alive: TextIO) -> bool:
    """Return False after the lock file was deleted or replaced.

    No process can find this one any more.
    """
    with suppress(OSError):
        return os.path.samestat((where / "alive").stat(), os.fstat(alive.fileno()))
    return False


def _stacks(state: dict[str, Any]) -> list[str] | None:
    """Return the stacks of a running process, or None if it does not answer."""
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={state['access_key']}/"}
    # Always http://127.0.0.1.
    request = urllib.request.Request(state["url"] + STATUS_PATH, headers=headers)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError, ValueError), opener.open(request, timeout=5) as answer:
        return list(json.load(answer))
    return None


def _launch(where: Path, port: int | None) -> subprocess.Popen[bytes]:
    """Start the process. Raises ToolError for an invalid setting."""
    wanted = str(port) if port is not None else os.environ.get("LOCAL_AWS_PORT") or "4566"
    idle = os.environ.get("LOCAL_AWS_IDLE") or "1800"
    is_port = wanted.isdecimal() and int(wanted) < 65536
    if not is_port or not idle.replace(".", "", 1).isdecimal() or float(idle) <= 0:
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
                return Endpoint(state["url"], state["access_key"], state["secret_key"])
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


def apply_patches() -> None:
    """Patch MiniStack.

    End the process if the installed version lacks a name that the patches use.
    """
    try:
        from eventstacks.local import ministack

        names = {module.name for module in iter_modules(local.__path__)} - NOT_PATCHES
        ministack.check(*(import_module(f"eventstacks.local.{name}") for name in sorted(names)))
    except (ImportError, AttributeError, KeyError) as error:
        sys.exit(
            f"the installed MiniStack lacks a name that is needed: {error}\n"
            "Install the pinned version: pip install 'eventstacks[local]' (make setup in a "
            "checkout)."
        )


async def serve(
    listener: socket.socket, idle: float, access_key: str, is_held: Callable[[], bool]
) -> None:
    """Serve until SIGTERM, ``idle`` seconds without a request, or a lost state directory."""
    import asyncio

    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config
    from ministack.app import app as ministack_app

    from eventstacks.local.guard import Guard, answer
    from eventstacks.local.strictness import stack_names

    loop, over = asyncio.get_running_loop(), asyncio.Event()
    last = loop.time()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal last
        if scope.get("path") == STATUS_PATH:
            await answer(scope["type"], 200, json.dumps(stack_names()), send)
        else:
            await ministack_app(scope, receive, send)
            last = loop.time()

    def watch() -> None:
        if loop.time() - last > idle or not is_held():
            over.set()
        loop.call_later(min(CHECK_SECONDS, idle), watch)

    watch()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    guard = Guard(app, listener.getsockname()[1], access_key)
    config = Config.from_mapping(
        bind=[f"fd://{listener.detach()}"],
        keep_alive_timeout=75,
        graceful_timeout=1,
        loglevel="WARNING",
    )
    await hypercorn_serve(guard, config, shutdown_trigger=over.wait)


def main() -> None:
    """Run in the foreground.

    Arguments: state directory, port (0: any), idle seconds. Used by ``start``.
    """
    from asyncio import run

    where, wanted, idle = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with lock(where) as alive:
        try:
            listener = socket.create_server(("127.0.0.1", wanted))
        except OSError as error:
            sys.exit(f"port {wanted} of 127.0.0.1: {error.strerror}")
        port = listener.getsockname()[1]
        access_key = f"LKIA{secrets.token_hex(16).upper()}"
        secret_key = secrets.token_urlsafe(30)
        # MiniStack takes the key in these variables for root's; each function gets those of its
        # role instead.
        keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}
        os.environ |= {**SETTINGS, **keys, "GATEWAY_PORT": str(port)}
        apply_patches()
        url = f"http://127.0.0.1:{port}"
        publish(alive, url=url, access_key=access_key, secret_key=secret_key)
        run(serve(listener, idle, access_key, lambda: is_held(where, alive)))
