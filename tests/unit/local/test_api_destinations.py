"""What EventBridge makes of the answers of a receiver, without a server of the embedded AWS."""

import contextlib
import os

import pytest
from receiver import Receiver

os.environ.setdefault("BIND_HOST", "127.0.0.1")  # MiniStack reads it when it is imported

from eventstacks.local import api_destinations

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
    with pytest.raises(api_destinations.Failure) as failure:
        api_destinations.send(request, connection, KEY)
    return failure.value


@pytest.mark.parametrize("status", [401, 407, 409, 429, 500, 503])
def test_these_answers_are_retried(status):
    """Source: EventBridge User Guide, 'API destinations as targets', error codes."""
    assert api_destinations.failure_of(status, None).is_retried
    assert api_destinations.failure_of(status, "30").wait == 30
    assert not api_destinations.failure_of(status, "-1").is_retried


@pytest.mark.parametrize("status", [301, 400, 403, 404, 410, 422])
def test_these_are_not(status):
    assert not api_destinations.failure_of(status, "30").is_retried


def test_a_date_in_retry_after_is_ignored():
    failure = api_destinations.failure_of(503, "Sun, 29 Nov 2026 10:00:00 GMT")
    assert (failure.is_retried, failure.wait) == (True, 0)


def test_a_slow_receiver_is_a_timeout(receiver):
    receiver.always = (200, {}, 1)
    failure = failed(request(f"{receiver.url}/x"), CONNECTION)
    assert (failure.args[0], failure.is_retried) == ("TIMEOUT", True)


def test_a_quick_one_is_a_success(receiver):
    receiver.always = (202, {}, 0.05)
    api_destinations.send(request(f"{receiver.url}/x?a=b"), CONNECTION, KEY)
    assert receiver.requests[0][1] == "/x?a=b"


def test_a_redirect_is_not_followed(receiver):
    receiver.always = (302, {"Location": f"http://localhost:{receiver.port}/other"}, 0)
    failure = failed(request(f"{receiver.url}/x"), CONNECTION)
    assert (failure.args[0], failure.is_retried) == ("ERROR_FROM_TARGET", False)
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
    with contextlib.nullcontext() if verdict else pytest.raises(api_destinations.Failure):
        api_destinations.check_host(url)


def test_a_token_endpoint_elsewhere_is_not_called():
    oauth = {"AuthorizationEndpoint": "https://example.com/token", "ClientParameters": {}}
    connection = {
        "Name": "c",
        "AuthorizationType": "OAUTH_CLIENT_CREDENTIALS",
        "AuthParameters": {"OAuthParameters": oauth},
    }
    failure = failed(request("https://localhost/x"), connection)
    assert (failure.args[0], failure.is_retried) == ("CONNECTION_FAILURE", False)
    assert "example.com" in failure.args[1]


def test_a_rate_spaces_requests(monkeypatch):
    monkeypatch.setattr(api_destinations.time, "monotonic", lambda: 100.0)
    assert [round(api_destinations.slot("arn:x", 4), 2) for _ in range(3)] == [0, 0.25, 0.5]
