"""Guard before MiniStack: answers only requests that carry the access key of this start.

A stack's functions are programs of this user on this machine, so a request that creates a stack
runs code as the user. Web pages and other users of the machine can send requests to the port.
MiniStack does not check Host, accepts 'test', any account ID or no key at all as root, and answers
GET. Therefore a request needs

- a Host name of the loopback with the own port, which a page whose name was rebound to 127.0.0.1
  does not have,
- none of the headers that only browsers send,
- an access key ID: the random one of this start, or one that this embedded AWS issued itself (an
  assumed role, a function's execution role, an IAM user; MiniStack checks their signatures, but not
  on its own paths such as /_ministack/reset, which need the random one).

Exception: the two callback URLs of CloudFormation, whose random token is the credential, as in
AWS's signed URLs.
"""

import json
import re
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qs

from ministack.core import iam_evaluator, router
from ministack.services import sts
from ministack.services.cloudformation import custom_resource, wait_conditions

# 127.0.0.1, localhost and S3's virtual-host forms: bucket.localhost, bucket.s3.localhost,
# bucket.s3.region.localhost.
HOST = r"127\.0\.0\.1|(?:[a-z0-9-]+\.)*localhost"
BROWSER_HEADERS = {"origin", "sec-fetch-site", "sec-fetch-mode"}
CALLBACKS = {  # path before the token -> the tokens of callbacks that a stack is waiting for
    "/_ministack/cfn-response/": custom_resource._pending,
    wait_conditions.SIGNAL_PATH: wait_conditions._handles,
}


class Guard:
    """ASGI application that refuses requests without a valid access key and passes on all others.

    An access key ID of the form ``<key>-<12 digits>`` is the root user of that account.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], port: int, access_key: str) -> None:
        self._app, self._access_key = app, access_key
        self._host = re.compile(rf"(?:{HOST}):{port}", re.IGNORECASE)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        pairs = [
            (name.decode("latin-1").lower(), v.decode("latin-1")) for name, v in scope["headers"]
        ]
        query = parse_qs(scope["query_string"].decode("latin-1"))
        key = router.extract_access_key_id(dict(pairs), query)
        own, dash, account = key.partition("-")
        is_own = compare_digest(own.encode(), self._access_key.encode())
        if is_own:
            is_valid = not dash or bool(re.fullmatch(r"\d{12}", account))
        else:  # a temporary or IAM access key of MiniStack, whose signature it checks
            known = iam_evaluator.find_iam_access_key_account(key)
            is_issued = key in sts._sessions or known is not None
            is_valid = is_issued and not scope["path"].startswith("/_")
        if refusal := self._refusal(scope, pairs, is_valid=is_valid):
            return await answer(scope["type"], 403, error(refusal, dict(pairs)), send)
        if (
            is_own and account
        ):  # MiniStack takes a plain account ID for the root user of that account
            old, new = key.encode(), account.encode()
            headers = [(name, value.replace(old, new)) for name, value in scope["headers"]]
            query_string = scope["query_string"].replace(old, new)
            scope = {**scope, "headers": headers, "query_string": query_string}
        # Policies that require TLS are satisfied: the loopback cannot be intercepted.
        return await self._app({**scope, "scheme": "https"}, receive, send)

    def _refusal(
        self, scope: dict[str, Any], pairs: list[tuple[str, str]], *, is_valid: bool
    ) -> str:
        """Return why the request is refused, or ''."""
        names, headers = [name for name, _ in pairs], dict(pairs)
        path, _, token = scope["path"].rpartition("/")
        is_callback = scope.get("method") == "PUT" and token in CALLBACKS.get(f"{path}/", ())
        reasons = {
            "a header is repeated": max(names.count("host"), names.count("authorization")) > 1,
            "the Host header does not name this endpoint": not self._host.fullmatch(
                headers.get("host", "")
            ),
            "browsers are not answered": bool(BROWSER_HEADERS & headers.keys()),
            "the access key is not valid, run: eventstacks local env": not (
                is_valid or is_callback
            ),
        }
        return next((reason for reason, applies in reasons.items() if applies), "")


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
