"""Send events to an event bus: batches, retries of what failed, a journal of every record.

import boto3
from eventstacks import send

order = {"Source": "com.example.shop", "DetailType": "OrderPlaced", "Detail": {"id": 1}}
summary = send([order], boto3.client("events"), "orders")
print(summary.acknowledged, summary.by_code)
"""

import functools
import heapq
import itertools
import math
import queue
import random
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eventstacks.aws import RETRY_LONG, Clock, call
from eventstacks.bus import entries
from eventstacks.bus.entries import COUNT_LIMIT, SIZE_LIMIT, EntryError
from eventstacks.bus.journal import Journal, Row, Summary, reject
from eventstacks.bus.put_events import Failure, put
from eventstacks.bus.stacks import BusError, describe_bus, parse_bus
from eventstacks.errors import ErrorCode, ToolError

__all__ = ["Journal", "OutageError", "Settings", "Summary", "send"]

IDLE = 0.05  # seconds without input after which an incomplete batch is sent
GRACE = 3.0  # seconds that records already read have to be sent in after a stop
# Entries (and their bytes) that wait for a retry; beyond it, nothing new is read.
WAITING_LIMIT, WAITING_BYTES = 10_000, 32 * 1024 * 1024
LISTS = 4  # of records that are read and not packed yet
# After this many failed calls in a row, one call is made every PROBE_SECONDS.
FAILURES_TO_PAUSE, PROBE_SECONDS = 10, 2.0


class OutageError(ToolError):
    """No call succeeded for too long. Nothing was rejected because of it; resume sends the rest."""

    default_code = ErrorCode.ENDPOINT_UNREACHABLE


@dataclass(frozen=True)
class Settings:
    """How to send.

    ``source``, ``detail_type``: defaults of records. ``threads``: calls at a time. ``rate``:
    maximum entries per second. ``give_up_after``: seconds without a successful call until
    OutageError. The n-th retry waits a random time of up to ``base`` * 2**n seconds, at most
    ``cap``.
    """

    source: str | None = None
    detail_type: str | None = None
    threads: int = 32
    rate: float | None = None
    give_up_after: float = RETRY_LONG
    base: float = 0.1
    cap: float = 20.0


@dataclass(slots=True)
class _Item:
    """One entry of PutEvents.

    ``is_alone``: it shares no call, because a call with it was refused.
    """

    number: int
    crc: int
    entry: dict[str, Any]
    size: int
    attempts: int = 0
    is_alone: bool = False


def send(
    events: Iterable[str | Mapping[str, Any]],
    client: Any,
    bus: str,
    settings: Settings | None = None,
    journal: Journal | None = None,
) -> Summary:
    """Send events to a bus; return when each is acknowledged or rejected.

    An event is an entry of PutEvents (Detail may be a dict, Time a datetime with a time zone), the
    JSON text of one, or with ``settings.source`` and ``detail_type`` a detail. One that names its
    bus (EventBusName) goes there. ``client``: boto3's of ``events``, best with
    ``Config(max_pool_connections=<threads>, retries={"total_max_attempts": 1})``: retries are made
    here. A ``Journal`` of your own keeps the rejected entries. Raises BusError before anything is
    sent if the bus does not exist, OutageError if no call succeeds for ``settings.give_up_after``
    seconds, and botocore's ClientError or BotoCoreError if the credentials are not valid.
    """
    iterator = map(entries.record_of, events)
    lists = iter(lambda: list(itertools.islice(iterator, 100)), [])
    return Sender(client, bus, journal or Journal(), settings or Settings()).run(lists)


class Sender:
    """One delivery of records; see ``send``.

    This thread packs and records; one thread reads; ``settings.threads`` make the calls. It gives
    out no more batches than there are threads until it has committed their results.

    When ``stop`` is set, nothing more is read, and what was read is sent for GRACE seconds at most;
    the journal then has open records. ``notify`` gets a line when a pause begins or ends.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - ``send``, stopped and observed
        self,
        client: Any,
        bus: str,
        journal: Journal,
        settings: Settings,
        stop: threading.Event | None = None,
        notify: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._client, self._bus, self._journal = client, bus, journal
        self._settings, self._stop, self._notify = settings, stop or threading.Event(), notify
        self._count_limit = getattr(client, "count_limit", COUNT_LIMIT)
        self._lists: queue.Queue[list[_Item | Row] | Exception | None] = queue.Queue(LISTS)
        self._batches: queue.SimpleQueue[list[_Item] | None] = queue.SimpleQueue()
        self._results: deque[Any] = deque()
        self._new: deque[_Item] = deque()  # of the list at hand
        self._waiting: list[tuple[float, int, _Item]] = []  # a heap: time of the retry, number
        self._batch: list[_Item] = []  # incomplete
        self._size = self._waiting_bytes = self._calls = self._unsettled = self._failures = 0
        self._next_call = self._packed_at = self._paused_until = self._succeeded_at = 0.0
        self._name, self._reason = f"{bus} in {client.meta.region_name}", ""
        self._is_reading = True
        self._fault: Exception | None = None

    def run(self, lists: Iterable[list[bytes]]) -> Summary:
        """Send records as ``entries.read_records`` yields them. Raises what stopped it."""
        started, deadline = time.monotonic(), math.inf
        describe_bus(self._client, self._bus)
        threading.Thread(target=self._read, args=(lists,), daemon=True).start()
        for _ in range(self._settings.threads):
            threading.Thread(target=self._work, daemon=True).start()
        try:
            while (self._is_reading or self._unsettled) and time.monotonic() < deadline:
                self._give_up()
                if self._stop.is_set():
                    self._is_reading, deadline = False, min(deadline, time.monotonic() + GRACE)
                if time.monotonic() < deadline - GRACE / 6:  # the rest is for the last answers
                    self._pack()
                # Few wake-ups: while this thread runs, no other does.
                time.sleep(0.001 if 0 < self._calls < 5 else 0.005)
                self._receive()
        finally:
            for _ in range(self._settings.threads):  # nothing waits for their last calls
                self._batches.put(None)
            self._journal.summary.seconds = time.monotonic() - started
        if self._fault:
            raise self._fault
        if not self._stop.is_set():
            self._journal.finish()
        return self._journal.summary

    def _read(self, lists: Iterable[list[bytes]]) -> None:
        numbers = itertools.count()
        try:
            for records in lists:
                self._lists.put([self._parse(next(numbers), record) for record in records])
            self._lists.put(None)
        except Exception as error:  # noqa: BLE001 - raised when the records before are sent
            self._lists.put(error)

    def _parse(self, number: int, line: bytes) -> _Item | Row:
        """Return what is to be sent, or why a record is rejected."""
        crc, record = zlib.crc32(line), entries.unwrap(line)
        try:
            entry, size = entries.read_entry(
                record, self._settings.source, self._settings.detail_type
            )
        except EntryError as error:
            return reject(number, crc, record, *error.args)
        bus = entry.setdefault("EventBusName", self._bus)
        if bus != self._bus and not self._has_bus(bus):
            return reject(
                number, crc, entry, "ResourceNotFoundException", f"event bus {bus!r} not found"
            )
        return _Item(number, crc, entry, size)

    @functools.cache  # noqa: B019 - a sender lives as long as its run
    def _has_bus(self, bus: str) -> bool:
        """Ask once: an entry for a bus that does not exist would be accepted, and dropped."""
        try:
            call(
                describe_bus,
                clock=Clock(),
                retry_for=self._settings.give_up_after,
                client=self._client,
                bus=parse_bus(bus)[1],
            )
        except BusError:
            return False
        return True

    def _work(self) -> None:
        while batch := self._batches.get():
            try:
                self._results.append((batch, put(self._client, [item.entry for item in batch])))
            except Exception as error:  # noqa: BLE001 - raised by ``_receive``
                self._results.append(error)

    def _receive(self) -> None:
        """Commit the results of the calls that have ended."""
        rows: list[Row] = []
        try:
            while self._results:
                result = self._results.popleft()
                if isinstance(result, Exception):
                    raise result
                rows += self._settle(*result)
        finally:  # also when one of the results is an error
            if rows:
                self._journal.record(rows)

    def _pack(self) -> None:
        """Dispatch batches as long as threads are free and the rate and an outage allow it."""
        while self._calls < self._settings.threads:
            now = time.monotonic()
            if now < max(self._next_call, self._paused_until):
                return
            if not (batch := self._next_batch(now)):
                return
            if self._failures >= FAILURES_TO_PAUSE:  # this is the only call for a while
                self._paused_until = now + PROBE_SECONDS
            if self._settings.rate:
                # What was not used is lost, but for a tenth of a second's worth.
                self._next_call = max(self._next_call, now - 0.1)
                self._next_call += len(batch) / self._settings.rate
            self._calls += 1
            self._batches.put(batch)

    def _next_batch(self, now: float) -> list[_Item]:
        """Return a full batch; an incomplete one after IDLE seconds without input."""
        while len(self._batch) < self._count_limit:
            if not (item := self._next_item(now)):
                if self._is_reading and now - self._packed_at <= IDLE:
                    return []
                break
            self._packed_at = now
            if item.is_alone:
                return [item]
            if self._size + item.size >= SIZE_LIMIT:
                self._new.appendleft(item)
                break
            self._batch.append(item)
            self._size += item.size
        batch, self._batch, self._size = self._batch, [], 0
        return batch

    def _next_item(self, now: float) -> _Item | None:
        if self._waiting and self._waiting[0][0] <= now:
            item = heapq.heappop(self._waiting)[2]
            self._waiting_bytes -= item.size
            return item
        if len(self._waiting) > WAITING_LIMIT or self._waiting_bytes > WAITING_BYTES:
            return None
        while not self._new:
            if not self._is_reading or self._lists.empty():
                return None
            found = self._lists.get()
            if isinstance(found, list):
                self._take(found)
            else:
                self._is_reading, self._fault = False, found
        return self._new.popleft()

    def _take(self, found: list[_Item | Row]) -> None:
        """Note what is to be sent; record what is rejected."""
        settled = self._journal.read([one.crc for one in found])
        new = [one for one in found if one.number not in settled]
        self._journal.record([one for one in new if isinstance(one, Row)])
        self._new.extend(one for one in new if isinstance(one, _Item))
        self._unsettled += len(self._new)

    def _settle(self, batch: list[_Item], failures: Sequence[Failure | None]) -> list[Row]:
        """Return the rows of what is settled; put the rest of a batch aside for a retry."""
        rows, summary = [], self._journal.summary
        self._watch_outage(failures)
        self._calls -= 1
        summary.calls += 1
        for item, failure in zip(batch, failures, strict=True):
            if failure is None:
                rows.append(Row(item.number, item.crc))
            elif failure.retryable or (failure.whole_call and len(batch) > 1):
                summary.retried += 1
                item.is_alone = item.is_alone or failure.whole_call
                item.attempts += 1
                longest = min(self._settings.cap, self._settings.base * 2**item.attempts)
                wait = max(random.uniform(0, longest), failure.retry_after)  # noqa: S311 - jitter
                heapq.heappush(self._waiting, (time.monotonic() + wait, item.number, item))
                self._waiting_bytes += item.size
            else:
                rows.append(
                    reject(item.number, item.crc, item.entry, failure.code, failure.message)
                )
        self._unsettled -= len(rows)
        return rows

    def _watch_outage(self, failures: Sequence[Failure | None]) -> None:
        """Pause if calls fail: if every entry failed, and can be retried."""
        last, now = failures[0], time.monotonic()
        if last is None or not all(one and one.retryable for one in failures):
            if self._failures >= FAILURES_TO_PAUSE:
                self._notify(f"Sending to {self._name} again.")
            self._failures, self._reason = 0, ""
            self._paused_until, self._succeeded_at = 0.0, now
            return
        self._failures += 1
        self._reason = f"{last.code}: {last.message}"
        if self._failures == FAILURES_TO_PAUSE:
            self._notify(
                f"Paused: all calls to {self._name} fail ({self._reason}). "
                f"Trying again every {PROBE_SECONDS:.0f} s."
            )
        pause = PROBE_SECONDS if self._failures >= FAILURES_TO_PAUSE else 0.0
        self._paused_until = max(self._paused_until, now + max(pause, last.retry_after))

    def _give_up(self) -> None:
        """Raise OutageError if calls are made, and none has succeeded for too long."""
        now, limit = time.monotonic(), self._settings.give_up_after
        if not (self._calls or self._failures):
            self._succeeded_at = now
        elif now - self._succeeded_at > limit:
            raise OutageError(
                f"no call succeeded for {limit:.0f} s: {self._reason or 'no answer'}",
                where=self._name,
                advice="No record was rejected because of it. --resume sends the rest.",
            )
