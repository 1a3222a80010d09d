from __future__ import annotations

import json
import os
import random
import stat

import pytest

from scripts.events import ledger as ledgers
from scripts.events.calls import Failure
from scripts.events.ledger import Ledger, LedgerError, Outcome
from scripts.events.ranges import Ranges
from scripts.events.records import Chunk

BUS = [("us-east-1", "orders")]
GONE = Failure("InvalidArgument", "no", passing=False)


def test_ranges_merge():
    ranges, numbers = Ranges(), list(range(200))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        if number != 77:
            ranges.add(number, number)
    assert ranges.all() == [(0, 76), (78, 199)]
    assert ranges.begin() == 77


@pytest.fixture
def files(tmp_path):
    return tmp_path / "rejected.ndjson", tmp_path / "progress"


def records(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def test_an_account_goes_on_where_it_ended(files):
    first = Ledger(BUS, *files)
    first.saw(Chunk(0, records(300)))
    first.settle(Outcome((0,), range(250), calls=25))
    first.settle(Outcome((0,), [260], rejected=[(251, b"{}", GONE)]))
    first.settle(Outcome((0,), rejected=[(252, b"\xff", GONE)], raw=True))
    first.close()
    again = Ledger(BUS, *files, resume=True)
    assert (again.summary.acknowledged, again.summary.earlier, again.summary.rejected) == (251, 251, 2)
    assert again.summary.by_code == {"InvalidArgument": 2}
    assert [number for number in range(300) if not again.is_settled(0, number)] == [
        250,
        *range(253, 260),
        *range(261, 300),
    ]
    again.saw(Chunk(0, records(300)))
    assert again.open_records() == [(250, 250), (253, 259), (261, 299)]


def test_a_line_of_rejects_without_its_note_is_counted(files):
    first = Ledger(BUS, *files)
    first.settle(Outcome((0,), range(5)))
    first.settle(Outcome((0,), rejected=[(5, b"{}", GONE)]))
    first.close()
    lines = files[1].read_text().splitlines(keepends=True)
    assert json.loads(lines.pop())["rejected"] == [[5, "InvalidArgument"]]
    files[1].write_text("".join(lines) + '{"lanes": [0]')  # killed between the two, and within a write
    with files[0].open("a") as rejected:
        rejected.write('{"half": ')
    again = Ledger(BUS, *files, resume=True)
    assert (again.summary.acknowledged, again.summary.rejected) == (5, 1)
    again.close()
    assert [json.loads(line)["Rejected"]["Record"] for line in files[0].read_text().splitlines()] == [6]
    assert Ledger(BUS, *files, resume=True).summary.rejected == 1


def test_the_file_does_not_grow_without_end(files, monkeypatch):
    monkeypatch.setattr(ledgers, "REWRITE", 2000)
    ledger = Ledger(BUS, *files)
    for first in range(0, 10_000, 10):
        ledger.saw(Chunk(first, [b"%d" % number for number in range(first, first + 10)]))
        ledger.settle(Outcome((0,), [number for number in range(first, first + 10) if number != 4321]))
        assert files[1].stat().st_size < 3000
    ledger.close()
    again = Ledger(BUS, *files, resume=True)
    assert again.summary.acknowledged == 9999
    assert [number for number in range(10_000) if not again.is_settled(0, number)] == [4321]
    with pytest.raises(LedgerError, match="not the input"):
        again.saw(Chunk(0, [b"other"] * 10_000))


def test_what_is_unfinished_is_not_forgotten_unasked(files):
    first = Ledger(BUS, *files)
    first.settle(Outcome((0,), [0]))
    with pytest.raises(LedgerError, match="another process"):
        Ledger(BUS, *files, resume=True)
    first.close()
    with pytest.raises(LedgerError, match="was not finished"):
        Ledger(BUS, *files)
    restarted = Ledger(BUS, *files, restart=True)
    assert restarted.summary.acknowledged == 0
    restarted.end()
    restarted.close()
    Ledger(BUS, *files).close()


def test_a_damaged_file_is_said_and_can_be_forgotten(files):
    files[1].write_bytes(b'{"destinations": []}\n\0\0\0\n')
    for resume in (False, True):
        with pytest.raises(LedgerError, match="damaged"):
            Ledger(BUS, *files, resume=resume)
    Ledger(BUS, *files, restart=True).close()


def test_a_record_refused_for_some_destinations_leaves_the_others(files):
    buses = [("us-east-1", "orders"), ("eu-west-1", "orders")]
    first = Ledger(buses, *files)
    first.settle(Outcome((0,), [0]))
    first.settle(Outcome((1,), rejected=[(0, b'{"EventBusName": "orders"}', GONE)]))
    first.settle(Outcome((1,), rejected=[(1, b'{"EventBusName": "orders"}', GONE)]))
    first.close()
    lines = files[1].read_text().splitlines(keepends=True)
    files[1].write_text("".join(lines[:-1]))  # killed before the last note
    again = Ledger(buses, *files, resume=True)
    settled = [[again.is_settled(lane, number) for number in (0, 1)] for lane in (0, 1)]
    assert settled == [[True, False], [True, True]]
    assert (again.summary.acknowledged, again.summary.rejected) == (1, 2)


def test_nothing_to_resume_is_said(files):
    with pytest.raises(LedgerError, match="nothing to resume"):
        Ledger(BUS, *files, resume=True)
    assert not files[1].exists()


def test_a_shorter_input_is_an_error(files):
    first = Ledger(BUS, *files)
    first.saw(Chunk(0, records(300)))
    first.settle(Outcome((0,), range(250)))
    first.close()
    again = Ledger(BUS, *files, resume=True)
    again.saw(Chunk(0, records(150)))
    with pytest.raises(LedgerError, match="the input ends before"):
        again.end()


def test_rejects_of_an_earlier_run_are_kept(files):
    files[0].write_text("earlier\n")
    Ledger(BUS, files[0]).close()
    assert not files[0].exists()
    assert files[0].with_name("rejected.ndjson.1").read_text() == "earlier\n"


@pytest.mark.parametrize("which", ["rejected", "progress"])
def test_a_device_is_no_file_and_stays(tmp_path, which):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(LedgerError, match="it is no file"):
        Ledger(BUS, **{which: pipe})
    assert stat.S_ISFIFO(pipe.stat().st_mode)
