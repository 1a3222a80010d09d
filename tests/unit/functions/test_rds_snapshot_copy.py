"""The function that copies snapshots, against RDS in memory (tests/helpers/fake_rds.py)."""

import json
from datetime import timedelta

import pytest
from fake_rds import START, Sqs, World
from snapshot_copier import ENVIRONMENT, Run, function, tags


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
    ("kind", "key", "encrypted", "wanted"),
    [
        ("db_snapshot", "", {}, None),
        ("db_snapshot", "", {"Encrypted": True}, "alias/aws/rds"),
        ("db_snapshot", "arn:key", {"Encrypted": True}, "arn:key"),
        ("db_snapshot", "arn:key", {}, "arn:key"),
        ("db_cluster_snapshot", "", {"StorageEncrypted": True}, "alias/aws/rds"),
        ("db_cluster_snapshot", "arn:key", {"StorageEncrypted": True}, "arn:key"),
        ("db_cluster_snapshot", "arn:key", {}, None),
    ],
)
def test_the_copy_is_encrypted_with_a_key_of_the_destination(
    monkeypatch, kind, key, encrypted, wanted
):
    run = Run(World(), monkeypatch, KMS_KEY=key)
    run.event(run.world.add("first", kind=kind, **encrypted))
    run.work()
    assert [one["KmsKeyId"] for one in run.world.copies()] == [wanted]


@pytest.mark.parametrize(
    ("environment", "snapshot"),
    [
        ({"TYPES": "automated"}, {}),
        ({}, {"SnapshotType": "awsbackup"}),
        ({}, {"Engine": "neptune"}),
        ({}, {"Engine": "docdb"}),
        ({}, {"Engine": "custom-oracle-ee"}),
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
        ("DBClusterSnapshotNotFoundFault", "dead"),
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
        '{"detail": {"SourceArn": "\\u0000\\ud800"}}',
        '{"detail": {"SourceArn": "arn:aws:rds:us-east-1:111122223333:db:orders"}}',
        '{"detail": {"SourceArn": "arn:aws:rds:ap-south-1:111122223333:snapshot:first"}}',
        '{"detail": {"SourceArn": "arn:aws:rds:us-east-1:111122223333:snapshot:missing"}}',
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

    def breaks(*_):
        raise AssertionError  # an error without a text

    monkeypatch.setattr(function, "copy_one", breaks)
    for _ in range(function.ATTEMPTS):
        run.work()
        run.world.pass_time(3600)
    assert [one[1]["ERROR_CODE"]["StringValue"] for one in run.dead] == ["AssertionError"]
    assert run.messages == {}


def test_queues_that_do_not_answer_leave_the_message_in_the_queue(run, monkeypatch):
    def unavailable(*_, **__):
        raise function.ClientError({"Error": {"Code": "ServiceUnavailable"}}, "x")

    run.sqs.send_message(QueueUrl="work", MessageBody="{}")
    monkeypatch.setattr(Sqs, "send_message", unavailable)
    run.work()
    assert len(run.messages) == 1


def test_the_delay_grows_to_half_an_hour(run):
    run.event(run.world.add("first", Status="creating"))
    delays = []
    for _ in range(12):
        run.work()
        (message,) = run.messages.values()
        delays.append((message["visible"] - run.world.now).total_seconds())
        run.world.pass_time(delays[-1])
    assert delays == [60, 120, 240, 480, 960] + [1800] * 7


def test_a_snapshot_that_failed_is_not_waited_for(run):
    run.event(run.world.add("first", Status="failed"))
    run.work()
    assert [one[1]["ERROR_MESSAGE"]["StringValue"].split()[-1] for one in run.dead] == ["failed')"]
    assert run.messages == {}


def test_the_schedule_copies_what_no_event_reported(run):
    for number in range(30):
        run.world.add(f"snapshot-{number}")
    counts = run.reconcile()
    assert (counts["CopiesMissing"], len(run.messages)) == (30, 20)  # as many as can start
    while run.work():
        pass
    assert (run.reconcile()["CopiesMissing"], len(run.messages)) == (10, 0)
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


@pytest.mark.parametrize("shorter", ["BACKFILL_DAYS", "RETENTION_DAYS"])
def test_the_alarm_counts_a_missing_copy_before_it_is_given_up(monkeypatch, shorter):
    run = Run(World(), monkeypatch, DEADLINE_HOURS="168", **{shorter: "1"})
    run.world.add("first")
    counts = []
    for _ in range(26):  # no message is worked on
        counts.append(run.reconcile()["CopiesOverdue"])
        run.world.pass_time(3600)
    assert counts == [0] * 19 + [1] * 6 + [0]


def test_a_copy_that_expires_is_not_announced(monkeypatch):
    run = Run(World(), monkeypatch, RETENTION_DAYS="1")
    for number in range(2):
        run.event(run.world.add(f"s{number}"))
        run.work()
        run.world.pass_time(2 * 86400)
    run.reconcile()
    assert [one["sourceArn"][-2:] for one in run.world.announced] == ["s1"]
    assert len(run.world.deleted) == 1


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


def test_the_age_of_a_copy_is_that_of_its_source(monkeypatch):
    run = Run(World(), monkeypatch, RETENTION_DAYS="3", BACKFILL_DAYS="3")
    arn = run.world.add("first")
    run.world.pass_time(2 * 86400)
    run.event(arn)
    run.event(run.world.add("second"))
    run.drain(1)
    run.world.pass_time(86400)
    run.reconcile()
    assert [tags(one)["source-arn"] for one in run.world.deleted] == [arn]


def test_a_connection_that_breaks_is_waited_for(run, monkeypatch):
    def breaks(*_):
        raise function.BotoCoreError

    run.event(run.world.add("first"))
    with monkeypatch.context() as patched:
        patched.setattr(function, "copy_one", breaks)
        for _ in range(function.ATTEMPTS + 1):
            run.work()
            run.world.pass_time(3600)
    run.work()
    assert (len(run.world.copies()), run.dead) == (1, [])


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
    old = {"region": "eu-west-1", "SnapshotCreateTime": START - timedelta(days=400)}
    for number in range(2):  # more than MINIMUM_COPIES
        tag = {"Key": "copied-by", "Value": "us-east-1/other"}
        run.world.add(f"copy-x-{number}", TagList=[tag], **old)
        run.world.add(f"by-hand-{number}", **old)
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


def test_settings_are_the_variables_of_the_function():
    read = function.settings_of({**ENVIRONMENT, "ENGINES": "aurora,mysql", "TYPES": "manual"})
    assert read == function.Settings(
        owner="us-east-1/backup",
        aws_region="us-east-1",
        destination_region="eu-west-1",
        kms_key="",
        types=("manual",),
        engines=("aurora", "mysql"),
        database_prefix="",
        tag_key="",
        tag_value="",
        retention_days=35,
        minimum_copies=1,
        backfill_days=7,
        deadline_hours=6,
    )
