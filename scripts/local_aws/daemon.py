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

from scripts import daemons
from scripts.errors import ToolError
from scripts.local_aws import ministack, server

SETTINGS = {
    "BIND_HOST": "127.0.0.1", "AUTH": "true", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "TZ": "UTC",
    "LOG_LEVEL": "WARNING",
}  # fmt: skip
BROWSER = {b"origin", b"sec-fetch-site", b"sec-fetch-mode"}  # only browsers send them; a rebound page sends no Origin
HANDLER_CALL = "result = handler_fn(event, context)"  # in the worker's script: the request id is set just before it
# What the Lambda runtime does for `logging`: a root handler with level, time, request id and text between tabs.
LAMBDA_LOGGING = """
import logging as _logging, time as _time
_request, _logging.Formatter.converter = [""], _time.gmtime
_logging.basicConfig(datefmt="%Y-%m-%dT%H:%M:%S",
                     format="[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s")
_logging.getLogger().handlers[0].addFilter(lambda record: setattr(record, "aws_request_id", _request[0]) or True)
"""


def mend() -> None:
    """Put this room's parts into MiniStack. Raises ToolError when something of MiniStack's is not where it was."""
    try:
        from ministack.core import lambda_runtime

        from scripts.local_aws import announcements, deliveries, resources, strictness

        ministack.check(announcements, deliveries, resources, strictness)
        before, call, after = lambda_runtime._PYTHON_WORKER_SCRIPT.partition(HANDLER_CALL)
        if not call:
            raise AttributeError(f"{HANDLER_CALL!r} in _PYTHON_WORKER_SCRIPT")  # noqa: TRY301 - like one that is found
        script = f"{LAMBDA_LOGGING}{before}_request[0] = context.aws_request_id; {call}{after}"
        lambda_runtime._PYTHON_WORKER_SCRIPT = script
    except (ImportError, AttributeError, KeyError) as error:
        advice = "Install the pinned one (make setup), or mend scripts/local_aws."
        raise ToolError(f"MiniStack has changed, it lacks: {error}", where="embedded AWS", advice=advice) from error


def report() -> dict[str, Any]:
    """Memory in bytes at its peak, and the stacks, as 'region/name'."""
    from scripts.local_aws import strictness

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    with contextlib.suppress(OSError):  # Linux counts in the peak of the process that started this one
        memory = 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])
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
            await send({"type": f"{answer}.start", "status": 403 if refused else 200, "headers": []})
            await send({"type": f"{answer}.body", "body": json.dumps(told).encode()})
        else:
            # Policies that ask for TLS take the loopback for it: nobody listens on the way.
            await stock.app({**scope, "scheme": "https"}, receive, send)
            end.cancel()
            end = loop.call_later(idle, over.set)

    loop.add_signal_handler(signal.SIGTERM, over.set)
    config = Config.from_mapping(bind=[f"fd://{listener.detach()}"], keep_alive_timeout=75, graceful_timeout=1)
    config.loglevel = "WARNING"
    await hypercorn_serve(guard, config, shutdown_trigger=over.wait)


def settings() -> tuple[int, float]:
    """The port, and the seconds to wait for a request; ends the process when one of them is nothing of the kind."""
    told, idle = sys.argv[3], os.environ.get("LOCAL_AWS_IDLE") or "1800"
    try:
        if (port := int(told)) not in range(65536):
            raise ValueError  # noqa: TRY301 - as for what is no number
    except ValueError:  # --port was looked at before: it can only be the variable
        print(f"LOCAL_AWS_PORT is {told!r}, but a port is a number from 0 (any free one) to 65535", file=sys.stderr)  # noqa: T201 - the log
        sys.exit(daemons.MISUSED)
    try:
        if not 0 < (seconds := float(idle)) < math.inf:
            raise ValueError  # noqa: TRY301
    except ValueError:
        print(f"LOCAL_AWS_IDLE is {idle!r}, but it is a number of seconds, more than 0", file=sys.stderr)  # noqa: T201
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
