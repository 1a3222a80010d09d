"""Sending events: batches by count and bytes, workers that share a client, repeats of what can pass, an account of all.

import boto3
from eventstacks.bus.send import Destination, send

client = boto3.client("events")
order = {"Source": "com.example.shop", "DetailType": "OrderPlaced", "Detail": {"id": 1}}
summary = send([order], [Destination(client, "orders")])
print(summary.acknowledged, summary.by_code)
"""

from __future__ import annotations

import heapq
import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from eventstacks.aws import error_code
from eventstacks.bus import buses, entries
from eventstacks.bus.batches import Item, Packer
from eventstacks.bus.calls import Caller, Failure
from eventstacks.bus.entries import COUNT_LIMIT, Entry, Refusal
from eventstacks.bus.ledger import Ledger, Outcome, Summary
from eventstacks.bus.records import Chunk

__all__ = [
    "Chunk",
    "Destination",
    "Ledger",
    "Settings",
    "Summary",
    "batches",
    "chunks_of",
    "putter",
    "send",
    "send_chunks",
]

IDLE = 0.05  # seconds without input after which a batch that is not full leaves
GRACE = 5.0  # seconds that entries already read have to end in, once sending is told to stop
WAITING_LIMIT = 10_000  # entries that wait for another try; with more, nothing new is read

Put = Callable[
    [int, list[bytes]], list[Failure | None]
]  # one call: a destination's place in the list, its entries


@dataclass(frozen=True)
class Destination:
    """A bus, and the boto3 ``events`` client of its region (``max_pool_connections``: as many as threads)."""

    client: Any
    bus: str

    @property
    def region(self) -> str:
        """The client's region."""
        return str(self.client.meta.region_name)


@dataclass(frozen=True)
class Settings:
    """How to send."""

    source: str | None = None  # for records that have none
    detail_type: str | None = None
    trace_header: str | None = None  # an AWS X-Ray trace header
    threads: int = 32  # calls at a time
    rate: float | None = None  # entries a second, at most, all destinations together
    attempts: int = 10  # for each entry
    base: float = 0.1  # seconds: the n-th wait is drawn from 0 to base * 2**n, and
    cap: float = 20.0  # from 0 to no more than this


def send(
    events: Iterable[bytes | str | Mapping[str, Any]],
    destinations: Sequence[Destination],
    settings: Settings | None = None,
    ledger: Ledger | None = None,
) -> Summary:
    """Sends events, however many, to every destination; returns when each is acknowledged or rejected.

    An event is an entry as PutEvents takes it (Detail may be a dict, Time a datetime with a zone), or the JSON text
    of one, or with ``settings.source`` and ``.detail_type`` just a detail. Without a ledger of one's own what was
    rejected is only counted (``Summary.by_code``); ``Ledger([...])`` keeps it in ``.refusals``, with a path in a file.
    Raises BusError for a bus that does not exist, before anything is sent, and BotoCoreError or ClientError when the
    credentials fail.
    """
    for one in destinations:
        buses.check(one.client, one.bus)
    account = ledger or Ledger([(one.region, one.bus) for one in destinations], keep=0)
    return send_chunks(chunks_of(events), destinations, account, settings)


def chunks_of(events: Iterable[bytes | str | Mapping[str, Any]]) -> Iterator[Chunk]:
    """Events of one's own program as the sender reads them."""
    stream = iter(events)
    for first in itertools.count(0, 100):
        if not (some := list(itertools.islice(stream, 100))):
            return
        yield Chunk(first, [entries.record_of(one) for one in some])


def putter(destinations: Sequence[Destination]) -> Put:
    """Calls with the destinations' own clients."""
    callers = [Caller(one.client) for one in destinations]
    return lambda lane, bodies: callers[lane].put(bodies)


def send_chunks(  # noqa: PLR0913, PLR0917 - send, stopped and spread over processes
    chunks: Iterable[Chunk],
    destinations: Sequence[Destination],
    ledger: Ledger,
    settings: Settings | None = None,
    stop: threading.Event | None = None,
    puts: Sequence[Put] = (),
) -> Summary:
    """``send`` for records as ``eventstacks.bus.records.read`` gives them.

    When ``stop`` is set, nothing more is read; what was read is sent, for GRACE seconds at most. What is open then
    stands in the ledger as neither acknowledged nor rejected. ``puts``: who makes the calls, one for each thread (see
    ``eventstacks.bus.processes``), instead of ``settings.threads`` with the destinations' clients.
    """
    settings, started = settings or Settings(), time.monotonic()
    router = Router(destinations, ledger, settings)
    sender = Sender(router, ledger, settings, stop or threading.Event())
    try:
        if sender.run(chunks, puts or [putter(destinations)] * settings.threads):
            ledger.end()
    finally:
        ledger.summary.seconds = time.monotonic() - started
    return ledger.summary


def batches(
    chunks: Iterable[Chunk], destinations: Sequence[Destination], ledger: Ledger, settings: Settings
) -> Iterator[list[Item]]:
    """The batches that ``send_chunks`` would send; a ledger without files gets the refusals."""
    full: list[list[Item]] = []
    packer, router = Packer(len(destinations), full.append), Router(destinations, ledger, settings)
    for chunk in chunks:
        ledger.saw(chunk)
        for item in router.items(chunk):
            packer.add(item)
        yield from full
        full.clear()
    packer.flush()
    yield from full


class Router:
    """Records become entries on their way to destinations, or refusals in the account."""

    def __init__(
        self, destinations: Sequence[Destination], ledger: Ledger, settings: Settings
    ) -> None:
        self.destinations, self._ledger = destinations, ledger
        self._suffixes = [
            b',"EventBusName":' + entries.to_json(one.bus) + b"}" for one in destinations
        ]
        self._known: dict[tuple[str, str], tuple[str, str] | None] = {
            (one.region, one.bus): None for one in destinations
        }
        self._defaults = (settings.source, settings.detail_type, settings.trace_header)
        self._resumed = [bool(one) for one in ledger.before]

    def items(self, chunk: Chunk) -> Iterator[Item]:
        """What of a chunk is to be sent; what is not is in the account now."""
        for number, record in enumerate(chunk.records, chunk.first):
            open_lanes = [
                lane
                for lane, resumed in enumerate(self._resumed)
                if not (resumed and self._ledger.is_settled(lane, number))
            ]
            if not open_lanes:
                continue
            try:
                entry = entries.read(record, *self._defaults)
                lanes = self._lanes(entry)
            except Refusal as refusal:
                failure = Failure(refusal.code, refusal.message, passing=False)
                rejected = [(number, refusal.record or record, failure)]
                self._ledger.settle(Outcome(open_lanes, rejected=rejected, raw=True))
                continue
            body = entries.to_json(entry.fields)
            own = "EventBusName" in entry.fields
            for lane in open_lanes:
                if lane in lanes:
                    yield Item(
                        number, lane, body if own else body[:-1] + self._suffixes[lane], entry.size
                    )
                else:
                    self._ledger.settle(Outcome((lane,), elsewhere=[number]))

    def _lanes(self, entry: Entry) -> Sequence[int]:
        """The destinations of an entry: all of them, unless it names a bus of its own (then once per region)."""
        bus = entry.fields.get("EventBusName")
        if bus is None and entry.region is None:
            return range(len(self.destinations))
        lanes: dict[str, int] = {}
        for lane, one in enumerate(self.destinations):
            if entry.region in (None, one.region) and (bus == one.bus or one.region not in lanes):
                lanes[one.region] = lane
        if not lanes:
            raise Refusal(
                "InvalidArgument", f"it is for the region {entry.region}, which is not sent to"
            )
        if bus:
            for lane in lanes.values():
                self._look_up(self.destinations[lane], bus)
        return list(lanes.values())

    def _look_up(self, where: Destination, bus: str) -> None:
        key = (where.region, bus)
        if key not in self._known:
            self._known[key] = None
            try:
                buses.check(where.client, bus)
            except buses.BusError as error:
                self._known[key] = ("ResourceNotFoundException", f"{error.where}: {error.what}")
            except ClientError as error:
                self._known[key] = (error_code(error), str(error))
        if refusal := self._known[key]:
            raise Refusal(*refusal)


class Pace:
    """``rate`` entries a second at most, a tenth of a second's worth (or one call's) at once."""

    def __init__(self, rate: float) -> None:
        self._each, self._ahead = 1 / rate, max(COUNT_LIMIT / rate, 0.1)  # seconds
        self._next = 0.0
        self._lock = threading.Lock()

    def take(self, count: int, given_up: threading.Event) -> None:
        """Returns when ``count`` entries may leave, or when it is given up."""
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next, now - self._ahead) + count * self._each
            pause = self._next - now
        if pause > 0:
            given_up.wait(pause)


class Sender:
    """One run: this thread packs, another one reads, one for each of ``puts`` calls."""

    def __init__(
        self, router: Router, ledger: Ledger, settings: Settings, stop: threading.Event
    ) -> None:
        self._router, self._ledger, self._settings, self._stop = router, ledger, settings, stop
        self._given_up = threading.Event()  # no call begins any more
        self._ended = threading.Event()
        self._batches: queue.Queue[list[Item] | None] = queue.Queue(settings.threads)
        self._packer = Packer(len(router.destinations), self._batches.put)
        self._inbox: queue.Queue[Chunk | None] = queue.Queue(4)
        self._pace = Pace(settings.rate) if settings.rate else None
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, Item]] = []  # a heap: when to try again
        self._order = itertools.count()
        self._unsettled = 0
        self._whole = False  # the input was read to its end
        self._fault: Exception | None = None

    def run(self, chunks: Iterable[Chunk], puts: Sequence[Put]) -> bool:
        """Whether the input ended and all of it is settled. Raises what stopped it."""
        threading.Thread(target=self._read, args=(chunks,), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        workers = [threading.Thread(target=self._work, args=(put,), daemon=True) for put in puts]
        for worker in workers:
            worker.start()
        try:
            self._pack()
            while self._unsettled and not self._given_up.is_set():
                self._take_due()
                self._packer.flush()
                time.sleep(0.005)
        except BaseException:
            self._given_up.set()  # the workers end after the calls that are under way; nobody waits for them
            raise
        finally:
            self._ended.set()
        for _ in workers:
            self._batches.put(None)
        for worker in workers:
            worker.join()
        if self._fault:
            raise self._fault
        return self._whole and not self._unsettled

    def _watch(self) -> None:
        """Gives up when sending was told to stop and has not ended in time: the rate may be low, or AWS slow."""
        while not self._stop.wait(IDLE):
            if self._ended.is_set():
                return
        if not self._ended.wait(GRACE):
            self._given_up.set()

    def _read(self, chunks: Iterable[Chunk]) -> None:
        try:
            for chunk in chunks:
                self._ledger.saw(chunk)
                self._inbox.put(chunk)
                if self._stop.is_set():
                    break
            else:
                self._whole = True
        except Exception as error:  # noqa: BLE001 - raised again by ``run``, when what was read before it is sent
            self._fault = error
        self._inbox.put(None)

    def _pack(self) -> None:
        """Until the input ends, or it is told to stop."""
        while not self._given_up.is_set():
            self._take_due()
            if len(self._waiting) > WAITING_LIMIT:
                self._packer.flush()
                time.sleep(IDLE)
                continue
            try:
                chunk = self._inbox.get(timeout=IDLE)
            except queue.Empty:
                self._packer.flush()
                if self._stop.is_set():
                    return
                continue
            if chunk is None:
                return
            for item in self._router.items(chunk):
                with self._lock:
                    self._unsettled += 1
                self._packer.add(item)
                if self._given_up.is_set():
                    return

    def _take_due(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            with self._lock:
                item = heapq.heappop(self._waiting)[2]
            self._packer.add(item)

    def _work(self, put: Put) -> None:
        while batch := self._batches.get():
            try:
                if self._pace:
                    self._pace.take(len(batch), self._given_up)
                if not self._given_up.is_set():
                    self._settle(batch, put(batch[0].lane, [item.body for item in batch]))
            except Exception as error:  # noqa: BLE001 - raised again by ``run``
                self._fault = self._fault or error
                self._given_up.set()

    def _settle(self, batch: list[Item], failures: list[Failure | None]) -> None:
        taken: list[int] = []
        rejected: list[tuple[int, bytes, Failure]] = []
        again: list[Item] = []
        size = 0
        for item, failure in zip(batch, failures, strict=True):
            item.attempts += 1
            if failure is None:
                taken.append(item.number)
                size += item.size
            elif failure.whole and len(batch) > 1:
                item.alone = True  # one of them is at fault; each by itself shows which
                again.append(item)
            elif failure.passing and item.attempts < self._settings.attempts:
                again.append(item)
            else:
                rejected.append((item.number, item.body, failure))
        self._ledger.settle(
            Outcome((batch[0].lane,), taken, rejected, bytes=size, retried=len(again), calls=1)
        )
        with self._lock:
            self._unsettled -= len(batch) - len(again)
            for item in again:
                most = min(self._settings.cap, self._settings.base * 2**item.attempts)
                when = time.monotonic() + random.uniform(0, most)  # noqa: S311 - full jitter
                heapq.heappush(self._waiting, (when, next(self._order), item))
