"""One PutEvents call with a body that is already JSON: boto3 signs, sends and reads it, and checks nothing twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NoConnection

from eventstacks.aws import is_login_error, is_transient

# EventBridge API reference, PutEvents, and those of any busy service; every other code of an entry is for good.
PASSING = frozenset(
    {
        "InternalFailure",
        "InternalException",
        "InternalServerError",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)
# The signature is at fault: no entry is, and none must be refused for it. What else is: is_login_error.
CREDENTIALS = frozenset(
    {
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "IncompleteSignature",
        "MissingAuthenticationToken",
    }
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an entry, or a whole call, was not taken."""

    code: str
    message: str
    passing: bool  # worth another try
    whole: bool = False  # the call was refused for what one of its entries is


class Caller:
    """PutEvents of one boto3 client, for entries that are JSON already. Safe to share between threads.

    boto3's own way (check, serialise, resolve, sign, send, retry, parse) takes 1.1 ms of processor time for ten
    entries and so ends near 8,700 events/s; signing and sending take 0.7 ms. So this keeps the client's
    credentials, signer, endpoint and connections, and leaves out the rest. Repeating is the sender's business.
    """

    def __init__(self, client: Any) -> None:
        self._signer = client._request_signer  # noqa: SLF001 - boto3 offers no other way to sign with a client's credentials
        self._http = client._endpoint.http_session  # noqa: SLF001 - nor to send with its connections, proxies and certificates
        self._events = client.meta.events
        self._url = client.meta.endpoint_url.rstrip("/") + "/"
        self._region = client.meta.region_name
        self._headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": "AWSEvents.PutEvents",
        }
        if client.meta.config.user_agent:
            self._headers["User-Agent"] = client.meta.config.user_agent

    def put(self, entries: list[bytes]) -> list[Failure | None]:
        """One failure, or None, for each entry. Raises BotoCoreError or ClientError when the credentials fail."""
        try:
            response = self._send(b'{"Entries":[' + b",".join(entries) + b"]}")
            status, content = response.status_code, response.content
        except (HTTPClientError, NoConnection) as error:  # no connection, a cut one, a timeout
            return [Failure(type(error).__name__, str(error), passing=True)] * len(entries)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = {}
        if status != 200:
            return [_refusal(status, answer)] * len(entries)
        results = answer.get("Entries", ())
        if len(results) != len(entries):
            text = f"{len(results)} results for {len(entries)} entries"
            return [Failure("NoAnswer", text, passing=True)] * len(entries)
        return [
            Failure(code, one.get("ErrorMessage") or "", _passes(code))
            if (code := one.get("ErrorCode"))
            else None
            for one in results
        ]

    def _send(self, body: bytes) -> Any:
        request = AWSRequest("POST", self._url, self._headers, body)
        self._signer.get_auth_instance("events", self._region, "v4").add_auth(request)
        prepared = request.prepare()
        # What listens on the client may answer in the network's place, as for any call of boto3.
        _, heard = self._events.emit_until_response(
            "before-send.events.PutEvents", request=prepared
        )
        return heard or self._http.send(prepared)


def _error(code: str, message: str = "", status: int = 200) -> ClientError:
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "PutEvents")


def _passes(code: str) -> bool:
    return code in PASSING or is_transient(_error(code))


def _refusal(status: int, answer: dict[str, Any]) -> Failure:
    """Why a whole call was refused. Raises ClientError when the credentials were."""
    code = str(answer.get("__type", status)).rsplit("#", 1)[-1].split(":")[0]
    message = str(answer.get("message") or answer.get("Message") or f"HTTP {status}")
    error = _error(code, message, status)
    if code in CREDENTIALS or is_login_error(error):
        raise error
    passing = _passes(code) or is_transient(error) or status == 429
    return Failure(
        code, message, passing, whole=not passing and not code.startswith("AccessDenied")
    )
