"""Send events to event buses: batches, retries of what failed, a journal of every record.

import boto3
from eventstacks import send
from eventstacks.bus.send import Destination

order = {"Source": "com.example.shop", "DetailType": "OrderPlaced", "Detail": {"id": 1}}
summary = send([order], [Destination(boto3.client("events"), "orders")])
print(summary.acknowledged, summary.by_code)
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.aws import AWS_ERRORS, RETRY_LONG
from eventstacks.bus import entries
from eventstacks.bus.destinations import Destination, Item, Link, OutageError
from eventstacks.bus.entries import COUNT_LIMIT, SIZE_LIMIT, EntryError
from eventstacks.bus.journal import Journal, Result, Summary
from eventstacks.bus.put_events import Failure, failure_of
from eventstacks.bus.records import Chunk
from eventstacks.bus.stacks import BusError
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Destination", "Item", "Journal", "OutageError", "Settings", "Summary", "send"]

IDLE = 0.05  # seconds without input after which an incomplete batch is sent
GRACE = 3.0  # seconds that records already read have to be sent in after a stop
# Entries (and their bytes) that wait for a retry; beyond it, nothing new is read.
WAITING_LIMIT, WAITING_BYTES = 10_000, 32 * 1024 * 1024
CHUNKS = 4  # that are read and not packed yet


Answer = Callable[["list[Item]"], "list[Failure | None]"]


@dataclass(frozen=True)
class Settings:
    """How to send.

    ``source``, ``detail_type``, ``trace_header``: defaults of records. ``threads``: calls at a
    time. ``rate``: maximum entries per second, over all destinations. ``give_up_after``: seconds
    without a successful call until OutageError. The n-th retry waits a random time of up to
    ``base`` * 2**n seconds, at most ``cap``.
    """

    source: str | None = None
    detail_type: str | None = None
    trace_header: str | None = None
    threads: int = 32
    rate: float | None = None
    give_up_after: float = RETRY_LONG
    base: float = 0.1
    cap: float = 20.0


def send(
    events: Iterable[bytes | str | Mapping[str, Any]],
    destinations: Sequence[Destination],
    settings: Settings | None = None,
    journal: Journal | None = None,
) -> Summary:
    """Send events to every destination; return when each is acknowledged or rejected.

    An event is an entry of PutEvents (Detail may be a dict, Time a datetime with a time zone), the
    JSON text of one, or with ``settings.source`` and ``detail_type`` a detail. A ``Journal`` of your
    own keeps the rejected entries. Raises BusError before anything is sent if a bus does not exist,
    OutageError if no call succeeds for ``settings.give_up_after`` seconds, and botocore's
    ClientError or BotoCoreError if the credentials are not valid.
    """
    journal = journal or Journal([(one.region, one.bus) for one in destinations])
    return send_chunks(chunks_of(events), destinations, journal, settings)


def chunks_of(events: Iterable[bytes | str | Mapping[str, Any]]) -> Iterator[Chunk]:
    """Yield the events of a Python program as records."""
    iterator = iter(events)
    for first in itertools.count(0, 100):
        if not (some := list(itertools.islice(iterator, 100))):
            return
        yield Chunk(first, [entries.record_of(event) for event in some])


def send_chunks(  # noqa: PLR0913, PLR0917 - ``send``, stopped and observed
    chunks: Iterable[Chunk],
    destinations: Sequence[Destination],
    journal: Journal,
    settings: Settings | None = None,
    stop: threading.Event | None = None,
    notify: Callable[[str], None] = lambda _text: None,
    answer: Answer | None = None,
) -> Summary:
    """Send records as ``eventstacks.bus.records.read`` yields them; see ``send``.

    When ``stop`` is set, nothing more is read, and what was read is sent for GRACE seconds at most;
    the journal then has open records. ``notify`` gets a line when a pause begins or ends.
    ``answer`` answers batches instead of AWS: for a dry run.
    """
    settings, started = settings or Settings(), time.monotonic()
    links = [Link(one, notify) for one in destinations]
    sender = _Sender(links, journal, settings, stop or threading.Event(), answer)
    try:
        if sender.run(chunks):
            journal.finish()
    finally:
        journal.summary.seconds = time.monotonic() - started
    return journal.summary


class _Sender:
    """One run. This thread packs and records; one thread reads; ``settings.threads`` make the calls.

    It gives out no more batches than there are threads until it has committed their results.
    """

    def __init__(
        self,
        links: Sequence[Link],
        journal: Journal,
        settings: Settings,
        stop: threading.Event,
        answer: Answer | None,
    ) -> None:
        self._links, self._journal, self._settings, self._stop = links, journal, settings, stop
        self._answer = answer
        self._chunks: queue.Queue[Chunk | Exception | None] = queue.Queue(CHUNKS)
        self._results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._batches: queue.SimpleQueue[list[Item] | None] = queue.SimpleQueue()
        self._items: Iterator[Item] = iter(())  # of the chunk at hand
        self._waiting: list[tuple[float, int, Item]] = []  # a heap: time of the retry, order
        self._order = itertools.count()
        self._waiting_bytes = self._calls = self._unsettled = 0
        self._next_call = self._packed_at = self._deadline = 0.0
        self._has_ended = self._is_whole = False
        self._fault: Exception | None = None

    def run(self, chunks: Iterable[Chunk]) -> bool:
        """Return True if all of the input is settled. Raises what stopped it."""
        threading.Thread(target=self._read, args=(chunks,), daemon=True).start()
        for _ in range(self._settings.threads):
            threading.Thread(target=self._work, daemon=True).start()
        try:
            while not (self._has_ended and not self._unsettled) and not self._is_late():
                for link in self._links:
                    link.check(self._settings.give_up_after)
                self._pack()
                self._receive()
        finally:
            for _ in range(self._settings.threads):  # nothing waits for their last calls
                self._batches.put(None)
        if self._fault:
            raise self._fault
        return self._is_whole and not self._unsettled

    def _is_late(self) -> bool:
        """Return True if sending was stopped GRACE seconds ago."""
        if not self._stop.is_set():
            return False
        self._deadline = self._deadline or time.monotonic() + GRACE
        return time.monotonic() > self._deadline

    def _read(self, chunks: Iterable[Chunk]) -> None:
        try:
            for chunk in chunks:
                self._chunks.put(chunk)
                if self._stop.is_set():
                    return
            self._chunks.put(None)
        except Exception as error:  # noqa: BLE001 - raised when the records before are sent
            self._chunks.put(error)

    def _work(self) -> None:
        while batch := self._batches.get():
            try:
                self._results.put((batch, self._call(batch)))
            except Exception as error:  # noqa: BLE001 - raised by ``_receive``
                self._results.put(error)

    def _receive(self) -> None:
        """Take the results of calls, waiting a moment for the first one; commit them."""
        results: list[Result] = []
        with contextlib.suppress(queue.Empty):
            found = self._results.get(timeout=IDLE if self._calls else IDLE / 10)
            while True:
                if isinstance(found, Exception):
                    raise found
                results.append(self._settle(*found))
                found = self._results.get_nowait()
        if results:
            self._journal.record(results)

    def _pack(self) -> None:
        """Dispatch batches as long as threads are free and the rate allows it."""
        while self._calls < self._settings.threads and time.monotonic() >= self._next_call:
            if item := self._next_item():
                self._add(item)
                self._packed_at = time.monotonic()
                continue
            self._has_ended |= self._stop.is_set() and not self._is_full()
            if self._has_ended or time.monotonic() - self._packed_at > IDLE:
                for link in self._links:
                    self._close(link)
            return

    def _is_full(self) -> bool:
        return len(self._waiting) > WAITING_LIMIT or self._waiting_bytes > WAITING_BYTES

    def _next_item(self) -> Item | None:
        if self._waiting and self._waiting[0][0] <= time.monotonic():
            item = heapq.heappop(self._waiting)[2]
            self._waiting_bytes -= item.size
            return item
        if self._is_full():
            return None
        while not (new := next(self._items, None)):
            try:
                chunk = self._chunks.get_nowait()
            except queue.Empty:
                return None
            if isinstance(chunk, Chunk):
                self._items = self._route(chunk)
            else:
                self._has_ended, self._is_whole, self._fault = True, chunk is None, chunk
                return None
        self._unsettled += 1
        return new

    def _route(self, chunk: Chunk) -> Iterator[Item]:
        """Yield what is to be sent of a chunk; record what is rejected."""
        self._journal.record_read(chunk)
        options = self._settings
        defaults = (options.source, options.detail_type, options.trace_header)
        for number, line in enumerate(chunk.records, chunk.first):
            open_ = [
                at for at in range(len(self._links)) if not self._journal.is_settled(at, number)
            ]
            record = entries.unwrap(line)
            try:
                entry = entries.read(record, *defaults)
                chosen = self._choose(entry.region, entry.bus)
            except EntryError as error:
                rejected = [(number, record, Failure(*error.args))]
                self._journal.record([Result(open_, rejected=rejected, is_entry=False)])
                continue
            for at in open_:
                if at in chosen:
                    body = entry.body if entry.bus else entry.body[:-1] + self._links[at].suffix
                    yield Item(number, at, body, entry.size, entry.bus)
                else:
                    self._journal.record([Result([at], not_routed=[number])])

    def _choose(self, region: str | None, bus: str | None) -> Sequence[int]:
        """Return the destinations of an entry: all, unless it names its bus (then one per Region)."""
        if bus is None and region is None:
            return range(len(self._links))
        chosen: dict[str, int] = {}
        for at, one in enumerate(self._links):
            if region in (None, one.region) and (bus == one.bus or one.region not in chosen):
                chosen[one.region] = at
        if not chosen:
            raise EntryError("InvalidArgument", f"it is for {region}, which is not a destination")
        return list(chosen.values())

    def _add(self, item: Item) -> None:
        """Add an entry to the batch of its destination; dispatch the batch when it is full."""
        link = self._links[item.destination]
        if item.is_alone:
            self._dispatch(link, [item])
            return
        if link.size + item.size >= SIZE_LIMIT:
            self._close(link)
        link.batch.append(item)
        link.size += item.size
        if len(link.batch) == COUNT_LIMIT:
            self._close(link)

    def _close(self, link: Link) -> None:
        batch, link.batch, link.size = link.batch, [], 0
        if batch:
            self._dispatch(link, batch)

    def _retry(self, item: Item, pause: float) -> None:
        heapq.heappush(self._waiting, (time.monotonic() + pause, next(self._order), item))
        self._waiting_bytes += item.size

    def _dispatch(self, link: Link, batch: list[Item]) -> None:
        if pause := link.seconds_to_wait():
            for item in batch:
                self._retry(item, pause)
            return
        if self._settings.rate:  # what was not used is lost, but for a tenth of a second's worth
            self._next_call = max(self._next_call, time.monotonic() - 0.1)
            self._next_call += len(batch) / self._settings.rate
        self._calls += 1
        self._batches.put(batch)

    def _call(self, batch: list[Item]) -> list[Failure | None]:
        link = self._links[batch[0].destination]
        missing: dict[str | None, Failure] = {}
        for bus in {item.bus for item in batch if item.bus}:
            try:
                link.caller.check_bus(bus)
            except BusError as error:
                missing[bus] = Failure("ResourceNotFoundException", error.what)
            except AWS_ERRORS as error:
                return [failure_of(error)] * len(batch)
        rest = [item for item in batch if item.bus not in missing]
        failures = iter((self._answer or self._put)(rest) if rest else ())
        return [missing.get(item.bus) or next(failures) for item in batch]

    def _put(self, batch: list[Item]) -> list[Failure | None]:
        return self._links[batch[0].destination].caller.put([item.body for item in batch])

    def _settle(self, batch: list[Item], failures: list[Failure | None]) -> Result:
        link, acknowledged = self._links[batch[0].destination], list[int]()
        rejected: list[tuple[int, bytes, Failure]] = []
        link.record(failures)
        size, self._calls = 0, self._calls - 1
        for item, failure in zip(batch, failures, strict=True):
            if failure is None:
                acknowledged.append(item.number)
                size += item.size
            elif failure.retryable or (failure.whole_call and len(batch) > 1):
                item.is_alone = item.is_alone or failure.whole_call
                item.attempts += 1
                longest = min(self._settings.cap, self._settings.base * 2**item.attempts)
                self._retry(item, random.uniform(0, longest))  # noqa: S311 - full jitter
            else:
                self._check_access(link, item, failure)
                rejected.append((item.number, item.body, failure))
        settled = len(acknowledged) + len(rejected)
        self._unsettled -= settled
        retried = len(batch) - settled
        return Result(
            [batch[0].destination], acknowledged, rejected, bytes=size, retried=retried, calls=1
        )

    def _check_access(self, link: Link, item: Item, failure: Failure) -> None:
        """Raise ToolError if the first call of all is denied: every record would be rejected."""
        is_denied = failure.whole_call and failure.code.startswith("AccessDenied")
        if is_denied and not item.bus and not self._journal.summary.acknowledged:
            raise ToolError(
                failure.message,
                code=ErrorCode.ACCESS_DENIED,
                where=link.name,
                advice="Allow events:PutEvents. Nothing was rejected; --resume sends the rest.",
            )
