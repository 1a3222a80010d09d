"""Delivery journal: what became of each record of an input.

A SQLite database (WAL), locked while it is used. No more calls than there are threads wait for
their result to be committed: after SIGKILL up to threads x 10 entries are unknown and sent again by
``resume``. A power failure can lose the last results (synchronous=NORMAL).
"""

from __future__ import annotations

import bisect
import contextlib
import json
import sqlite3
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eventstacks.bus.entries import RAW, REJECTED
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from eventstacks.bus.put_events import Failure
    from eventstacks.bus.records import Chunk

APPLICATION_ID = 0x45537453
HEAD = 100  # records at the start that must be the same when an input is sent with resume
MERGE_AFTER = 50_000  # rows
# Values of the column ``result`` beside the codes of rejected records.
ACKNOWLEDGED, NOT_ROUTED = "", "-"
_SCHEMA = f"""
    PRAGMA application_id = {APPLICATION_ID};
    CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT);
    CREATE TABLE IF NOT EXISTS results
        (destination INTEGER, first INTEGER, last INTEGER, result TEXT);
    CREATE TABLE IF NOT EXISTS rejects (line TEXT);
"""
# Merge rows whose numbers are consecutive.
_MERGE = """
    CREATE TEMP TABLE merged AS
        SELECT destination, min(first) AS first, max(last) AS last, result FROM (
            SELECT *, sum(is_start) OVER (PARTITION BY destination, result ORDER BY first) AS island
            FROM (SELECT *, first > 1 + lag(last, 1, -2) OVER
                (PARTITION BY destination, result ORDER BY first) AS is_start FROM results))
        GROUP BY destination, result, island;
    DELETE FROM results;
    INSERT INTO results SELECT * FROM merged;
    DROP TABLE merged;
"""


class JournalError(ToolError):
    """The journal cannot be used, or belongs to another input."""

    default_code = ErrorCode.JOURNAL_INVALID


@dataclass
class Summary:
    """Counts of a delivery. With one destination, records = acknowledged + rejected at the end.

    ``acknowledged`` and ``rejected`` count entries: with several destinations, a record is one
    entry for each. ``acknowledged_earlier`` is the part of runs before this one. ``retried``,
    ``calls``, ``bytes`` (by AWS's size rule) and ``seconds`` are of this run.
    """

    records: int = 0
    acknowledged: int = 0
    rejected: int = 0
    retried: int = 0
    calls: int = 0
    bytes: int = 0
    seconds: float = 0.0
    acknowledged_earlier: int = 0
    by_code: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Return the entries acknowledged per second in this run."""
        new = self.acknowledged - self.acknowledged_earlier
        return new / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Result:
    """What one call settled. ``rejected``: record number, entry (or record), reason."""

    destinations: Sequence[int]
    acknowledged: Sequence[int] = ()
    rejected: Sequence[tuple[int, bytes, Failure]] = ()
    not_routed: Sequence[int] = ()
    is_entry: bool = True
    bytes: int = 0
    retried: int = 0
    calls: int = 0


class Journal:
    """The journal of one delivery, for one thread.

    ``destinations``: (Region, bus) pairs. Without ``path`` it is kept in memory, with the first
    ``keep`` rejects. ``rejected``: the file for rejects, written by ``close``; that of an earlier
    delivery is renamed.
    ``resume`` continues an unfinished delivery, ``restart`` discards it. Raises JournalError.
    """

    def __init__(  # noqa: PLR0913 - two files, and what to do with what they hold
        self,
        destinations: Sequence[tuple[str, str]],
        path: Path | None = None,
        rejected: Path | None = None,
        *,
        resume: bool = False,
        restart: bool = False,
        keep: int = 1000,
    ) -> None:
        for file in filter(None, (path, rejected)):
            if file.exists() and not file.is_file():
                raise JournalError("not a regular file", where=str(file), advice="Name a file.")
        self.destinations = [tuple(one) for one in destinations]
        self.path, self.rejected = path, rejected
        self.summary = Summary()
        self._keep = 1 << 62 if path else keep
        self._settled: list[list[tuple[int, int]]] = [[] for _ in destinations]
        self._head: list[int] = []
        self._rows = 0
        with self._errors():
            self._database = _open(path)
            try:
                self._begin(resume=resume, restart=restart)
            except BaseException:
                self._database.close()
                raise

    def _begin(self, *, resume: bool, restart: bool) -> None:
        known = {
            name: json.loads(value)
            for name, value in self._database.execute("SELECT name, value FROM settings")
        }
        is_begun = self._database.execute("SELECT 1 FROM results").fetchone()
        if resume and not known:
            raise JournalError(
                "nothing to resume: this input was not sent to these buses",
                code=ErrorCode.NOT_FOUND,
                where=str(self.path),
                advice="Send it without --resume.",
            )
        if is_begun and not known.get("finished") and not (resume or restart):
            raise JournalError(
                "an earlier delivery of this input was interrupted; nothing was sent",
                code=ErrorCode.ALREADY_EXISTS,
                where=str(self.path),
                advice="--resume sends the rest; --restart sends everything again.",
            )
        if resume:
            if [tuple(one) for one in known["destinations"]] != self.destinations:
                raise JournalError("the earlier delivery had other buses", where=str(self.path))
            self._load(known)
        else:
            self._database.executescript("DELETE FROM results; DELETE FROM rejects;")
            if self.rejected:
                _rename(self.rejected)
        self._set(destinations=self.destinations, finished=False, head=self._head)

    def _load(self, known: dict[str, Any]) -> None:
        self._database.executescript(_MERGE)
        self._head = known["head"]
        total = self.summary
        for destination, first, last, result in self._database.execute(
            "SELECT * FROM results ORDER BY first"
        ):
            self._settled[destination].append((first, last))
            self._count(result, last - first + 1)
        total.acknowledged_earlier = total.acknowledged

    # While sending

    def record_read(self, chunk: Chunk) -> None:
        """Note that records were read. Raises JournalError if a resumed input is another one."""
        if chunk.first == 0:
            head = [zlib.crc32(record) for record in chunk.records[:HEAD]]
            if any(old != new for old, new in zip(self._head, head, strict=False)):
                raise JournalError(
                    "this is not the input of the interrupted delivery; nothing was sent",
                    where=str(self.path),
                    advice="Give the same files in the same order, or --restart.",
                )
            with self._errors():
                self._set(head=head)
        self.summary.records = chunk.first + len(chunk.records)

    def is_settled(self, destination: int, number: int) -> bool:
        """Return True if an earlier run settled this record for this destination."""
        if not (ranges := self._settled[destination]):
            return False
        at = bisect.bisect_right(ranges, (number, 1 << 62)) - 1
        return at >= 0 and number <= ranges[at][1]

    def record(self, results: Iterable[Result]) -> None:
        """Commit results in one transaction."""
        with self._errors():
            self._database.execute("BEGIN")
            for result in results:
                self._write(result)
            self._database.execute("COMMIT")
            if self._rows > MERGE_AFTER:
                self._database.executescript(f"BEGIN; {_MERGE} COMMIT")
                self._rows = 0

    def finish(self) -> None:
        """Note that all of the input is settled. Raises JournalError if a resumed input is shorter."""
        if any(ranges and ranges[-1][1] >= self.summary.records for ranges in self._settled):
            raise JournalError(
                "the input is shorter than that of the interrupted delivery", where=str(self.path)
            )
        with self._errors():
            self._set(finished=True)

    def open_records(self) -> list[tuple[int, int]]:
        """Return what was read and is not settled everywhere, as ranges of numbers from 0."""
        found = set()
        with self._errors():
            for destination in range(len(self.destinations)):
                begin = 0
                for first, last in [
                    *self._database.execute(
                        "SELECT first, last FROM results WHERE destination = ? ORDER BY first",
                        (destination,),
                    ),
                    (self.summary.records, self.summary.records),
                ]:
                    if begin < first:
                        found.add((begin, first - 1))
                    begin = last + 1
        return sorted(found)

    def rejects(self) -> Iterator[dict[str, Any]]:
        """Yield the rejected entries, as the lines of the file have them."""
        for (line,) in self._database.execute("SELECT line FROM rejects").fetchall():
            yield json.loads(line)

    def close(self) -> None:
        """Write the file of rejects, if there are any, and close the journal."""
        first = self._database.execute("SELECT line FROM rejects").fetchone()
        if self.rejected and first:
            if _first_line(self.rejected) != first[0]:  # it is not of this delivery
                _rename(self.rejected)
            with self.rejected.open("w", encoding="utf-8") as file:
                for (line,) in self._database.execute("SELECT line FROM rejects"):
                    file.write(f"{line}\n")
        self._database.close()

    def _write(self, result: Result) -> None:
        rows = [
            *((*one, ACKNOWLEDGED) for one in _ranges(result.acknowledged)),
            *((*one, NOT_ROUTED) for one in _ranges(result.not_routed)),
            *((number, number, failure.code) for number, _, failure in result.rejected),
        ]
        for destination in result.destinations:
            insert = f"INSERT INTO results VALUES ({destination}, ?, ?, ?)"  # noqa: S608 - a number
            self._database.executemany(insert, rows)
            self._rows += len(rows)
            for first, last, code in rows:
                self._count(code, last - first + 1)
        self.summary.bytes += result.bytes
        self.summary.retried += result.retried
        self.summary.calls += result.calls
        for number, record, failure in result.rejected:
            line = self._reject_line(result, number, record, failure)
            if self.summary.rejected <= self._keep:
                self._database.execute("INSERT INTO rejects VALUES (?)", (line,))

    def _count(self, result: str, records: int) -> None:
        total = self.summary
        if result == ACKNOWLEDGED:
            total.acknowledged += records
        elif result != NOT_ROUTED:
            total.rejected += records
            total.by_code[result] = total.by_code.get(result, 0) + records

    def _reject_line(self, result: Result, number: int, record: bytes, failure: Failure) -> str:
        note = {"Code": failure.code, "Message": failure.message, "Record": number + 1}
        if result.is_entry:
            region = self.destinations[result.destinations[0]][0]
            return json.dumps({**json.loads(record), REJECTED: {**note, "Region": region}})
        return json.dumps({RAW: record.decode("utf-8", "surrogateescape"), REJECTED: note})

    def _set(self, **values: Any) -> None:
        pairs = [(name, json.dumps(value)) for name, value in values.items()]
        self._database.executemany("REPLACE INTO settings VALUES (?, ?)", pairs)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            where, text = str(self.path), str(error)
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise JournalError(
                    "another process sends this input", code=ErrorCode.ALREADY_EXISTS, where=where
                ) from None
            raise JournalError(
                f"the journal cannot be used: {text}",
                where=where,
                advice="Free disk space, or remove the journal to send everything again.",
            ) from None


def _open(path: Path | None) -> sqlite3.Connection:
    """Open and lock the database. Raises sqlite3.Error, and JournalError for another program's."""
    is_known = not path or not path.exists() or not path.stat().st_size
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path or ":memory:", timeout=0, isolation_level=None)
    with contextlib.ExitStack() as on_error:
        on_error.callback(database.close)
        (number,) = database.execute("PRAGMA application_id").fetchone()
        if not is_known and number != APPLICATION_ID:
            raise JournalError("not a journal; nothing was sent", where=str(path))
        database.executescript(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
            f"PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE; {_SCHEMA} COMMIT;"
        )
        on_error.pop_all()
    return database


def _ranges(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return 3, 1, 2, 7 as (1, 3), (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _first_line(path: Path) -> str:
    with contextlib.suppress(OSError), path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\n")
    return ""


def _rename(path: Path) -> None:
    """Keep the file of an earlier delivery, if there is one, as path.1, path.2 and so on."""
    number = 1
    while (kept := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    if path.exists():
        path.rename(kept)
