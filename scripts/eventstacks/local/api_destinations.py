"""Delivery to API destinations: to a receiver on this machine, with retries.

No event leaves the machine. Only the hosts 127.0.0.1, localhost and *.localhost are called. AWS
requires https, and the loopback has no certificate, so the embedded AWS ends TLS itself: it sends
plain HTTP to the port of the https URL. Events for any other host go to the dead-letter queue.

Source of what is retried: EventBridge User Guide, 'API destinations as targets', error codes. Which
ERROR_CODE belongs to which failure is a guess; the codes are those of the guide, 'Using dead-letter
queues'.
"""

import asyncio
import functools
import http.client
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
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
# The first wait and the longest; each is twice the one before. AWS's are longer and not documented.
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # seconds
DEFAULT_ATTEMPTS, DEFAULT_AGE = 185, 86400  # of a target without RetryPolicy
REFUSED = "the embedded AWS sends events to 127.0.0.1, localhost and *.localhost only, not to {}"

_opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), eventbridge._NoFollowRedirect()
)
_pool = ThreadPoolExecutor(16, thread_name_prefix="api-destination")
_free: dict[str, float] = {}  # ARN of a destination -> when its rate allows the next request


class Failure(NotDelivered):
    """A request that failed.

    ``wait``: seconds that the receiver asks for (Retry-After).
    """

    def __init__(
        self, code: str, message: str, *, is_retried: bool = True, wait: float = 0
    ) -> None:
        super().__init__(code, message)
        self.is_retried, self.wait = is_retried, wait


def check_host(url: str) -> None:
    """Raise Failure for a URL that does not name this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host not in ("127.0.0.1", "localhost") and not host.endswith(".localhost"):
        raise Failure("CONNECTION_FAILURE", REFUSED.format(host), is_retried=False)


@patch("_http_open", eventbridge)
def open_loopback(_original: Original, request: Any, timeout: float | None = None) -> Any:
    """Send a request, also for an access token, to this machine by HTTP.

    Raises Failure for other hosts.
    """
    del timeout
    check_host(request.full_url)
    url = urlsplit(request.full_url)
    request.add_unredirected_header("Host", url.netloc)
    port = url.port or (443 if url.scheme == "https" else 80)
    request.full_url = url._replace(scheme="http", netloc=f"127.0.0.1:{port}").geturl()
    return _opener.open(request, timeout=TIMEOUT_SECONDS)


def failure_of(status: int, retry_after: str | None) -> Failure:
    """Return how an answer other than 2xx counts. A Retry-After that is a date is ignored here."""
    try:
        wait = float(retry_after or 0)
    except ValueError:
        wait = 0
    # A negative Retry-After ends the retries (guide).
    is_retried = (status in RETRIED or status >= 500) and wait >= 0
    code = "THROTTLING" if status == 429 else "ERROR_FROM_TARGET"
    return Failure(code, f"the receiver answered {status}", is_retried=is_retried, wait=wait)


def send(request: Json, connection: Json, key: tuple[str, ...]) -> None:
    """Send a request with the connection's credentials. Raises Failure.

    An access token that is refused is renewed once (re:Post). ``key``: of the token.
    """

    def send_once(*, renew: bool) -> None:
        headers = eventbridge._connection_auth_headers(connection, key, force_refresh=renew)
        sent = urllib.request.Request(  # noqa: S310 - open_loopback checks the URL
            request["url"],
            data=request["body"].encode(),
            headers=eventbridge._finalize_api_dest_headers({**request["headers"], **headers}),
            method=request["method"],
        )
        eventbridge._http_open(sent).close()

    is_oauth = connection["AuthorizationType"] == "OAUTH_CLIENT_CREDENTIALS"
    try:
        try:
            send_once(renew=False)
        except HTTPError as answer:
            if not (is_oauth and answer.code in (401, 407)):
                raise
            send_once(renew=True)
    except HTTPError as answer:
        raise failure_of(answer.code, answer.headers.get("Retry-After")) from answer
    except (http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise Failure("TIMEOUT", f"no answer within {TIMEOUT_SECONDS:g} seconds") from error
        text = f"the receiver cannot be reached: {reason}"
        raise Failure("CONNECTION_FAILURE", text) from error


def slot(arn: str, rate: float) -> float:
    """Reserve the next request that the rate of a destination allows.

    Return the seconds until then.
    """
    now = time.monotonic()
    due = max(now, _free.get(arn, now))
    _free[arn] = due + 1 / rate
    return due - now


async def carry(
    target: Mapping[str, Any], rule: Json, view: Any, rate: float, send: Callable[[], None]
) -> None:
    """Send until it succeeds, is not retried or the retry policy is exhausted.

    Then send it to the dead-letter queue.
    """
    policy = target.get("RetryPolicy") or {}
    attempts = policy.get("MaximumRetryAttempts", DEFAULT_ATTEMPTS)
    deadline = time.monotonic() + policy.get("MaximumEventAgeInSeconds", DEFAULT_AGE)
    retries, backoff = 0, FIRST_WAIT
    while True:
        await asyncio.sleep(slot(target["Arn"], rate))
        try:
            return await asyncio.get_running_loop().run_in_executor(_pool, send)
        except Failure as error:
            failure = error
        wait, backoff = max(backoff, failure.wait), min(2 * backoff, LONGEST_WAIT)
        limits = {
            "MaximumRetryAttempts": retries >= attempts,
            "MaximumEventAgeInSeconds": time.monotonic() + wait > deadline,
        }
        spent = [limit for limit, is_reached in limits.items() if is_reached and failure.is_retried]
        if spent or not failure.is_retried:
            break
        retries += 1
        await asyncio.sleep(wait)
    more = {"RETRY_ATTEMPTS": str(retries)}
    if spent:
        more["EXHAUSTED_RETRY_CONDITION"] = spent[0]
    give_up = functools.partial(deliveries.give_up, target, rule, view, more=more)
    with deliveries.giving_up(rule["Arn"], give_up):
        raise failure


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of deliveries, in a thread of its own.

    A slow receiver must not stop the embedded AWS.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="api-destinations").start()
    return loop


def to_api_destination(target: Target, _event: Json, rule: Json, view: Any) -> None:
    """Start the delivery to an API destination.

    Raises NotDelivered for one that does not exist or is elsewhere.
    """
    body = deliveries.text_for(target, rule, view)
    destination = eventbridge._api_destinations.get(target.arn.split("/")[1]) or {}
    connection = eventbridge._connections.get(destination.get("ConnectionArn", "").split("/")[-1])
    if not connection:
        raise NotDelivered("NO_RESOURCE", f"{target.arn} or its connection does not exist")
    parameters = eventbridge._resolve_http_parameters(
        target.settings.get("HttpParameters") or {}, view.event_with_detail()
    )
    request = eventbridge._build_api_destination_request(destination, connection, parameters, body)
    check_host(request["url"])
    key = (get_account_id(), get_region(), connection["Name"])
    rate = float(destination["InvocationRateLimitPerSecond"])
    # The context of this call, with account and Region, goes along.
    delivery = carry(
        target.settings, rule, view, rate, functools.partial(send, request, dict(connection), key)
    )
    asyncio.run_coroutine_threadsafe(delivery, _loop())


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
