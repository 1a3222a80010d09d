"""Process of the embedded AWS: MiniStack with this package's patches, behind a guard, on 127.0.0.1."""

import asyncio
import contextlib
import json
import math
import os
import re
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventstacks.errors import ToolError
from eventstacks.local import daemons, ministack, server

SETTINGS = {
    "BIND_HOST": "127.0.0.1",
    "AUTH": "true",
    "IOT_MTLS_ENABLED": "0",
    "SFTP_ENABLED": "0",
    "TZ": "UTC",
    "LOG_LEVEL": "WARNING",
}
CHECK_SECONDS = 1.0  # between two looks whether the state directory still exists


def apply_patches() -> None:
    """Patch MiniStack. Raises ToolError if a name that the patches use does not exist in the installed version."""
    try:
        from eventstacks.local import (
            alarms,
            announcements,
            deliveries,
            functions,
            guard,
            log_format,
            references,
            resources,
            rules,
            strictness,
        )

        ministack.check(
            announcements, deliveries, functions, guard, references, resources, strictness
        )
        ministack.check(alarms, log_format, rules)
        functions.apply_patches()
    except (ImportError, AttributeError, KeyError) as error:
        raise ToolError(
            f"the installed MiniStack lacks a name that is needed: {error}",
            where="embedded AWS",
            advice="Install the pinned version: pip install 'eventstacks[local]' (make setup in a checkout).",
        ) from error


def report() -> dict[str, Any]:
    """Return the peak memory in bytes and the stacks as 'region/name'."""
    from eventstacks.local import strictness

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    with contextlib.suppress(OSError):  # Linux includes the peak of the parent process in ru_maxrss
        status = Path("/proc/self/status").read_text()
        memory = 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])
    return {"memory": memory, "stacks": strictness.stack_names()}


async def serve(
    listener: socket.socket, idle: float, access_key: str, is_held: Callable[[], bool]
) -> None:
    """Serve until SIGTERM, until no request came for ``idle`` seconds, or until the state directory is deleted."""
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config
    from ministack.app import app as ministack_app

    from eventstacks.local.guard import Guard, answer

    loop, over = asyncio.get_running_loop(), asyncio.Event()
    end = loop.call_later(idle, over.set)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal end
        if scope.get("path") == server.STATUS_PATH:
            await answer(scope["type"], 200, json.dumps(report()), send)
        else:
            await ministack_app(scope, receive, send)
            end.cancel()
            end = loop.call_later(idle, over.set)

    def watch() -> None:
        if is_held():
            loop.call_later(CHECK_SECONDS, watch)
        else:
            over.set()

    watch()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    guard = Guard(app, listener.getsockname()[1], access_key)
    config = Config.from_mapping(
        bind=[f"fd://{listener.detach()}"], keep_alive_timeout=75, graceful_timeout=1
    )
    config.loglevel = "WARNING"
    await hypercorn_serve(guard, config, shutdown_trigger=over.wait)


def _bad_setting(message: str) -> None:
    sys.stderr.write(message)
    sys.exit(daemons.EXIT_BAD_SETTING)


def settings(port: str, idle: str) -> tuple[int, float]:
    """Return the port and the idle time in seconds; end the process if one of them is invalid."""
    if not (port.isdecimal() and int(port) < 65536):  # --port is checked by the command line
        _bad_setting(
            f"invalid LOCAL_AWS_PORT {port!r}: use a port from 0 (any free port) to 65535\n"
        )
    with contextlib.suppress(ValueError):
        if 0 < float(idle) < math.inf:
            return int(port), float(idle)
    _bad_setting(f"invalid LOCAL_AWS_IDLE {idle!r}: use a number of seconds greater than 0\n")
    raise AssertionError


def main() -> None:
    """Run in the foreground. Arguments: state directory, port (0: any). ``server.start`` runs it as a daemon."""
    where = Path(sys.argv[1])
    with daemons.lock(where) as alive:
        wanted, idle = settings(sys.argv[2], os.environ.get("LOCAL_AWS_IDLE") or "1800")
        try:
            listener = socket.create_server(("127.0.0.1", wanted))
        except OSError as error:
            sys.exit(f"port {wanted} of 127.0.0.1: {error.strerror}")
        port = listener.getsockname()[1]
        # MiniStack takes the key in these variables for root's; each function gets those of its role instead.
        keys = {
            "access_key": f"LKIA{secrets.token_hex(16).upper()}",
            "secret_key": secrets.token_urlsafe(30),
        }
        os.environ |= SETTINGS | {
            "GATEWAY_PORT": str(port),
            "AWS_ACCESS_KEY_ID": keys["access_key"],
            "AWS_SECRET_ACCESS_KEY": keys["secret_key"],
        }
        try:
            apply_patches()
        except ToolError as error:
            sys.exit(str(error))
        daemons.publish(alive, url=f"http://127.0.0.1:{port}", **keys)
        asyncio.run(
            serve(listener, idle, keys["access_key"], lambda: daemons.is_held(where, alive))
        )
