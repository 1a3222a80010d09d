"""Process of the embedded AWS.

MiniStack with this package's patches, behind a guard, on 127.0.0.1.
"""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from eventstacks import local
from eventstacks.local import server

SETTINGS = {
    "BIND_HOST": "127.0.0.1",
    "AUTH": "true",
    "IOT_MTLS_ENABLED": "0",
    "SFTP_ENABLED": "0",
    "TZ": "UTC",
    "LOG_LEVEL": "WARNING",
}
NOT_PATCHES = {"daemon", "ministack", "server"}  # all other modules here patch MiniStack
CHECK_SECONDS = 1.0  # between two looks whether the state directory still exists


def apply_patches() -> None:
    """Patch MiniStack.

    End the process if the installed version lacks a name that the patches use.
    """
    try:
        from eventstacks.local import ministack

        names = {module.name for module in iter_modules(local.__path__)} - NOT_PATCHES
        ministack.check(*(import_module(f"eventstacks.local.{name}") for name in sorted(names)))
        import_module("eventstacks.local.functions").apply_patches()
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
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config
    from ministack.app import app as ministack_app

    from eventstacks.local.guard import Guard, answer
    from eventstacks.local.strictness import stack_names

    loop, over = asyncio.get_running_loop(), asyncio.Event()
    last = loop.time()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal last
        if scope.get("path") == server.STATUS_PATH:
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
        bind=[f"fd://{listener.detach()}"], keep_alive_timeout=75, graceful_timeout=1
    )
    config.loglevel = "WARNING"
    await hypercorn_serve(guard, config, shutdown_trigger=over.wait)


def main() -> None:
    """Run in the foreground.

    Arguments: state directory, port (0: any), idle seconds. Used by ``server.start``.
    """
    where, wanted, idle = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with server.lock(where) as alive:
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
        server.publish(alive, url=url, access_key=access_key, secret_key=secret_key)
        asyncio.run(serve(listener, idle, access_key, lambda: server.is_held(where, alive)))
