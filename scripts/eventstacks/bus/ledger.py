"""The account of a sending: every record ends as acknowledged or as rejected, exactly one of them.

Two files keep it; each step is written before the next begins, so that SIGKILL takes nothing that was noted (a loss of
power may). ``rejected.ndjson`` holds what was refused; the progress file, a JSON object a line, what is settled:

    {"destinations": [["us-east-1", "orders"]], "rejected": "rejected.ndjson"}
    {"marks": [[100, 2774190512]]}      the first 100 records have this CRC-32
    {"lanes": [0], "acknowledged": [[0, 9]], "rejected": [[10, "MalformedDetail"]], "elsewhere": []}
                                        what became of records, counted from 0, that were for destination 0; elsewhere:
                                        they are not for it. What is rejected stands in rejected.ndjson already
    {"summary": {…}, "settled": […], "marks": […]}   all that stood before (the file is rewritten when it has grown)
    {"end": true}                       the input ended, and nothing is open

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
from typing import TYPE_CHECKING, Any, BinaryIO

from eventstacks.bus.entries import NOTE, RAW
from eventstacks.bus.ranges import Ranges, is_in, ranges_of
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from eventstacks.bus.calls import Failure
    from eventstacks.bus.records import Chunk

REWRITE = 4 * 1024 * 1024  # bytes of progress after which the file is rewritten short
MARK = 100  # records between two checksums of the input


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

    lanes: Sequence[int]  # the destinations that it is about
    acknowledged: Sequence[int] = ()
    rejected: Sequence[tuple[int, bytes, Failure]] = ()  # number, entry, why
    elsewhere: Sequence[int] = ()  # not for these destinations
    raw: bool = False  # what was rejected is a record that is no entry
    bytes: int = 0
    retried: int = 0
    calls: int = 0


class Ledger:
    """The account, kept in memory and, when paths are given, in files. Safe to share between threads.

    ``destinations``: (region, bus) pairs. ``resume``: goes on where the progress file ends. Raises LedgerError when
    there is nothing to go on from, or when an unfinished sending would be forgotten (``restart`` forgets it).
    """

    def __init__(  # noqa: PLR0913 - two files, and what to do with what they hold
        self,
        destinations: Sequence[tuple[str, str]],
        rejected: Path | None = None,
        progress: Path | None = None,
        *,
        resume: bool = False,
        restart: bool = False,
        keep: int = 1 << 62,
    ) -> None:
        for path in filter(None, (rejected, progress)):
            # Both are renamed and removed: root would lose its /dev/null, or its /dev/stdout that leads to a file.
            device = path.is_symlink() and path.absolute().is_relative_to("/dev")
            if path.exists() and (device or not path.is_file()):
                raise LedgerError(
                    "it is no file, but a device, a pipe or a folder",
                    where=str(path),
                    advice="Name a file. That of rejects is removed when there are none.",
                )
        self.destinations = list(destinations)
        self.rejected, self.progress = rejected, progress
        self.summary = Summary()
        self.settled = [Ranges() for _ in destinations]
        self.before: list[list[tuple[int, int]]] = [
            [] for _ in destinations
        ]  # what earlier runs settled
        self.refusals: list[
            dict[str, Any]
        ] = []  # the first ``keep``, when there is no file for them
        self._keep = keep
        self._lock = threading.Lock()
        self._seen = self._crc = self._grown = 0
        self._marks: collections.deque[list[int]] = collections.deque()  # [records, CRC-32 of them]
        self._expected: list[int] | None = None  # the mark that a resumed input must bear
        self._journal: BinaryIO | None = None
        self._refused: BinaryIO | None = None
        try:
            if progress:
                self._open(progress, resume=resume, restart=restart)
            elif rejected:
                self._hold(rejected)
        except BaseException:
            self.close()
            raise

    # --- while sending ---------------------------------------------------------------------------------

    def saw(self, chunk: Chunk) -> None:
        """Notes that these records were read. Raises LedgerError when they are not those of the run that is resumed."""
        marks = []
        with self._lock:
            for record in chunk.records:
                self._seen, self._crc = self._seen + 1, zlib.crc32(record, self._crc)
                if self._expected:
                    self._verify(self._expected)
                elif self._seen == 1 or self._seen % MARK == 0:
                    marks.append([self._seen, self._crc])
            self.summary.records = self._seen
            if marks:
                self._marks.extend(marks)
                self._prune()
                self._note({"marks": marks})

    def _prune(self) -> None:
        """Of the checksums only the last one before the first gap says whether a resumed input is the same."""
        begin = min(one.begin() for one in self.settled)
        while len(self._marks) > 1 and self._marks[1][0] <= begin:
            self._marks.popleft()

    def _verify(self, expected: list[int]) -> None:
        if self._seen == expected[0]:
            self._expected = None
            if self._crc != expected[1]:
                raise LedgerError(
                    "this is not the input that was being sent; nothing was sent",
                    where=str(self.progress),
                    advice="Give the same files in the same order, or --restart to forget the earlier run.",
                )

    def is_settled(self, lane: int, number: int) -> bool:
        """Whether an earlier run settled this record for this destination."""
        return is_in(self.before[lane], number)

    def settle(self, outcome: Outcome) -> None:
        """Notes what one call settled."""
        note: dict[str, Any] = {
            "lanes": list(outcome.lanes),
            "acknowledged": ranges_of(outcome.acknowledged),
            "rejected": [(number, failure.code) for number, _, failure in outcome.rejected],
            "elsewhere": ranges_of(outcome.elsewhere),
        }
        with self._lock:
            total = self.summary
            total.bytes += outcome.bytes
            total.retried += outcome.retried
            total.calls += outcome.calls
            for rejected in outcome.rejected:
                self._reject(outcome, *rejected)
            self._apply(**note)
            self._note(note)

    def end(self) -> None:
        """The input ended, and all of it is settled. Raises LedgerError when a resumed input is too short."""
        if self._expected:
            raise LedgerError(
                "the input ends before the place where it was interrupted", where=str(self.progress)
            )
        with self._lock:
            self._rewrite()
            self._note({"end": True})

    def close(self) -> None:
        """Closes the files; a file of rejects that holds none is removed, while nobody else can have it."""
        if self.rejected and self._refused and not os.fstat(self._refused.fileno()).st_size:
            self.rejected.unlink(missing_ok=True)
        for file in (self._journal, self._refused):
            if file:
                file.close()
        self._journal = self._refused = None

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

    def _apply(
        self,
        lanes: Sequence[int],
        acknowledged: Iterable[Sequence[int]] = (),
        rejected: Iterable[tuple[int, str]] = (),
        elsewhere: Iterable[Sequence[int]] = (),
    ) -> None:
        settled = [*acknowledged, *elsewhere, *((number, number) for number, _ in rejected)]
        for lane in lanes:
            self.settled[lane].extend(settled)
        self.summary.acknowledged += sum(last - first + 1 for first, last in acknowledged)
        for _, code in rejected:
            self.summary.rejected += 1
            self.summary.by_code[code] = self.summary.by_code.get(code, 0) + 1

    def _reject(self, outcome: Outcome, number: int, record: bytes, failure: Failure) -> None:
        note: dict[str, Any] = {
            "Code": failure.code,
            "Message": failure.message,
            "Record": number + 1,
        }
        if self.progress:
            note["Progress"] = str(self.progress.resolve())
        if outcome.raw:
            line: dict[str, Any] = {RAW: record.decode("utf-8", "surrogateescape"), NOTE: note}
        else:
            line = {
                **json.loads(record),
                NOTE: {**note, "Region": self.destinations[outcome.lanes[0]][0]},
            }
        if self._refused:
            _write(self._refused, line)
        elif len(self.refusals) < self._keep:
            self.refusals.append(line)

    def _note(self, note: dict[str, Any]) -> None:
        if self._journal:
            self._grown += _write(self._journal, note)
            if self._grown > REWRITE:
                self._rewrite()

    # --- the progress file -----------------------------------------------------------------------------

    def _open(self, progress: Path, *, resume: bool, restart: bool) -> None:
        progress.parent.mkdir(parents=True, exist_ok=True)
        self._journal = progress.open("a+b")
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LedgerError(
                "another process is sending this input just now", where=str(progress)
            ) from None
        _check(progress)
        begun = ended = False
        for note in () if restart else _notes(progress):
            begun, ended = begun or bool(note.keys() & {"lanes", "settled"}), "end" in note
        if begun and not ended and not resume:
            raise LedgerError(
                "an earlier sending of this input was not finished; nothing was sent",
                where=str(progress),
                advice="--resume sends the rest; --restart sends everything again.",
            )
        if resume:
            self._load(progress)
        elif self.rejected:
            self._hold(self.rejected)
        self._rewrite()

    def _hold(self, path: Path, *, resume: bool = False) -> None:
        """Opens the file of rejects, for this sending alone; one of an earlier run, unless resumed, is kept beside."""
        advice = "Wait until it has ended." if resume else "Name another file: --rejected FILE."
        while not self._refused:
            file = path.open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise LedgerError(
                    "another sending writes its rejects there just now",
                    where=str(path),
                    advice=advice,
                ) from None
            except OSError:  # a file system without locks
                pass
            # Who had it until now may have removed it, or put it aside, after it was opened here.
            if _is_at(file, path) and (resume or not _keep_old(path)):
                self._refused = file
            else:
                file.close()

    def _load(self, progress: Path) -> None:
        notes = _notes(progress)
        header = next(notes, None)
        if header is None:
            progress.unlink()
            raise LedgerError(
                "there is nothing to resume: no sending of this input to these buses began here",
                where=str(progress),
                advice="Send it without --resume.",
            )
        if [tuple(one) for one in header["destinations"]] != self.destinations:
            raise LedgerError("the earlier sending was for other buses", where=str(progress))
        for note in notes:
            self._marks.extend(note.get("marks", ()))
            if "lanes" in note:
                self._apply(**note)
            elif "summary" in note:
                self.summary = Summary(**note["summary"])
                for ranges, found in zip(self.settled, note["settled"], strict=True):
                    ranges.extend(found)
            self._prune()
        self.before = [one.all() for one in self.settled]
        self.rejected = Path(header["rejected"]) if header["rejected"] else None
        if self.rejected:
            self._hold(self.rejected, resume=True)
            self._load_rejected(self.rejected, str(progress.resolve()))
        if self._marks and self._marks[0][0] <= min(one.begin() for one in self.settled):
            self._expected = self._marks[0]
        self._marks.clear()
        total = self.summary
        total.earlier, total.calls, total.retried, total.bytes, total.seconds = (
            total.acknowledged,
            0,
            0,
            0,
            0.0,
        )

    def _load_rejected(self, path: Path, progress: str) -> None:
        """The last lines of rejected.ndjson may lack their note in the progress file: they are written first.

        Those of another sending, which wrote there since, are its own.
        """
        size = 0
        with path.open("r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    file.truncate(size)
                    return
                size += len(line)
                try:
                    record = json.loads(line)
                    note = record[NOTE]
                    if note.get("Progress", progress) == progress:
                        self._settle_rejected(
                            note["Record"] - 1,
                            note["Code"],
                            note.get("Region"),
                            record.get("EventBusName"),
                        )
                except (ValueError, KeyError, TypeError):  # somebody wrote into it
                    continue

    def _settle_rejected(self, number: int, code: str, region: str | None, bus: str | None) -> None:
        lanes = [
            lane
            for lane, one in enumerate(self.destinations)
            if region in (None, one[0]) and not self.is_settled(lane, number)
        ]
        if region and (own := [lane for lane in lanes if self.destinations[lane][1] == bus]):
            lanes = own[:1]
        if lanes:
            self._apply(lanes, rejected=[(number, code)])
            self.before = [one.all() for one in self.settled]

    def _rewrite(self) -> None:
        """The same account in two lines, written beside the file and put in its place; the lock goes along."""
        if self._journal is None or self.progress is None:
            return
        beside = self.progress.with_name(self.progress.name + ".new")
        file = beside.open("wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        rejected = str(self.rejected.resolve()) if self.rejected else None
        _write(file, {"destinations": self.destinations, "rejected": rejected})
        if any(one.all() for one in self.settled):
            marks = [self._expected] if self._expected else list(self._marks)[:1]
            settled = [one.all() for one in self.settled]
            _write(file, {"summary": asdict(self.summary), "settled": settled, "marks": marks})
        beside.replace(self.progress)
        self._journal.close()
        self._journal, self._grown = file, 0


def _write(file: BinaryIO, value: Any) -> int:
    line = json.dumps(value).encode() + b"\n"
    file.write(line)
    file.flush()
    return len(line)


def _check(path: Path) -> None:
    """Raises LedgerError for a file that somebody named by mistake: it would be overwritten."""
    with path.open("rb") as file:
        line = file.readline()
    with contextlib.suppress(ValueError):
        header = json.loads(line) if line else {"destinations": []}
        if (
            isinstance(header, dict)
            and "destinations" in header
            and header.keys() <= {"destinations", "rejected"}
        ):
            return
    raise LedgerError(
        "this is no progress file; nothing was sent",
        where=str(path),
        advice="Name another one, or remove it.",
    )


def _notes(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a progress file; the last one is left out when it was cut."""
    try:
        with path.open("rb") as file:
            yield from (dict(json.loads(line)) for line in file if line.endswith(b"\n"))
    except (ValueError, TypeError):
        raise LedgerError(
            "this progress file is damaged",
            where=str(path),
            advice="--restart forgets it, and sends everything.",
        ) from None


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _keep_old(path: Path) -> bool:
    """A file of an earlier run is never overwritten: it becomes path.1, path.2 and so on. Gives whether it did."""
    if not path.stat().st_size:
        return False
    number = 1
    while (kept := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    path.rename(kept)
    return True
