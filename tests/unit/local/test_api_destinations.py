"""What EventBridge makes of the answers of a receiver, without a server of the embedded AWS."""

import contextlib
import os
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from receiver import Receiver

os.environ.setdefault("BIND_HOST", "127.0.0.1")  # MiniStack reads it when it is imported

from eventstacks.local import api_destinations
from eventstacks.local.ministack import NotDelivered

CONNECTION = {"Name": "c", "AuthorizationType": "API_KEY", "AuthParameters": {}}
KEY = ("000000000000", "eu-central-1", "c")


@pytest.fixture
def receiver(monkeypatch):
    monkeypatch.setattr(api_destinations, "TIMEOUT_SECONDS", 0.2)
    one = Receiver()
    yield one
    one.close()


def request(url):
    return {"url": url, "method": "POST", "headers": {}, "body": "{}"}


def failed(request, connection):
    """The failure of a request."""
    with pytest.raises(NotDelivered) as failure:
        api_destinations.send(request, connection, KEY)
    return failure.value


def is_retried(failure):
    return isinstance(failure, api_destinations.RetryableError)


@pytest.mark.parametrize("status", [401, 407, 409, 429, 500, 503])
def test_these_answers_are_retried(status):
    """Source: EventBridge User Guide, 'API destinations as targets', error codes."""
    assert is_retried(api_destinations.failure_of(status, None))
    assert api_destinations.failure_of(status, "30").wait == 30
    assert not is_retried(api_destinations.failure_of(status, "-1"))


@pytest.mark.parametrize("status", [301, 400, 403, 404, 410, 422])
def test_these_are_not(status):
    assert not is_retried(api_destinations.failure_of(status, "30"))


@pytest.mark.parametrize("retry_after", ["Sun, 29 Nov 2026 10:00:00 GMT", "9" * 5000])
def test_a_date_in_retry_after_is_ignored(retry_after):
    failure = api_destinations.failure_of(503, retry_after)
    assert (is_retried(failure), failure.wait) == (True, 0)


def test_a_secret_that_is_no_header_is_not_quoted(receiver):
    """The message ends in the log and in the dead-letter queue."""
    key = {"ApiKeyName": "X-Key", "ApiKeyValue": "the-secret\n"}
    connection = {**CONNECTION, "AuthParameters": {"ApiKeyAuthParameters": key}}
    failure = failed(request(f"{receiver.url}/x"), connection)
    assert failure.args == ("CONNECTION_FAILURE", "the receiver did not answer: ValueError")
    assert receiver.requests == []


def test_a_slow_receiver_is_a_timeout(receiver):
    receiver.always = (200, {}, 1)
    failure = failed(request(f"{receiver.url}/x"), CONNECTION)
    assert (failure.args[0], is_retried(failure)) == ("TIMEOUT", True)


def test_a_quick_one_is_a_success(receiver):
    receiver.always = (202, {}, 0.05)
    api_destinations.send(request(f"{receiver.url}/x?a=b"), CONNECTION, KEY)
    assert receiver.requests[0][1] == "/x?a=b"


def test_a_redirect_is_not_followed(receiver):
    receiver.always = (302, {"Location": f"http://localhost:{receiver.port}/other"}, 0)
    failure = failed(request(f"{receiver.url}/x"), CONNECTION)
    assert (failure.args[0], is_retried(failure)) == ("ERROR_FROM_TARGET", False)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://localhost/x", True),
        ("https://hooks.localhost:8080/x", True),
        ("https://127.0.0.1/x", True),
        ("https://LOCALHOST./x", True),
        ("https://127.0.0.1@example.com/x", False),
        ("https://localhost.example.com/x", False),
        ("https://notlocalhost/x", False),
        ("https://10.0.0.1/x", False),
        ("https:///x", False),
    ],
)
def test_only_this_machine_is_called(url, verdict):
    with contextlib.nullcontext() if verdict else pytest.raises(NotDelivered):
        api_destinations.check_host(url)


@pytest.mark.parametrize(
    ("url", "sent_to"),
    [
        ("https://hooks.localhost:8080/x?a=b", "http://127.0.0.1:8080/x?a=b"),
        ("https://user@localhost/x", "http://127.0.0.1:443/x"),
        ("http://LOCALHOST./x", "http://127.0.0.1:80/x"),
    ],
)
def test_a_name_is_not_looked_up(url, sent_to, monkeypatch):
    """A DNS server could answer that hooks.localhost is another machine."""
    opened = []
    opener = SimpleNamespace(open=lambda request, timeout: opened.append(request.full_url))
    monkeypatch.setattr(api_destinations, "_opener", opener)
    api_destinations.open_loopback(None, urllib.request.Request(url))
    assert opened == [sent_to]


def test_a_token_endpoint_elsewhere_is_not_called():
    oauth = {"AuthorizationEndpoint": "https://example.com/token", "ClientParameters": {}}
    connection = {
        "Name": "c",
        "AuthorizationType": "OAUTH_CLIENT_CREDENTIALS",
        "AuthParameters": {"OAuthParameters": oauth},
    }
    failure = failed(request("https://localhost/x"), connection)
    assert (failure.args[0], is_retried(failure)) == ("CONNECTION_FAILURE", False)
    assert "example.com" in failure.args[1]


def test_the_waits_before_retries_are_limited(monkeypatch):
    """Also if a target allows the 185 retries of AWS, and a receiver asks to wait for a minute."""
    waits, given_up = [], []
    monkeypatch.setattr(api_destinations.time, "sleep", waits.append)
    monkeypatch.setattr(
        api_destinations.deliveries, "give_up", lambda *_, more: given_up.append(more)
    )

    def send():
        raise api_destinations.RetryableError("THROTTLING", "429", 60 if len(waits) == 1 else 0)

    target = {"RetryPolicy": {"MaximumRetryAttempts": 185}}
    api_destinations.send_with_retries(target, {"Arn": "rule"}, None, send)
    assert waits == [0.1, 5, 0.4, 0.8, 1.6]
    assert given_up == [
        {"RETRY_ATTEMPTS": "5", "EXHAUSTED_RETRY_CONDITION": "MaximumRetryAttempts"}
    ]


def test_a_burst_does_not_open_a_connection_for_each_event():
    running, most, lock = [], [], threading.Lock()

    def send():
        with lock:
            running.append(1)
            most.append(len(running))
        time.sleep(0.2)
        running.pop()

    def deliver(_):
        api_destinations.send_with_retries({}, {"Arn": "rule"}, None, send)

    with ThreadPoolExecutor(200) as pool:
        list(pool.map(deliver, range(200)))
    assert (len(most), max(most)) == (200, 64)
