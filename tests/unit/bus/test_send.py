from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from eventstacks.bus import calls
from eventstacks.bus.buses import BusError
from eventstacks.bus.entries import SIZE_LIMIT
from eventstacks.bus.ledger import Ledger
from eventstacks.bus.send import Destination, Settings, chunks_of, send, send_chunks

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
    summary = send(events, [Destination(bus.client(), "orders")], settings)
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
    ledger = Ledger([("us-east-1", "orders")])
    summary = send([event(size), event()], [Destination(bus.client(), "orders")], FAST, ledger)
    assert (summary.acknowledged, summary.rejected) == (1 + taken, 1 - taken)
    assert [one["Rejected"]["Code"] for one in ledger.refusals] == ["EntryTooLarge"] * (1 - taken)
    assert bus.counts()["acknowledged"] == 1 + taken


@pytest.mark.parametrize(("last", "batches"), [(-1, 1), (0, 2), (1, 2)])
def test_a_batch_at_the_limit_of_bytes(stub, last, batches):
    bus = stub("--delay", "1")
    half = SIZE_LIMIT // 2
    summary = send([event(half), event(half + last)], [Destination(bus.client(), "orders")], FAST)
    assert (summary.acknowledged, summary.calls) == (2, batches)
    assert bus.counts()["largest_bytes"] < SIZE_LIMIT


@pytest.mark.parametrize(("count", "batches"), [(9, 1), (10, 1), (11, 2)])
def test_a_batch_at_the_limit_of_entries(stub, count, batches):
    bus = stub("--delay", "1")
    assert send([event()] * count, [Destination(bus.client(), "orders")], FAST).calls == batches
    assert bus.counts()["largest_batch"] == min(count, 10)


def test_only_what_failed_is_sent_again(stub):
    bus = stub("--delay", "1", "--fail", "0.3")
    events = [event(Detail=json.dumps({"id": number})) for number in range(500)]
    summary = send(events, [Destination(bus.client(), "orders")], FAST)
    counts = bus.counts()
    assert (summary.acknowledged, counts["distinct"], counts["twice"]) == (500, 500, 0)
    assert summary.retried == counts["failed"] > 0


@pytest.mark.parametrize("code", ["InternalFailure", "ThrottlingException"])
def test_what_does_not_pass_is_given_up(stub, code):
    bus = stub("--delay", "1")
    ledger = Ledger([("us-east-1", "orders")])
    summary = send(
        [event(Detail={"refuse": code}), event()],
        [Destination(bus.client(), "orders")],
        Settings(threads=2, attempts=3, base=0.01),
        ledger,
    )
    assert (summary.acknowledged, summary.by_code, summary.retried) == (1, {code: 1}, 2)
    assert bus.counts()["refused"] == 3


@pytest.mark.parametrize(
    "code",
    ["AccessDeniedException", "InvalidArgument", "MalformedDetail", "NotAuthorizedForSource"],
)
def test_what_is_permanent_is_sent_once(stub, code):
    bus = stub("--delay", "1")
    summary = send(
        [event(Detail={"refuse": code}), event()], [Destination(bus.client(), "orders")], FAST
    )
    assert (summary.acknowledged, summary.by_code, summary.retried) == (1, {code: 1}, 0)
    assert bus.counts()["refused"] == 1


def test_one_entry_at_fault_does_not_take_its_batch_along(stub):
    bus = stub("--delay", "1")
    events = [event(Detail={"id": number}) for number in range(9)]
    summary = send(
        [*events, event(Detail={"poison": 1})], [Destination(bus.client(), "orders")], FAST
    )
    assert (summary.acknowledged, summary.by_code) == (9, {"ValidationException": 1})
    assert (bus.counts()["distinct"], bus.counts()["twice"]) == (9, 0)


def test_a_bus_that_is_not_there(stub):
    with pytest.raises(BusError, match="there is no event bus 'missing'"):
        send([event()], [Destination(stub().client(), "missing")])


def test_credentials_that_fail_refuse_nothing(stub, monkeypatch):
    bus = stub("--delay", "1")

    class Expired:
        status_code, content = 400, b'{"__type":"ExpiredTokenException","message":"expired"}'

    monkeypatch.setattr(calls.Caller, "_send", lambda self, body: Expired)
    ledger = Ledger([("us-east-1", "orders")])
    with pytest.raises(ClientError, match="ExpiredTokenException"):
        send([event()] * 100, [Destination(bus.client(), "orders")], FAST, ledger)
    assert ledger.refusals == []


def test_what_listens_on_the_client_is_heard():
    with mock_aws():
        client = boto3.client("events", region_name="us-east-1")
        client.create_event_bus(Name="orders")
        assert send([event()], [Destination(client, "orders")], FAST).acknowledged == 1


def test_an_endpoint_that_goes_away_is_tried_again_and_then_given_up(stub):
    bus = stub("--delay", "1")
    client = bus.client()
    ledger = Ledger([("us-east-1", "orders")])
    destination = Destination(client, "orders")
    assert send([event()], [destination], FAST, ledger).acknowledged == 1
    bus.process.kill()
    bus.process.wait()
    chunks = chunks_of([event(), event()])
    summary = send_chunks(
        chunks,
        [destination],
        Ledger([("us-east-1", "orders")]),
        Settings(threads=1, attempts=3, base=0.01),
    )
    assert (summary.acknowledged, summary.rejected, summary.retried) == (0, 2, 4)
    assert set(summary.by_code) <= {"EndpointConnectionError", "ConnectionClosedError"}


def test_the_example_of_the_docs(stub, monkeypatch, capsys):
    client = stub("--delay", "1").client()
    monkeypatch.setattr(boto3, "client", lambda _: client)
    text = (Path(__file__).resolve().parents[3] / "docs/sending.md").read_text()
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    assert capsys.readouterr().out == "1000 {} []\n"
