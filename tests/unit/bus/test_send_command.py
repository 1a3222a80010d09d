from __future__ import annotations

import json
import os
import pty
import random
import select
import signal
import time

import pytest


def details(count: int, *, first: int = 0, **more) -> bytes:
    return b"".join(
        json.dumps({"id": number, **more}).encode() + b"\n"
        for number in range(first, first + count)
    )


WHERE = ("--bus", "orders", "--region", "us-east-1")
AS = (*WHERE, "--source", "com.example.shop", "--detail-type", "OrderPlaced")


def test_every_record_is_acknowledged_once(stub, project):
    bus = stub("--delay", "1")
    code, out, err = project.send(bus.url, *AS, "-", data=details(1234))
    assert (code, err) == (0, "")
    assert out.startswith("1,234 records: 1,234 acknowledged, 0 rejected, 0 retried; ")
    assert bus.counts()["distinct"] == bus.counts()["acknowledged"] == 1234
    assert bus.counts()["calls"] == 124
    assert not (project.path / "rejected.ndjson").exists()


def test_one_record_is_one_record(stub, project):
    assert project.send(stub().url, *AS, "-", data=details(1))[1].startswith(
        "1 record: 1 acknowledged, "
    )


def test_faults_are_accounted_for(stub, project):
    bus = stub("--delay", "1", "--fail", "0.05", "--throttle", "0.02", "--cut", "0.01")
    data = b"".join(
        details(1, first=n, **({"refuse": "NotAuthorizedForSource"} if n % 100 == 7 else {}))
        for n in range(5000)
    )
    code, out, _ = project.send(bus.url, *AS, "--json", "-", data=data)
    summary, counts = json.loads(out), bus.counts()
    assert code == 1
    assert summary["records"] == 5000 == summary["acknowledged"] + summary["rejected"]
    assert (summary["acknowledged"], counts["twice"]) == (counts["distinct"], 0)
    assert summary["by_code"] == {"NotAuthorizedForSource": 50}
    assert counts["failed"] > 0 < counts["cut"]
    assert counts["throttled"] > 0 < summary["retried"]
    assert sorted(one["Rejected"]["Record"] for one in project.rejected()) == list(
        range(8, 5001, 100)
    )


def test_rejects_can_be_sent_again(stub, project):
    bus = stub("--delay", "1", "--keep")
    lines = [
        b'{"id": 1}',
        b"{broken",
        b"\xff\xfe",
        b"[1]",
        b'{"Source": "a.b", "DetailType": "x", "Detail": "[]"}',
        b'{"id": 2}',
    ]
    code, _, err = project.send(bus.url, *AS, "-", data=b"\n".join(lines))
    assert code == 1
    assert "InvalidJson 1, InvalidUtf8 1, MalformedDetail 2" in err
    first = project.rejected()
    assert [one["Rejected"]["Code"] for one in first] == [
        "InvalidJson",
        "InvalidUtf8",
        "MalformedDetail",
        "MalformedDetail",
    ]
    code, *_ = project.send(bus.url, *AS, "rejected.ndjson")
    again = project.rejected("rejected-2.ndjson")
    assert [one["Raw"] for one in again] == [one["Raw"] for one in first]
    fixed = (
        (project.path / "rejected-2.ndjson")
        .read_text()
        .replace("{broken", '{\\"id\\": 3}')
        .splitlines()[0]
    )
    (project.path / "fixed.ndjson").write_text(fixed)
    assert project.send(bus.url, *AS, "fixed.ndjson")[0] == 0
    assert [json.loads(one["Detail"])["id"] for one in bus.entries()] == [1, 2, 3]


def test_a_rejected_entry_goes_back_to_its_own_bus(stub, project):
    bus = stub("--delay", "1")
    both = ("--bus", "orders", "--bus", "audit", "--source", "a.b", "--detail-type", "x")
    code, out, _ = project.send(bus.url, *both, "--json", "-", data=details(10))
    assert (code, json.loads(out)["acknowledged"]) == (0, 40)  # two buses in two regions
    line = {
        "Source": "a.b",
        "DetailType": "x",
        "Detail": "{}",
        "EventBusName": "audit",
        "Rejected": {"Code": "InternalFailure", "Message": "", "Record": 1, "Region": "eu-west-1"},
    }
    code, out, _ = project.send(bus.url, *both, "--json", "-", data=json.dumps(line).encode())
    assert (code, json.loads(out)["acknowledged"]) == (0, 1)
    assert bus.counts()["buses"] == {"orders": 20, "audit": 21}


def test_a_missing_bus_is_an_error(stub, project):
    bus = stub()
    code, out, err = project.send(bus.url, "--bus", "missing", "-", data=details(1))
    assert (code, out) == (1, "")
    assert "'missing'" in err
    entry = b'{"Source": "a.b", "DetailType": "x", "Detail": "{}", "EventBusName": "missing-too"}'
    code, _, err = project.send(bus.url, *WHERE, "-", data=entry)
    assert code == 1
    assert "ResourceNotFoundException 1" in err
    assert bus.counts()["calls"] == 0


def test_a_dry_run_tells_batches_and_bytes(stub, project):
    bus = stub()
    data = details(25) + b"nonsense\n"
    code, out, err = project.send(bus.url, *AS, "--dry-run", "-", data=data)
    sizes = [len(b"com.example.shopOrderPlaced") + len(line) for line in details(25).splitlines()]
    assert (code, out.splitlines()) == (
        1,
        [
            f"us-east-1 orders: batch 1: 10 entries, {sum(sizes[:10])} bytes",
            f"us-east-1 orders: batch 2: 10 entries, {sum(sizes[10:20])} bytes",
            f"us-east-1 orders: batch 3: 5 entries, {sum(sizes[20:])} bytes",
            f"us-east-1 orders: 25 entries in 3 batches, {sum(sizes)} bytes",
        ],
    )
    assert err.splitlines()[0].startswith("record 26: InvalidJson: ")
    assert bus.counts()["calls"] == 0
    assert not (project.path / ".send").exists()


def test_a_dry_run_counts_what_only_aws_may_send(stub, project):
    bus = stub()
    entries = [
        {"Source": "aws.s3", "DetailType": "Object Created", "Detail": {}},
        {"Source": "awsome.shop", "DetailType": "x", "Detail": {"Source": "aws.s3"}},
        {"source": "aws.rds", "detail-type": "x", "detail": {}},
    ]
    data = b"\n".join(json.dumps(one).encode() for one in entries)
    code, out, err = project.send(
        bus.url, "--bus", "orders", "--bus", "audit", *WHERE, "--dry-run", "-", data=data
    )
    assert code == 1
    assert "us-east-1 orders: 3 entries in 1 batches" in out
    assert [line.split(": ")[:2] for line in err.splitlines()[:-1]] == [
        [f"record {number}", "NotAuthorizedForSource"] for number in (1, 3, 1, 3)
    ]
    assert err.splitlines()[-1] == "Error: 4 of 6 entries would be rejected"
    code, out, _ = project.send(bus.url, *WHERE, "--dry-run", "--json", "-", data=data)
    assert (code, len(json.loads(out)["rejected"])) == (1, 2)


def test_a_terminal_is_told_that_it_is_read_and_a_pipe_is_not(stub, project):
    bus = stub("--delay", "1")
    ours, theirs = pty.openpty()
    process = project.start(bus.url, *AS, stdin=theirs)
    os.write(ours, b'{"id": 1}\n\x04')
    out, err = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert err == b"Reading from the terminal; end with Ctrl-D.\n"
    assert (process.returncode, bus.counts()["acknowledged"]) == (0, 1)
    assert out.startswith(b"1 record: 1 acknowledged")
    assert project.send(bus.url, *AS, data=details(1))[2] == ""


def test_interrupted_before_a_record_it_says_so(stub, project):
    bus = stub()
    ours, theirs = pty.openpty()
    process = project.start(bus.url, *AS, "-", stdin=theirs)
    assert select.select([process.stderr], [], [], 20)[0]
    process.stderr.readline()  # it reads
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130
    assert b"nothing was sent" in err
    assert project.send(bus.url, *AS, "-", data=details(1))[0] == 0  # nothing to resume


@pytest.mark.usefixtures(
    "children_unmeasured"
)  # nothing is noted of what is killed, and resuming is measured below
def test_killed_and_resumed(stub, project):
    bus = stub("--delay", "5", "--fail", "0.02")
    data = b"".join(
        details(1, first=n, **({"refuse": "InvalidArgument"} if n % 50 == 3 else {}))
        for n in range(12_000)
    )
    (project.path / "events.ndjson").write_bytes(data)
    arguments = (*AS, "--threads", "4", "events.ndjson")
    for resume in ((), ("--resume",), ("--resume",)):
        before = bus.counts()["acknowledged"]
        process = project.start(bus.url, *arguments, *resume)
        while bus.counts()["acknowledged"] < before + 1500:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.kill()
        process.communicate()
    time.sleep(0.3)  # the calls in progress end in the stub
    code, out, err = project.send(bus.url, *arguments, "--json")
    assert code == 1
    assert "--resume" in err
    code, out, _ = project.send(bus.url, *arguments, "--json", "--resume")
    summary, counts = json.loads(out), bus.counts()
    assert summary["records"] == 12_000 == summary["acknowledged"] + summary["rejected"]
    assert (counts["distinct"], summary["acknowledged"], summary["rejected"]) == (
        11_760,
        11_760,
        240,
    )
    # Only the calls in flight at the kill may come twice.
    assert counts["twice"] <= 3 * 4 * 10
    assert sorted(one["Rejected"]["Record"] for one in project.rejected()) == list(
        range(4, 12_001, 50)
    )
    code, out, _ = project.send(bus.url, *arguments, "--json", "--resume")
    assert (code, json.loads(out)["records"], bus.counts()["acknowledged"]) == (
        1,
        12_000,
        counts["acknowledged"],
    )


def test_another_input_is_not_resumed(stub, project):
    bus = stub("--delay", "5")
    file = project.path / "events.ndjson"
    file.write_bytes(details(20_000))
    process = project.start(bus.url, *AS, "--threads", "2", "events.ndjson")
    while bus.counts()["acknowledged"] < 500:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    file.write_bytes(details(20_000, first=1))
    before = bus.counts()["acknowledged"]
    code, _, err = project.send(bus.url, *AS, "--resume", "events.ndjson")
    assert code == 1
    assert "not the input" in err
    assert bus.counts()["acknowledged"] - before <= 20  # what was in progress when it was killed


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_what_was_acknowledged(stub, project, how):
    bus = stub("--delay", "5")
    process = project.start(bus.url, *AS, "--threads", "4", "--json", "-")
    process.stdin.write(details(3000))
    process.stdin.flush()
    while bus.counts()["acknowledged"] < 500:
        time.sleep(0.01)
    process.send_signal(how)
    out, err = process.communicate(timeout=30)
    summary = json.loads(out)
    assert process.returncode == 130
    assert summary["interrupted"]
    assert summary["acknowledged"] == bus.counts()["distinct"] == bus.counts()["acknowledged"]
    assert b"--resume" in err
    code, out, _ = project.send(bus.url, *AS, "--resume", "--json", "-", data=details(4000))
    assert (code, json.loads(out)["acknowledged"]) == (0, 4000)
    assert (bus.counts()["distinct"], bus.counts()["twice"]) == (4000, 0)


def test_a_slow_sending_is_given_up_in_time_and_can_be_resumed(stub, project):
    bus = stub("--delay", "1")
    (project.path / "events.ndjson").write_bytes(details(3000))
    arguments = (*AS, "--json", "events.ndjson")
    process = project.start(bus.url, *arguments, "--rate", "40")
    while bus.counts()["acknowledged"] < 30:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    summary = json.loads(out)
    assert (process.returncode, summary["acknowledged"]) == (130, bus.counts()["acknowledged"]), err
    assert (
        sum(last - first + 1 for first, last in summary["open"])
        == summary["records"] - summary["acknowledged"]
        > 0
    )
    code, out, _ = project.send(bus.url, *arguments, "--resume")
    assert (
        code,
        json.loads(out)["acknowledged"],
        bus.counts()["acknowledged"],
        bus.counts()["twice"],
    ) == (
        0,
        3000,
        3000,
        0,
    )


def test_rate_is_a_cap(stub, project):
    bus = stub("--delay", "1")
    code, out, _ = project.send(bus.url, *AS, "--rate", "500", "--json", "-", data=details(600))
    assert code == 0
    assert json.loads(out)["rate"] <= 600  # 500 a second, and a tenth of a second's worth at once


@pytest.mark.parametrize("data", [b"", b"\n\r\n", b"\xef\xbb\xbf", b"[]", b" [ ] "])
def test_an_empty_input_is_nothing_to_do(stub, project, data):
    code, out, _ = project.send(stub().url, *AS, "-", data=data)
    assert (code, out.split(";")[0]) == (0, "0 records: 0 acknowledged, 0 rejected, 0 retried")


def test_an_array_that_was_cut_short_is_resumed_when_it_is_fixed(stub, project):
    aws, file = stub("--keep"), project.path / "events.json"
    events = [
        json.dumps({"Source": "x", "DetailType": "x", "Detail": {"number": one}})
        for one in range(3)
    ]
    whole = f"[{','.join(events)}]"
    file.write_text(whole[:-9])
    code, _, err = project.send(aws.url, "--bus", "orders", "events.json")
    assert code == 1
    assert "events.json, record 3" in err
    file.write_text(whole)
    code, out, err = project.send(aws.url, "--bus", "orders", "--resume", "events.json")
    assert (code, err) == (0, "")
    assert "3 records" in out or "records: " in out
    assert sorted(json.loads(one["Detail"])["number"] for one in aws.entries()) == sorted(
        2 * [0, 1, 2]
    )


def test_half_a_surrogate_anywhere_is_one_refused_record(stub, project):
    aws, good = stub("--keep"), {"Source": "x", "DetailType": "x", "Detail": "{}"}
    records = [{**good, name: "\ud800"} for name in ("TraceHeader", "EventBusName")] + [good]
    data = "\n".join(map(json.dumps, records)).encode()
    code, _, err = project.send(aws.url, *WHERE, "-", data=data)
    assert code == 1
    assert "InvalidUtf8 2" in err


@pytest.mark.parametrize(
    "bus", ["arn:", "arn:aws:events", "arn:aws:events:us-east-1:123456789012:rule/x", ""]
)
def test_what_is_no_bus_is_said_before_anything_is_sent(stub, project, bus):
    code, _, err = project.send(stub().url, "--bus", bus, "-", data=b"{}")
    assert code == 1
    assert repr(bus) in err
    assert "--bus" in err


@pytest.mark.parametrize(
    ("how", "fault"), [(signal.SIGTERM, "hang"), (signal.SIGTERM, "text"), (signal.SIGHUP, "503")]
)
def test_a_signal_ends_an_outage_within_five_seconds(stub, project, fault, how):
    bus = stub("--delay", "1", "--fault", fault)
    (project.path / "events.ndjson").write_bytes(details(5000))
    process = project.start(bus.url, *AS, "--json", "events.ndjson")
    while not bus.counts()["faulty_calls"]:
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(how)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 10  # 3 s, and the end of Python on a busy machine
    summary = json.loads(out)
    assert (process.returncode, summary["acknowledged"], summary["rejected"]) == (130, 0, 0)
    assert b"Traceback" not in err
    bus.fault("none")
    code, out, _ = project.send(bus.url, *AS, "--json", "--resume", "events.ndjson")
    assert (code, json.loads(out)["acknowledged"], bus.counts()["twice"]) == (0, 5000, 0)


def test_a_signal_ends_a_start_that_hangs(stub, project):
    bus = stub("--delay", "1", "--fault", "hang-all")
    process = project.start(bus.url, *AS, "-")
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=5)
    assert process.returncode == 130


def test_an_outage_is_announced_and_ends_with_nothing_rejected(stub, project):
    bus = stub("--delay", "1", "--fault", "503")
    data = details(1000)
    code, out, err = project.send(bus.url, *AS, "--give-up-after", "1", "--json", "-", data=data)
    summary = json.loads(out)
    assert (code, summary["error"]["code"]) == (1, "endpoint_unreachable")
    assert (summary["acknowledged"], summary["rejected"]) == (0, 0)
    assert "Paused" in err
    assert not (project.path / "rejected.ndjson").exists()
    bus.fault("none")
    code, out, _ = project.send(bus.url, *AS, "--resume", "--json", "-", data=data)
    assert (code, json.loads(out)["acknowledged"], bus.counts()["distinct"]) == (0, 1000, 1000)


@pytest.mark.usefixtures("children_unmeasured")
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_everything_is_accounted_for(stub, project, seed):
    chance, count = random.Random(seed), 4000
    bus = stub("--delay", "3", "--fail", "0.1", "--cut", "0.02", "--seed", str(seed))
    records = (
        details(1, first=n, **({"refuse": "InvalidArgument"} if n % 37 == 3 else {}))
        for n in range(count)
    )
    (project.path / "events.ndjson").write_bytes(b"".join(records))
    arguments, kills = (*AS, "--threads", "4", "--json", "events.ndjson"), 0
    for _ in range(4):
        process = project.start(bus.url, *arguments, *(["--resume"] if kills else []))
        before = bus.counts()["calls"]
        while process.poll() is None and bus.counts()["calls"] <= before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        process.communicate()
        kills += 1
    time.sleep(0.2)
    code, out, err = project.send(bus.url, *arguments, "--resume")
    assert code == 1, err
    summary, counts = json.loads(out), bus.counts()
    bad = list(range(4, count + 1, 37))
    assert (summary["acknowledged"], summary["rejected"]) == (count - len(bad), len(bad))
    assert counts["distinct"] == count - len(bad)
    assert counts["twice"] <= kills * 4 * 10 + counts["cut"] * 10
    assert sorted(one["Rejected"]["Record"] for one in project.rejected()) == bad
