"""``make bench-send``: how fast the sender is, in what memory, and whether its account is right when calls fail.

Everything runs on loopback against tests/bench/stub.py (15 ms server time, plain HTTP), one after the other, in
processes of their own. The article's loop is boto3's put_events with one entry a call, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIZE = 500  # bytes of a detail
ARTICLE = """
import json, sys, time, boto3
from datetime import datetime, timezone
client = boto3.client('events', region_name='us-east-1', endpoint_url=sys.argv[1], aws_access_key_id='a', aws_secret_access_key='b')
begin = time.monotonic()
for line in sys.stdin:
    client.put_events(Entries=[{'Time': datetime.now(timezone.utc), 'Source': 'com.example.shop', 'Detail': json.dumps(json.loads(line)),
                                'DetailType': 'OrderPlaced', 'EventBusName': 'orders'}])
print(time.monotonic() - begin)
"""


def detail(number: int) -> bytes:
    text = (
        b'{"id": %d, "customer": {"name": "Ada Lovelace", "country": "GB"}, "total": 99.50, "items": ['
        % number
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


def article(stub: Stub, count: int) -> float:
    data = b"".join(detail(number) for number in range(count))
    done = subprocess.run(
        [sys.executable, "-c", ARTICLE, stub.url], input=data, capture_output=True, check=True
    )
    return count / float(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--events", type=int, default=100_000, help="for the runs that measure speed"
    )
    parser.add_argument(
        "--many", type=int, default=1_000_000, help="for memory and for the run with faults"
    )
    parser.add_argument("--threads", default="32")
    options = parser.parse_args()
    print(f"{'run':<42}{'events':>10}{'events/s':>10}{'MB':>7}  account")
    failed = []

    def row(  # noqa: PLR0917 - the columns of the table
        name: str,
        stub: Stub,
        count: int,
        rate: float,
        memory: float,
        summary: dict | None,
        least: float = 0,
    ) -> None:
        counts = stub.counts()
        account = ""
        if summary:
            right = (
                summary["acknowledged"] == counts["distinct"]
                and counts["twice"] == 0
                and (summary["records"] == count == summary["acknowledged"] + summary["rejected"])
            )
            account = (
                f"{summary['acknowledged']:,} sent + {summary['rejected']:,} refused; {summary['retried']:,} retried; "
                f"stub: {counts['distinct']:,} acknowledged, {counts['twice']:,} twice"
            )
            if not right:
                failed.append(f"{name}: the accounts differ")
        if rate < least:
            failed.append(f"{name}: {rate:,.0f} events/s, {least:,.0f} wanted")
        print(f"{name:<42}{count:>10,}{rate:>10,.0f}{memory:>7,.0f}  {account}", flush=True)

    with Stub() as stub:
        slow = article(stub, 500)
        row("the article's loop, one entry a call", stub, 500, slow, 0, None)
    with Stub() as stub:
        one, memory = send(stub, options.events, "--threads", options.threads)
        row("one process", stub, options.events, one["rate"], memory, one, max(8000, 100 * slow))
    with Stub() as stub:
        two, memory = send(stub, options.events, "--threads", options.threads, "--processes", "2")
        row("two processes", stub, options.events, two["rate"], memory, two, 8000)
    with Stub() as stub:
        many, memory = send(stub, options.many, "--threads", options.threads)
        row("one process, from stdin", stub, options.many, many["rate"], memory, many)
        if memory > 150:
            failed.append(f"memory: {memory:,.0f} MB, 150 wanted")
    with Stub("--fail", "0.05", "--throttle", "0.02", "--cut", "0.01") as stub:
        begin = time.monotonic()
        faults, memory = send(stub, options.many, "--threads", options.threads)
        name = "5 % entries fail, 2 % throttled, 1 % cut"
        row(
            name,
            stub,
            options.many,
            faults["acknowledged"] / (time.monotonic() - begin),
            memory,
            faults,
        )
    print(f"{one['rate'] / slow:,.0f} times the article's loop")
    for problem in failed:
        print(f"FAILED {problem}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
