from __future__ import annotations

import json
import os
import random
import sqlite3

import pytest

from eventstacks.bus import journal as journals
from eventstacks.bus.journal import Journal, JournalError, Result
from eventstacks.bus.put_events import Failure
from eventstacks.bus.records import Chunk
from eventstacks.errors import ErrorCode

BUS = [("us-east-1", "orders")]
INVALID = Failure("InvalidArgument", "no")


@pytest.fixture
def files(tmp_path):
    return tmp_path / "progress.sqlite", tmp_path / "rejected.ndjson"


def records(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def rejected(number: int, body: bytes = b"{}", destination: int = 0) -> Result:
    return Result([destination], rejected=[(number, body, INVALID)])


def code(call) -> ErrorCode:
    with pytest.raises(JournalError) as caught:
        call()
    return caught.value.code


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_journal_continues_where_it_ended(files):
    first = Journal(BUS, *files)
    first.record_read(Chunk(0, records(300)))
    first.record([Result([0], range(250), calls=25)])
    first.record([Result([0], [260], rejected=[(251, b"{}", INVALID)])])
    first.record([Result([0], rejected=[(252, b"\xff", INVALID)], is_entry=False)])
    first.close()
    again = Journal(BUS, *files, resume=True)
    total = again.summary
    assert (total.acknowledged, total.acknowledged_earlier, total.rejected) == (251, 251, 2)
    assert total.by_code == {"InvalidArgument": 2}
    unsettled = [number for number in range(300) if not again.is_settled(0, number)]
    assert unsettled == [250, *range(253, 260), *range(261, 300)]
    again.record_read(Chunk(0, records(300)))
    assert again.open_records() == [(250, 250), (253, 259), (261, 299)]
    again.close()
    assert [one["Rejected"]["Record"] for one in lines(files[1])] == [252, 253]
    assert lines(files[1])[1]["Raw"] == "\udcff"


@pytest.mark.parametrize("text", ["", '{"half": ', '{"Rejected": {"Record": 9}}\n'])
def test_the_file_of_rejects_is_written_again_from_the_journal(files, text):
    first = Journal(BUS, *files)
    first.record([rejected(5)])
    first.close()
    if text:
        with files[1].open("a") as file:
            file.write(text)
    else:
        files[1].unlink()
    for _ in "ab":
        Journal(BUS, *files, resume=True).close()
        assert [one["Rejected"]["Record"] for one in lines(files[1])] == [6]
    assert not files[1].with_name("rejected.ndjson.1").exists()


def test_rows_are_merged(files, monkeypatch):
    monkeypatch.setattr(journals, "MERGE_AFTER", 100)
    journal, numbers = Journal(BUS, *files), [number for number in range(3000) if number != 777]
    random.Random(1).shuffle(numbers)
    for number in numbers:
        journal.record([rejected(number) if number == 5 else Result([0], [number])])
    journal.record_read(Chunk(0, records(3000)))
    assert journal.open_records() == [(777, 777)]
    journal.close()
    database = sqlite3.connect(files[0])
    assert database.execute("SELECT count(*) FROM results").fetchone()[0] <= 201
    database.close()
    again = Journal(BUS, *files, resume=True)
    assert (again.summary.acknowledged, again.summary.rejected) == (2998, 1)
    assert [number for number in range(3000) if not again.is_settled(0, number)] == [777]


def test_an_interrupted_delivery_is_not_discarded_without_being_asked(files):
    first = Journal(BUS, *files)
    first.record([Result([0], [0])])
    assert code(lambda: Journal(BUS, *files, resume=True)) is ErrorCode.ALREADY_EXISTS  # locked
    first.close()
    assert code(lambda: Journal(BUS, *files)) is ErrorCode.ALREADY_EXISTS
    restarted = Journal(BUS, *files, restart=True)
    assert restarted.summary.acknowledged == 0
    restarted.finish()
    restarted.close()
    Journal(BUS, *files).close()


@pytest.mark.parametrize(
    "text", [b'{"id": 1}\n{"id": 2}\n' * 200, b"[]\n", b"x", b"SQLite format 3\0" + b"\0" * 4000]
)
@pytest.mark.parametrize("how", [{}, {"resume": True}, {"restart": True}])
def test_a_file_that_is_not_a_journal_is_refused_and_kept(files, text, how):
    files[0].write_bytes(text)
    assert code(lambda: Journal(BUS, *files, **how)) is ErrorCode.JOURNAL_INVALID
    assert files[0].read_bytes() == text
    assert not files[1].exists()


def test_the_database_of_another_program_is_refused_and_kept(files):
    database = sqlite3.connect(files[0])
    database.execute("CREATE TABLE settings (mine TEXT)")
    database.close()
    before = files[0].read_bytes()
    assert code(lambda: Journal(BUS, *files, restart=True)) is ErrorCode.JOURNAL_INVALID
    assert files[0].read_bytes() == before


def test_a_full_disk_is_an_error_of_the_journal(files):
    journal = Journal(BUS, *files)
    journal._database.execute("PRAGMA max_page_count = 1")
    rejects = [rejected(number, b'{"a": "%s"}' % (b"x" * 5000)) for number in range(100)]
    assert code(lambda: journal.record(rejects)) is ErrorCode.JOURNAL_INVALID


def test_a_record_rejected_for_one_destination_is_open_for_the_others(files):
    buses = [("us-east-1", "orders"), ("eu-west-1", "orders")]
    first = Journal(buses, *files)
    first.record([Result([0], [0]), rejected(0, destination=1), rejected(1, destination=1)])
    first.close()
    again = Journal(buses, *files, resume=True)
    settled = [[again.is_settled(at, number) for number in (0, 1)] for at in (0, 1)]
    assert settled == [[True, False], [True, True]]
    assert (again.summary.acknowledged, again.summary.rejected) == (1, 2)
    assert [one["Rejected"]["Region"] for one in again.rejects()] == ["eu-west-1", "eu-west-1"]


def test_a_record_that_is_not_an_entry_has_one_line_for_all_destinations(files):
    journal = Journal([("us-east-1", "a"), ("us-east-1", "b")], *files)
    journal.record([Result([0, 1], rejected=[(0, b"x", INVALID)], is_entry=False)])
    journal.close()
    assert (journal.summary.rejected, len(lines(files[1]))) == (2, 1)


def test_other_destinations_are_refused(files):
    first = Journal(BUS, *files)
    first.record([Result([0], [0])])
    first.close()
    other = [("us-east-1", "other")]
    assert code(lambda: Journal(other, *files, resume=True)) is ErrorCode.JOURNAL_INVALID


def test_another_input_is_refused_before_anything_is_sent(files):
    first = Journal(BUS, *files)
    first.record_read(Chunk(0, records(3)))
    first.record([Result([0], [0])])
    first.close()
    again = Journal(BUS, *files, resume=True)
    other = Chunk(0, [*records(2), b"other"])
    assert code(lambda: again.record_read(other)) is ErrorCode.JOURNAL_INVALID


def test_an_input_may_have_another_end(files):
    first = Journal(BUS, *files)
    first.record_read(Chunk(0, records(3)))
    first.record([Result([0], [0])])
    first.close()
    again = Journal(BUS, *files, resume=True)
    again.record_read(Chunk(0, records(300)))
    again.finish()


def test_a_shorter_input_is_an_error(files):
    first = Journal(BUS, *files)
    first.record_read(Chunk(0, records(300)))
    first.record([Result([0], range(250))])
    first.close()
    again = Journal(BUS, *files, resume=True)
    again.record_read(Chunk(0, records(249)))
    assert code(again.finish) is ErrorCode.JOURNAL_INVALID
    again.record_read(Chunk(249, [b"249"]))
    again.finish()


def test_without_a_journal_nothing_is_resumed(files):
    assert code(lambda: Journal(BUS, *files, resume=True)) is ErrorCode.NOT_FOUND


def test_deliveries_at_the_same_time_keep_each_others_rejects(files):
    first, second = Journal(BUS, *files), Journal(BUS, files[0].with_name("other"), files[1])
    for number, journal in enumerate((first, second)):
        journal.record([rejected(number)])
    first.close()
    second.close()
    kept = (files[1].with_name("rejected.ndjson.1"), files[1])
    assert [lines(one)[0]["Rejected"]["Record"] for one in kept] == [1, 2]


def test_rejects_of_an_earlier_delivery_are_kept(files):
    files[1].write_text("earlier\n")
    Journal(BUS, *files).close()
    assert not files[1].exists()
    assert files[1].with_name("rejected.ndjson.1").read_text() == "earlier\n"


def test_resume_does_not_overwrite_the_rejects_of_another_delivery(files):
    first = Journal(BUS, *files)
    first.record([rejected(0)])
    first.close()
    files[1].write_text("other\n")
    Journal(BUS, *files, resume=True).close()
    assert lines(files[1])[0]["Rejected"]["Record"] == 1
    assert files[1].with_name("rejected.ndjson.1").read_text() == "other\n"


@pytest.mark.parametrize("which", ["rejected", "path"])
def test_a_pipe_is_refused(tmp_path, which):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert code(lambda: Journal(BUS, **{which: pipe})) is ErrorCode.JOURNAL_INVALID


def test_a_journal_in_memory_keeps_some_rejects():
    journal = Journal(BUS, keep=3)
    journal.record(rejected(number) for number in range(5))
    assert journal.summary.rejected == 5
    assert [one["Rejected"]["Record"] for one in journal.rejects()] == [1, 2, 3]
