"""The embedded AWS itself: MiniStack in this process, mended, behind a guard, on 127.0.0.1 alone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from scripts.errors import ToolError
from scripts.local_aws import ministack, server

Send = Callable[[dict[str, Any]], Awaitable[None]]
BROWSER = {b"origin", b"sec-fetch-site", b"sec-fetch-mode"}
# A line of the Lambda runtime's own logging: level, time, request id, text, between tabs. Seen in AWS's documentation.
LAMBDA_LOGGING = """
import logging as _logging, time as _time
class _Formatter(_logging.Formatter):
    converter = _time.gmtime
    request_id = ""
    def format(self, record):
        record.aws_request_id = _Formatter.request_id
        return super().format(record)
_handler = _logging.StreamHandler()
_handler.setFormatter(_Formatter("[%(levelname)s]\\t%(asctime)s.%(msecs)03dZ\\t%(aws_request_id)s\\t%(message)s",
                                 "%Y-%m-%dT%H:%M:%S"))
_logging.getLogger().addHandler(_handler)
"""


def mend() -> None:
    """Put this room's parts into MiniStack, after a look whether all of it is where it was."""
    ministack.check()
    from ministack.core import lambda_runtime
    from ministack.services import cloudformation, eventbridge, rds, s3
    from ministack.services.cloudformation import helpers, provisioners, stacks

    from scripts.local_aws import announcements, deliveries, resources, strictness

    def wrap(owner: Any, name: str, outer: Callable[..., Any]) -> None:
        setattr(owner, name, functools.partial(outer, getattr(owner, name)))

    wrap(eventbridge, "_invoke_target", deliveries.deliver)
    wrap(eventbridge, "_validate_target_arn", deliveries.check_target)
    wrap(s3, "handle_request", announcements.on_s3)
    wrap(rds, "handle_request", announcements.on_rds)
    wrap(helpers, "_resolve_document", strictness.resolve_url)
    wrap(stacks, "_update_resource", strictness.update_if_allowed)
    wrap(cloudformation, "handle_request", strictness.with_property_values)
    strictness.mend(provisioners._RESOURCE_HANDLERS)
    provisioners._RESOURCE_HANDLERS.update(resources.TYPES)
    provisioners._REPLACING_PROPERTIES.update(resources.REPLACING)
    known = "_Formatter.request_id = context.aws_request_id; " + ministack.HANDLER_CALL
    script = lambda_runtime._PYTHON_WORKER_SCRIPT.replace(ministack.HANDLER_CALL, known)
    lambda_runtime._PYTHON_WORKER_SCRIPT = LAMBDA_LOGGING + script


class Guard:
    """In front of MiniStack: keeps web pages out, tells the status, and knows when the last request came."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self.application = application
        self.last = time.monotonic()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.application(scope, receive, send)
        # A function is a program on this machine and MiniStack answers every origin: a page must not reach it.
        if any(name.lower() in BROWSER for name, _ in scope["headers"]):
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 1008})
            return await answer(send, 403, {"message": "the embedded AWS answers no browser"})
        if scope["path"] == server.STATUS_PATH:
            return await answer(send, 200, report())
        self.last = time.monotonic()
        try:
            return await self.application(scope, receive, send)
        finally:
            self.last = time.monotonic()


async def answer(send: Send, status: int, document: dict[str, Any]) -> None:
    """One JSON answer."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(document).encode()})


def report() -> dict[str, Any]:
    """Memory in bytes (now where /proc has it, else the peak) and the stacks that are there."""
    from ministack.services import cloudformation

    try:
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    stacks = [stack["StackId"].split(":") for stack in cloudformation._stacks._data.values()]
    return {"memory": memory, "stacks": sorted(f"{arn[3]}/{arn[5].split('/')[1]}" for arn in stacks)}


async def serve(where: Path, port: int) -> None:
    """Serve until SIGTERM, or until no request came for LOCAL_AWS_IDLE seconds (1800)."""
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config

    import ministack.app

    guard = Guard(ministack.app.app)
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    config.loglevel = "WARNING"
    patience = float(os.environ.get("LOCAL_AWS_IDLE") or 1800)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)

    async def wait() -> None:
        told = {"pid": os.getpid(), "port": port, "url": f"http://127.0.0.1:{port}", "since": time.time()}
        (where / "server.json.new").write_text(json.dumps(told))
        (where / "server.json.new").replace(where / "server.json")
        while (left := guard.last + patience - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(over.wait(), left)  # type: ignore[no-any-return, func-returns-value]
        return None

    await hypercorn_serve(guard, config, shutdown_trigger=wait)  # type: ignore[arg-type]


def main(directory: str) -> None:
    """Run in the foreground; ``server.start`` makes a daemon of it."""
    where = Path(directory)
    with server.locked(where / "alive", 5) as mine:
        if not mine:
            sys.exit("another embedded AWS lives in this directory")
        try:
            mend()
            asyncio.run(serve(where, int(os.environ["GATEWAY_PORT"])))
        except ToolError as error:
            sys.exit(str(error))
        finally:
            (where / "server.json").unlink(missing_ok=True)
            shutil.rmtree(where / "tmp", ignore_errors=True)
            if os.getpgrp() == os.getpid():  # Lambda's workers must not outlive it
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.killpg(os.getpid(), signal.SIGTERM)
