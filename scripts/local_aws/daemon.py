"""The embedded AWS itself: MiniStack in this process, mended, behind a guard, on 127.0.0.1 alone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts import daemons
from scripts.errors import ToolError
from scripts.local_aws import ministack, server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SETTINGS = {
    "BIND_HOST": "127.0.0.1", "AUTH": "true", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0", "TZ": "UTC",
    "LOG_LEVEL": "WARNING",
}  # fmt: skip
BROWSER = {b"origin", b"sec-fetch-site", b"sec-fetch-mode"}  # only browsers send them; a rebound page sends no Origin
# What the Lambda runtime does for `logging`: a root handler with level, time, request id and text between tabs.
LAMBDA_LOGGING = """
import logging as _logging, time as _time
_request, _logging.Formatter.converter = [""], _time.gmtime
_logging.basicConfig(datefmt="%Y-%m-%dT%H:%M:%S",
                     format="[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s")
_logging.getLogger().handlers[0].addFilter(lambda record: setattr(record, "aws_request_id", _request[0]) or True)
"""


def mend() -> None:
    """Put this room's parts into MiniStack, after a look whether all of it is where it was."""
    ministack.check()
    from ministack.core import iam_actions, lambda_runtime
    from ministack.services import cloudformation, eventbridge, lambda_svc, rds, s3
    from ministack.services.cloudformation import changesets, engine, handlers, helpers, stacks

    from scripts.local_aws import announcements, deliveries, resources, strictness

    for owner, name, outer in (
        (eventbridge, "_invoke_target", deliveries.deliver),
        (eventbridge, "_validate_target_arn", deliveries.check_target),
        (lambda_svc, "_execute_function", deliveries.in_turn),
        (iam_actions, "extract_resource_arn", strictness.resource_of),
        (s3, "handle_request", announcements.on_s3),
        (rds, "handle_request", announcements.on_rds),
        (helpers, "_resolve_document", strictness.resolve_url),
        (stacks, "_update_resource", strictness.update_if_allowed),
        (cloudformation, "handle_request", strictness.with_property_values),
        (changesets, "_resolve_props_for_diff", strictness.resolve_for_diff),
        (changesets, "_evaluate_conditions", strictness.evaluate_conditions),
        (engine, "_evaluate_conditions", strictness.evaluate_conditions),
        (handlers, "_evaluate_conditions", strictness.evaluate_conditions),
        (stacks, "_evaluate_conditions", strictness.evaluate_conditions),
    ):
        setattr(owner, name, functools.partial(outer, getattr(owner, name)))
    resources.install()
    strictness.install()
    known = f"_request[0] = context.aws_request_id; {ministack.HANDLER_CALL}"
    script = lambda_runtime._PYTHON_WORKER_SCRIPT.replace(ministack.HANDLER_CALL, known)
    lambda_runtime._PYTHON_WORKER_SCRIPT = LAMBDA_LOGGING + script


def report() -> dict[str, Any]:
    """Memory in bytes at its peak, and the stacks, as 'region/name'."""
    from ministack.services import cloudformation

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    there = [one for one in cloudformation._stacks._data.values() if one["StackStatus"] != "DELETE_COMPLETE"]
    arns = [stack["StackId"].split(":") for stack in there]
    return {"memory": memory, "stacks": sorted(f"{arn[3]}/{arn[5].split('/')[1]}" for arn in arns)}


async def serve(listener: socket.socket, tell: Callable[..., None], idle: float) -> None:
    """Serve on the bound socket, and tell so, until SIGTERM, or until no request came for ``idle`` seconds."""
    import ministack.app as stock
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config

    last, over = time.monotonic(), asyncio.Event()

    async def guard(scope: Any, receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        """Keep web pages out: a function is a program on this machine, and MiniStack answers every origin."""
        nonlocal last
        refused = any(name.lower() in BROWSER for name, _ in scope.get("headers", ()))
        if scope["type"] == "websocket" and refused:
            await send({"type": "websocket.close", "code": 1008})
        elif refused or scope.get("path") == server.STATUS_PATH:
            told = {"message": "the embedded AWS answers no browser"} if refused else report()
            await send({"type": "http.response.start", "status": 403 if refused else 200, "headers": []})
            await send({"type": "http.response.body", "body": json.dumps(told).encode()})
        else:
            # Policies that ask for TLS take the loopback for it: nobody listens on the way.
            await stock.app({**scope, "scheme": "https"}, receive, send)
            last = time.monotonic()

    async def wait() -> None:
        tell(url=f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}")
        while not over.is_set() and (left := last + idle - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), left)

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    config = Config.from_mapping(bind=[f"fd://{listener.detach()}"], keep_alive_timeout=75, graceful_timeout=1)
    config.loglevel = "WARNING"
    await hypercorn_serve(guard, config, shutdown_trigger=wait)  # type: ignore[arg-type]


def main() -> None:
    """Run in the foreground; argv: checkout, state directory, port (0: any). ``server.start`` makes a daemon of it."""
    port = int(sys.argv[3])
    with daemons.claimed(Path(sys.argv[2])) as tell, socket.socket() as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            os.environ |= SETTINGS | {"GATEWAY_PORT": str(listener.getsockname()[1])}
            mend()
            asyncio.run(serve(listener, tell, float(os.environ.get("LOCAL_AWS_IDLE") or 1800)))
        except OSError as error:
            sys.exit(f"port {port} of 127.0.0.1: {error.strerror}")
        except ToolError as error:
            sys.exit(str(error))
