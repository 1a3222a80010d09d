from __future__ import annotations

import itertools
import json
import random
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError, SSLError
from botocore.stub import Stubber
from moto import mock_aws

from eventstacks.bus import destinations, put_events
from eventstacks.bus import send as sender
from eventstacks.bus.entries import SIZE_LIMIT
from eventstacks.bus.journal import Journal
from eventstacks.bus.send import Destination, OutageError, Settings, send, send_chunks
from eventstacks.errors import ErrorCode, ToolError

FAST = Settings(threads=4, base=0.01)


def event(size: int = 0, **more) -> dict:
    """An entry of ``size`` bytes by AWS's rule."""
    padding = size - len('a.bx{"": ""}')
    return {"Source": "a.b", "DetailType": "x", "Detail": {"": "x" * max(0, padding)}, **more}


def test_events_of_a_program(stub):
    bus = stub("--delay", "1", "--keep")
    when = datetime(2020, 3, 29, 12, tzinfo=UTC)
    events = [
        {"Source": "a.b", "DetailType": "x", "Detail": {"n": 1}, "Time": when},
        '{"Source":"a","DetailType":"x","Detail":"{}"}',
    ]
    settings = Settings(threads=2, trace_header="Root=1-5e80")
    summary = send(events, [bus.orders()], settings)
    assert (summary.records, summary.acknowledged, summary.rejected) == (2, 2, 0)
    first, second = sorted(bus.entries(), key=lambda one: one["Source"], reverse=True)
    assert first == {
        "Source": "a.b",
        "DetailType": "x",
        "Detail": '{"n": 1}',
        "Time": int(when.timestamp()),
        "EventBusName": "orders",
        "TraceHeader": "Root=1-5e80",
    }
    assert second["Source"] == "a"


@pytest.mark.parametrize(
    ("size", "taken"), [(SIZE_LIMIT - 1, 1), (SIZE_LIMIT, 0), (SIZE_LIMIT + 1, 0)]
)
def test_an_entry_at_the_limit(stub, size, taken):
    bus = stub("--delay", "1")
    journal = Journal([("us-east-1", "orders")])
    summary = send([event(size), event()], [bus.orders()], FAST, journal)
    assert (summary.acknowledged, summary.rejected) == (1 + taken, 1 - taken)
    assert [one["Rejected"]["Code"] for one in list(journal.rejects())] == ["EntryTooLarge"] * (
        1 - taken
    )
    assert bus.counts()["acknowledged"] == 1 + taken


@pytest.mark.parametrize(("last", "batches"), [(-1, 1), (0, 2), (1, 2)])
def test_a_batch_at_the_limit_of_bytes(stub, last, batches):
    bus = stub("--delay", "1")
    half = SIZE_LIMIT // 2
    summary = send([event(half), event(half + last)], [bus.orders()], FAST)
    assert (summary.acknowledged, summary.calls) == (2, batches)
    assert bus.counts()["largest_bytes"] < SIZE_LIMIT


@pytest.mark.parametrize(("count", "batches"), [(9, 1), (10, 1), (11, 2)])
def test_a_batch_at_the_limit_of_entries(stub, count, batches):
    bus = stub("--delay", "1")
    assert send([event()] * count, [bus.orders()], FAST).calls == batches
    assert bus.counts()["largest_batch"] == min(count, 10)


def test_only_what_failed_is_sent_again(stub):
    bus = stub("--delay", "1", "--fail", "0.3")
    events = [event(Detail=json.dumps({"id": number})) for number in range(500)]
    summary = send(events, [bus.orders()], FAST)
    counts = bus.counts()
    assert (summary.acknowledged, counts["distinct"], counts["twice"]) == (500, 500, 0)
    assert summary.retried == counts["failed"] > 0


@pytest.mark.parametrize("code", ["InternalFailure", "ThrottlingException"])
def test_what_can_succeed_later_is_not_rejected_but_open_when_sending_stops(stub, code):
    bus = stub("--delay", "1")
    journal = Journal([("us-east-1", "orders")])
    settings = Settings(threads=2, base=0.01, give_up_after=1)
    with pytest.raises(OutageError) as caught:
        send([event(Detail={"refuse": code}), event()], [bus.orders()], settings, journal)
    assert caught.value.code is ErrorCode.ENDPOINT_UNREACHABLE
    assert code in caught.value.what
    assert (journal.summary.acknowledged, journal.summary.rejected) == (1, 0)
    assert journal.open_records() == [(0, 0)]
    assert bus.counts()["refused"] > 2


@pytest.mark.parametrize(
    "code",
    ["AccessDeniedException", "InvalidArgument", "MalformedDetail", "NotAuthorizedForSource"],
)
def test_what_is_permanent_is_sent_once(stub, code):
    bus = stub("--delay", "1")
    summary = send([event(Detail={"refuse": code}), event()], [bus.orders()], FAST)
    assert (summary.acknowledged, summary.by_code, summary.retried) == (1, {code: 1}, 0)
    assert bus.counts()["refused"] == 1


def test_one_entry_at_fault_does_not_take_its_batch_along(stub):
    bus = stub("--delay", "1")
    events = [event(Detail={"id": number}) for number in range(9)]
    summary = send([*events, event(Detail={"poison": 1})], [bus.orders()], FAST)
    assert (summary.acknowledged, summary.by_code) == (9, {"ValidationException": 1})
    assert (bus.counts()["distinct"], bus.counts()["twice"]) == (9, 0)


def test_a_bus_that_does_not_exist_is_an_error_before_anything_is_sent(stub):
    with pytest.raises(ToolError) as caught:
        send([event()], [Destination(stub().client(), "missing")])
    assert caught.value.code is ErrorCode.BUS_NOT_FOUND


@pytest.mark.parametrize(
    "code", ["ExpiredTokenException", "InvalidSignatureException", "UnrecognizedClientException"]
)
def test_credentials_that_fail_reject_nothing(stub, monkeypatch, code):
    bus = stub("--delay", "1")

    class Expired:
        status_code, headers = 400, {}
        content = json.dumps({"__type": f"com.amazon#{code}:", "message": "expired"}).encode()

    client = bus.client()
    client.meta.events.register("before-send.events.PutEvents", lambda **_: Expired)
    journal = Journal([("us-east-1", "orders")])
    with pytest.raises(ClientError, match=code):
        send([event()] * 100, [Destination(client, "orders")], FAST, journal)
    assert journal.summary.rejected == 0


def test_without_permission_nothing_is_rejected(stub):
    bus = stub("--delay", "1")

    class Denied:
        status_code, headers = 400, {}
        content = b'{"__type":"AccessDeniedException","message":"not authorized"}'

    client, journal = bus.client(), Journal([("us-east-1", "orders")])
    client.meta.events.register("before-send.events.PutEvents", lambda **_: Denied)
    with pytest.raises(ToolError) as caught:
        send([event()] * 100, [Destination(client, "orders")], FAST, journal)
    assert caught.value.code is ErrorCode.ACCESS_DENIED
    assert journal.summary.rejected == 0


def test_handlers_of_the_client_answer():
    with mock_aws():
        client = boto3.client("events", region_name="us-east-1")
        client.create_event_bus(Name="orders")
        assert send([event()], [Destination(client, "orders")], FAST).acknowledged == 1


def test_a_stubbed_client_is_called():
    client = boto3.client(
        "events", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stubber:
        stubber.add_response("describe_event_bus", {"Name": "orders"})
        answer = {"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}
        expected = {"Entries": [{**event(), "Detail": '{"": ""}', "EventBusName": "orders"}]}
        stubber.add_response("put_events", answer, expected)
        assert send([event()], [Destination(client, "orders")], FAST).acknowledged == 1


def test_a_client_with_certificates_of_its_own_is_called(stub, monkeypatch):
    bus = stub("--delay", "1")

    def refuse(_self, _request):
        raise SSLError(endpoint_url=bus.url, error="self-signed certificate")

    monkeypatch.setattr(put_events, "URLLib3Session", lambda **_: type("S", (), {"send": refuse})())
    assert send([event()] * 20, [bus.orders()], FAST).acknowledged == 20


def test_handlers_are_not_left_on_the_client(stub):
    client = stub("--delay", "1").client()
    events = client.meta.events
    before = len(events._emitter._handlers.prefix_search("before-sign.events.DescribeEventBus"))
    for _ in range(3):
        send([event()], [Destination(client, "orders")], FAST)
    after = len(events._emitter._handlers.prefix_search("before-sign.events.DescribeEventBus"))
    assert after == before


FAULTS = ["cut", "text", "list", "503", "429", "403"]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_outage_rejects_nothing_and_is_probed(stub, monkeypatch, fault):
    monkeypatch.setattr(destinations, "PROBE_SECONDS", 0.5)
    bus, notices = stub("--delay", "1", "--fault", fault), []
    ended = threading.Timer(2.5, bus.fault, ["none"])
    ended.start()
    chunks = sender.chunks_of(event(Detail={"id": number}) for number in range(500))
    journal = Journal([("us-east-1", "orders")])
    summary = send_chunks(chunks, [bus.orders()], journal, FAST, notify=notices.append)
    counts = bus.counts()
    assert (summary.acknowledged, summary.rejected) == (500, 0)
    assert (counts["distinct"], counts["twice"]) == (500, 0)
    assert len(notices) == 2
    calls = counts["faulty_calls"]
    paused = calls[destinations.FAILURES_TO_PAUSE + FAST.threads :]
    assert 1 <= len(paused) <= 8
    assert min((b - a for a, b in itertools.pairwise(paused)), default=1) > 0.3


def test_an_outage_that_lasts_ends_the_delivery_and_the_rest_is_sent_later(stub, tmp_path):
    bus, events = stub("--delay", "1"), [event(Detail={"id": number}) for number in range(300)]
    bus.fault("503")
    files, pairs = (tmp_path / "journal", tmp_path / "rejected"), [("us-east-1", "orders")]
    journal, began = Journal(pairs, *files), time.monotonic()
    with pytest.raises(OutageError):
        send(events, [bus.orders()], Settings(threads=4, give_up_after=1), journal)
    assert time.monotonic() - began < 5
    assert journal.summary.rejected == 0
    journal.close()
    bus.fault("none")
    summary = send(events, [bus.orders()], FAST, Journal(pairs, *files, resume=True))
    assert (summary.acknowledged, bus.counts()["distinct"]) == (300, 300)


def test_retry_after_is_honoured(stub):
    bus = stub("--delay", "1", "--fault", "503,2")
    threading.Timer(0.5, bus.fault, ["none"]).start()
    began = time.monotonic()
    assert send([event()], [bus.orders()], FAST).acknowledged == 1
    assert time.monotonic() - began > 1.9
    assert len(bus.counts()["faulty_calls"]) == 1


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3), (" 7 ", 7), ("", 0), ("soon", 0), ("-1", 0), ("nan", 0)]
)
def test_forms_of_retry_after(value, seconds):
    assert put_events._seconds(value) == seconds


def test_a_date_of_retry_after():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 < put_events._seconds(later) <= 90
    assert put_events._seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("fault", ["hang", "503"])
def test_a_stop_ends_the_delivery_within_five_seconds(stub, fault):
    bus, stop = stub("--delay", "1", "--fault", fault), threading.Event()
    threading.Timer(0.5, stop.set).start()
    journal, began = Journal([("us-east-1", "orders")]), time.monotonic()
    chunks = sender.chunks_of(event() for _ in range(100))
    send_chunks(chunks, [bus.orders()], journal, FAST, stop)
    assert time.monotonic() - began < 5.5
    assert (journal.summary.acknowledged, journal.summary.rejected) == (0, 0)
    assert journal.open_records() == [(0, journal.summary.records - 1)]


def test_only_what_failed_waits_a_random_time(stub, monkeypatch):
    waits = []
    monkeypatch.setattr(random, "uniform", lambda low, high: waits.append((low, high)) or 0.0)
    bus = stub("--delay", "1", "--fail", "0.5")
    summary = send([event()] * 200, [bus.orders()], Settings(threads=2, base=0.01, cap=0.1))
    assert len(waits) == summary.retried
    assert {low for low, _ in waits} == {0}
    assert max(high for _, high in waits) <= 0.1


def test_the_example_of_the_docs(stub, monkeypatch, capsys):
    client = stub("--delay", "1").client()
    monkeypatch.setattr(boto3, "client", lambda _: client)
    text = (Path(__file__).resolve().parents[3] / "docs/sending.md").read_text()
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    assert capsys.readouterr().out == "1000 {}\n"
