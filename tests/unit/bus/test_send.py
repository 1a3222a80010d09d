from __future__ import annotations

import itertools
import json
import random
import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError

from eventstacks.bus import put_events
from eventstacks.bus import send as sender
from eventstacks.bus.entries import SIZE_LIMIT
from eventstacks.bus.journal import Journal
from eventstacks.bus.send import OutageError, Sender, Settings, send
from eventstacks.errors import ErrorCode, ToolError

FAST = Settings(threads=4, base=0.01)


@pytest.fixture(autouse=True)
def _probe_often(monkeypatch):
    monkeypatch.setattr(sender, "PROBE_SECONDS", 0.1)


def event(size: int = 0, **more) -> dict:
    """An entry of ``size`` bytes by AWS's rule."""
    padding = size - len('a.bx{"": ""}')
    return {"Source": "a.b", "DetailType": "x", "Detail": {"": "x" * max(0, padding)}, **more}


def test_an_iterable_of_events_is_sent(stub):
    bus = stub("--keep")
    when = datetime(2020, 3, 29, 12, tzinfo=UTC)
    events = [
        {"Source": "a.b", "DetailType": "x", "Detail": {"n": 1}, "Time": when},
        '{"Source":"a","DetailType":"x","Detail":"{}"}',
    ]
    summary = send(events, bus.client(), "orders", Settings(threads=2))
    assert (summary.records, summary.acknowledged, summary.rejected) == (2, 2, 0)
    first, second = sorted(bus.bus.kept, key=lambda one: one["Source"], reverse=True)
    assert first == {
        "Source": "a.b",
        "DetailType": "x",
        "Detail": '{"n": 1}',
        "Time": int(when.timestamp()),
        "EventBusName": "orders",
    }
    assert second["Source"] == "a"


@pytest.mark.parametrize(
    ("size", "taken"), [(SIZE_LIMIT - 1, 1), (SIZE_LIMIT, 0), (SIZE_LIMIT + 1, 0)]
)
def test_an_entry_at_the_limit(stub, size, taken):
    bus = stub()
    journal = Journal()
    summary = send([event(size), event()], bus.client(), "orders", FAST, journal)
    assert (summary.acknowledged, summary.rejected) == (1 + taken, 1 - taken)
    assert [json.loads(one)["Rejected"]["Code"] for one in journal.rejects()] == [
        "EntryTooLarge"
    ] * (1 - taken)
    assert bus.counts()["acknowledged"] == 1 + taken


@pytest.mark.parametrize(("last", "batches"), [(-1, 1), (0, 2), (1, 2)])
def test_a_batch_at_the_limit_of_bytes(stub, last, batches):
    bus = stub()
    half = SIZE_LIMIT // 2
    summary = send([event(half), event(half + last)], bus.client(), "orders", FAST)
    assert (summary.acknowledged, summary.calls) == (2, batches)
    assert bus.counts()["largest_bytes"] < SIZE_LIMIT


@pytest.mark.parametrize(("count", "batches"), [(9, 1), (10, 1), (11, 2)])
def test_a_batch_at_the_limit_of_entries(stub, count, batches):
    bus = stub()
    assert send([event()] * count, bus.client(), "orders", FAST).calls == batches
    assert bus.counts()["largest_batch"] == min(count, 10)


def test_only_failed_entries_are_sent_again(stub):
    bus = stub("--fail", "0.3")
    events = [event(Detail=json.dumps({"id": number})) for number in range(500)]
    summary = send(events, bus.client(), "orders", FAST)
    counts = bus.counts()
    assert (summary.acknowledged, counts["distinct"], counts["twice"]) == (500, 500, 0)
    assert summary.retried == counts["failed"] > 0


@pytest.mark.parametrize("code", ["InternalFailure", "ThrottlingException"])
def test_retryable_failures_stay_open_when_sending_stops(stub, code):
    bus = stub()
    journal = Journal()
    settings = Settings(threads=2, base=0.01, give_up_after=0.3)
    with pytest.raises(OutageError) as caught:
        send([event(Detail={"refuse": code}), event()], bus.client(), "orders", settings, journal)
    assert caught.value.code is ErrorCode.ENDPOINT_UNREACHABLE
    assert code in caught.value.what
    assert (journal.summary.acknowledged, journal.summary.rejected) == (1, 0)
    assert journal.open_records() == [(0, 0)]
    assert bus.counts()["refused"] > 2


@pytest.mark.parametrize(
    "code",
    ["AccessDeniedException", "InvalidArgument", "MalformedDetail", "NotAuthorizedForSource"],
)
def test_permanent_failures_are_not_retried(stub, code):
    bus = stub()
    summary = send([event(Detail={"refuse": code}), event()], bus.client(), "orders", FAST)
    assert (summary.acknowledged, summary.by_code, summary.retried) == (1, {code: 1}, 0)
    assert bus.counts()["refused"] == 1


def test_an_invalid_entry_does_not_reject_its_batch(stub):
    bus = stub()
    events = [event(Detail={"id": number}) for number in range(9)]
    summary = send([*events, event(Detail={"poison": 1})], bus.client(), "orders", FAST)
    assert (summary.acknowledged, summary.by_code) == (9, {"ValidationException": 1})
    assert (bus.counts()["distinct"], bus.counts()["twice"], summary.calls) == (9, 0, 11)


def test_a_bus_that_does_not_exist_is_an_error_before_anything_is_sent(stub):
    with pytest.raises(ToolError) as caught:
        send([event()], stub().client(), "missing")
    assert caught.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize(
    "code",
    [
        "AccessDeniedException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    ],
)
def test_missing_permission_or_credentials_reject_nothing(stub, code):
    bus = stub()

    class Expired:
        status_code, headers = 400, {}
        content = json.dumps({"__type": f"com.amazon#{code}", "message": "expired"}).encode()

    client = bus.client()
    client.meta.events.register("before-send.events.PutEvents", lambda **_: Expired)
    journal = Journal()
    with pytest.raises(ClientError, match=code):
        send([event()] * 100, client, "orders", FAST, journal)
    assert journal.summary.rejected == 0


def test_acknowledgments_beside_a_credentials_error_are_recorded(stub):
    """Both results can come in the same moment."""
    client, journal = stub().client(), Journal()
    settings, stop = Settings(threads=1), threading.Event()
    run = Sender(client, "orders", journal, settings, stop, print)
    expired = ClientError({"Error": {"Code": "ExpiredToken"}}, "PutEvents")
    run._results.extend([([sender._Item(0, 7, {}, 1)], [None]), expired])
    with pytest.raises(ClientError):
        run._receive()
    assert journal.summary.acknowledged == 1
    journal.summary.records = 0
    assert journal.read([7]) == {0}


FAULTS = ["cut", "text", "list", "503", "429", "403"]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_outage_rejects_nothing_and_is_probed(stub, fault):
    failures = sender.FAILURES_TO_PAUSE + FAST.threads + 3
    bus, notices = stub("--fault", fault, "--fault-calls", str(failures)), []
    lists = [[json.dumps(event(Detail={"id": n})).encode() for n in range(200)]]
    journal = Journal()
    summary = Sender(bus.client(), "orders", journal, FAST, notify=notices.append).run(lists)
    counts = bus.counts()
    assert (summary.acknowledged, summary.rejected) == (200, 0)
    assert (counts["distinct"], counts["twice"]) == (200, 0)
    assert len(notices) == 2
    probes = counts["faulty_calls"][-3:]  # after those that were in progress when the pause began
    assert len(counts["faulty_calls"]) == failures
    # Each is sent that long after the failure of the one before.
    assert min(b - a for a, b in itertools.pairwise(probes)) >= sender.PROBE_SECONDS


def test_a_long_outage_stops_sending_and_the_rest_can_be_resumed(stub, tmp_path):
    bus, events = stub(), [event(Detail={"id": number}) for number in range(300)]
    bus.fault("503")
    files = (tmp_path / "journal", tmp_path / "rejected")
    journal, began = Journal(*files), time.monotonic()
    with pytest.raises(OutageError):
        send(events, bus.client(), "orders", Settings(threads=4, give_up_after=0.3), journal)
    assert time.monotonic() - began < 5
    assert journal.summary.rejected == 0
    journal.close()
    bus.fault("")
    summary = send(events, bus.client(), "orders", FAST, Journal(*files, resume=True))
    assert (summary.acknowledged, bus.counts()["distinct"]) == (300, 300)


def test_retry_after_is_honoured(stub):
    bus = stub("--fault", "503,1", "--fault-calls", "1")
    began = time.monotonic()
    assert send([event()], bus.client(), "orders", FAST).acknowledged == 1
    assert time.monotonic() - began > 0.95
    assert len(bus.counts()["faulty_calls"]) == 1


def test_retry_after_does_not_delay_giving_up(stub):
    bus, began = stub("--fault", "503,9999"), time.monotonic()
    with pytest.raises(OutageError):
        send([event()], bus.client(), "orders", Settings(threads=1, base=0.01, give_up_after=0.3))
    assert time.monotonic() - began < 5


def test_retry_after_is_kept_although_other_calls_succeed(stub):
    client, times = stub().client(), []

    class Busy:
        status_code, headers, content = 429, {"retry-after": "1"}, b"{}"

    def answer(request, **_):
        times.append(time.monotonic())
        return Busy if len(times) == 1 else None

    client.meta.events.register("before-send.events.PutEvents", answer)
    events = [event(Detail={"id": number}) for number in range(20)]
    assert send(events, client, "orders", Settings(threads=1, base=0.01)).acknowledged == 20
    assert len(times) == 3
    assert times[2] - times[0] > 0.95


def test_an_entry_without_a_result_is_not_acknowledged(stub):
    client, calls = stub().client(), []

    class Blank:
        status_code, headers, content = 200, {}, b'{"Entries": [{"EventId": "1"}, {}]}'

    client.meta.events.register(
        "before-send.events.PutEvents",
        lambda **_: calls.append(1) or (Blank if len(calls) == 1 else None),
    )
    summary = send([event(), event()], client, "orders", FAST)
    assert (summary.acknowledged, summary.retried) == (2, 2)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("3", 3), (" 7 ", 7), ("", 0), ("-1", 0), ("nan", 0), ("Wed, 21 Oct 2099 07:28:00 GMT", 0)],
)
@pytest.mark.parametrize("code", ["503", "ThrottlingException"])
def test_forms_of_retry_after(value, seconds, code):
    metadata = {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": value}}
    error = ClientError({"Error": {"Code": code}, "ResponseMetadata": metadata}, "PutEvents")
    assert put_events.failure_of(error).retry_after == seconds


def test_retry_after_holds_back_all_calls(stub):
    bus = stub("--fault", "503,1", "--fault-calls", "1")
    arguments = ([event()] * 100, bus.client(), "orders", Settings(threads=1, base=0.01))
    thread = threading.Thread(target=send, args=arguments, daemon=True)
    thread.start()
    while not bus.counts()["faulty_calls"]:
        time.sleep(0.005)
    time.sleep(0.4)
    assert bus.counts()["calls"] == 0
    thread.join()
    assert bus.counts()["acknowledged"] == 100


def test_each_429_is_retried():
    metadata = {"HTTPStatusCode": 429, "HTTPHeaders": {}}
    error = ClientError({"Error": {"Code": "Custom"}, "ResponseMetadata": metadata}, "PutEvents")
    failure = put_events.failure_of(error)
    assert (failure.retryable, failure.whole_call) == (True, False)


def test_an_answer_with_too_few_entries_settles_none():
    client = SimpleNamespace(put_events=lambda **_: {"Entries": [{"EventId": "1"}]})
    failures = put_events.put(client, [{}, {}])
    assert [one.retryable for one in failures] == [True, True]


def test_the_rate_is_kept_after_a_pause_of_the_input(stub):
    record = json.dumps(event()).encode()

    def lists():
        yield [record] * 10
        time.sleep(0.5)
        yield [record] * 100

    settings = Settings(threads=4, rate=100)
    summary = Sender(stub("--delay", "0").client(), "orders", Journal(), settings).run(lists())
    assert (summary.acknowledged, summary.seconds > 1.25) == (110, True)


def test_partial_failures_are_not_an_outage(stub):
    client, notices = stub().client(), []

    def answer(request, **_):
        count = len(json.loads(request.body)["Entries"])
        results = [{"ErrorCode": "InternalFailure"}] + [{"EventId": "1"}] * (count - 1)
        content = json.dumps({"Entries": results}).encode()
        return SimpleNamespace(status_code=200, headers={}, content=content) if count > 1 else None

    client.meta.events.register("before-send.events.PutEvents", answer)
    lists = [[json.dumps(event()).encode()] * 100 for _ in range(3)]
    summary = Sender(client, "orders", Journal(), FAST, notify=notices.append).run(lists)
    assert (summary.acknowledged, notices) == (300, [])


def test_a_record_does_not_wait_for_more_input(stub):
    bus, sent = stub(), []

    def lists():
        yield [json.dumps(event()).encode()]
        deadline = time.monotonic() + 5
        while not bus.counts()["acknowledged"] and time.monotonic() < deadline:
            time.sleep(0.01)
        sent.append(bus.counts()["acknowledged"])

    Sender(bus.client(), "orders", Journal(), FAST).run(lists())
    assert sent == [1]


def test_reading_continues_after_waiting_entries_are_sent(stub, monkeypatch):
    monkeypatch.setattr(sender, "WAITING_BYTES", 1000)
    bus, stop = stub("--fail", "0.5"), threading.Event()
    timer = threading.Timer(60, stop.set)  # it would wait without end
    timer.start()
    lists = [[json.dumps(event(100)).encode()] * 10 for _ in range(30)]
    settings = Settings(threads=4, base=0.01, cap=0.05)
    summary = Sender(bus.client(), "orders", Journal(), settings, stop).run(lists)
    timer.cancel()
    assert (summary.acknowledged, stop.is_set()) == (300, False)


def test_an_entry_that_names_its_bus_goes_there_if_it_exists(stub):
    bus, journal = stub(), Journal()
    events = [event(EventBusName=name) for name in ("orders", "audit", "missing", "no name")]
    summary = send(events * 2, bus.client(), "orders", FAST, journal)
    assert (summary.acknowledged, summary.by_code) == (4, {"ResourceNotFoundException": 4})
    assert (bus.counts()["buses"], summary.calls) == ({"orders": 2, "audit": 2}, 1)


def test_only_failed_entries_wait_a_random_time(stub, monkeypatch):
    waits = []
    monkeypatch.setattr(random, "uniform", lambda low, high: waits.append((low, high)) or 0.0)
    bus = stub("--fail", "0.5")
    summary = send([event()] * 200, bus.client(), "orders", Settings(threads=2, base=0.01, cap=0.1))
    assert len(waits) == summary.retried
    assert {low for low, _ in waits} == {0}
    assert max(high for _, high in waits) <= 0.1


def test_the_example_of_the_docs(stub, monkeypatch, capsys):
    client = stub().client()
    monkeypatch.setattr(boto3, "client", lambda *_, **__: client)
    text = (Path(__file__).resolve().parents[3] / "docs/sending.md").read_text()
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    assert capsys.readouterr().out == "1000 {}\n"
