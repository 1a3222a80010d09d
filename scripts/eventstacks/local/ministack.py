"""Patches of MiniStack's functions, a check of their names, and calls of its services.

MiniStack's internals move between releases. A name that is missing ends the start with an error;
without the check, events would be lost silently.
"""

import ast
import contextvars
import functools
import importlib
import inspect
import json
import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, set_request_account_id, set_request_region

Json = dict[str, Any]
Original = Callable[..., Any]  # a function of MiniStack
log = logging.getLogger("local_aws")


class AwsError(Exception):
    """An error response of a service. Arguments: its error code and message."""

    def __str__(self) -> str:
        """Return code and message, as CloudFormation shows them."""
        return ": ".join(self.args)


class NotDelivered(AwsError):  # noqa: N818 - a result, not a fault
    """A target did not take an event. Arguments: EventBridge's ERROR_CODE and ERROR_MESSAGE."""


def patch(name: str, *owners: Any) -> Callable[[Original], Original]:
    """Replace a function in each module or table.

    The replacement gets the original as its first argument.

    Raises KeyError if an owner has no such function.
    """

    def replace(replacement: Original) -> Original:
        for table in (vars(owner) if isinstance(owner, ModuleType) else owner for owner in owners):
            table[name] = functools.partial(replacement, table[name])
        return replacement

    return replace


def check(*modules: ModuleType) -> None:
    """Raise AttributeError if ``modules`` use an attribute that another module does not have."""
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            owner = vars(module).get(getattr(getattr(node, "value", None), "id", ""))
            if isinstance(node, ast.Attribute) and isinstance(owner, ModuleType):
                getattr(owner, node.attr)


def send(
    service: str, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, bytes]:
    """Send a request to a service of this process in the current account and Region.

    Return (status, body).

    The handlers are coroutines, but these requests never wait: they finish in one step, so they can
    be sent while another request is handled. Services call each other over TLS.
    """
    iam_evaluator.pin_request_origin("127.0.0.1", secure_transport=True)
    module = importlib.import_module(f"ministack.services.{service}")
    handler = module.handle_request(method, path, headers, body, {})
    try:
        handler.send(None)
    except StopIteration as done:
        return done.value[0], done.value[2] or b""
    raise RuntimeError(f"{service} waits in {method} {path}; it cannot be called from here")


def call(service: str, target: str, **body: Any) -> Json:
    """Call an operation of the JSON protocol. Raises AwsError."""
    headers = {"x-amz-target": target, "content-type": "application/x-amz-json-1.1"}
    status, text = send(service, "POST", "/", headers, json.dumps(body).encode())
    answer: Json = json.loads(text or b"{}")
    if status >= 400:
        message = answer.get("message") or answer.get("Message")
        raise AwsError(str(answer.get("__type", status)), str(message))
    return answer


def as_text(value: Any) -> str:
    """Return a value as it is in a text property: JSON unless it is text already."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def in_region(
    region: str, function: Callable[..., Any], *arguments: Any, account: str | None = None
) -> Any:
    """Call a function as in another Region, and as in another account if one is given."""
    context = contextvars.copy_context()
    context.run(set_request_region, region)
    context.run(set_request_account_id, account or get_account_id())
    return context.run(function, *arguments)
