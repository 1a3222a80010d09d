"""``make bench-send``: the sender's speed beside a bare boto3 loop, memory, account under faults.

Everything runs on loopback against tests/bench/stub.py (15 ms server time, plain HTTP), one run
after the other, each in a process of its own. The peer is client.put_events in 32 threads with ten
entries a call, which does nothing else: it makes its events, checks nothing, records nothing and
retries nothing. Peer and sender alternate, and the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIZE = 500  # bytes of a detail
GOAL = 0.9  # times the peer
PEER = """
import itertools, sys, threading, time, boto3
from botocore.config import Config
sys.path.insert(0, sys.argv[3])
from send import detail
client = boto3.client('events', region_name='us-east-1', endpoint_url=sys.argv[1],
                      aws_access_key_id='a', aws_secret_access_key='b',
                      config=Config(max_pool_connections=32))
numbers, calls = itertools.count(), int(sys.argv[2]) // 10
def work():
    while (call := next(numbers)) < calls:
        client.put_events(Entries=[
            {'Source': 'com.example.shop', 'DetailType': 'OrderPlaced', 'EventBusName': 'orders',
             'Detail': detail(number).decode()}
            for number in range(call * 10, call * 10 + 10)
        ])
begin = time.monotonic()
threads = [threading.Thread(target=work) for _ in range(32)]
for one in threads: one.start()
for one in threads: one.join()
print(time.monotonic() - begin)
"""


def detail(number: int) -> bytes:
    text = (
        b'{"id": %d, "customer": {"name": "Ada Lovelace", "country": "GB"}, "total": 99.50, '
        b'"items": [' % number
    )
    text += b'{"sku": "A-1", "count": 1}, {"sku": "B-2", "count": 2}], "note": "'
    return text + b"x" * (SIZE - len(text) - 2) + b'"}\n'


def feed(pipe, count: int) -> None:
    for first in range(0, count, 1000):
        pipe.write(b"".join(detail(number) for number in range(first, min(first + 1000, count))))
    pipe.close()


class Stub:
    def __init__(self, *options: str) -> None:
        command = [
            sys.executable,
            str(ROOT / "tests/bench/stub.py"),
            "--delay",
            "15",
            "--count-ids",
            *options,
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()  # it ends with its stdin
        self.process.wait(10)

    def counts(self) -> dict:
        with urllib.request.urlopen(f"{self.url}/counts", timeout=10) as answer:
            return json.load(answer)


def send(stub: Stub, count: int, *arguments: str) -> tuple[dict, float]:
    """The verb's own summary, and its peak memory in MB; events come on stdin."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for folder in ("templates", "parameters"):
            (directory / folder).mkdir()
        (directory / "templates/bus.yaml.j2").write_text(
            "Resources:\n  Topic:\n    Type: AWS::SNS::Topic\n"
        )
        (directory / "pyproject.toml").write_text('[project]\nversion = "1"\n')
        (directory / "parameters/stub.yaml").write_text(
            f"endpoint: {stub.url}\nregions: [us-east-1]\nstacks: {{bus: }}\n"
        )
        command = [
            sys.executable,
            "-m",
            "eventstacks",
            "send",
            "--env",
            "stub",
            "--bus",
            "orders",
            "--quiet",
            "--json",
            *arguments,
            "--source",
            "com.example.shop",
            "--detail-type",
            "OrderPlaced",
            "-",
        ]
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        threading.Thread(target=feed, args=(process.stdin, count), daemon=True).start()
        summary = json.loads(process.stdout.read())
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        return summary, usage.ru_maxrss / 1024


def peer(stub: Stub, count: int) -> float:
    command = [sys.executable, "-c", PEER, stub.url, str(count), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, check=True)
    return count / float(done.stdout)


def account(summary: dict, counts: dict, count: int) -> tuple[str, bool]:
    is_right = (
        summary["acknowledged"] == counts["distinct"]
        and counts["twice"] == 0
        and summary["records"] == count == summary["acknowledged"] + summary["rejected"]
    )
    return (
        f"{summary['acknowledged']:,} acknowledged, {summary['rejected']:,} rejected, "
        f"{summary['retried']:,} retried; stub: {counts['distinct']:,}, {counts['twice']:,} twice"
    ), is_right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--events", type=int, default=60_000, help="for the runs that measure speed"
    )
    parser.add_argument("--many", type=int, default=1_000_000, help="for memory, with faults")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'run':<42}{'events':>10}{'events/s':>10}{'MB':>7}  account")
    failed, rates = [], {"peer": [], "sender": []}

    def row(name: str, count: int, rate: float, memory: float = 0, text: str = "") -> None:
        print(f"{name:<42}{count:>10,}{rate:>10,.0f}{memory:>7,.0f}  {text}", flush=True)

    for _ in range(options.rounds):
        with Stub() as stub:
            rates["peer"].append(peer(stub, options.events))
            row("peer: put_events, 32 threads", options.events, rates["peer"][-1])
        with Stub() as stub:
            summary, memory = send(stub, options.events)
            text, is_right = account(summary, stub.counts(), options.events)
            rates["sender"].append(summary["rate"])
            row("send, 32 threads", options.events, summary["rate"], memory, text)
            failed += [] if is_right else ["send: the accounts differ"]
    if options.many:
        with Stub("--fail", "0.05", "--throttle", "0.02", "--cut", "0.01") as stub:
            begin = time.monotonic()
            summary, memory = send(stub, options.many)
            text, is_right = account(summary, stub.counts(), options.many)
            rate = summary["acknowledged"] / (time.monotonic() - begin)
            row("5 % entries fail, 2 % throttled, 1 % cut", options.many, rate, memory, text)
            failed += [] if is_right else ["faults: the accounts differ"]
            failed += [] if memory < 150 else [f"memory: {memory:,.0f} MB, goal 150"]
    ratio = statistics.median(rates["sender"]) / statistics.median(rates["peer"])
    print(f"send: {ratio:.2f} times the peer (goal {GOAL})")
    failed += [] if ratio >= GOAL else [f"speed: {ratio:.2f} times the peer, goal {GOAL}"]
    for problem in failed:
        print(f"FAILED {problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
