"""MiniStack, as far as this room touches it: its functions, replaced and looked for at start, and its services, called.

Internals move between releases, and one that moved has to be told at once instead of losing events in silence.
"""

import ast
import functools
import importlib
import inspect
import json
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

Json = dict[str, Any]
Original = Callable[..., Any]  # a function of MiniStack's
log = logging.getLogger("local_aws")


class AwsError(Exception):
    """An error answer of a service; its text starts with the error's code."""


def patch(name: str, *owners: Any) -> Callable[[Original], Original]:
    """Put the decorated function in the place of MiniStack's in each module or table; it gets that one as its first.

    Raises KeyError where there is none.
    """

    def put(outer: Original) -> Original:
        for table in (vars(owner) if isinstance(owner, ModuleType) else owner for owner in owners):
            table[name] = functools.partial(outer, table[name])
        return outer

    return put


def check(*rooms: ModuleType) -> None:
    """Raise AttributeError at the first name that these modules' code uses of another module and that has not."""
    for room in rooms:
        for node in ast.walk(ast.parse(inspect.getsource(room))):
            owner = vars(room).get(getattr(getattr(node, "value", None), "id", ""))
            if isinstance(node, ast.Attribute) and isinstance(owner, ModuleType):
                getattr(owner, node.attr)


def send(
    service: str, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """One request to a service of this process, in the current account and region: (status, answer).

    Handlers are coroutines, but wait for nothing that is sent from here: they run to their end in one step, and so
    can be called in the midst of another request.
    """
    handler = importlib.import_module(f"ministack.services.{service}").handle_request(
        method, path, headers, body, {}
    )
    try:
        handler.send(None)
        raise RuntimeError(f"{service} waits in {method} {path}; it cannot be called from here")
    except StopIteration as done:
        return done.value[0], done.value[2] or b""


def call(service: str, target: str, **body: Any) -> Json:
    """One operation over the JSON protocol; AwsError when the service refuses."""
    headers = {"x-amz-target": target, "content-type": "application/x-amz-json-1.1"}
    status, answer = send(service, "POST", "/", headers, json.dumps(body).encode())
    data: Json = json.loads(answer or b"{}")
    if status >= 400:
        raise AwsError(
            f"{data.get('__type', status)}: {data.get('message') or data.get('Message')}"
        )
    return data
