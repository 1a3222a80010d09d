from __future__ import annotations

import json
import os
import pty
import random
import signal
import threading
import time

import in_process
import pytest

from eventstacks.bus import send as sender


def details(count: int, *, first: int = 0, **more) -> bytes:
    return b"".join(
        json.dumps({"id": number, **more}).encode() + b"\n"
        for number in range(first, first + count)
    )


NOTE = "x" * 1000  # some 60 such records are read at once
WHERE = ("--bus", "orders", "--region", "us-east-1")
AS = (*WHERE, "--source", "com.example.shop", "--detail-type", "OrderPlaced")


def test_every_record_is_acknowledged_once(stub, project):
    bus = stub()
    code, out, err = project.send(bus.url, *AS, "-", data=details(1234))
    assert (code, err) == (0, "")
    assert out.startswith("1,234 records: 1,234 acknowledged, 0 rejected, 0 retried; ")
    assert bus.counts()["distinct"] == bus.counts()["acknowledged"] == 1234
    assert bus.counts()["calls"] == 124
    assert not (project.path / "rejected.ndjson").exists()


def test_faults_are_accounted_for(stub, project):
    bus = stub("--fail", "0.05", "--throttle", "0.1", "--cut", "0.1")
    data = b"".join(
        details(1, first=n, **({"refuse": "NotAuthorizedForSource"} if n % 100 == 7 else {}))
        for n in range(700)
    )
    code, out, _ = project.send(bus.url, *AS, "--json", "-", data=data)
    summary, counts = json.loads(out), bus.counts()
    assert code == 1
    assert summary["records"] == 700 == summary["acknowledged"] + summary["rejected"]
    assert (summary["acknowledged"], counts["twice"]) == (counts["distinct"], 0)
    assert summary["by_code"] == {"NotAuthorizedForSource": 7}
    assert summary["seconds"] == round(summary["seconds"], 2)
    assert counts["failed"] > 0 < counts["cut"]
    assert counts["throttled"] > 0 < summary["retried"]
    records = [one["Rejected"]["Record"] for one in project.rejected()]
    assert records == list(range(8, 701, 100))


def test_rejects_can_be_sent_again(stub, project):
    bus = stub("--keep")
    lines = [
        b'{"id": 1}',
        b"{broken",
        b"\xff\xfe",
        b"[1]",
        b'{"Source": "a.b", "DetailType": "x", "Detail": "[]"}',
        b'{"Source": "a.b", "DetailType": "x", "Detail": "{}", "EventBusName": "missing-too"}',
        b'{"id": 2}',
    ]
    code, _, err = project.send(bus.url, *AS, "-", data=b"\n".join(lines))
    assert code == 1
    codes = ["InvalidJson", "InvalidUtf8", "MalformedDetail", "MalformedDetail"]
    codes += ["ResourceNotFoundException"]
    assert "InvalidJson 1, InvalidUtf8 1, MalformedDetail 2, ResourceNotFoundException 1" in err
    first = project.rejected()
    assert [one["Rejected"]["Code"] for one in first] == codes
    code, *_ = project.send(bus.url, *AS, "rejected.ndjson")
    again = project.rejected("rejected-2.ndjson")
    assert [one["Rejected"]["Code"] for one in again] == codes
    assert [one.get("Raw") for one in again] == [one.get("Raw") for one in first]
    wrong = (project.path / "rejected-2.ndjson").read_text().splitlines()
    fixed = [wrong[0].replace("{broken", '{\\"id\\": 3}'), wrong[4].replace("missing", "found")]
    (project.path / "fixed.ndjson").write_text("\n".join(fixed))
    assert project.send(bus.url, *AS, "fixed.ndjson")[0] == 0
    sent = sorted(json.loads(one["Detail"]).get("id", 0) for one in bus.bus.kept)
    assert sent == [0, 1, 2, 3]
    assert bus.counts()["buses"] == {"orders": 3, "found-too": 1}


@pytest.mark.parametrize(
    ("options", "region"), [((), "us-east-1"), (("--region", "eu-west-1"), "eu-west-1")]
)
def test_one_run_sends_to_one_region(stub, project, options, region):
    bus = stub()
    arguments = project.arguments(bus.url, "--bus", "orders", *options, "--source", "a")
    arguments.remove("--quiet")
    done = in_process.run(*arguments, "--detail-type", "x", "-", data=details(1))
    assert (done.returncode, bus.counts()["acknowledged"]) == (0, 1)
    assert f"000000000000 · {region} · " in done.stderr.splitlines()[0]


def test_an_arn_names_its_region(stub, project):
    arn = "arn:aws:events:eu-central-1:000000000000:event-bus/missing"
    code, _, err = project.send(stub().url, "--bus", arn, "-", data=details(1))
    assert (code, "Region eu-central-1" in err) == (1, True)


def test_a_missing_bus_is_an_error(stub, project):
    bus = stub()
    code, out, err = project.send(bus.url, "--bus", "missing", "-", data=details(1))
    assert (code, out) == (1, "")
    assert "'missing'" in err
    assert bus.counts()["calls"] == 0


def test_reading_from_a_terminal_is_announced(stub, project):
    """And interrupted before a record, it says that nothing was sent; nothing is to be resumed."""
    bus = stub()
    ours, theirs = pty.openpty()
    process = project.start(bus.url, *AS, "-", stdin=theirs)
    assert process.stderr.readline() == b"Reading from the terminal; end with Ctrl-D.\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130
    assert b"Nothing was sent" in err
    code, _, err = project.send(bus.url, *AS, "-", data=details(1))
    assert (code, err) == (0, "")


@pytest.mark.usefixtures("children_unmeasured")
def test_every_record_is_accounted_for_after_kills_at_random_times(stub, project):
    count, threads, kills = 1200, 4, 2
    bus = stub("--delay", "15", "--fail", "0.1", "--cut", "0.02")
    records = (
        details(1, first=n, **({"refuse": "InvalidArgument"} if n % 37 == 3 else {}))
        for n in range(count)
    )
    (project.path / "events.ndjson").write_bytes(b"".join(records))
    arguments = (*AS, "--threads", str(threads), "--json", "events.ndjson")
    for resume in ((), ("--resume",)):
        process, before = project.start(bus.url, *arguments, *resume), bus.counts()["calls"]
        while bus.counts()["calls"] <= before + 2:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        process.communicate()
    time.sleep(0.1)  # the calls in progress end in the stub
    assert bus.counts()["distinct"] < count - count // 37
    code, _, err = project.send(bus.url, *arguments)
    assert (code, "--resume" in err) == (1, True)
    code, out, err = project.send(bus.url, *arguments, "--resume")
    assert code == 1, err
    summary, counts = json.loads(out), bus.counts()
    bad = list(range(4, count + 1, 37))
    assert (summary["acknowledged"], summary["rejected"]) == (count - len(bad), len(bad))
    assert counts["distinct"] == count - len(bad)
    # Only the calls in flight at the kill may come twice.
    assert counts["twice"] <= kills * threads * 10
    assert [one["Rejected"]["Record"] for one in project.rejected()] == bad
    code, out, _ = project.send(bus.url, *arguments, "--resume")
    assert (code, json.loads(out)["records"]) == (1, count)
    assert bus.counts()["acknowledged"] == counts["acknowledged"]


def interrupt(bus, number: signal.Signals, acknowledged: int) -> threading.Thread:
    """Send this process a signal when the bus has acknowledged so much."""

    def wait() -> None:
        while bus.counts()["acknowledged"] < acknowledged:
            time.sleep(0.005)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_reports_its_records_and_is_resumed(stub, project, number):
    bus, events = stub("--delay", "5"), details(1500, note=NOTE)
    thread = interrupt(bus, number, 100)
    code, out, err = project.send(bus.url, *AS, "--threads", "4", "--json", "-", data=events)
    thread.join()
    summary = json.loads(out)
    assert (code, summary["interrupted"], "--resume" in err) == (130, True, True)
    assert summary["acknowledged"] == bus.counts()["distinct"] == bus.counts()["acknowledged"]
    assert summary["records"] < 1500
    more = events + details(100, first=1500, note=NOTE)  # what was sent is the same
    code, out, err = project.send(bus.url, *AS, "--resume", "--json", "-", data=more)
    assert (code, json.loads(out)["acknowledged"]) == (0, 1600), err
    assert (bus.counts()["distinct"], bus.counts()["twice"]) == (1600, 0)


def test_a_signal_that_is_ignored_does_not_stop_it(stub, project):
    """As with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        bus = stub("--delay", "5")
        thread = interrupt(bus, signal.SIGHUP, 20)
        code, out, _ = project.send(bus.url, *AS, "--json", "-", data=details(500))
        thread.join()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (code, json.loads(out)["acknowledged"]) == (0, 500)


def test_another_input_is_not_resumed(stub, project):
    bus = stub("--delay", "10")
    thread = interrupt(bus, signal.SIGINT, 100)
    assert (
        project.send(bus.url, *AS, "--threads", "2", "-", data=details(1000, note=NOTE))[0] == 130
    )
    thread.join()
    before, other = bus.counts()["acknowledged"], details(1000, first=1, note=NOTE)
    code, _, err = project.send(bus.url, *AS, "--resume", "-", data=other)
    assert (code, "not the input" in err) == (1, True)
    assert bus.counts()["acknowledged"] == before


def test_an_interrupted_run_with_a_rate_ends_in_time_and_is_resumed(stub, project, monkeypatch):
    monkeypatch.setattr(sender, "GRACE", 0.3)
    bus, data = stub(), details(500)
    thread = interrupt(bus, signal.SIGINT, 30)
    code, out, err = project.send(bus.url, *AS, "--json", "--rate", "100", "-", data=data)
    thread.join()
    summary = json.loads(out)
    assert (code, summary["acknowledged"]) == (130, bus.counts()["acknowledged"]), err
    unsent = sum(last - first + 1 for first, last in summary["open"])
    assert unsent == summary["records"] - summary["acknowledged"] > 0
    code, out, _ = project.send(bus.url, *AS, "--json", "--resume", "-", data=data)
    counts = bus.counts()
    assert (code, json.loads(out)["acknowledged"]) == (0, 500)
    assert (counts["acknowledged"], counts["twice"]) == (500, 0)


def test_rate_is_a_cap(stub, project):
    bus = stub()
    code, out, _ = project.send(bus.url, *AS, "--rate", "500", "--json", "-", data=details(300))
    assert code == 0
    assert json.loads(out)["rate"] <= 600  # 500 a second, and a tenth of a second's worth at once


@pytest.mark.parametrize("data", [b"", b"\n\r\n", b"\xef\xbb\xbf", b"[]", b" [ ] "])
def test_an_empty_input_is_nothing_to_do(stub, project, data):
    code, out, _ = project.send(stub().url, *AS, "-", data=data)
    assert (code, out.split(";")[0]) == (0, "0 records: 0 acknowledged, 0 rejected, 0 retried")


def test_an_array_that_was_cut_short_is_resumed_when_it_is_fixed(stub, project):
    bus, file = stub("--keep"), project.path / "events.json"
    events = [
        json.dumps({"Source": "x", "DetailType": "x", "Detail": {"number": one}})
        for one in range(3)
    ]
    whole = f"[{','.join(events)}]"
    file.write_text(whole[:-9])
    code, _, err = project.send(bus.url, "--bus", "orders", "events.json")
    assert code == 1
    assert "events.json, record 3" in err
    file.write_text(whole)
    code, out, err = project.send(bus.url, "--bus", "orders", "--resume", "events.json")
    assert (code, err, out[:9]) == (0, "", "3 records")
    assert sorted(json.loads(one["Detail"])["number"] for one in bus.bus.kept) == [0, 1, 2]


def test_a_lone_surrogate_rejects_its_record_only(stub, project):
    bus, good = stub(), {"Source": "x", "DetailType": "x", "Detail": "{}"}
    records = [{**good, name: "\ud800"} for name in ("TraceHeader", "EventBusName")] + [good]
    data = "\n".join(map(json.dumps, records)).encode()
    code, _, err = project.send(bus.url, *WHERE, "-", data=data)
    assert code == 1
    assert "InvalidUtf8 2" in err


@pytest.mark.parametrize(
    "bus", ["arn:", "arn:aws:events", "arn:aws:events:us-east-1:123456789012:rule/x", ""]
)
def test_an_invalid_bus_is_refused_before_anything_is_sent(stub, project, bus):
    code, _, err = project.send(stub().url, "--bus", bus, "-", data=b"{}")
    assert code == 1
    assert repr(bus) in err
    assert "--bus" in err


@pytest.mark.parametrize("fault", ["hang", "hang-all"])
def test_a_signal_ends_a_process_that_hangs_within_five_seconds(stub, project, fault):
    bus = stub("--fault", fault)
    (project.path / "events.ndjson").write_bytes(details(1000))
    process = project.start(bus.url, *AS, "--json", "events.ndjson")
    while not bus.counts()["faulty_calls"]:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert (process.returncode, b"Traceback" in err) == (130, False)
    if fault == "hang":
        assert (json.loads(out)["acknowledged"], json.loads(out)["rejected"]) == (0, 0)
        bus.fault("")
        code, out, _ = project.send(bus.url, *AS, "--json", "--resume", "events.ndjson")
        assert (code, json.loads(out)["acknowledged"], bus.counts()["twice"]) == (0, 1000, 0)


def test_an_outage_is_announced_and_ends_with_nothing_rejected(stub, project, monkeypatch):
    monkeypatch.setattr(sender, "PROBE_SECONDS", 0.2)
    bus, data = stub("--fault", "503"), details(200)
    code, out, err = project.send(bus.url, *AS, "--give-up-after", "1", "--json", "-", data=data)
    summary = json.loads(out)
    assert (code, summary["error"]["code"]) == (1, "endpoint_unreachable")
    assert (summary["acknowledged"], summary["rejected"]) == (0, 0)
    assert "Paused" in err
    assert not (project.path / "rejected.ndjson").exists()
    bus.fault("")
    code, out, _ = project.send(bus.url, *AS, "--resume", "--json", "-", data=data)
    assert (code, json.loads(out)["acknowledged"], bus.counts()["distinct"]) == (0, 200, 200)
