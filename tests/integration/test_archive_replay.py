"""archive-replay as an operator runs it, against a stack on the embedded AWS."""

import json

import pytest
from operators import open_queue
from waiting import eventually


def add_rule(one, name, marker):
    """A rule of the bus's own with a queue that may take what it matches; gives the queue's URL."""
    sqs, queue = one.client("sqs"), f"{one.name}-{name}"
    url, arn = open_queue(sqs, queue)
    pattern = json.dumps({"detail": {"marker": [marker]}})
    one.client("events").put_rule(Name=queue, EventBusName=one.bus, EventPattern=pattern)
    one.client("events").put_targets(
        Rule=queue, EventBusName=one.bus, Targets=[{"Id": "queue", "Arn": arn}]
    )
    return url


@pytest.fixture
def archived(operate):
    """A stack whose archive holds two events, and then gets a rule for one of the two."""
    one = operate("custom-event-bus")
    for marker in ("apple", "pear"):
        one.put(marker)
    eventually(lambda: len(one.logged()) == 2)
    one.url = add_rule(one, "pears", "pear")
    yield one
    one.client("events").remove_targets(
        Rule=f"{one.name}-pears", EventBusName=one.bus, Ids=["queue"]
    )
    one.client("events").delete_rule(Name=f"{one.name}-pears", EventBusName=one.bus)
    one.client("sqs").delete_queue(QueueUrl=one.url)


def received(one):
    found = one.client("sqs").receive_message(
        QueueUrl=one.url, MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    return [json.loads(message["Body"]) for message in found.get("Messages", [])]


def test_archives_are_listed(archived):
    (found,) = json.loads(archived.run("archive-replay", "--json").stdout)
    assert (found["name"], found["events"], found["state"]) == (
        archived.outputs["ArchiveName"],
        2,
        "ENABLED",
    )
    assert archived.outputs["ArchiveName"] in archived.run("archive-replay").stdout


def test_a_replay_brings_the_events_again_and_is_followed_to_its_end(archived):
    done = archived.run("archive-replay", "--since", "10m", "--yes", "--json")
    (replay,) = json.loads(done.stdout)
    assert replay["state"] == "COMPLETED"
    assert [json.loads(one).get("replay-name") for one in archived.logged()] == [
        None,
        None,
        *[replay["replay"]] * 2,
    ]
    assert [one["detail"] for one in received(archived)] == [{"marker": "pear"}]


def test_a_replay_of_another_time_brings_nothing(archived):
    archived.run(
        "archive-replay",
        "--since",
        "2020-01-01T00:00:00Z",
        "--until",
        "2020-01-02T00:00:00Z",
        "--yes",
    )
    assert len(archived.logged()) == 2


def test_a_replay_goes_to_the_chosen_rule_only(archived):
    archived.run("archive-replay", "--since", "10m", "--rule", f"{archived.name}-pears", "--yes")
    assert [one["detail"] for one in received(archived)] == [{"marker": "pear"}]
    assert len(archived.logged()) == 2


def test_a_replay_asks_for_the_chosen_rules(archived):
    done = archived.run(
        "archive-replay", "--since", "10m", "--rule", "CatchAllRule", "--yes", "--json"
    )
    told = archived.client("events").describe_replay(
        ReplayName=json.loads(done.stdout)[0]["replay"]
    )
    assert told["Destination"]["FilterArns"] == [archived.outputs["CatchAllRuleArn"]]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--rule", "NoSuch", "--yes"], 1, "NoSuch"),
        (["--until", "20m", "--yes"], 2, "--since is not before --until"),
        ([], 2, "YES=1"),
    ],
)
def test_a_replay_that_is_not_meant_is_not_started(archived, options, code, said):
    done = archived.run("archive-replay", "--since", "10m", *options, code=code)
    assert said in done.stderr
    source = archived.outputs["ArchiveArn"]
    assert archived.client("events").list_replays(EventSourceArn=source)["Replays"] == []
