"""Sending events: batches by count and bytes, workers that share a client, repeats of what can pass, an account of all.

import boto3
from scripts.events.send import Destination, send

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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.events import buses, entries
from scripts.events.batches import Item, Packer
from scripts.events.calls import Caller, Failure
from scripts.events.entries import COUNT_LIMIT, Entry, Refusal
from scripts.events.ledger import Ledger, Outcome, Summary
from scripts.events.records import Chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "Chunk",
    "Destination",
    "Ledger",
    "Plan",
    "Settings",
    "Summary",
    "chunks_of",
    "destinations_of",
    "plan",
    "send",
    "send_chunks",
]

IDLE = 0.05  # seconds without input after which a batch that is not full leaves
GRACE = 5.0  # seconds that entries already read have to end in, once sending is told to stop
WAITING_LIMIT = 10_000  # entries that wait for another try; with more, nothing new is read


@dataclass(frozen=True)
class Destination:
    """A bus, and the boto3 ``events`` client of its region (``max_pool_connections``: as many as threads)."""

    client: Any
    bus: str

    @property
    def region(self) -> str:
        """The client's region."""
        return str(self.client.meta.region_name)


def destinations_of(pairs: Iterable[tuple[str, str]], make_client: Callable[[str], Any]) -> list[Destination]:
    """Destinations of (region, bus) pairs; one client per region, made by ``make_client``."""
    clients: dict[str, Any] = {}
    return [
        Destination(clients.setdefault(region, clients.get(region) or make_client(region)), bus)
        for region, bus in pairs
    ]


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
    events: Iterable[bytes | str | Mapping[str, Any]], destinations: Sequence[Destination],
    settings: Settings | None = None, ledger: Ledger | None = None,
) -> Summary:  # fmt: skip
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


def send_chunks(
    chunks: Iterable[Chunk], destinations: Sequence[Destination], ledger: Ledger, settings: Settings | None = None,
    stop: threading.Event | None = None,
) -> Summary:  # fmt: skip
    """``send`` for records as ``scripts.events.records.read`` gives them.

    When ``stop`` is set, nothing more is read; what was read is sent, for GRACE seconds at most. What is open then
    stands in the ledger as neither acknowledged nor rejected.
    """
    started = time.monotonic()
    sender = Sender(destinations, ledger, settings or Settings(), stop)
    try:
        if sender.run(noted(chunks, ledger)):
            ledger.end()
    finally:
        ledger.summary.seconds = time.monotonic() - started
    return ledger.summary


def noted(chunks: Iterable[Chunk], ledger: Ledger) -> Iterator[Chunk]:
    """The chunks, each noted in the account as read."""
    for chunk in chunks:
        ledger.saw(chunk)
        yield chunk


@dataclass
class Plan:
    """What would be sent to one destination."""

    entries: int = 0
    batches: int = 0
    bytes: int = 0  # by AWS's size rule


def plan(
    chunks: Iterable[Chunk], destinations: Sequence[Destination], ledger: Ledger, settings: Settings | None = None
) -> list[Plan]:
    """The batches that ``send_chunks`` would send, counted; a ledger without files gets the refusals."""
    plans = [Plan() for _ in destinations]

    def leave(items: list[Item]) -> None:
        found = plans[items[0].lane]
        found.entries += len(items)
        found.batches += 1
        found.bytes += sum(item.size for item in items)

    packer = Packer(len(destinations), leave)
    router = Router(destinations, ledger, settings or Settings())
    for chunk in noted(chunks, ledger):
        for item in router.items(chunk):
            packer.add(item)
    packer.flush()
    return plans


class Router:
    """Records become entries on their way to destinations, or refusals in the account."""

    def __init__(self, destinations: Sequence[Destination], ledger: Any, settings: Settings) -> None:
        self._destinations, self._ledger, self._settings = destinations, ledger, settings
        self._suffixes = [b',"EventBusName":' + entries.to_json(one.bus) + b"}" for one in destinations]
        self._known: dict[tuple[str, str], Refusal | None] = {(one.region, one.bus): None for one in destinations}
        self._defaults = (settings.source, settings.detail_type, settings.trace_header)
        self._resumed = [bool(one) for one in ledger.before]

    def items(self, chunk: Chunk) -> Iterator[Item]:
        """What of a chunk is to be sent; what is not is in the account now."""
        for number, record in enumerate(chunk.records, chunk.first):
            open_lanes = [lane for lane, resumed in enumerate(self._resumed)
                          if not (resumed and self._ledger.is_settled(lane, number))]  # fmt: skip
            if not open_lanes:
                continue
            try:
                entry = entries.read(record, *self._defaults)
                lanes = self._lanes(entry)
            except Refusal as refusal:
                failure = Failure(refusal.code, refusal.message, passing=False)
                self._ledger.settle(Outcome(None, rejected=[(number, refusal.record or record, failure)]))
                continue
            body = entries.to_json(entry.fields)
            own = "EventBusName" in entry.fields
            for lane in open_lanes:
                if lane in lanes:
                    yield Item(number, lane, body if own else body[:-1] + self._suffixes[lane], entry.size)
                else:
                    self._ledger.settle(Outcome(lane, elsewhere=[number]))

    def _lanes(self, entry: Entry) -> Sequence[int]:
        """The destinations of an entry: all of them, unless it names a bus of its own (then once per region)."""
        bus = entry.fields.get("EventBusName")
        if bus is None and entry.region is None:
            return range(len(self._destinations))
        lanes: dict[str, int] = {}
        for lane, one in enumerate(self._destinations):
            if entry.region in (None, one.region) and (bus == one.bus or one.region not in lanes):
                lanes[one.region] = lane
        if not lanes:
            raise Refusal("InvalidArgument", f"it is for the region {entry.region}, which is not sent to")
        for region, lane in lanes.items():
            if bus and (refusal := self._look_up(region, lane, bus)):
                raise Refusal(refusal.code, refusal.message)
        return list(lanes.values())

    def _look_up(self, region: str, lane: int, bus: str) -> Refusal | None:
        from botocore.exceptions import ClientError

        if (region, bus) not in self._known:
            self._known[region, bus] = None
            try:
                buses.check(self._destinations[lane].client, bus)
            except buses.BusError as error:
                self._known[region, bus] = Refusal("ResourceNotFoundException", f"{error.where}: {error.what}")
            except ClientError as error:
                self._known[region, bus] = Refusal(error.response["Error"]["Code"], str(error))
        return self._known[region, bus]


class Bucket:
    """A token bucket: ``rate`` tokens a second, a tenth of a second's worth at once."""

    def __init__(self, rate: float) -> None:
        self._rate, self._capacity = rate, max(float(COUNT_LIMIT), rate / 10)
        self._tokens, self._then = self._capacity, time.monotonic()
        self._lock = threading.Lock()

    def take(self, count: int, given_up: threading.Event) -> None:
        """Returns when ``count`` entries may leave, or when it is given up."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._capacity, self._tokens + (now - self._then) * self._rate) - count
            self._then = now
            debt = -self._tokens / self._rate
        if debt > 0:
            given_up.wait(debt)


class Sender:
    """One run: this thread packs, another one reads, ``threads`` workers call."""

    def __init__(
        self, destinations: Sequence[Destination], ledger: Any, settings: Settings, stop: threading.Event | None = None
    ) -> None:
        self._settings, self._ledger = settings, ledger
        self._stop = stop or threading.Event()
        self._given_up = threading.Event()  # no call begins any more
        self._ended = threading.Event()
        self._router = Router(destinations, ledger, settings)
        self._callers = [Caller(one.client) for one in destinations]
        self._batches: queue.Queue[list[Item] | None] = queue.Queue(settings.threads)
        self._packer = Packer(len(destinations), self._batches.put)
        self._inbox: queue.Queue[Chunk | Exception | None] = queue.Queue(4)
        self._bucket = Bucket(settings.rate) if settings.rate else None
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, Item]] = []  # a heap: when to try again
        self._order = itertools.count()
        self._unsettled = 0
        self._fault: Exception | None = None

    def run(self, chunks: Iterable[Chunk]) -> bool:
        """Whether the input ended and all of it is settled. Raises what stopped it."""
        threading.Thread(target=self._read, args=(chunks,), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._settings.threads)]
        for worker in workers:
            worker.start()
        try:
            ended = self._pack()
            settled = self._drain()
        except BaseException:
            self._given_up.set()  # the workers end after the calls that are under way; nobody waits for them
            raise
        else:
            for _ in workers:
                self._batches.put(None)
            for worker in workers:
                worker.join()
        finally:
            self._ended.set()
        if self._fault:
            raise self._fault
        return ended and settled

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
                self._inbox.put(chunk)
                if self._stop.is_set():
                    return
            self._inbox.put(None)
        except EOFError as error:  # the process that reads is gone: what cannot be accounted for is not sent
            self._given_up.set()
            self._fault = error
        except Exception as error:  # noqa: BLE001 - raised again where the input is waited for
            self._inbox.put(error)

    def _pack(self) -> bool:
        """Reads until the end of the input (True), or until it is told to stop."""
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
                    return False
                continue
            if chunk is None:
                return True
            if isinstance(chunk, Exception):
                self._fault = chunk  # what was read before it is sent all the same
                return False
            for item in self._router.items(chunk):
                with self._lock:
                    self._unsettled += 1
                self._packer.add(item)
                if self._given_up.is_set():
                    return False
        return False

    def _take_due(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            with self._lock:
                item = heapq.heappop(self._waiting)[2]
            self._packer.add(item)

    def _drain(self) -> bool:
        """Waits until all is settled (True), or it is given up."""
        while self._unsettled and not self._given_up.is_set():
            self._take_due()
            self._packer.flush()
            time.sleep(0.005)
        return not self._unsettled

    def _work(self) -> None:
        while batch := self._batches.get():
            try:
                if self._bucket:
                    self._bucket.take(len(batch), self._given_up)
                if not self._given_up.is_set():
                    self._settle(batch, self._callers[batch[0].lane].put([item.body for item in batch]))
            except Exception as error:  # noqa: BLE001 - raised again by the thread that called
                self._fault = self._fault or error
                self._given_up.set()

    def _settle(self, batch: list[Item], failures: list[Failure | None]) -> None:
        taken = [item for item, failure in zip(batch, failures, strict=True) if failure is None]
        outcome = Outcome(
            batch[0].lane, [item.number for item in taken], bytes=sum(item.size for item in taken), calls=1
        )
        again: list[Item] = []
        if len(taken) < len(batch):
            rejected = []
            for item, failure in zip(batch, failures, strict=True):
                if failure is None:
                    continue
                item.attempts += 1
                if failure.whole and len(batch) > 1:
                    item.alone = True  # one of them is at fault; each by itself shows which
                    again.append(item)
                elif failure.passing and item.attempts < self._settings.attempts:
                    again.append(item)
                else:
                    rejected.append((item.number, item.body, failure))
            outcome.rejected, outcome.retried = rejected, len(again)
        self._ledger.settle(outcome)
        with self._lock:
            self._unsettled -= len(batch) - len(again)
            for item in again:
                most = min(self._settings.cap, self._settings.base * 2**item.attempts)
                when = time.monotonic() + random.uniform(0, most)  # noqa: S311 - full jitter
                heapq.heappush(self._waiting, (when, next(self._order), item))
