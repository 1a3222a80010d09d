"""The embedded AWS itself: MiniStack in this process, mended, behind a guard, on 127.0.0.1 alone."""

import asyncio
import contextlib
import json
import math
import os
import re
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from eventstacks import daemons
from eventstacks.errors import ToolError
from eventstacks.local import ministack, server

SETTINGS = {
    "BIND_HOST": "127.0.0.1",
    "AUTH": "true",
    "IOT_MTLS_ENABLED": "0",
    "SFTP_ENABLED": "0",
    "TZ": "UTC",
    "LOG_LEVEL": "WARNING",
}
BROWSER = {
    b"origin",
    b"sec-fetch-site",
    b"sec-fetch-mode",
}  # only browsers send them; a rebound page sends no Origin


def mend() -> None:
    """Put this room's parts into MiniStack. Raises ToolError when something of MiniStack's is not where it was."""
    try:
        from eventstacks.local import (
            announcements,
            deliveries,
            functions,
            references,
            resources,
            strictness,
        )

        ministack.check(announcements, deliveries, functions, references, resources, strictness)
        functions.mend()
    except (ImportError, AttributeError, KeyError) as error:
        advice = "Install the pinned one (make setup), or mend scripts/eventstacks/local."
        raise ToolError(
            f"MiniStack has changed, it lacks: {error}", where="embedded AWS", advice=advice
        ) from error


def report() -> dict[str, Any]:
    """Memory in bytes at its peak, and the stacks, as 'region/name'."""
    from eventstacks.local import strictness

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    with contextlib.suppress(
        OSError
    ):  # Linux counts in the peak of the process that started this one
        memory = 1024 * int(
            re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]
        )
    return {"memory": memory, "stacks": strictness.stack_names()}


async def serve(listener: socket.socket, idle: float) -> None:
    """Serve on the bound socket until SIGTERM, or until no request came for ``idle`` seconds."""
    import ministack.app as stock
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config

    loop, over = asyncio.get_running_loop(), asyncio.Event()
    end = loop.call_later(idle, over.set)

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        """Keep web pages out: a function is a program on this machine, and MiniStack answers every origin."""
        nonlocal end
        refused = any(name.lower() in BROWSER for name, _ in scope.get("headers", ()))
        if refused or scope.get("path") == server.STATUS_PATH:
            told = {"message": "the embedded AWS answers no browser"} if refused else report()
            answer = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
            await send(
                {"type": f"{answer}.start", "status": 403 if refused else 200, "headers": []}
            )
            await send({"type": f"{answer}.body", "body": json.dumps(told).encode()})
        else:
            # Policies that ask for TLS take the loopback for it: nobody listens on the way.
            await stock.app({**scope, "scheme": "https"}, receive, send)
            end.cancel()
            end = loop.call_later(idle, over.set)

    loop.add_signal_handler(signal.SIGTERM, over.set)
    config = Config.from_mapping(
        bind=[f"fd://{listener.detach()}"], keep_alive_timeout=75, graceful_timeout=1
    )
    config.loglevel = "WARNING"
    await hypercorn_serve(guard, config, shutdown_trigger=over.wait)


def settings() -> tuple[int, float]:
    """The port, and the seconds to wait for a request; ends the process when one of them is nothing of the kind."""
    told, idle = sys.argv[3], os.environ.get("LOCAL_AWS_IDLE") or "1800"
    try:
        if (port := int(told)) not in range(65536):
            raise ValueError  # noqa: TRY301 - as for what is no number
    except ValueError:  # --port was looked at before: it can only be the variable
        sys.stderr.write(
            f"LOCAL_AWS_PORT is {told!r}, but a port is a number from 0 (any free one) to 65535\n"
        )
        sys.exit(daemons.MISUSED)
    try:
        if not 0 < (seconds := float(idle)) < math.inf:
            raise ValueError  # noqa: TRY301
    except ValueError:
        sys.stderr.write(
            f"LOCAL_AWS_IDLE is {idle!r}, but it is a number of seconds, more than 0\n"
        )
        sys.exit(daemons.MISUSED)
    return port, seconds


def main() -> None:
    """Run in the foreground; argv: checkout, state directory, port (0: any). ``server.start`` makes a daemon of it."""
    with daemons.claimed(Path(sys.argv[2])) as tell:
        asked, idle = settings()
        try:
            listener = socket.create_server(("127.0.0.1", asked))
            port = listener.getsockname()[1]
            os.environ |= SETTINGS | {"GATEWAY_PORT": str(port)}
            mend()
            tell(url=f"http://127.0.0.1:{port}")  # whoever starts it asks there until it answers
            asyncio.run(serve(listener, idle))
        except OSError as error:
            sys.exit(f"port {sys.argv[3]} of 127.0.0.1: {error.strerror}")
        except ToolError as error:
            sys.exit(str(error))
