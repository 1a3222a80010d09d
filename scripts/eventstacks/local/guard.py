"""Guard before MiniStack: answers only requests that carry the access key of this start.

A stack's functions are programs of this user on this machine, so a request that creates a stack runs code as the
user. Web pages and other users of the machine can send requests to the port. MiniStack does not check Host, accepts
'test', any account ID or no key at all as root, and answers GET. Therefore a request needs

- a Host name of the loopback with the own port, which a page whose name was rebound to 127.0.0.1 does not have,
- none of the headers that only browsers send,
- an access key ID: the random one of this start, or one that this embedded AWS issued itself (an assumed role, a
  function's execution role, an IAM user; MiniStack checks their signatures).

Exception: the two callback URLs of CloudFormation, whose random token is the credential, as in AWS's signed URLs.
"""

from __future__ import annotations

import json
import re
from hmac import compare_digest
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from ministack.core import iam_evaluator, router
from ministack.services import sts
from ministack.services.cloudformation import custom_resource, wait_conditions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# 127.0.0.1, localhost and S3's virtual-host forms: bucket.localhost, bucket.s3.localhost, bucket.s3.region.localhost.
HOST = r"127\.0\.0\.1|(?:[a-z0-9-]+\.)*localhost"
BROWSER_HEADERS = ("origin", "sec-fetch-site", "sec-fetch-mode")
SINGLE_HEADERS = ("host", "authorization")
CALLBACKS = {  # path before the token -> the tokens that are waited for
    "/_ministack/cfn-response/": custom_resource._pending,
    wait_conditions.SIGNAL_PATH: wait_conditions._handles,
}


class Guard:
    """ASGI application that refuses requests without a valid access key and passes on all others.

    An access key ID of the form ``<key>-<12 digits>`` is the root user of that account.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], port: int, access_key: str) -> None:
        self._app = app
        self._host = re.compile(rf"(?:{HOST}):{port}", re.IGNORECASE)
        self._access_key = access_key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        pairs = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ]
        key = router.extract_access_key_id(
            dict(pairs), parse_qs(scope["query_string"].decode("latin-1"))
        )
        account = self._account(key)
        if refusal := self._refusal(scope, pairs, is_valid=account is not None or is_issued(key)):
            await answer(scope["type"], 403, error(refusal, dict(pairs)), send)
            return
        if account:  # MiniStack takes a plain account ID for the root user of that account
            old, new = key.encode(), account.encode()
            headers = [(name, value.replace(old, new)) for name, value in scope["headers"]]
            query = scope["query_string"].replace(old, new)
            scope = {**scope, "headers": headers, "query_string": query}
        # Policies that require TLS are satisfied: the loopback cannot be intercepted.
        await self._app({**scope, "scheme": "https"}, receive, send)

    def _account(self, key: str) -> str | None:
        """Return the account ID behind the own access key, '' if it has none, or None for another key."""
        own, dash, account = key.partition("-")
        if not compare_digest(own.encode(), self._access_key.encode()):
            return None
        return account if not dash or re.fullmatch(r"\d{12}", account) else None

    def _refusal(
        self, scope: dict[str, Any], pairs: list[tuple[str, str]], *, is_valid: bool
    ) -> str:
        """Return why the request is refused, or ''."""
        names, headers = [name for name, _ in pairs], dict(pairs)
        if any(names.count(name) > 1 for name in SINGLE_HEADERS):
            return "a header is repeated"
        if not self._host.fullmatch(headers.get("host", "")):
            return "the Host header does not name this endpoint"
        if set(BROWSER_HEADERS) & headers.keys():
            return "browsers are not answered"
        if is_valid or is_callback(scope):
            return ""
        return "the access key is not valid: run `eventstacks local env`"


def is_issued(key: str) -> bool:
    """Return True for a temporary or IAM access key that MiniStack issued and whose signature it checks."""
    return key in sts._sessions or iam_evaluator.find_iam_access_key_account(key) is not None


def is_callback(scope: dict[str, Any]) -> bool:
    """Return True for the answer of a custom resource or wait condition that a stack is waiting for."""
    return scope.get("method") == "PUT" and any(
        scope["path"].startswith(prefix) and scope["path"].removeprefix(prefix) in tokens
        for prefix, tokens in CALLBACKS.items()
    )


def error(reason: str, headers: dict[str, str]) -> str:
    """Return the error in the protocol of the request, so that AWS clients show the reason."""
    message = f"The embedded AWS refused the request: {reason}"
    if "x-amz-target" in headers or "json" in headers.get("content-type", ""):
        return json.dumps({"__type": "AccessDeniedException", "message": message})
    text = f"<Type>Sender</Type><Code>AccessDenied</Code><Message>{message}</Message>"
    return f"<ErrorResponse><Error>{text}</Error></ErrorResponse>"


async def answer(kind: str, status: int, body: str, send: Any) -> None:
    """Answer an HTTP request or a WebSocket handshake with JSON or XML."""
    prefix = "websocket.http.response" if kind == "websocket" else "http.response"
    content_type = b"text/xml" if body.startswith("<") else b"application/json"
    headers = [(b"content-type", content_type)]
    await send({"type": f"{prefix}.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body.encode()})
