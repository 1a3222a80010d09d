"""Requests that the guard answers with 403, and those that reach MiniStack.

browser-requests.ndjson holds the headers that Chromium 156 sent for a page on evil.test: to
127.0.0.1, to localhost, to a name that resolves to 127.0.0.1 (``-name``), and from a page whose own
name was rebound (``rebound-``).
"""

import asyncio
import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest

os.environ.setdefault("BIND_HOST", "127.0.0.1")  # MiniStack reads it when it is imported

from ministack.services import iam, sts
from ministack.services.cloudformation import custom_resource

from eventstacks.local.guard import Guard

PORT, KEY = 4566, "LKIA0123456789ABCDEF"
FIXTURE = Path(__file__).parents[2] / "fixtures" / "local" / "browser-requests.ndjson"
REQUESTS = [json.loads(line) for line in FIXTURE.read_text().splitlines()]
SCOPE = "20260101/eu-west-1/cloudformation/aws4_request"


def authorization(key):
    return f"AWS4-HMAC-SHA256 Credential={key}/{SCOPE}, SignedHeaders=host, Signature=x"


def request(headers, method="GET", path="/", query="", kind="http"):
    """Return (status, what MiniStack gets or None) of a request.

    ``headers`` are (name, value) pairs.
    """
    reached, sent = [], []

    async def app(scope, _receive, _send):
        reached.append(scope)

    async def send(message):
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": pairs}
    if kind == "http":
        scope["method"] = method
    asyncio.run(Guard(app, PORT, KEY)(scope, None, send))
    assert bool(reached) != bool(sent)
    return (sent[0]["status"], None) if sent else (200, reached[0])


def own(host=f"127.0.0.1:{PORT}", key=KEY, **more):
    return request([("Host", host), ("Authorization", authorization(key))], **more)


@pytest.mark.parametrize("one", REQUESTS, ids=[one["kind"] for one in REQUESTS])
@pytest.mark.parametrize(
    "query", ["", "AWSAccessKeyId=test", f"X-Amz-Credential={quote(f'test/{SCOPE}')}"]
)
def test_browser_requests_are_refused(one, query):
    headers = [(name, value.replace("PORT", str(PORT))) for name, value in one["headers"]]
    kind = "websocket" if dict(headers).get("Upgrade") == "websocket" else "http"
    assert request(headers, one["method"], query=query, kind=kind)[0] == 403


@pytest.mark.parametrize("one", REQUESTS, ids=[one["kind"] for one in REQUESTS])
def test_browser_requests_are_refused_even_with_the_access_key(one):
    headers = [(name, value.replace("PORT", str(PORT))) for name, value in one["headers"]]
    headers = [pair for pair in headers if pair[0].lower() != "authorization"]
    assert request([*headers, ("Authorization", authorization(KEY))], one["method"])[0] == 403


@pytest.mark.parametrize(
    "host",
    [
        f"127.0.0.1:{PORT}",
        f"localhost:{PORT}",
        f"LocalHost:{PORT}",
        f"bucket.localhost:{PORT}",
        f"my.bucket.s3.localhost:{PORT}",
        f"bucket.s3.eu-central-1.localhost:{PORT}",
    ],
)
def test_hosts_of_the_endpoint_are_answered(host):
    assert own(host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.0.0.1",
        f"127.0.0.1:{PORT + 1}",
        f"127.0.0.1:{PORT}0",
        f"evil.test:{PORT}",
        f"127.0.0.1.evil.test:{PORT}",
        f"localhost.evil.test:{PORT}",
        f"notlocalhost:{PORT}",
        f"bucket.s3.evil.test:{PORT}",
        f"0.0.0.0:{PORT}",
        f"127.0.0.1:{PORT}\n",
    ],
)
def test_other_hosts_are_refused_even_with_the_access_key(host):
    assert own(host)[0] == 403


def test_a_repeated_host_or_authorization_is_refused():
    host, key = ("Host", f"127.0.0.1:{PORT}"), ("Authorization", authorization(KEY))
    assert request([host, key])[0] == 200
    assert request([host, host, key])[0] == 403
    assert request([host, ("authorization", authorization("x")), key])[0] == 403


@pytest.mark.parametrize(
    "key",
    ["", "test", "000000000000", "111122223333", KEY[:-1], KEY + "0", KEY.lower(), "ASIAX", "é"],
)
def test_other_access_keys_are_refused(key):
    assert own(key=key)[0] == 403
    assert request([("Host", f"localhost:{PORT}")], query=f"AWSAccessKeyId={quote(key)}")[0] == 403


@pytest.mark.parametrize(
    "path", ["/_ministack/health", "/_ministack/reset", "/_local_aws/status", "/"]
)
def test_every_path_needs_the_access_key(path):
    assert request([("Host", f"127.0.0.1:{PORT}")], "POST", path)[0] == 403
    assert own(method="POST", path=path)[0] == 200


def test_a_presigned_url_carries_the_access_key_in_its_query():
    credential = (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quote(f'{KEY}/{SCOPE}', safe='')}"
    )
    assert request([("Host", f"127.0.0.1:{PORT}")], query=credential)[0] == 200


def test_an_account_behind_the_access_key_is_its_root_user():
    status, scope = own(key=f"{KEY}-111122223333")
    assert status == 200
    assert (b"Authorization", authorization("111122223333").encode()) in scope["headers"]
    assert own(key=f"{KEY}-")[0] == own(key=f"{KEY}-1")[0] == 403
    assert own(key=f"{KEY}-1111222233334")[0] == 403
    assert own(key="LKIA-111122223333")[0] == 403


def test_keys_that_ministack_issued_are_passed_on(monkeypatch):
    monkeypatch.setitem(sts._sessions, "ASIA1234", {})
    assert own(key="ASIA1234")[0] == 200
    monkeypatch.setattr(iam, "_access_keys", type(iam._access_keys)())
    iam._access_keys["AKIA1234"] = {}
    assert own(key="AKIA1234")[0] == 200


@pytest.mark.parametrize("path", ["/_ministack/reset", "/_local_aws/status"])
def test_paths_without_signatures_need_the_key_of_this_start(monkeypatch, path):
    monkeypatch.setitem(sts._sessions, "ASIA1234", {})
    assert own(key="ASIA1234", method="POST", path=path)[0] == 403
    assert own(method="POST", path=path)[0] == 200


def test_a_callback_of_cloudformation_needs_its_token_only(monkeypatch):
    monkeypatch.setitem(custom_resource._pending, "token", {})
    host, path = [("Host", f"localhost:{PORT}")], "/_ministack/cfn-response/"
    assert request(host, "PUT", f"{path}token")[0] == 200
    assert request(host, "POST", f"{path}token")[0] == 403
    assert request(host, "PUT", f"{path}other")[0] == 403
    assert request(host, "PUT", path)[0] == 403
    assert request([("Host", f"evil.test:{PORT}")], "PUT", f"{path}token")[0] == 403
