"""The function that copies snapshots: many of them, random events and faults, and random names."""

import random
import re
import time
import tracemalloc
from datetime import timedelta

import pytest
from fake_rds import START, World
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from snapshot_copier import Run, function, tags


@settings(max_examples=100)
@given(name=st.from_regex(r"(rds:)?[a-zA-Z](-?[a-zA-Z0-9]){0,250}", fullmatch=True))
@example(name="a" * 200)
@example(name="a" + "-a" * 100)
@example(name="aa" + "-a" * 100)
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


def test_a_name_that_is_used_again_is_another_snapshot(run):
    run.event(run.world.add("release"))
    run.drain(1, reconcile=False)
    del run.world.regions["us-east-1"]["db_snapshot"]["release"]
    run.event(run.world.add("release"))
    run.drain(1, reconcile=False)
    assert len(run.world.copies()) == 2


def test_snapshots_that_are_always_rejected_do_not_hold_up_others(run, monkeypatch):
    copy = function.Regions.copy

    def rejects(self, snapshot):
        if snapshot.database == "tde":
            raise function.PermanentError("needs an option group")
        return copy(self, snapshot)

    monkeypatch.setattr(function.Regions, "copy", rejects)
    for database in ("tde", "orders", "tde"):
        for number in range(20 if database == "tde" else 1):
            run.world.pass_time(60)
            run.world.add(f"{database}-{number}-{run.world.now:%H-%M}", database=database)
    run.drain(24)
    assert [one["DBInstanceIdentifier"] for one in run.world.copies()] == ["orders"]


@pytest.mark.usefixtures("unmeasured")
def test_a_thousand_events_at_once_end_as_a_thousand_copies(run):
    for number in range(1000):
        run.event(run.world.add(f"s{number}", database=f"d{number % 50}"))
    run.world.copying = timedelta(minutes=1)
    for _ in range(24 * 60):
        while run.work():
            run.world.pass_time(5)  # of a batch: else all would try again at the same time
        run.world.pass_time(60)
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


def test_many_expired_copies_are_deleted_in_several_runs(run):
    for number in range(302):
        tag = [{"Key": "copied-by", "Value": "us-east-1/backup"}]
        run.world.add(f"copy-{number}", region="eu-west-1", TagList=tag)
    run.world.pass_time(100 * 86400)
    run.world.add("seed")
    left = []
    for _ in range(2):
        run.reconcile()
        left.append(len(run.world.copies()))
    assert left == [102, 1]


def test_the_copy_has_at_most_forty_tags_of_the_source_and_none_of_aws(run):
    own = [{"Key": f"k{number}", "Value": "v"} for number in range(45)]
    run.event(run.world.add("first", TagList=[{"Key": "aws:backup", "Value": "v"}, *own]))
    run.work()
    (copy,) = run.world.copies()
    assert [key for key in tags(copy) if key.startswith("aws:")] == []
    assert len(copy["TagList"]) == 43


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
