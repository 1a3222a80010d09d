from __future__ import annotations

import json
import random
import zlib

import pytest

from eventstacks.bus.journal import Journal, JournalError, Row, reject
from eventstacks.errors import ErrorCode


@pytest.fixture
def files(tmp_path):
    return tmp_path / "progress.sqlite", tmp_path / "rejected.ndjson"


def crcs(count: int, first: int = 0) -> list[int]:
    return [zlib.crc32(b"%d" % number) for number in range(first, first + count)]


def acknowledged(*numbers: int) -> list[Row]:
    return [Row(number, zlib.crc32(b"%d" % number)) for number in numbers]


def rejected(number: int, record=None) -> Row:
    crc = zlib.crc32(b"%d" % number)
    return reject(number, crc, {} if record is None else record, "InvalidArgument", "no")


def code(call) -> ErrorCode:
    with pytest.raises(JournalError) as caught:
        call()
    return caught.value.code


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_journal_continues_where_it_ended(files):
    first = Journal(*files)
    first.read(crcs(300))
    first.record(acknowledged(*range(250)))
    first.record([*acknowledged(260), rejected(252, b"\xff"), rejected(251, {"Source": "a"})])
    first.close()
    again = Journal(*files, resume=True)
    total = again.summary
    assert (total.acknowledged, total.acknowledged_earlier, total.rejected) == (251, 251, 2)
    assert total.by_code == {"InvalidArgument": 2}
    settled = again.read(crcs(300))
    assert settled == {*range(250), 251, 252, 260}
    assert again.open_records() == [(250, 250), (253, 259), (261, 299)]
    again.record(acknowledged(299))
    assert again.open_records() == [(250, 250), (253, 259), (261, 298)]
    again.close()
    found = lines(files[1].with_name("rejected-2.ndjson"))  # all of the delivery
    assert [one["Rejected"]["Record"] for one in found] == [252, 253]
    assert (found[0]["Source"], found[1]["Raw"]) == ("a", "\udcff")


def test_records_are_read_in_any_portions(files):
    numbers = [number for number in range(3000) if number != 777]
    random.Random(1).shuffle(numbers)
    journal = Journal(*files)
    for number in numbers:
        journal.record([rejected(5)] if number == 5 else acknowledged(number))
    journal.close()
    again = Journal(*files, resume=True)
    unsettled = []
    for first in range(0, 3000, 100):
        unsettled += set(range(first, first + 100)) - again.read(crcs(100, first))
    assert (again.summary.acknowledged, again.summary.rejected, unsettled) == (2998, 1, [777])
    assert again.open_records() == [(777, 777)]


def test_an_interrupted_delivery_is_not_discarded(files):
    first = Journal(*files)
    first.record(acknowledged(0))
    assert code(lambda: Journal(*files, resume=True)) is ErrorCode.ALREADY_EXISTS  # locked
    first.close()
    assert code(lambda: Journal(*files)) is ErrorCode.ALREADY_EXISTS
    again = Journal(*files, resume=True)
    again.read(crcs(1))
    again.finish()
    again.close()
    assert Journal(*files).summary.acknowledged == 0  # complete: sent again from the start


def test_an_interrupted_delivery_that_was_complete_before_is_open(files):
    first = Journal(*files)
    first.finish()
    first.close()
    second = Journal(*files)
    second.record(acknowledged(0))
    second.close()
    assert code(lambda: Journal(*files)) is ErrorCode.ALREADY_EXISTS


def test_a_complete_delivery_that_grows_and_is_interrupted_is_open(files):
    first = Journal(*files)
    first.read(crcs(1))
    first.record(acknowledged(0))
    first.finish()
    first.close()
    second = Journal(*files, resume=True)
    second.read(crcs(3))
    second.record(acknowledged(1))
    second.close()
    assert code(lambda: Journal(*files)) is ErrorCode.ALREADY_EXISTS


@pytest.mark.parametrize("text", [b'{"id": 1}\n{"id": 2}\n' * 200, b"[]\n"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_file_that_is_not_a_journal_is_refused_and_kept(files, text, resume):
    files[0].write_bytes(text)
    assert code(lambda: Journal(*files, resume=resume)) is ErrorCode.JOURNAL_INVALID
    assert files[0].read_bytes() == text


def test_a_full_disk_is_an_error_of_the_journal(files):
    journal = Journal(*files)
    journal._database.execute("PRAGMA max_page_count = 1")
    rejects = [rejected(number, {"a": "x" * 5000}) for number in range(100)]
    assert code(lambda: journal.record(rejects)) is ErrorCode.JOURNAL_INVALID
    assert journal.summary.rejected == 0


@pytest.mark.parametrize("other", [[0, 1, 9], [9, 1, 2]])
def test_another_input_is_refused(files, other):
    first = Journal(*files)
    first.record(acknowledged(0, 2))
    first.close()
    again = Journal(*files, resume=True)
    found = [zlib.crc32(b"%d" % number) for number in other]
    assert code(lambda: again.read(found)) is ErrorCode.JOURNAL_INVALID


def test_an_input_may_have_another_end(files):
    first = Journal(*files)
    first.read(crcs(3))
    first.record(acknowledged(0))
    first.close()
    again = Journal(*files, resume=True)
    again.read(crcs(300))
    again.finish()


def test_a_shorter_input_is_an_error(files):
    first = Journal(*files)
    first.record(acknowledged(*range(250)))
    first.close()
    again = Journal(*files, resume=True)
    again.read(crcs(249))
    assert code(again.finish) is ErrorCode.JOURNAL_INVALID
    again.read(crcs(1, 249))
    again.finish()


def test_without_a_journal_nothing_is_resumed(files):
    assert code(lambda: Journal(*files, resume=True)) is ErrorCode.NOT_FOUND
    assert code(lambda: Journal(resume=True)) is ErrorCode.NOT_FOUND


def test_a_file_of_rejects_is_never_overwritten(files):
    files[1].write_text("earlier\n")
    first, second = Journal(*files), Journal(files[0].with_name("other"), files[1])
    for number, journal in enumerate((first, second)):
        journal.record([rejected(number)])
    first.close()
    second.close()
    assert files[1].read_text() == "earlier\n"
    found = [files[1].with_name(f"rejected-{number}.ndjson") for number in (2, 3)]
    assert [lines(one)[0]["Rejected"]["Record"] for one in found] == [1, 2]
    assert (first.rejected, second.rejected) == tuple(found)


def test_rejects_that_cannot_be_written_are_written_later(files):
    journal = Journal(*files)
    journal.rejected = files[0] / "not-a-folder"
    journal.record([rejected(0)])
    assert code(journal.close) is ErrorCode.JOURNAL_INVALID
    journal._database.close()
    Journal(files[0], files[1].parent / "new" / "rejected", resume=True).close()
    assert lines(files[1].parent / "new" / "rejected")[0]["Rejected"]["Record"] == 1


def test_without_rejects_there_is_no_file(files):
    journal = Journal(*files)
    journal.record(acknowledged(0))
    journal.close()
    assert not files[1].exists()


def test_a_journal_without_a_file():
    journal = Journal()
    journal.record([rejected(number) for number in range(5)])
    assert journal.summary.rejected == 5
    records = [json.loads(line)["Rejected"]["Record"] for line in journal.rejects()]
    assert records == [1, 2, 3, 4, 5]
    journal.close()
