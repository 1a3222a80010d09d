"""API destinations: their resource types, and delivery to a receiver on this machine, with retries.

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
import threading
import time
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ministack.core.responses import get_account_id, get_region
from ministack.services import eventbridge

from eventstacks.local import deliveries, resources
from eventstacks.local.deliveries import NotDelivered
from eventstacks.local.ministack import Json, Original, call, log, patch

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


@dataclass(frozen=True)
class Failure:
    """A request that failed.

    ``wait``: seconds that the receiver asks for (Retry-After), None if it asks for none.
    """

    code: str
    message: str
    is_retried: bool = True
    wait: float | None = None


def is_loopback(url: str) -> bool:
    """Return True if a URL names this machine."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    return host in ("127.0.0.1", "localhost") or host.endswith(".localhost")


@patch("_http_open", eventbridge)
def open_loopback(_original: Original, request: Any, timeout: float | None = None) -> Any:
    """Send a request, also for an access token, to this machine by HTTP.

    Raises NotDelivered for other hosts.
    """
    del timeout
    url = urlsplit(request.full_url)
    if not is_loopback(request.full_url):
        raise NotDelivered("CONNECTION_FAILURE", REFUSED.format(url.hostname))
    request.add_unredirected_header("Host", url.netloc)
    port = url.port or (443 if url.scheme == "https" else 80)
    request.full_url = url._replace(scheme="http", netloc=f"127.0.0.1:{port}").geturl()
    return _opener.open(request, timeout=TIMEOUT_SECONDS)


def failure_of(status: int, retry_after: str | None) -> Failure | None:
    """Return how an answer counts.

    None for success. A Retry-After that is a date is ignored here.
    """
    if 200 <= status < 300:
        return None
    try:
        wait = float(retry_after or "")
    except ValueError:
        wait = None
    # A negative Retry-After ends the retries (guide).
    is_retried = (status in RETRIED or status >= 500) and not (wait is not None and wait < 0)
    code = "THROTTLING" if status == 429 else "ERROR_FROM_TARGET"
    return Failure(code, f"the receiver answered {status}", is_retried, wait)


def request_once(request: Json, connection: Json, key: tuple[str, ...], *, renew: bool) -> int:
    """Send a request with the connection's credentials.

    Return the status. Raises HTTPError for all but 2xx.

    ``key``: of the access token. ``renew``: get a new one.
    """
    headers = {
        **request["headers"],
        **eventbridge._connection_auth_headers(connection, key, force_refresh=renew),
    }
    sent = urllib.request.Request(  # noqa: S310 - open_loopback checks the URL
        request["url"],
        data=request["body"].encode(),
        headers=eventbridge._finalize_api_dest_headers(headers),
        method=request["method"],
    )
    with eventbridge._http_open(sent) as answer:
        return int(answer.status)


def attempt(request: Json, connection: Json, key: tuple[str, ...]) -> Failure | None:
    """Make one attempt.

    Return why it failed. An access token that is refused is renewed once (re:Post).
    """
    is_oauth = connection["AuthorizationType"] == "OAUTH_CLIENT_CREDENTIALS"
    try:
        try:
            request_once(request, connection, key, renew=False)
        except HTTPError as answer:
            if not (is_oauth and answer.code in (401, 407)):
                raise
            request_once(request, connection, key, renew=True)
    except HTTPError as answer:
        return failure_of(answer.code, answer.headers.get("Retry-After"))
    except NotDelivered as refusal:
        return Failure(refusal.args[0], refusal.args[1], is_retried=False)
    except (URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return Failure("TIMEOUT", f"no answer within {TIMEOUT_SECONDS:g} seconds")
        return Failure("CONNECTION_FAILURE", f"the receiver cannot be reached: {reason}")
    return None


def slot(arn: str, rate: float) -> float:
    """Reserve the next request that the rate of a destination allows.

    Return the seconds until then.
    """
    now = time.monotonic()
    due = max(now, _free.get(arn, now))
    _free[arn] = due + 1 / rate
    return due - now


async def carry(target: Json, rule: Json, view: Any, rate: float, send: Any) -> None:
    """Attempt until it succeeds, is not retried or the retry policy is exhausted.

    Then send it to the DLQ.
    """
    policy = target.get("RetryPolicy") or {}
    attempts = policy.get("MaximumRetryAttempts", DEFAULT_ATTEMPTS)
    deadline = time.monotonic() + policy.get("MaximumEventAgeInSeconds", DEFAULT_AGE)
    retries, backoff, spent = 0, FIRST_WAIT, ""
    while True:
        await asyncio.sleep(slot(target["Arn"], rate))
        failure = await asyncio.get_running_loop().run_in_executor(_pool, send)
        if not failure:
            return
        wait, backoff = max(backoff, failure.wait or 0), min(2 * backoff, LONGEST_WAIT)
        if failure.is_retried:
            spent = "MaximumRetryAttempts" if retries >= attempts else ""
            spent = spent or (
                "MaximumEventAgeInSeconds" if time.monotonic() + wait > deadline else ""
            )
        if spent or not failure.is_retried:
            break
        retries += 1
        await asyncio.sleep(wait)
    more = {"RETRY_ATTEMPTS": str(retries)} | (
        {"EXHAUSTED_RETRY_CONDITION": spent} if spent else {}
    )
    try:
        deliveries.send_to_dlq(target, rule, view, failure.code, failure.message, more)
    except Exception:  # noqa: BLE001 - no caller is left
        log.exception("not delivered to %s, nor to its dead-letter queue", target["Arn"])


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of deliveries, in a thread of its own.

    A slow receiver must not stop the embedded AWS.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="api-destinations").start()
    return loop


def to_api_destination(target: Json, _event: Json, rule: Json, view: Any) -> None:
    """Start the delivery to an API destination.

    Raises NotDelivered for one that does not exist or is elsewhere.
    """
    destination = eventbridge._api_destinations.get(target["Arn"].split("/")[1]) or {}
    arn = destination.get("ConnectionArn", "")
    connection = eventbridge._connections.get(arn.partition("/")[2])
    if not connection or target["Arn"].split(":")[3] != get_region():
        raise NotDelivered("NO_RESOURCE", f"{target['Arn']} or its connection does not exist")
    parameters = eventbridge._resolve_http_parameters(
        target.get("HttpParameters") or {}, view.event_with_detail()
    )
    body = deliveries.body_of(target, view)
    request = eventbridge._build_api_destination_request(destination, connection, parameters, body)
    if not is_loopback(request["url"]):
        raise NotDelivered("CONNECTION_FAILURE", REFUSED.format(urlsplit(request["url"]).hostname))
    key = (get_account_id(), get_region(), connection["Name"])
    send = functools.partial(attempt, request, dict(connection), key)
    rate = float(destination["InvocationRateLimitPerSecond"])
    # The context of this call, with account and Region, goes along.
    asyncio.run_coroutine_threadsafe(carry(target, rule, view, rate, send), _loop())


deliveries.SENDERS["api-destination"] = to_api_destination


@patch("_create_api_destination", eventbridge)
def with_id(original: Original, data: Json) -> Any:
    """Create an API destination whose ARN ends with an ID, as on AWS, and whose endpoint is https.

    MiniStack has neither. The ARN without the ID is for policies (ArnForPolicy).
    """
    if not str(data.get("InvocationEndpoint")).startswith("https://"):
        text = "Parameter InvocationEndpoint is not valid. Reason: Must be an https endpoint."
        return eventbridge.error_response_json("ValidationException", text, 400)
    status, headers, body = original(data)
    if status >= 300:
        return status, headers, body
    record = eventbridge._api_destinations[data["Name"]]
    plain, record["ApiDestinationArn"] = (
        record["ApiDestinationArn"],
        f"{record['ApiDestinationArn']}/{uuid.uuid4()}",
    )
    return status, headers, body.replace(plain.encode(), record["ApiDestinationArn"].encode())


@patch("_describe_connection", eventbridge)
def without_secrets(original: Original, data: Json) -> Any:
    """Describe a connection without passwords, keys and secrets, as AWS does (API reference)."""
    connection = eventbridge._connections.get(data.get("Name"))
    if not connection:
        return original(data)
    hidden = {"ApiKeyValue", "Password", "ClientSecret"}

    def shown(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shown(one) for key, one in value.items() if key not in hidden}
        return value

    return eventbridge.json_response(shown(dict(connection)))


def put_connection(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put a connection.

    Its access token is not asked for before the first event; AWS asks at once.
    """
    answer = call("eventbridge", f"AWSEvents.{verb}Connection", **{**props, "Name": name})
    arn = answer["ConnectionArn"]
    return name, {"Arn": arn, "ArnForPolicy": arn}


def put_api_destination(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put an API destination."""
    rate = int(props.get("InvocationRateLimitPerSecond", 300))
    given = {**props, "Name": name, "InvocationRateLimitPerSecond": rate}
    answer = call("eventbridge", f"AWSEvents.{verb}ApiDestination", **given)
    arn = answer.get("ApiDestinationArn", "")
    return name, {"Arn": arn, "ArnForPolicy": arn.rpartition("/")[0]}


resources.add_type("AWS::Events::Connection", put_connection, "Name", 64)
resources.add_type("AWS::Events::ApiDestination", put_api_destination, "Name", 64)
