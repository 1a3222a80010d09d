"""Sending events: batches by count and bytes, workers that share a client, repeats of what can pass, an account of all."""

from __future__ import annotations

import contextlib
import heapq
import queue
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scripts.errors import ToolError
from scripts.events import entries, records
from scripts.events.calls import Caller, Failure, body_of
from scripts.events.entries import COUNT_LIMIT, SIZE_LIMIT, Refusal
from scripts.events.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

IDLE = 0.05  # seconds without input after which a batch that is not full leaves
WAITING_LIMIT = 10_000  # entries that wait for another try; with more, nothing new is read


class SendError(ToolError):
    """Sending had to stop; what was acknowledged until then is in the account."""


@dataclass(frozen=True)
class Destination:
    """A bus, and the boto3 ``events`` client of its region."""

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
    threads: int = 32
    rate: float | None = None  # entries a second, at most, all destinations together
    attempts: int = 10  # for each entry
    base: float = 0.1  # seconds: the n-th wait is drawn from 0 to base * 2**n, and
    cap: float = 20.0  # no longer than this


@dataclass
class Summary:
    """What became of the input. With one destination, ``records`` = ``acknowledged`` + ``rejected`` at the end."""

    records: int = 0
    acknowledged: int = 0
    rejected: int = 0
    retried: int = 0  # entries that were sent once more
    calls: int = 0
    bytes: int = 0  # by AWS's size rule, of what was acknowledged
    seconds: float = 0.0
    by_code: dict[str, int] = field(default_factory=dict)  # the rejected

    @property
    def rate(self) -> float:
        """Acknowledged entries a second."""
        return self.acknowledged / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class _Item:
    """One entry on its way to one destination."""

    number: int
    lane: int
    body: bytes
    size: int
    attempts: int = 0


class Bucket:
    """A token bucket: ``rate`` tokens a second, a tenth of a second's worth at once."""

    def __init__(self, rate: float) -> None:
        self._rate, self._capacity = rate, max(float(COUNT_LIMIT), rate / 10)
        self._tokens, self._then = self._capacity, time.monotonic()
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Returns when ``count`` entries may leave."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._capacity, self._tokens + (now - self._then) * self._rate) - count
            self._then = now
            debt = -self._tokens / self._rate
        if debt > 0:
            time.sleep(debt)


def send(
    chunks: Iterable[records.Chunk], destinations: Sequence[Destination], ledger: Ledger, settings: Settings | None = None,
    stop: threading.Event | None = None,
) -> Summary:  # fmt: skip
    """Sends every record to every destination, and returns when each is acknowledged or rejected."""
    return _Sender(destinations, ledger, settings or Settings(), stop or threading.Event()).run(chunks)


class _Sender:
    def __init__(
        self, destinations: Sequence[Destination], ledger: Ledger, settings: Settings, stop: threading.Event
    ) -> None:
        self.settings, self.ledger, self.stop = settings, ledger, stop
        self.destinations = destinations
        self.callers = [Caller(one.client) for one in destinations]
        self.suffixes = [b',"EventBusName":' + body_of(one.bus) + b"}" for one in destinations]
        self.open: list[list[_Item]] = [[] for _ in destinations]
        self.sizes = [0] * len(destinations)
        self.batches: queue.Queue[list[_Item] | None] = queue.Queue(settings.threads)
        self.bucket = Bucket(settings.rate) if settings.rate else None
        self.lock = threading.Lock()
        self.waiting: list[tuple[float, int, _Item]] = []  # a heap: when to try again
        self.unsettled = 0
        self.fatal: Exception | None = None
        self.summary = Summary()

    def run(self, chunks: Iterable[records.Chunk]) -> Summary:
        started = time.monotonic()
        inbox: queue.Queue[records.Chunk | Exception | None] = queue.Queue(4)
        threading.Thread(target=self._read, args=(chunks, inbox), daemon=True).start()
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self.settings.threads)]
        for worker in workers:
            worker.start()
        try:
            self._pack(inbox)
            self._drain()
        finally:
            with contextlib.suppress(queue.Empty):
                while self.fatal:
                    self.batches.get_nowait()
            for _ in workers:
                self.batches.put(None)
            for worker in workers:
                worker.join()
            self.summary.seconds = time.monotonic() - started
        if self.fatal:
            raise self.fatal
        return self.summary

    def _read(self, chunks: Iterable[records.Chunk], inbox: queue.Queue[records.Chunk | Exception | None]) -> None:
        try:
            for chunk in chunks:
                inbox.put(chunk)
                if self.stop.is_set():
                    break
        except Exception as error:  # noqa: BLE001 - raised again where the reading is waited for
            inbox.put(error)
        inbox.put(None)

    def _pack(self, inbox: queue.Queue[records.Chunk | Exception | None]) -> None:
        while not self.fatal:
            self._take_due()
            if len(self.waiting) > WAITING_LIMIT:
                time.sleep(IDLE)
                continue
            try:
                chunk = inbox.get(timeout=IDLE)
            except queue.Empty:
                self._flush()
                if self.stop.is_set():
                    return
                continue
            if chunk is None:
                return
            if isinstance(chunk, Exception):
                raise chunk
            for number, record in enumerate(chunk.records, chunk.first):
                self._take(number, record)

    def _take(self, number: int, record: bytes) -> None:
        self.summary.records += 1
        try:
            entry = entries.read(record, self.settings.source, self.settings.detail_type)
        except Refusal as refusal:
            self.ledger.reject(number, None, record, Failure(refusal.code, refusal.message, passing=False))
            self._count_rejected(refusal.code)
            return
        body = body_of(entry.fields)[:-1]
        for lane in range(len(self.destinations)):
            with self.lock:
                self.unsettled += 1
            self._add(_Item(number, lane, body + self.suffixes[lane], entry.size))

    def _add(self, item: _Item) -> None:
        lane = item.lane
        if self.open[lane] and self.sizes[lane] + item.size >= SIZE_LIMIT:
            self._close(lane)
        self.open[lane].append(item)
        self.sizes[lane] += item.size
        if len(self.open[lane]) == COUNT_LIMIT:
            self._close(lane)

    def _close(self, lane: int) -> None:
        self.batches.put(self.open[lane])
        self.open[lane], self.sizes[lane] = [], 0

    def _flush(self) -> None:
        for lane, items in enumerate(self.open):
            if items:
                self._close(lane)

    def _take_due(self) -> None:
        now = time.monotonic()
        while self.waiting and self.waiting[0][0] <= now:
            with self.lock:
                _, _, item = heapq.heappop(self.waiting)
            self._add(item)

    def _drain(self) -> None:
        while self.unsettled and not self.fatal:
            self._take_due()
            self._flush()
            time.sleep(0.005)

    def _work(self) -> None:
        while batch := self.batches.get():
            if self.fatal:
                continue
            if self.bucket:
                self.bucket.take(len(batch))
            try:
                failures = self.callers[batch[0].lane].put([item.body for item in batch])
                self._settle(batch, failures)
            except Exception as error:  # noqa: BLE001 - raised again by the thread that called
                self.fatal = error

    def _settle(self, batch: list[_Item], failures: list[Failure | None]) -> None:
        taken = [item for item, failure in zip(batch, failures, strict=True) if failure is None]
        if taken:
            self.ledger.acknowledge(taken[0].lane, [item.number for item in taken])
        with self.lock:
            self.summary.calls += 1
            self.summary.acknowledged += len(taken)
            self.summary.bytes += sum(item.size for item in taken)
            self.unsettled -= len(taken)
        for item, failure in zip(batch, failures, strict=True):
            if failure is None:
                continue
            item.attempts += 1
            if failure.passing and item.attempts < self.settings.attempts:
                wait = random.uniform(0, min(self.settings.cap, self.settings.base * 2**item.attempts))  # noqa: S311 - jitter
                with self.lock:
                    self.summary.retried += 1
                    heapq.heappush(self.waiting, (time.monotonic() + wait, id(item), item))
            else:
                self.ledger.reject(item.number, self.destinations[item.lane], item.body, failure)
                with self.lock:
                    self._count_rejected(failure.code)
                    self.unsettled -= 1

    def _count_rejected(self, code: str) -> None:
        self.summary.rejected += 1
        self.summary.by_code[code] = self.summary.by_code.get(code, 0) + 1
