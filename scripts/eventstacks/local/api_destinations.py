"""Delivery to API destinations: to a receiver on this machine, with retries.

No event leaves the machine. Only the hosts 127.0.0.1, localhost and *.localhost are called. AWS
requires https, and the loopback has no certificate, so the embedded AWS ends TLS itself: it sends
plain HTTP to the port of the https URL. Events for any other host go to the dead-letter queue.

Source of what is retried: EventBridge User Guide, 'API destinations as targets', error codes. Which
ERROR_CODE belongs to which failure is a guess; the codes are those of the guide, 'Using dead-letter
queues'.
"""

import contextvars
import functools
import http.client
import json
import re
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from ministack.core.responses import get_account_id, get_region
from ministack.services import eventbridge

from eventstacks.flow.targets import Target
from eventstacks.local import deliveries
from eventstacks.local.ministack import Json, NotDelivered, Original, patch

TIMEOUT_SECONDS = 5.0  # of EventBridge for an answer
RETRIED = (401, 407, 409, 429)  # and all of 5xx
# Seconds before each retry. AWS retries for hours; its waits are not documented.
WAITS = (0.1, 0.2, 0.4, 0.8, 1.6)
LONGEST_WAIT = 5.0  # seconds, also for a receiver that asks for more
REQUESTS = threading.BoundedSemaphore(64)  # at a time: a process has only so many open files

_opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), eventbridge._NoFollowRedirect()
)


class RetryableError(NotDelivered):
    """A failure that is retried.

    ``wait``: seconds that the receiver asks for (Retry-After).
    """

    def __init__(self, code: str, message: str, wait: float = 0) -> None:
        super().__init__(code, message)
        self.wait = wait


def check_host(url: str) -> None:
    """Raise NotDelivered for a URL that does not name this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host not in ("127.0.0.1", "localhost") and not host.endswith(".localhost"):
        raise NotDelivered(
            "CONNECTION_FAILURE",
            f"the embedded AWS sends events to 127.0.0.1 and localhost only, not to {host}",
        )


@patch("_http_open", eventbridge)
def open_loopback(_original: Original, request: Any) -> Any:
    """Send a request, also for an access token, to this machine by HTTP.

    Raises NotDelivered for other hosts.
    """
    check_host(request.full_url)
    url = urlsplit(request.full_url)
    request.add_unredirected_header("Host", url.netloc)
    port = url.port or (443 if url.scheme == "https" else 80)
    request.full_url = url._replace(scheme="http", netloc=f"127.0.0.1:{port}").geturl()
    return _opener.open(request, timeout=TIMEOUT_SECONDS)


def failure_of(status: int, retry_after: str | None) -> NotDelivered:
    """Return how an answer other than 2xx counts. A Retry-After that is a date is ignored here."""
    code = "THROTTLING" if status == 429 else "ERROR_FROM_TARGET"
    message = f"the receiver answered {status}"
    seconds = re.fullmatch(r"-?\d{1,9}", retry_after or "")
    wait = int(seconds[0]) if seconds else 0
    # A negative Retry-After ends the retries (guide).
    if (status in RETRIED or status >= 500) and wait >= 0:
        return RetryableError(code, message, wait)
    return NotDelivered(code, message)


def send(request: Json, connection: Json, key: tuple[str, ...]) -> None:
    """Send a request with the connection's credentials. Raises NotDelivered.

    The next request after an access token was refused gets a new one (re:Post). ``key``: of the
    token.
    """
    try:
        headers = eventbridge._connection_auth_headers(connection, key)
        sent = urllib.request.Request(  # noqa: S310 - open_loopback checks the URL
            request["url"],
            data=request["body"].encode(),
            headers=eventbridge._finalize_api_dest_headers({**request["headers"], **headers}),
            method=request["method"],
        )
        eventbridge._http_open(sent).close()
    except HTTPError as answer:
        if answer.code in {401, 407}:
            eventbridge._oauth_tokens.pop(key, None)
        raise failure_of(answer.code, answer.headers.get("Retry-After")) from answer
    except (http.client.HTTPException, OSError, ValueError) as error:
        # Other exceptions can quote a header, and so a secret of the connection.
        is_public = isinstance(error, OSError)
        reason = getattr(error, "reason", error) if is_public else type(error).__name__
        code = "TIMEOUT" if isinstance(reason, TimeoutError) else "CONNECTION_FAILURE"
        raise RetryableError(code, f"the receiver did not answer: {reason}") from error


def send_with_retries(
    target: Mapping[str, Any], rule: Json, view: Any, attempt: Callable[[], None]
) -> None:
    """Send until it succeeds, is not retried or the retries are exhausted; then give it up."""
    attempts = (target.get("RetryPolicy") or {}).get("MaximumRetryAttempts", len(WAITS))
    more: dict[str, str] = {}
    give_up = functools.partial(deliveries.give_up, target, rule, view, more=more)
    with deliveries.giving_up(rule["Arn"], give_up):
        for retries, wait in enumerate((*WAITS[:attempts], None)):
            more["RETRY_ATTEMPTS"] = str(retries)
            try:
                with REQUESTS:
                    attempt()
            except RetryableError as failure:
                if wait is None:
                    more["EXHAUSTED_RETRY_CONDITION"] = "MaximumRetryAttempts"
                    raise
                time.sleep(max(wait, min(failure.wait, LONGEST_WAIT)))
            else:
                break


def to_api_destination(target: Target, text: str, _event: Json, rule: Json, view: Any) -> None:
    """Start the delivery to an API destination.

    Raises NotDelivered for one that does not exist or is elsewhere.
    """
    destination = eventbridge._api_destinations.get(target.arn.split("/")[1]) or {}
    connection = eventbridge._connections.get(destination.get("ConnectionArn", "").split("/")[-1])
    if not connection:
        raise NotDelivered("NO_RESOURCE", f"{target.arn} or its connection does not exist")
    parameters = eventbridge._resolve_http_parameters(
        target.settings.get("HttpParameters") or {}, view.event_with_detail()
    )
    request = eventbridge._build_api_destination_request(destination, connection, parameters, text)
    check_host(request["url"])
    key = (get_account_id(), get_region(), connection["Name"])
    delivery = functools.partial(send, request, dict(connection), key)
    # In a thread, so that a slow receiver delays nothing else.
    threading.Thread(
        target=contextvars.copy_context().run,  # with the account and Region of this call
        args=(send_with_retries, target.settings, rule, view, delivery),
        daemon=True,
    ).start()


deliveries.RULE_SENDERS["api-destination"] = to_api_destination


@patch("_describe_connection", eventbridge)
def without_secrets(original: Original, data: Json) -> Any:
    """Describe a connection without passwords, keys and secrets, as AWS does (API reference).

    That it hides the values of parameters with IsValueSecret too is a guess.
    """

    def shown(found: Json) -> Json:
        hidden = {"ApiKeyValue", "Password", "ClientSecret"}
        hidden |= {"Value"} if found.get("IsValueSecret") else set()
        return {key: value for key, value in found.items() if key not in hidden}

    status, headers, body = original(data)
    return status, headers, json.dumps(json.loads(body, object_hook=shown)).encode()
