from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import stat
from pathlib import Path

import pytest

from eventstacks.bus import ledger as ledgers
from eventstacks.bus.calls import Failure
from eventstacks.bus.ledger import Ledger, LedgerError, Outcome
from eventstacks.bus.ranges import Ranges
from eventstacks.bus.records import Chunk

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
    assert (again.summary.acknowledged, again.summary.earlier, again.summary.rejected) == (
        251,
        251,
        2,
    )
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
    files[1].write_text(
        "".join(lines) + '{"lanes": [0]'
    )  # killed between the two, and within a write
    with files[0].open("a") as rejected:
        rejected.write('{"half": ')
    again = Ledger(BUS, *files, resume=True)
    assert (again.summary.acknowledged, again.summary.rejected) == (5, 1)
    again.close()
    assert [
        json.loads(line)["Rejected"]["Record"] for line in files[0].read_text().splitlines()
    ] == [6]
    assert Ledger(BUS, *files, resume=True).summary.rejected == 1


def test_the_file_does_not_grow_without_end(files, monkeypatch):
    monkeypatch.setattr(ledgers, "REWRITE", 2000)
    ledger = Ledger(BUS, *files)
    for first in range(0, 10_000, 10):
        ledger.saw(Chunk(first, [b"%d" % number for number in range(first, first + 10)]))
        ledger.settle(
            Outcome((0,), [number for number in range(first, first + 10) if number != 4321])
        )
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


def test_rejects_of_another_sending_are_its_own(files):
    first = Ledger(BUS, *files)
    first.settle(Outcome((0,), range(3)))
    first.settle(Outcome((0,), rejected=[(3, b"{}", GONE)]))
    first.close()
    other = Ledger(BUS, files[0], files[1].with_name("other"))
    other.settle(Outcome((0,), rejected=[(5, b"{}", GONE)]))
    other.close()
    again = Ledger(BUS, *files, resume=True)
    assert [number for number in range(7) if not again.is_settled(0, number)] == [4, 5, 6]
    assert again.summary.rejected == 1


def test_two_sendings_side_by_side_do_not_write_their_rejects_into_one_file(files):
    first = Ledger(BUS, *files)
    first.close()
    resumed = Ledger(BUS, *files, resume=True)
    progress = files[1].with_name("other")
    with pytest.raises(
        LedgerError, match=r"(?s)another sending writes its rejects there .*--rejected FILE"
    ):
        Ledger(BUS, files[0], progress)
    resumed.settle(Outcome((0,), rejected=[(0, b"{}", GONE)]))
    with pytest.raises(LedgerError, match="another sending writes its rejects there"):
        Ledger(BUS, files[0], progress, restart=True)
    resumed.close()
    other = Ledger(BUS, files[0], progress)
    with pytest.raises(LedgerError, match="another sending writes its rejects there"):
        Ledger(BUS, *files, resume=True)
    other.settle(Outcome((0,), rejected=[(1, b"{}", GONE)]))
    other.close()
    kept = (files[0].with_name("rejected.ndjson.1"), files[0])
    assert [json.loads(one.read_text())["Rejected"]["Record"] for one in kept] == [1, 2]


@pytest.mark.parametrize("taken", ["removed", "put aside"])
def test_a_file_of_rejects_that_was_taken_away_in_the_moment_of_opening_is_made_again(
    files, monkeypatch, taken
):
    lock, locked = fcntl.flock, []

    def late(file, how):
        lock(file, how)
        if not locked:
            locked.append(file)
            files[0].unlink() if taken == "removed" else files[0].rename(
                files[0].with_name("aside")
            )

    monkeypatch.setattr(fcntl, "flock", late)
    ledger = Ledger(BUS, files[0])
    ledger.settle(Outcome((0,), rejected=[(0, b"{}", GONE)]))
    ledger.close()
    assert json.loads(files[0].read_text())["Rejected"]["Record"] == 1


def test_a_file_system_without_locks_is_good_enough_for_rejects(files, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    ledger = Ledger(BUS, files[0])
    ledger.settle(Outcome((0,), rejected=[(0, b"{}", GONE)]))
    ledger.close()
    assert json.loads(files[0].read_text())["Rejected"]["Record"] == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 1}\n{"id": 2}\n',
        "[]\n",
        "1\n",
        "name;price\n",
        '{"destinations": []',
        '{"destinations": [], "id": 1}\n',
    ],
)
@pytest.mark.parametrize("how", [{}, {"resume": True}, {"restart": True}])
def test_a_file_that_is_no_progress_file_is_refused_and_stays(files, text, how):
    files[1].write_text(text)
    with pytest.raises(LedgerError, match="this is no progress file; nothing was sent"):
        Ledger(BUS, *files, **how)
    assert files[1].read_text() == text
    assert not files[0].exists()


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


def test_what_dev_stdout_leads_to_is_a_device_though_it_is_a_file(files):
    with (
        files[0].open("w") as file,
        pytest.raises(LedgerError, match="it is no file, but a device"),
    ):
        Ledger(BUS, Path(f"/dev/fd/{file.fileno()}"))
