"""A stand-in for EventBridge on loopback: answers PutEvents, injects faults, counts what it took.

``python tests/bench/stub.py [--delay 15] [--fail 0.05] [--throttle 0.02] [--cut 0.01] …`` prints
its URL and ends when its stdin does, or after ``--seconds``. ``GET /counts`` returns the counts.
``GET /fault/MODE`` lets each PutEvents call fail from now on: ``hang`` (``hang-all``: every call),
``cut``, ``text`` (200, not JSON), ``list`` (200, a JSON list), an HTTP status, or a status with the
seconds of Retry-After (``503,2``); ``none`` ends it. A Detail can have ``id`` (a number, to count
what came twice), ``refuse`` (that entry is rejected with this code) and ``poison`` (its whole call
is).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import sys
import time

ID = re.compile(r'"id": ?(\d+)')
REFUSE = re.compile(r'"refuse": ?"(\w+)"')
SIZE_LIMIT = 1024 * 1024
CALLER = (
    b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::000000000000:root</Arn><UserId>0</UserId>"
    b"<Account>000000000000</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)


def size_of(entry: dict) -> int:
    texts = [entry.get(name, "") for name in ("Source", "DetailType", "Detail")] + entry.get(
        "Resources", []
    )
    return sum(len(text.encode()) for text in texts) + 14 * ("Time" in entry)


class Bus:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.random = random.Random(options.seed)
        self.seen = bytearray()
        self.counts = dict.fromkeys(
            (
                "calls",
                "acknowledged",
                "failed",
                "refused",
                "throttled",
                "cut",
                "twice",
                "largest_batch",
                "largest_bytes",
            ),
            0,
        )
        self.buses: dict[str, int] = {}
        self.kept: list[dict] = []
        self.fault = options.fault
        self.times: list[float] = []  # of the PutEvents calls while a fault lasts

    def put_events(self, entries: list[dict]) -> tuple[int, dict] | None:
        counts, options, chance = self.counts, self.options, self.random.random
        counts["calls"] += 1
        if chance() < options.cut:
            counts["cut"] += 1
            return None
        if chance() < options.throttle:
            counts["throttled"] += 1
            return 400, {"__type": "ThrottlingException", "message": "Rate exceeded"}
        size = sum(size_of(entry) for entry in entries)
        counts["largest_batch"] = max(counts["largest_batch"], len(entries))
        counts["largest_bytes"] = max(counts["largest_bytes"], size)
        poison = any('"poison"' in entry["Detail"] for entry in entries)
        if not 1 <= len(entries) <= 10 or size >= SIZE_LIMIT or poison:
            return 400, {
                "__type": "ValidationException",
                "message": f"{len(entries)} entries, {size} bytes",
            }
        results = [self.put(entry) for entry in entries]
        return 200, {
            "FailedEntryCount": sum("ErrorCode" in one for one in results),
            "Entries": results,
        }

    def put(self, entry: dict) -> dict:
        if refusal := REFUSE.search(entry["Detail"]):
            self.counts["refused"] += 1
            return {"ErrorCode": refusal[1], "ErrorMessage": "as the detail asks for"}
        if self.random.random() < self.options.fail:
            self.counts["failed"] += 1
            return {"ErrorCode": "InternalFailure", "ErrorMessage": "injected"}
        self.counts["acknowledged"] += 1
        bus = entry.get("EventBusName", "default")
        self.buses[bus] = self.buses.get(bus, 0) + 1
        if self.options.count_ids and (found := ID.search(entry["Detail"])):
            number = int(found[1])
            if number >= len(self.seen):
                self.seen.extend(bytes(number + 65_536 - len(self.seen)))
            self.counts["twice"] += bool(self.seen[number])
            self.seen[number] = 1
        if self.options.keep:
            self.kept.append(entry)
        return {"EventId": "11111111-2222-3333-4444-555555555555"}

    def all_counts(self) -> dict:
        more = {"distinct": sum(self.seen), "buses": self.buses, "faulty_calls": self.times}
        return {**self.counts, **more}

    def faulty(self) -> tuple[int, bytes] | None:
        self.times.append(time.monotonic())
        status, _, retry_after = self.fault.partition(",")
        if len(self.times) == self.options.fault_calls:
            self.fault = ""
        if status == "cut":
            return None
        if status in ("text", "list"):
            return 200, b"<html>Not AWS</html>" if status == "text" else b"[1]"
        self.retry_after = retry_after
        return int(status), b"<html>Service Unavailable</html>"

    def answer(  # noqa: PLR0911 - one return per operation
        self, head: bytes, body: bytes
    ) -> tuple[int, bytes] | None:
        if found := re.match(rb"GET /fault/(\S+)", head):
            self.fault = found[1].decode().removeprefix("none")
            return 200, b"{}"
        if head.startswith(b"GET /counts"):
            return 200, json.dumps(self.all_counts()).encode()
        if b"AWSEvents.PutEvents" in head:
            if self.fault:
                return self.faulty()
            found = self.put_events(json.loads(body)["Entries"])
            return found and (found[0], json.dumps(found[1]).encode())
        if b"AWSEvents.DescribeEventBus" in head:
            name = json.loads(body)["Name"]
            if "missing" in name:
                return (
                    400,
                    b'{"__type":"ResourceNotFoundException","message":"Event bus does not exist."}',
                )
            return 200, json.dumps({"Name": name}).encode()
        return 200, CALLER


class Connection(asyncio.Protocol):
    def __init__(self, bus: Bus) -> None:
        self.bus, self.data = bus, bytearray()

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.data[:end])
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            stop = end + 4 + (int(length[1]) if length else 0)
            if len(self.data) < stop:
                if b"100-continue" in head.lower() and len(self.data) == end + 4:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body = bytes(self.data[end + 4 : stop])
            del self.data[:stop]
            if self.bus.fault == "hang-all" or (self.bus.fault == "hang" and b"PutEvents" in head):
                self.bus.times.append(time.monotonic())
                continue
            self.bus.retry_after = ""
            found = self.bus.answer(head, body)
            if found is None:
                self.transport.abort()
                return
            status, content = found
            text = b"HTTP/1.1 %d X\r\nContent-Type: application/x-amz-json-1.1\r\n"
            text += b"Content-Length: %d\r\n"
            text += b"Retry-After: " * bool(self.bus.retry_after)
            text += self.bus.retry_after.encode() + b"\r\n" * bool(self.bus.retry_after) + b"\r\n"
            delay = self.bus.options.delay / 1000 if b"PutEvents" in head else 0
            asyncio.get_running_loop().call_later(
                delay, self.transport.write, text % (status, len(content)) + content
            )


async def serve(options: argparse.Namespace) -> None:
    bus = Bus(options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(bus), "127.0.0.1", options.port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.seconds):
            reader = asyncio.StreamReader()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            await reader.read()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {
        "delay": 15.0,
        "fail": 0.0,
        "throttle": 0.0,
        "cut": 0.0,
        "seconds": 600.0,
    }.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", default="", help="as GET /fault/MODE")
    parser.add_argument("--fault-calls", type=int, default=0, help="end the fault after N calls")
    parser.add_argument("--count-ids", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep each acknowledged entry")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    asyncio.run(serve(parse()))
