"""The function that copies snapshots, against RDS in memory (tests/helpers/fake_rds.py)."""

import importlib.util
import json
import random
import re
import sys
import time
import tracemalloc
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from fake_rds import START, Sqs, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FILE = Path(__file__).parents[2] / "templates" / "functions" / "rds_snapshot_copy.py"
spec = importlib.util.spec_from_file_location("rds_snapshot_copy", FILE)
function = importlib.util.module_from_spec(spec)
sys.modules["rds_snapshot_copy"] = function
spec.loader.exec_module(function)

ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "OWNER": "us-east-1/backup",
    "DESTINATION_REGION": "eu-west-1",
    "QUEUE_URL": "work",
    "DEAD_LETTER_QUEUE_URL": "dead",
    "KMS_KEY": "",
    "TYPES": "manual,automated",
    "ENGINES": "",
    "DATABASE_PREFIX": "",
    "TAG_KEY": "",
    "TAG_VALUE": "",
    "RETENTION_DAYS": "35",
    "MINIMUM_COPIES": "1",
    "BACKFILL_DAYS": "7",
    "DEADLINE_HOURS": "6",
}


class Run:
    """The function in a world whose time it takes for its own."""

    def __init__(self, world, monkeypatch, **environment):
        self.world, self.sqs = world, world.client("sqs")

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return world.now

        monkeypatch.setattr(function, "datetime", Clock)
        monkeypatch.setattr(function.boto3, "client", world.client)
        for key, value in {**ENVIRONMENT, **environment}.items():
            monkeypatch.setenv(key, value)

    def event(self, arn):
        self.sqs.send_message(
            QueueUrl="work", MessageBody=json.dumps({"detail": {"SourceArn": arn}})
        )

    def reconcile(self):
        return function.handler({}, None)

    def work(self, *, again=False):
        """One batch; the answer."""
        records = self.sqs.receive(again=again)
        if records:
            answer = function.handler({"Records": records}, None)
            self.sqs.settle(records, answer)
        return len(records)

    def drain(self, hours, *, reconcile=True):
        for step in range(hours * 12):
            if reconcile and step % 12 == 0:
                self.reconcile()
            while self.work():
                pass
            self.world.pass_time(300)

    @property
    def messages(self):
        return self.sqs.state["messages"]

    @property
    def dead(self):
        return self.sqs.state["dead"]


@pytest.fixture
def run(monkeypatch):
    return Run(World(), monkeypatch)


def tags(one):
    return {tag["Key"]: tag["Value"] for tag in one["TagList"]}


@pytest.mark.parametrize("kind", ["db_snapshot", "db_cluster_snapshot"])
def test_an_event_makes_one_copy_with_its_tags_and_an_announcement(run, kind):
    arn = run.world.add(
        "rds:orders-2026-11-01-03-04", kind=kind, TagList=[{"Key": "team", "Value": "shop"}]
    )
    for _ in range(3):
        run.event(arn)
    run.drain(2)
    (copy,) = run.world.copies()
    assert tags(copy) == {
        "team": "shop",
        "copied-by": "us-east-1/backup",
        "source-arn": arn,
        "source-created": "2026-11-01T00:00:00+00:00",
        "copy-announced": tags(copy)["copy-announced"],
    }
    (told,) = run.world.announced
    assert told["sourceArn"] == arn
    assert run.messages == {}
    assert run.dead == []


@pytest.mark.parametrize(
    ("key", "encrypted", "wanted"),
    [
        ("", False, None),
        ("", True, "alias/aws/rds"),
        ("arn:key", True, "arn:key"),
        ("arn:key", False, "arn:key"),
    ],
)
def test_the_copy_is_encrypted_with_a_key_of_the_destination(monkeypatch, key, encrypted, wanted):
    run = Run(World(), monkeypatch, KMS_KEY=key)
    run.event(run.world.add("first", Encrypted=encrypted))
    run.work()
    assert [one["KmsKeyId"] for one in run.world.copies()] == [wanted]


@pytest.mark.parametrize(
    ("environment", "snapshot"),
    [
        ({"TYPES": "automated"}, {}),
        ({}, {"SnapshotType": "awsbackup"}),
        ({}, {"Engine": "neptune"}),
        ({}, {"Engine": "docdb"}),
        ({"ENGINES": "aurora,mysql"}, {}),
        ({"DATABASE_PREFIX": "billing-"}, {}),
        ({"TAG_KEY": "copy"}, {}),
        ({"TAG_KEY": "copy", "TAG_VALUE": "yes"}, {"TagList": [{"Key": "copy", "Value": "no"}]}),
        ({}, {"TagList": [{"Key": "copied-by", "Value": "eu-west-1/twin"}]}),
        ({}, {"SnapshotCreateTime": START - timedelta(days=36)}),
    ],
)
def test_a_snapshot_that_is_not_wanted_is_skipped(monkeypatch, environment, snapshot):
    run = Run(World(), monkeypatch, **environment)
    run.event(run.world.add("first", **snapshot))
    run.drain(2)
    assert run.world.copies() == []
    assert (run.messages, run.dead) == ({}, [])


@pytest.mark.parametrize(
    ("environment", "snapshot"),
    [
        ({"ENGINES": "aurora,post"}, {}),
        ({"DATABASE_PREFIX": "ord"}, {}),
        ({"TAG_KEY": "copy"}, {"TagList": [{"Key": "copy", "Value": "no"}]}),
        ({"TAG_KEY": "copy", "TAG_VALUE": "yes"}, {"TagList": [{"Key": "copy", "Value": "yes"}]}),
        ({"RETENTION_DAYS": "0"}, {"SnapshotCreateTime": START - timedelta(days=3650)}),
    ],
)
def test_a_snapshot_that_is_chosen_is_copied(monkeypatch, environment, snapshot):
    run = Run(World(), monkeypatch, **environment)
    run.event(run.world.add("first", **snapshot))
    run.work()
    assert len(run.world.copies()) == 1


def test_twins_in_both_regions_do_not_copy_each_others_copies(monkeypatch):
    world = World()
    forth = Run(world, monkeypatch)
    arn = world.add("first")
    forth.event(arn)
    forth.drain(2)
    (copy,) = world.copies()
    back = Run(
        world,
        monkeypatch,
        AWS_REGION="eu-west-1",
        OWNER="eu-west-1/twin",
        DESTINATION_REGION="us-east-1",
    )
    back.event(copy["DBSnapshotArn"])
    back.drain(2)
    assert [one["DBSnapshotArn"] for one in world.copies("us-east-1")] == [arn]


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("SnapshotQuotaExceeded", "copy"),
        ("InvalidDBSnapshotState", "copy"),
        ("Throttling", "copy"),
        ("InternalFailure", "copy"),
        ("KMSKeyNotAccessibleFault", "dead"),
        ("DBSnapshotNotFound", "dead"),
        ("AccessDenied", "dead"),
    ],
)
def test_a_fault_waits_or_goes_to_the_dead_letter_queue(run, code, ends):
    run.event(run.world.add("first"))
    run.world.faults = [code] * 6
    run.drain(6, reconcile=False)
    assert run.messages == {}
    assert len(run.world.copies()) == (ends == "copy")
    assert [one[1]["ERROR_CODE"]["StringValue"] for one in run.dead] == [code] * (ends == "dead")


def test_a_snapshot_that_is_not_available_yet_waits(run):
    run.event(run.world.add("first", Status="creating"))
    run.work()
    assert (run.world.copies(), len(run.messages)) == ([], 1)
    run.world.regions["us-east-1"]["db_snapshot"]["first"]["Status"] = "available"
    run.drain(1, reconcile=False)
    assert (len(run.world.copies()), run.messages) == (1, {})


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "null",
        "not json",
        "{}",
        '{"detail": {}}',
        '{"detail": {"SourceArn": 5}}',
        '{"detail": {"SourceArn": "arn:aws:s3:::bucket"}}',
        '{"detail": {"SourceArn": "arn:aws:rds:us-east-1:111122223333:db:orders"}}',
        '{"detail": {"SourceArn": "arn:aws:rds:ap-south-1:111122223333:snapshot:first"}}',
        '{"snapshotArn": "arn:aws:rds:us-east-1:111122223333:snapshot:missing"}',
    ],
)
def test_a_message_that_no_retry_can_help_is_kept_with_its_reason(run, body):
    run.event(run.world.add("first"))
    run.sqs.send_message(QueueUrl="work", MessageBody=body)
    run.work()
    ((kept, reason),) = run.dead
    assert kept == body
    assert reason["ERROR_MESSAGE"]["StringValue"]
    assert (len(run.world.copies()), run.messages) == (1, {})  # the other message is not held up


def test_a_bug_does_not_lose_the_message_nor_the_batch(run, monkeypatch):
    run.event(run.world.add("first"))
    monkeypatch.setattr(function, "copy_one", lambda *_: 1 / 0)
    for _ in range(function.ATTEMPTS):
        run.work()
        run.world.pass_time(3600)
    assert [one[1]["ERROR_CODE"]["StringValue"] for one in run.dead] == ["ZeroDivisionError"]
    assert run.messages == {}


def test_queues_that_do_not_answer_leave_the_message_in_the_queue(run, monkeypatch):
    def unavailable(*_, **__):
        raise function.ClientError({"Error": {"Code": "ServiceUnavailable"}}, "x")

    run.sqs.send_message(QueueUrl="work", MessageBody="{}")
    monkeypatch.setattr(Sqs, "send_message", unavailable)
    run.work()
    assert len(run.messages) == 1


def test_the_delay_grows_to_half_an_hour():
    assert [function.delay(one) for one in (1, 2, 3, 6, 1000)] == [60, 120, 240, 1800, 1800]


def test_a_name_that_is_used_again_is_another_snapshot(run):
    run.event(run.world.add("release"))
    run.drain(1, reconcile=False)
    del run.world.regions["us-east-1"]["db_snapshot"]["release"]
    run.event(run.world.add("release"))
    run.drain(1, reconcile=False)
    assert len(run.world.copies()) == 2


@settings(max_examples=300)
@given(name=st.from_regex(r"(rds:)?[a-zA-Z](-?[a-zA-Z0-9]){0,250}", fullmatch=True))
def test_names_of_copies_are_what_rds_accepts(name):
    snapshot = function.snapshot_of(
        {
            "DBSnapshotArn": f"arn:aws:rds:us-east-1:1:snapshot:{name}",
            "DBSnapshotIdentifier": name,
            "SnapshotCreateTime": START,
        },
        "snapshot",
    )
    copy = function.copy_name(snapshot, "us-east-1/backup")
    assert re.fullmatch(r"[a-z](-?[a-z0-9])*", copy)
    assert len(copy) <= 63
    assert copy == function.copy_name(snapshot, "us-east-1/backup")
    assert copy != function.copy_name(snapshot, "us-east-1/second")


def test_the_schedule_copies_what_no_event_reported(run):
    for number in range(30):
        run.world.add(f"snapshot-{number}")
    counts = run.reconcile()
    assert (counts["CopiesMissing"], len(run.messages)) == (30, 20)  # as many as can start
    run.drain(6)
    assert len(run.world.copies()) == 30
    assert run.reconcile()["CopiesMissing"] == 0


def test_the_alarm_counts_copies_that_are_late_or_stuck(run):
    run.world.add("first")
    run.world.copying = timedelta(days=2)
    run.reconcile()
    run.work()
    run.world.pass_time(5 * 3600)
    assert run.reconcile()["CopiesOverdue"] == 0
    run.world.pass_time(2 * 3600)
    counts = run.reconcile()
    assert (counts["CopiesOverdue"], counts["CopiesMissing"], counts["CopiesInProgress"]) == (
        1,
        0,
        1,
    )


def test_a_failed_copy_is_deleted_and_made_again(run):
    run.event(run.world.add("first"))
    run.work()
    run.world.copies()[0]["Status"] = "failed"
    run.drain(2)
    assert [one["Status"] for one in run.world.deleted] == ["failed"]
    assert [one["Status"] for one in run.world.copies()] == ["available"]


def old_copies(run, count, **more):
    for number in range(count):
        run.event(run.world.add(f"s{number}", **more))
        run.drain(1)
        run.world.pass_time(23 * 3600)


def test_copies_past_the_retention_are_deleted_but_the_newest(monkeypatch):
    run = Run(World(), monkeypatch, RETENTION_DAYS="3", MINIMUM_COPIES="2")
    old_copies(run, 4)
    run.world.pass_time(10 * 86400)
    run.reconcile()
    assert sorted(tags(one)["source-arn"][-2:] for one in run.world.copies()) == ["s2", "s3"]
    run.world.pass_time(100 * 86400)
    run.reconcile()
    assert len(run.world.copies()) == 2


@pytest.mark.parametrize("breakage", ["an empty list", "an error"])
def test_nothing_is_deleted_when_the_sources_are_not_seen(run, monkeypatch, breakage):
    old_copies(run, 2)
    run.world.pass_time(100 * 86400)
    run.world.regions["us-east-1"]["db_snapshot"].clear()
    if breakage == "an empty list":
        run.reconcile()
    else:
        listed = function.Regions.list

        def fails(self, client, types):
            if client.region == "us-east-1":
                raise function.ClientError({"Error": {"Code": "AccessDenied"}}, "x")
            return listed(self, client, types)

        monkeypatch.setattr(function.Regions, "list", fails)
        with pytest.raises(function.ClientError):
            run.reconcile()
    assert run.world.deleted == []


def test_copies_of_others_are_left_alone(run):
    run.world.add("seed")
    run.world.add(
        "copy-x-1",
        region="eu-west-1",
        SnapshotCreateTime=START - timedelta(days=400),
        TagList=[{"Key": "copied-by", "Value": "us-east-1/other"}],
    )
    run.world.add("by-hand", region="eu-west-1", SnapshotCreateTime=START - timedelta(days=400))
    run.reconcile()
    assert run.world.deleted == []


def test_an_announcement_that_fails_is_made_by_the_next_run(run, monkeypatch):
    run.event(run.world.add("first"))
    run.work()
    run.world.pass_time(3600)
    put = function.boto3.client("events").__class__.put_events
    refused = {"FailedEntryCount": 1, "Entries": [{"ErrorMessage": "throttled"}]}
    monkeypatch.setattr(
        type(function.boto3.client("events")), "put_events", lambda *_, **__: refused
    )
    run.reconcile()
    monkeypatch.setattr(type(function.boto3.client("events")), "put_events", put)
    assert run.world.announced == []
    run.reconcile()
    run.reconcile()
    assert len(run.world.announced) == 1


def test_metrics_are_in_the_embedded_metric_format(run, capsys):
    run.world.add("first")
    run.reconcile()
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [["Stack"]]
    assert document["Stack"] == "backup"
    assert document["CopiesMissing"] == 1
    assert {one["Name"] for one in directive["Metrics"]} <= document.keys()


@pytest.mark.usefixtures("unmeasured")
def test_a_thousand_events_at_once_end_as_a_thousand_copies(run):
    for number in range(1000):
        run.event(run.world.add(f"s{number}", database=f"d{number % 50}"))
    run.world.copying = timedelta(minutes=10)
    for _ in range(40 * 24):  # Lambda polls much more often; each step is 3 minutes
        while run.work():
            pass
        run.world.pass_time(180)
        if not run.messages:
            break
    assert len(run.world.copies()) == 1000
    assert set(run.world.started.values()) == {1}
    assert run.world.most_in_progress == 20
    assert (run.messages, run.dead) == ({}, [])


@pytest.mark.usefixtures("unmeasured")
def test_ten_thousand_snapshots_are_reconciled_in_little_memory(run):
    """The function has 256 MB and 300 s; 400 calls of AWS at 0.2 s take 80 s of them."""
    for number in range(10_000):
        arn = run.world.add(f"s{number}", database=f"d{number % 500}")
        one = function.snapshot_of(
            run.world.regions["us-east-1"]["db_snapshot"][f"s{number}"], "snapshot"
        )
        own = {"copied-by": "us-east-1/backup", "source-arn": arn, "copy-announced": "x"}
        own["source-created"] = one.created.isoformat()
        run.world.add(
            function.copy_name(one, "us-east-1/backup"),
            region="eu-west-1",
            database=f"d{number % 500}",
            TagList=[{"Key": key, "Value": value} for key, value in own.items()],
        )
    run.world.calls = 0
    tracemalloc.start()
    began = time.monotonic()
    counts = run.reconcile()
    seconds, peak = time.monotonic() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts["CopiesMissing"] == 0
    assert run.world.deleted == []
    assert run.world.calls <= 210
    assert peak < 100_000_000
    assert seconds + run.world.calls * 0.2 < 300


FAULTS = (None, "SnapshotQuotaExceeded", "Throttling", "InternalFailure", "InvalidDBSnapshotState")


def disturb(run, events, seed):
    """Some time in which events arrive, batches are delivered twice, and copies fail."""
    for _ in range(seed.randint(0, 30)):
        if events and seed.random() < 0.5:
            run.event(events.pop())
        if seed.random() < 0.3:
            run.work(again=seed.random() < 0.3)
        if seed.random() < 0.1:
            run.reconcile()
        if seed.random() < 0.05 and run.world.copies():
            seed.choice(run.world.copies())["Status"] = "failed"
        run.world.pass_time(seed.randint(1, 1800))


@pytest.mark.usefixtures("unmeasured")
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_happens_every_wanted_snapshot_ends_with_one_copy(monkeypatch, data):
    """Events lost, doubled and reordered, faults of the API, batches delivered twice, time."""
    draw, seed = data.draw, random.Random(data.draw(st.integers(0, 2**32)))
    world = World(
        quota=draw(st.integers(1, 4)), copying=timedelta(minutes=draw(st.integers(1, 90)))
    )
    run = Run(world, monkeypatch, RETENTION_DAYS="3", BACKFILL_DAYS="3", MINIMUM_COPIES="2")
    sources, events = {}, []
    for number in range(draw(st.integers(1, 12))):
        kind = seed.choice(["db_snapshot", "db_cluster_snapshot"])
        arn = world.add(f"s{number}", kind=kind, database=f"d{number % 3}")
        sources[arn] = world.now
        events += [arn] * seed.choice([0, 1, 1, 2, 3])  # lost, once, or more than once
        seed.shuffle(events)
        world.faults = [seed.choice(FAULTS) for _ in range(seed.randint(0, 8))]
        disturb(run, events, seed)
    for arn in events:
        run.event(arn)
    world.faults = []
    run.drain(30)
    own = {arn: [] for arn in sources}
    for one in world.copies():
        own[tags(one)["source-arn"]].append(one)
    for arn, created in sources.items():
        assert len(own[arn]) <= 1
        if world.now - created < timedelta(days=3):
            assert [one["Status"] for one in own[arn]] == ["available"]
    assert (run.messages, run.dead) == ({}, [])
    kept = {
        one.get("DBInstanceIdentifier") or one.get("DBClusterIdentifier") for one in world.copies()
    }
    world.pass_time(400 * 86400)
    run.reconcile()
    run.reconcile()
    left = [
        (one.get("DBInstanceIdentifier") or one.get("DBClusterIdentifier"))
        for one in world.copies()
    ]
    assert set(left) == kept  # no database loses its last copy


def test_settings_are_the_variables_of_the_function():
    read = function.settings_of({**ENVIRONMENT, "ENGINES": "aurora,mysql", "TYPES": "manual"})
    assert read == function.Settings(
        owner="us-east-1/backup",
        aws_region="us-east-1",
        destination_region="eu-west-1",
        engines=("aurora", "mysql"),
        types=("manual",),
    )
