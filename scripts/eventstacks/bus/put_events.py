"""PutEvents calls with entries that are JSON already: botocore signs and sends them.

client.put_events validates, serializes and parses each entry: with ten entries it takes 1.3 ms of
processor time; signing and sending take 0.8 ms (`make bench-send`). Retries are the sender's task:
botocore does not see entries that failed in a call that succeeded.
"""

from __future__ import annotations

import email.utils
import json
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError, SSLError
from botocore.httpsession import URLLib3Session
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies

from eventstacks.aws import AWS_ERRORS, error_code, error_message, is_login_error, is_transient
from eventstacks.bus.stacks import BusError, check_bus

# Beside throttling, only these can succeed later; all other codes of an entry are permanent.
# Source: EventBridge API reference, PutEventsResultEntry; common errors of AWS services.
RETRYABLE = (
    "InternalFailure",
    "InternalException",
    "InternalServerError",
    "ServiceUnavailable",
    "ServiceUnavailableException",
)
# The signature was refused, not an entry. See also eventstacks.aws.is_login_error.
SIGNATURE_CODES = (
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
)
HEADERS = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSEvents.PutEvents"}
_SIGNING = "before-sign.events.DescribeEventBus"
# As botocore's clients: without it each request waits 40 ms for an acknowledgment.
_NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an entry was not accepted.

    ``retryable``: the entry can succeed later. ``whole_call``: the call was refused because of one
    of its entries. ``retry_after``: seconds that the answer asked to wait.
    """

    code: str
    message: str
    retryable: bool = False
    whole_call: bool = False
    retry_after: float = 0.0


class PutEvents:
    """PutEvents of one boto3 client. Threads can share it.

    Credentials, endpoint, proxies and timeouts are the client's. If the client has certificates of
    its own (``verify``) or is stubbed, the calls go through client.put_events.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._signer: Any = None
        self._checked: dict[str, BusError | None] = {}
        self._lock = threading.Lock()
        config, self._url = client.meta.config, client.meta.endpoint_url.rstrip("/") + "/"
        self._headers = {**HEADERS, "User-Agent": config.user_agent or ""}
        self._http = URLLib3Session(
            proxies=config.proxies or get_environ_proxies(self._url),
            proxies_config=config.proxies_config,
            timeout=(config.connect_timeout, config.read_timeout),
            max_pool_connections=config.max_pool_connections,
            client_cert=config.client_cert,
            socket_options=[_NO_DELAY],
        )

    def check_bus(self, bus: str) -> None:
        """Raise BusError if the bus does not exist; ask AWS once. Raises botocore's errors."""
        with self._lock:
            if bus not in self._checked:
                # Before signing, a client passes its signer, which has its credentials, to handlers.
                self._client.meta.events.register(_SIGNING, self._keep_signer)
                try:
                    check_bus(self._client, bus)
                    self._checked[bus] = None
                except BusError as error:
                    self._checked[bus] = error
                finally:
                    self._client.meta.events.unregister(_SIGNING, self._keep_signer)
            if missing := self._checked[bus]:
                raise missing

    def put(self, entries: list[bytes]) -> list[Failure | None]:
        """Make one call; return a failure or None for each entry.

        Raises ClientError or BotoCoreError if the credentials are not valid.
        """
        try:
            answer = self._call(entries)
            results = answer.get("Entries") if isinstance(answer, dict) else None
            if not isinstance(results, list) or len(results) != len(entries):
                raise ResponseParserError("the answer is not one of PutEvents")
            return [_entry_failure(result) for result in results]
        except AWS_ERRORS as error:
            return [failure_of(error)] * len(entries)

    def _keep_signer(self, request_signer: Any, **_: Any) -> None:
        self._signer = request_signer

    def _call(self, entries: list[bytes]) -> Any:
        if self._signer:
            try:
                return self._direct(b'{"Entries":[' + b",".join(entries) + b"]}")
            except SSLError:
                self._signer = None
        return self._client.put_events(Entries=[json.loads(entry) for entry in entries])

    def _direct(self, body: bytes) -> Any:
        request = AWSRequest("POST", self._url, self._headers, body)
        region, events = self._client.meta.region_name, self._client.meta.events
        self._signer.get_auth_instance("events", region, "v4").add_auth(request)
        prepared = request.prepare()
        # A handler of the client may answer instead of the network, as in each call of boto3.
        _, response = events.emit_until_response("before-send.events.PutEvents", request=prepared)
        response = response or self._http.send(prepared)
        try:
            answer = json.loads(response.content)
        except ValueError:
            answer = None
        if response.status_code == 200:
            return answer
        fields = answer if isinstance(answer, dict) else {}
        code = str(fields.get("__type") or "").rsplit("#", 1)[-1].split(":")[0]
        text = fields.get("message") or fields.get("Message") or f"HTTP {response.status_code}"
        headers = {key.lower(): value for key, value in response.headers.items()}
        status = {"HTTPStatusCode": response.status_code, "HTTPHeaders": headers}
        error: Any = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": status}
        raise ClientError(error, "PutEvents")


def failure_of(error: Exception) -> Failure:
    """Return the failure of a whole call. Raises the error if the credentials are at fault."""
    answer: Any = error.response if isinstance(error, ClientError) else {}
    code, metadata = error_code(error), answer.get("ResponseMetadata", {})
    status = metadata.get("HTTPStatusCode")
    if code in SIGNATURE_CODES or is_login_error(error) or not (answer or is_transient(error)):
        raise error
    # An answer without a code is not AWS's, but for example a proxy's: the call can succeed later.
    retryable = not code or code in RETRYABLE or status == 429 or is_transient(error)
    return Failure(
        code or (f"Http{status}" if answer else type(error).__name__),
        error_message(error),
        retryable,
        whole_call=not retryable,
        retry_after=_seconds(metadata.get("HTTPHeaders", {}).get("retry-after", "")),
    )


def _seconds(retry_after: str) -> float:
    """Return the seconds of a Retry-After header: a number or an HTTP date (RFC 9110, 10.2.3)."""
    try:
        if retry_after.strip().isdecimal():
            return float(retry_after)
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _entry_failure(result: Any) -> Failure | None:
    if not isinstance(result, dict):
        raise ResponseParserError("the answer is not one of PutEvents")
    if not (code := result.get("ErrorCode")):
        return None
    retryable = code in RETRYABLE or is_transient(ClientError({"Error": {"Code": code}}, ""))
    return Failure(str(code), str(result.get("ErrorMessage") or ""), retryable)
