"""The account of a sending: every record ends as acknowledged or as rejected, exactly one of them.

Two files keep it, each written by one ``write`` per step, so that SIGKILL takes nothing that was noted (a loss of
power may). ``rejected.ndjson`` holds what was refused; the progress file holds which records are settled:

    {"destinations": [["us-east-1", "orders"]], "rejected": "rejected.ndjson"}
    c 100 2774190512 …    the first 100 records have this CRC-32, the first …
    a 0 0-9 11-20         destination 0 acknowledged these records, counted from 0
    r 0 10 MalformedDetail   destination 0 refused this one for good, and it stands in rejected.ndjson ('*': any would)
    - 1 10                this one is not for destination 1
    t {…}                 totals and ranges of all that stood before (the file is rewritten when it has grown)
    end                   the input ended, and nothing is open

AWS's acknowledgment and its note here are two things: what is killed between them sends up to threads x 10 entries
once more when it resumes. Events come at least once in any case.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import json
import os
import threading
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.errors import ToolError
from scripts.events.entries import NOTE, RAW
from scripts.events.ranges import Ranges, is_in, ranges_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scripts.events.calls import Failure
    from scripts.events.records import Chunk

REWRITE = 32 * 1024 * 1024  # bytes of progress after which the file is rewritten short
MARK = 100  # records between two checksums of the input
TAIL = 4 * 1024 * 1024  # bytes: longer than any line of rejected.ndjson but those of records cut for their length


class LedgerError(ToolError):
    """The account cannot be kept, or is of another sending."""


@dataclass
class Summary:
    """What became of the input. With one destination, records = acknowledged + rejected when it ended."""

    records: int = 0
    acknowledged: int = 0  # entries; with several destinations a record is one for each
    rejected: int = 0  # entries, and records that are none
    retried: int = 0  # entries sent once more, in this run
    calls: int = 0  # in this run
    bytes: int = 0  # by AWS's size rule, acknowledged in this run
    seconds: float = 0.0  # this run
    earlier: int = 0  # acknowledged before this run
    by_code: dict[str, int] = field(default_factory=dict)  # the rejected

    @property
    def rate(self) -> float:
        """Entries acknowledged a second, in this run."""
        return (self.acknowledged - self.earlier) / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Outcome:
    """What one call, or one look at a record, settled."""

    lane: int | None  # None: for every destination
    acknowledged: Sequence[int] = ()
    rejected: Sequence[tuple[int, bytes, Failure]] = ()  # number, record or entry, why
    elsewhere: Sequence[int] = ()  # not for this destination
    bytes: int = 0
    retried: int = 0
    calls: int = 0


class Ledger:
    """The account, kept in memory and, when paths are given, in files. Safe to share between threads.

    ``destinations``: (region, bus) pairs. ``resume``: goes on where the progress file ends. Raises LedgerError when
    there is nothing to go on from, or when an unfinished sending would be forgotten (``restart`` forgets it).
    """

    def __init__(  # noqa: PLR0913 - two files, and what to do with what they hold
        self, destinations: Sequence[tuple[str, str]], rejected: Path | None = None, progress: Path | None = None, *,
        resume: bool = False, restart: bool = False, keep: int = 1 << 62,
    ) -> None:  # fmt: skip
        self.destinations = list(destinations)
        self.rejected, self.progress = rejected, progress
        self.summary = Summary()
        self.settled = [Ranges() for _ in destinations]
        self.refusals: list[dict[str, Any]] = []  # the first ``keep``, when there is no file for them
        self._keep = keep
        self._lock = threading.Lock()
        self._seen = self._crc = self._grown = 0
        self._marks: collections.deque[tuple[int, int]] = collections.deque()  # (records, CRC-32 of them)
        self._expected: tuple[int, int] | None = None  # (records, CRC-32) that a resumed input must begin with
        self.before: list[list[tuple[int, int]]] = [[] for _ in destinations]
        self._journal = self._refused = -1
        if progress:
            self._open(progress, resume=resume, restart=restart)
        if rejected and self._refused < 0:
            _keep_old(rejected)
            self._refused = os.open(rejected, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)

    # --- while sending ---------------------------------------------------------------------------------

    def saw(self, chunk: Chunk) -> None:
        """Notes that these records were read. Raises LedgerError when they are not those of the run that is resumed."""
        with self._lock:
            marks = []
            step = 1 if self._expected or not self._seen else MARK
            for at in range(0, len(chunk.records), step):
                part = chunk.records[at : at + step]
                self._seen, self._crc = self._seen + len(part), zlib.crc32(b"".join(part), self._crc)
                if self._expected and self._seen == self._expected[0]:
                    self._verify(self._expected[1])
                if step == MARK or self._seen == 1 or self._seen % MARK == 0:
                    marks.append((self._seen, self._crc))
            self.summary.records = self._seen
            if marks and not self._expected:
                self._marks.extend(marks)
                self._prune()
                self._note(" ".join(["c", *(f"{seen} {crc}" for seen, crc in marks)]))

    def _prune(self) -> None:
        """Of the checksums only the last one before the first gap says whether a resumed input is the same."""
        begin = min(one.begin() for one in self.settled)
        while len(self._marks) > 1 and self._marks[1][0] <= begin:
            self._marks.popleft()

    def _verify(self, crc: int) -> None:
        if self._crc != crc:
            raise LedgerError(
                "this is not the input that was being sent; nothing was sent", where=str(self.progress),
                advice="Give the same files in the same order, or --restart to forget the earlier run.",
            )  # fmt: skip
        self._expected = None

    def is_settled(self, lane: int, number: int) -> bool:
        """Whether an earlier run settled this record for this destination."""
        return is_in(self.before[lane], number)

    def settle(self, outcome: Outcome) -> None:
        """Notes what one call settled."""
        lanes = range(len(self.destinations)) if outcome.lane is None else (outcome.lane,)
        with self._lock:
            total = self.summary
            total.bytes += outcome.bytes
            total.retried += outcome.retried
            total.calls += outcome.calls
            total.acknowledged += len(outcome.acknowledged)
            for kind, numbers in (("a", outcome.acknowledged), ("-", outcome.elsewhere)):
                if numbers:
                    found = ranges_of(numbers)
                    self._add(lanes, found)
                    self._note(f"{kind} {outcome.lane} " + " ".join(f"{first}-{last}" for first, last in found))
            for number, record, failure in outcome.rejected:
                self._reject(number, outcome.lane, record, failure)
                self._add([lane for lane in lanes if not self.is_settled(lane, number)], [(number, number)])
                self._count_rejected(failure.code)
                self._note(f"r {'*' if outcome.lane is None else outcome.lane} {number} {failure.code}")

    def end(self) -> None:
        """The input ended, and all of it is settled. Raises LedgerError when a resumed input is too short."""
        if self._expected:
            raise LedgerError("the input ends before the place where it was interrupted", where=str(self.progress))
        with self._lock:
            if self._journal >= 0:
                self._rewrite()
                self._note("end")

    def close(self) -> None:
        """Closes the files; a file of rejects that holds none is removed."""
        for handle in (self._journal, self._refused):
            if handle >= 0:
                os.close(handle)
        self._journal = self._refused = -1
        if self.rejected and self.rejected.exists() and not self.rejected.stat().st_size:
            self.rejected.unlink()

    def open_records(self) -> list[tuple[int, int]]:
        """What was read and is not settled everywhere, as ranges of numbers counted from 0."""
        found = set()
        for ranges in self.settled:
            begin = 0
            for first, last in [*ranges.all(), (self._seen, self._seen)]:
                if begin < first:
                    found.add((begin, first - 1))
                begin = last + 1
        return sorted(found)

    def _add(self, lanes: Iterable[int], found: Iterable[tuple[int, int]]) -> None:
        for lane in lanes:
            for first, last in found:
                self.settled[lane].add(first, last)

    def _count_rejected(self, code: str) -> None:
        self.summary.rejected += 1
        self.summary.by_code[code] = self.summary.by_code.get(code, 0) + 1

    def _reject(self, number: int, lane: int | None, record: bytes, failure: Failure) -> None:
        note: dict[str, Any] = {"Code": failure.code, "Message": failure.message, "Record": number + 1}
        if lane is None:
            line: dict[str, Any] = {RAW: record.decode("utf-8", "surrogateescape")}
        else:
            line, note["Region"] = json.loads(record), self.destinations[lane][0]
        line[NOTE] = note
        if self._refused < 0:
            self.refusals.extend([line] if len(self.refusals) < self._keep else [])
        else:
            _write(self._refused, json.dumps(line).encode() + b"\n")

    def _note(self, line: str) -> None:
        if self._journal >= 0:
            self._grown += _write(self._journal, f"{line}\n".encode())
            if self._grown > REWRITE:
                self._rewrite()

    # --- the progress file -----------------------------------------------------------------------------

    def _open(self, progress: Path, *, resume: bool, restart: bool) -> None:
        progress.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(progress, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise LedgerError("another process is sending this input just now", where=str(progress)) from None
        lines = _whole_lines(handle)
        unfinished = any(line[:2] in ("a ", "r ", "t ") for line in lines) and lines[-1] != "end"
        if resume and not lines:
            os.close(handle)
            progress.unlink()
            raise LedgerError(
                "there is nothing to resume: no sending of this input to these buses began here", where=str(progress),
                advice="Send it without --resume.",
            )  # fmt: skip
        if unfinished and not resume and not restart:
            os.close(handle)
            raise LedgerError(
                "an earlier sending of this input was not finished; nothing was sent", where=str(progress),
                advice="--resume sends the rest; --restart sends everything again.",
            )  # fmt: skip
        self._journal = handle
        if resume:
            self._load(lines)
        self._rewrite()

    def _load(self, lines: list[str]) -> None:
        header = json.loads(lines[0])
        if [tuple(one) for one in header["destinations"]] != self.destinations:
            raise LedgerError("the earlier sending was for other buses", where=str(self.progress))
        for line in lines[1:]:
            kind, _, rest = line.partition(" ")
            if kind == "c":
                numbers = [int(one) for one in rest.split()]
                self._marks.extend(zip(numbers[::2], numbers[1::2], strict=True))
            elif kind == "t":
                totals = json.loads(rest)
                self.summary = Summary(**totals["summary"])
                for lane, found in enumerate(totals["settled"]):
                    self._add([lane], [(first, last) for first, last in found])
                self._marks.extend([tuple(totals["mark"])] if totals["mark"] else [])
            elif kind in ("a", "-", "r"):
                self._load_settled(kind, rest)
            self._prune()
        self.rejected = Path(header["rejected"]) if header["rejected"] else None
        if self.rejected:
            self._refused = os.open(self.rejected, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._load_last_rejected()
        self.before = [one.all() for one in self.settled]
        if self._marks and self._marks[0][0] <= min(one.begin() for one in self.settled):
            self._expected = self._marks[0]
        self._marks.clear()
        total = self.summary
        total.earlier, total.calls, total.retried, total.bytes, total.seconds = total.acknowledged, 0, 0, 0, 0.0

    def _load_settled(self, kind: str, rest: str) -> None:
        name, *texts = rest.split()
        if kind == "r":
            self._count_rejected(texts.pop())
        lanes = range(len(self.destinations)) if name == "*" else [int(name)]
        found = [(int(first), int(last or first)) for first, _, last in (text.partition("-") for text in texts)]
        self._add(lanes, found)
        if kind == "a":
            self.summary.acknowledged += sum(last - first + 1 for first, last in found)

    def _load_last_rejected(self) -> None:
        """The last line of rejected.ndjson may lack its note here: it is written first."""
        size = os.fstat(self._refused).st_size
        tail = os.pread(self._refused, TAIL, max(0, size - TAIL))
        whole = tail.rpartition(b"\n")[0]
        if tail and not tail.endswith(b"\n"):
            os.ftruncate(self._refused, size - len(tail) + len(whole) + bool(whole))
        last = whole.rpartition(b"\n")[2]
        with contextlib.suppress(ValueError, KeyError):
            line = json.loads(last)
            number = line[NOTE]["Record"] - 1
            pair = (line[NOTE].get("Region"), line.get("EventBusName"))
            lanes = [self.destinations.index(pair)] if pair in self.destinations else range(len(self.destinations))
            self.before = [one.all() for one in self.settled]
            if open_lanes := [lane for lane in lanes if not self.is_settled(lane, number)]:
                self._add(open_lanes, [(number, number)])
                self._count_rejected(line[NOTE]["Code"])

    def _rewrite(self) -> None:
        """The same account in two lines, written beside the file and put in its place; the lock goes along."""
        if self.progress is None:
            return
        header = {
            "destinations": self.destinations,
            "rejected": str(self.rejected.resolve()) if self.rejected else None,
        }
        lines = [json.dumps(header)]
        if any(one.begin() or one.all() for one in self.settled):
            totals = {
                "summary": asdict(self.summary), "settled": [one.all() for one in self.settled],
                "mark": self._expected or (self._marks[0] if self._marks else None),
            }  # fmt: skip
            lines.append("t " + json.dumps(totals))
        beside = self.progress.with_name(self.progress.name + ".new")
        handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        self._grown = 0
        _write(handle, "".join(f"{line}\n" for line in lines).encode())
        beside.replace(self.progress)
        os.close(self._journal)
        self._journal = handle


def _write(handle: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
    return len(data)


def _whole_lines(handle: int) -> list[str]:
    with os.fdopen(os.dup(handle), "rb") as file:
        file.seek(0)
        return [line.decode().rstrip("\n") for line in file if line.endswith(b"\n")]


def _keep_old(path: Path) -> None:
    """A file of an earlier run is never overwritten: it becomes path.1, path.2 and so on."""
    if path.exists() and path.stat().st_size:
        number = 1
        while (kept := path.with_name(f"{path.name}.{number}")).exists():
            number += 1
        path.rename(kept)
