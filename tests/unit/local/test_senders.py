"""When a schedule is due, and how a pipe reads its stream, without a server."""

import os
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

os.environ.setdefault("BIND_HOST", "127.0.0.1")  # MiniStack reads it when it is imported

from eventstacks.local import senders
from eventstacks.local.ministack import AwsError

CREATED = "2026-03-28T12:00:30+00:00"


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def runs(expression, count, zone="UTC", **properties):
    """The first runs of a schedule, as wall-clock times of its zone."""
    schedule = {
        "ScheduleExpression": expression,
        "ScheduleExpressionTimezone": zone,
        "CreationDate": datetime.fromisoformat(CREATED).timestamp(),
        **properties,
    }
    found, last = [], None
    while len(found) < count:
        last = senders.occurrence(schedule, last)
        if last is None:
            break
        found.append(datetime.fromtimestamp(last, ZoneInfo(zone)).strftime("%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # A rate without a start date begins at once.
        ("rate(90 minutes)", ["03-28 12:00:30", "03-28 13:30:30", "03-28 15:00:30"]),
        ("rate(1 day)", ["03-28 12:00:30", "03-29 12:00:30", "03-30 12:00:30"]),
        ("cron(15 10 * * ? *)", ["03-29 10:15:00", "03-30 10:15:00", "03-31 10:15:00"]),
        ("cron(0 8 ? * MON-FRI *)", ["03-30 08:00:00", "03-31 08:00:00", "04-01 08:00:00"]),
        # Once, also if its time has passed.
        ("at(2026-03-28T13:00:00)", ["03-28 13:00:00"]),
        ("at(2026-03-01T13:00:00)", ["03-01 13:00:00"]),
    ],
)
def test_expressions(expression, expected):
    assert runs(expression, 3) == expected


def test_cron_and_at_are_in_the_time_zone_of_the_schedule():
    assert runs("at(2026-03-28T18:00:00)", 2, "Europe/Berlin") == ["03-28 18:00:00"]
    schedule = {
        "ScheduleExpression": "cron(0 8 * * ? *)",
        "ScheduleExpressionTimezone": "Asia/Tokyo",
        "CreationDate": at("2026-03-28T12:00:30"),
    }
    assert senders.occurrence(schedule, None) == at("2026-03-28T23:00:00")


def test_a_run_in_an_hour_that_daylight_saving_time_skips_is_an_hour_later():
    found = runs("cron(30 2 * * ? *)", 2, "Europe/Berlin")
    assert found == [
        "03-29 03:30:00",  # on 29 March 2026 the clock goes from 2 to 3
        "03-30 02:30:00",
    ]


def test_an_hour_that_is_repeated_has_one_run():
    created = at("2026-10-24T12:00:00")
    found = runs("cron(30 2 * * ? *)", 3, "Europe/Berlin", CreationDate=created)
    assert found == ["10-25 02:30:00", "10-26 02:30:00", "10-27 02:30:00"]


def test_start_and_end_limit_the_runs():
    limits = {"StartDate": "2026-03-28T14:00:00Z", "EndDate": "2026-03-28T16:30:00Z"}
    assert runs("rate(1 hour)", 9, **limits) == [
        "03-28 14:00:00",
        "03-28 15:00:00",
        "03-28 16:00:00",
    ]
    assert runs("cron(0 * * * ? *)", 9, **limits) == [
        "03-28 14:00:00",
        "03-28 15:00:00",
        "03-28 16:00:00",
    ]


@pytest.fixture
def due(monkeypatch):
    """due(schedule, *moments): the scheduled times of the runs at each of these moments."""
    ran = []
    monkeypatch.setattr(senders, "_last_runs", {})
    monkeypatch.setattr(senders, "run", lambda _schedule, moment: ran.append(moment))

    def look(schedule, *moments):
        place = ("000000000000", "eu-central-1", "default/x")
        found = []
        for moment in moments:
            ran.clear()
            senders.scheduler._schedules._data[place] = schedule
            senders.run_due(None, moment)
            found.append(list(ran))
        del senders.scheduler._schedules._data[place]
        return found

    return look


def schedule(**more):
    given = {"Arn": "arn", "ScheduleExpression": "rate(1 minute)", "CreationDate": 1000.0}
    return {**given, "State": "ENABLED", **more}


def test_each_run_happens_once_at_its_time(due):
    assert due(schedule(), 999, 1000, 1030, 1061, 1062) == [[], [1000.0], [], [1060.0], []]


def test_a_disabled_schedule_does_not_make_up_for_its_runs(due):
    paused = schedule(State="DISABLED")
    assert due(paused, 1000, 1060, 1120) == [[], [], []]
    assert due(schedule(), 1130, 1180) == [[], [1180.0]]


def test_a_schedule_that_was_created_again_begins_again(due):
    assert due(schedule(), 1000) == [[1000.0]]
    assert due(schedule(CreationDate=1030.0), 1030) == [[1030.0]]


@pytest.mark.parametrize(
    "wrong",
    [{"ScheduleExpression": "cron(x)"}, {"ScheduleExpressionTimezone": "Moon/Base"}],
)
def test_an_expression_that_is_not_valid_is_refused(wrong):
    right = {"ScheduleExpression": "rate(1 hour)", "ScheduleExpressionTimezone": "Asia/Tokyo"}
    assert senders.check_schedule(lambda name, _body: name, "x", right) == "x"
    status, _, body = senders.check_schedule(None, "x", right | wrong)
    assert status == 400
    assert b"Invalid Schedule Expression" in body


@pytest.fixture
def deliver(monkeypatch):
    """deliver(batch, fails, retries): what is left undone, what was sent and what was given up."""
    pipe, sent, given_up = {"Arn": "pipe", "RoleArn": "role", "Source": "stream"}, [], []
    monkeypatch.setattr(senders, "role_allows", lambda *_: True)
    monkeypatch.setattr(senders.pipes, "_positions", {"pipe": 0})
    monkeypatch.setattr(senders, "give_up_record", lambda _, record, __: given_up.append(record))

    def run(batch, fails, retries):
        def send(_pipe, record):
            if record in fails:
                raise AwsError("code", "text")
            sent.append(record)

        monkeypatch.setattr(senders, "send_record", send)
        limits = {"MaximumRetryAttempts": retries}
        pipe["SourceParameters"] = {senders.STREAM: limits}
        records = [
            one | {"dynamodb": {"ApproximateCreationDateTime": 0}}
            for one in ({"n": n} for n in batch)
        ]
        fails = [one for one in records if one["n"] in fails]
        is_done = senders.deliver_batch(None, pipe, records)
        position = senders.pipes._positions["pipe"]
        return is_done, position, [one["n"] for one in sent], [one["n"] for one in given_up]

    return run


def test_a_pipe_continues_at_the_record_that_failed(deliver):
    assert deliver([1, 2, 3], {2}, -1) == (False, 1, [1], [])
    assert deliver([2, 3], {}, -1) == (True, 3, [1, 2, 3], [])


def test_a_pipe_tries_each_record_as_often_as_it_may(deliver):
    for is_last, given_up in ((False, []), (True, [1])):
        assert deliver([1], {1}, 1) == (is_last, int(is_last), [], given_up)
    for is_last, given_up in ((False, [1]), (True, [1, 2])):  # the next record starts at zero
        assert deliver([2], {2}, 1) == (is_last, 1 + is_last, [], given_up)
