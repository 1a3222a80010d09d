"""Delivery journal: what became of each record of an input.

A SQLite table (WAL), locked while it is used. No more calls than there are threads wait for their
result to be committed: after SIGKILL up to threads x 10 entries are unknown and sent again by
``resume``. A power failure can lose the last results (synchronous=NORMAL).
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from eventstacks.bus.entries import RAW, REJECTED
from eventstacks.errors import ErrorCode, ToolError

# ``code`` and ``line`` (of the file of rejects) are NULL for acknowledged records; ``crc`` is the
# CRC-32 of the record. When a delivery is complete, ``user_version`` is its number of records.
_SCHEMA = """
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS send_journal
        (number INTEGER PRIMARY KEY, crc INTEGER, code TEXT, line TEXT);
    COMMIT;
"""
_INSERT = """
    INSERT INTO send_journal
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
        json_extract(value, '$[3]') FROM json_each(?)
"""
_OPEN = """
    SELECT number + 1, next - 1 FROM (
        SELECT number, lead(number, 1, :end) OVER (ORDER BY number) AS next
        FROM (SELECT -1 AS number UNION ALL SELECT number FROM send_journal))
    WHERE next > number + 1
"""


class JournalError(ToolError):
    """The journal cannot be used, or belongs to another input."""

    default_code = ErrorCode.JOURNAL_INVALID


@dataclass
class Summary:
    """Counts of a delivery: at the end, records = acknowledged + rejected.

    ``acknowledged_earlier`` is the part of runs before this one. ``retried``, ``calls`` and
    ``seconds`` are of this run.
    """

    records: int = 0
    acknowledged: int = 0
    rejected: int = 0
    retried: int = 0
    calls: int = 0
    seconds: float = 0.0
    acknowledged_earlier: int = 0
    by_code: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Return the entries acknowledged per second in this run."""
        new = self.acknowledged - self.acknowledged_earlier
        return new / self.seconds if self.seconds else 0.0

    def count(self, code: str | None, records: int = 1) -> None:
        """Count settled records by their code; None: acknowledged."""
        if code is None:
            self.acknowledged += records
        else:
            self.rejected += records
            self.by_code[code] = self.by_code.get(code, 0) + records


class Row(NamedTuple):
    """A settled record. ``number``: from 0."""

    number: int
    crc: int
    code: str | None = None
    line: str | None = None


def reject(number: int, crc: int, record: dict[str, Any] | bytes, code: str, message: str) -> Row:
    """Return the row of a rejected entry, or of a record that is not one."""
    if isinstance(record, bytes):
        record = {RAW: record.decode("utf-8", "surrogateescape")}
    note = {"Code": code, "Message": message, "Record": number + 1}
    return Row(
        number, crc, code, json.dumps({**record, REJECTED: note}, default=datetime.isoformat)
    )


class Journal:
    """The journal of one delivery to one bus, for one thread.

    Without ``path`` it is a temporary file. ``rejected``: the file for rejects, written by
    ``close``; if it exists, the next free of name-2, name-3 and so on. ``resume`` continues an
    earlier delivery. Raises JournalError.
    """

    def __init__(
        self, path: Path | None = None, rejected: Path | None = None, *, resume: bool = False
    ) -> None:
        self.path, self.rejected, self.summary = path, rejected, Summary()
        if resume and not (path and path.exists()):
            raise JournalError(
                "nothing to resume: this input was not sent to this bus",
                code=ErrorCode.NOT_FOUND,
                where=str(path),
                advice="Send it without --resume.",
            )
        for file in filter(None, (path, rejected)):
            file.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path or "", timeout=0)
        with contextlib.ExitStack() as on_error, self._errors():
            on_error.callback(self._database.close)
            self._begin(resume=resume)
            on_error.pop_all()

    def _begin(self, *, resume: bool) -> None:
        execute = self._database.execute
        self._database.executescript(_SCHEMA)
        (complete,) = execute("PRAGMA user_version").fetchone()
        (settled,) = execute("SELECT count(*) FROM send_journal").fetchone()
        if not resume and settled not in (0, complete):
            raise JournalError(
                "an earlier delivery of this input was interrupted; nothing was sent",
                code=ErrorCode.ALREADY_EXISTS,
                where=str(self.path),
                advice="--resume sends the rest. Delete this file to send everything again.",
            )
        if not resume:
            self._database.executescript("DELETE FROM send_journal; PRAGMA user_version = 0")
        for code, count in execute("SELECT code, count(*) FROM send_journal GROUP BY code"):
            self.summary.count(code, count)
        self.summary.acknowledged_earlier = self.summary.acknowledged

    def read(self, crcs: Sequence[int]) -> set[int]:
        """Note that the records with these CRCs were read; return the numbers of the settled ones.

        Raises JournalError if an earlier run settled another record in the place of one.
        """
        first = self.summary.records
        self.summary.records += len(crcs)
        with self._errors():
            known = dict(
                self._database.execute(
                    "SELECT number, crc FROM send_journal WHERE number BETWEEN ? AND ?",
                    (first, self.summary.records - 1),
                )
            )
        if any(crcs[number - first] != crc for number, crc in known.items()):
            raise JournalError(
                "this is not the input of the interrupted delivery; no more was sent",
                where=str(self.path),
                advice="Give the same files in the same order, or delete the journal.",
            )
        return set(known)

    def record(self, rows: Sequence[Row]) -> None:
        """Commit the results of records in one transaction."""
        with self._errors(), self._database:
            # Not executemany: it gives other threads the interpreter after each row.
            self._database.execute(_INSERT, (json.dumps(rows),))
        for row in rows:
            self.summary.count(row.code)

    def finish(self) -> None:
        """Note that all of the input is settled.

        Raises JournalError if a resumed input is shorter.
        """
        (last,) = self._database.execute("SELECT max(number) FROM send_journal").fetchone()
        if last is not None and last >= self.summary.records:
            raise JournalError(
                "the input is shorter than that of the interrupted delivery", where=str(self.path)
            )
        with self._errors():
            self._database.execute(f"PRAGMA user_version = {self.summary.records}")

    def open_records(self) -> list[tuple[int, int]]:
        """Return what was read and is not settled, as ranges of numbers from 0."""
        return self._database.execute(_OPEN, {"end": self.summary.records}).fetchall()

    def rejects(self) -> Iterator[str]:
        """Yield the lines of the file of rejects."""
        rows = self._database.execute(
            "SELECT line FROM send_journal WHERE line IS NOT NULL ORDER BY number"
        )
        return (line for (line,) in rows)

    def close(self) -> None:
        """Write the file of rejects, if there are any, and close the journal."""
        if self.rejected and self.summary.rejected:
            path, number = self.rejected, 1
            while self.rejected.exists():
                number += 1
                self.rejected = path.with_stem(f"{path.stem}-{number}")
            try:
                with self.rejected.open("x", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in self.rejects())
            except OSError as error:
                raise JournalError(
                    f"cannot write the rejected records: {error.strerror}",
                    where=str(self.rejected),
                    advice="They are in the journal: --resume writes them. --rejected names "
                    "another file.",
                ) from None
        self._database.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            where = str(self.path)
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise JournalError(
                    "another process sends this input", code=ErrorCode.ALREADY_EXISTS, where=where
                ) from None
            raise JournalError(
                f"the journal cannot be used: {error}",
                where=where,
                advice="Free disk space, or delete the journal to send everything again.",
            ) from None
