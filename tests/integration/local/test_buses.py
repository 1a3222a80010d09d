"""Buses, archives and replays of the embedded AWS."""

import json
import time

import pytest
from raw_stacks import ACCOUNT, resource, template
from waiting import eventually


def test_a_bus_keeps_its_settings(deploy):
    stack = deploy("local/targets.yaml")
    bus = stack.client("events").describe_event_bus(Name=stack.ids["Bus"])
    assert bus["DeadLetterConfig"]["Arn"].endswith(stack.ids["DeadLetters"].rsplit("/", 1)[1])
    assert bus["LogConfig"] == {"Level": "ERROR", "IncludeDetail": "NONE"}


@pytest.mark.parametrize(
    ("action", "trusted", "arrives"),
    [
        ("events:PutEvents", "events.amazonaws.com", True),
        ("events:PutRule", "events.amazonaws.com", False),
        ("events:PutEvents", "lambda.amazonaws.com", False),
    ],
)
def test_a_bus_of_another_region_is_reached_with_a_role_that_allows_it(
    deploy, unique, action, trusted, arrives
):
    there = deploy("local/targets.yaml", name=f"{unique}-there", region="us-west-2")
    bus = f"arn:aws:events:us-west-2:{ACCOUNT}:event-bus/{there.ids['Bus']}"
    trust = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
    policy = {
        "PolicyName": "p",
        "PolicyDocument": {"Statement": [{"Effect": "Allow", "Action": action, "Resource": bus}]},
    }
    role = resource(
        "AWS::IAM::Role", AssumeRolePolicyDocument={"Statement": [trust]}, Policies=[policy]
    )
    target = {"Id": "Bus", "Arn": bus, "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]}}
    rule = resource(
        "AWS::Events::Rule",
        EventPattern={"source": ["test"], "detail": {"name": [unique]}},
        Targets=[target],
    )
    here = deploy(template(Role=role, Rule=rule), region="us-east-2")
    assert here.status == "CREATE_COMPLETE", here.reasons()
    here.put("default", name=unique)
    lines = there.lines(there.ids["Log"])
    assert [json.loads(line)["region"] for line in lines] == (["us-east-2"] if arrives else [])


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"Source": ""}, "InvalidArgument"),
        ({"DetailType": "x" * 129}, "InvalidArgument"),
        ({"Detail": "[]"}, "MalformedDetail"),
        ({"Detail": "{"}, "MalformedDetail"),
        ({"Source": "aws.s3"}, "NotAuthorizedForSourceException"),
    ],
)
def test_an_invalid_entry_is_rejected_and_the_others_are_not(clients, wrong, code):
    right = {"Source": "test", "DetailType": "test", "Detail": "{}"}
    answer = clients("events").put_events(Entries=[{**right, **wrong}, right])
    refused, accepted = answer["Entries"]
    assert (answer["FailedEntryCount"], refused["ErrorCode"]) == (1, code)
    assert accepted["EventId"]


OURS = "arn:aws:events:us-east-2:*:rule/*"


@pytest.mark.parametrize(
    ("principal", "source", "arrives"),
    [
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, OURS, True),
        ({"AWS": ACCOUNT}, OURS, True),
        ({"Service": "events.amazonaws.com"}, OURS, True),
        ({"AWS": ACCOUNT}, "arn:aws:events:us-east-2:*:rule/another", False),
        ({"AWS": "111111111111"}, OURS, False),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:role/sender"}, OURS, False),
    ],
)
def test_a_bus_of_the_same_region_is_reached_without_a_role_if_its_policy_allows_it(
    deploy, unique, principal, source, arrives
):
    there = deploy("local/targets.yaml", name=f"{unique}-there", region="us-east-2")
    bus = f"arn:aws:events:us-east-2:{ACCOUNT}:event-bus/{there.ids['Bus']}"
    condition = {"ArnLike": {"aws:SourceArn": source}}
    statement = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": "events:PutEvents",
        "Resource": bus,
    }
    policy = resource(
        "AWS::Events::EventBusPolicy",
        EventBusName=there.ids["Bus"],
        StatementId="x",
        Statement={**statement, "Condition": condition},
    )
    assert (
        deploy(template(Policy=policy), name=f"{unique}-policy", region="us-east-2").status
        == "CREATE_COMPLETE"
    )
    target, pattern = {"Id": "Bus", "Arn": bus}, {"source": ["test"], "detail": {"name": [unique]}}
    rule = resource("AWS::Events::Rule", EventPattern=pattern, Targets=[target])
    here = deploy(template(Rule=rule), region="us-east-2")
    assert here.status == "CREATE_COMPLETE", here.reasons()
    here.put("default", name=unique)
    lines = there.lines(there.ids["Log"])
    assert [json.loads(line)["region"] for line in lines] == (["us-east-2"] if arrives else [])


def test_a_bus_policy_resource_sets_the_policy_of_the_bus(deploy):
    body = template(
        Bus=resource("AWS::Events::EventBus", Name={"Ref": "AWS::StackName"}),
        Policy=resource(
            "AWS::Events::EventBusPolicy",
            EventBusName={"Ref": "Bus"},
            StatementId="all",
            Statement={
                "Effect": "Allow",
                "Principal": {"AWS": "111111111111"},
                "Action": "events:PutEvents",
                "Resource": {"Fn::GetAtt": ["Bus", "Arn"]},
            },
        ),
    )
    stack = deploy(body)
    policy = json.loads(stack.client("events").describe_event_bus(Name=stack.name)["Policy"])
    assert [statement["Sid"] for statement in policy["Statement"]] == ["all"]
    del body["Resources"]["Policy"]
    assert stack.update(body) == "UPDATE_COMPLETE"
    assert "Policy" not in stack.client("events").describe_event_bus(Name=stack.name)


def test_archived_events_are_replayed(deploy):
    stack = deploy("local/targets.yaml")
    events = stack.client("events")
    [archive] = [
        one
        for one in events.list_archives()["Archives"]
        if one["EventSourceArn"].endswith(f"/{stack.ids['Bus']}")
    ]
    stack.put(name="one")
    arn = f"arn:aws:events:eu-central-1:{ACCOUNT}:archive/{archive['ArchiveName']}"
    bus = f"arn:aws:events:eu-central-1:{ACCOUNT}:event-bus/{stack.ids['Bus']}"
    window = {"EventStartTime": time.time() - 600, "EventEndTime": time.time() + 600}
    events.start_replay(
        ReplayName=stack.name, EventSourceArn=arn, Destination={"Arn": bus}, **window
    )
    assert eventually(lambda: events.describe_replay(ReplayName=stack.name)["State"] == "COMPLETED")
    seen = [json.loads(line) for line in stack.lines(stack.ids["Log"])]
    assert [event.get("replay-name") for event in seen] == [None, stack.name]
    assert (
        len({event["id"] for event in seen})
        == len({event["detail"]["name"] for event in seen})
        == 1
    )
    assert len(archive["ArchiveName"]) <= 48


def replayed(stack, archive, bus, **destination):
    """The states of a replay of ten minutes, at its end."""
    events = stack.client("events")
    prefix = f"arn:aws:events:eu-central-1:{ACCOUNT}"
    window = {"EventStartTime": time.time() - 600, "EventEndTime": time.time() + 600}
    source = {"EventSourceArn": f"{prefix}:archive/{archive}"}
    events.start_replay(
        ReplayName=stack.name,
        **source,
        Destination={"Arn": f"{prefix}:event-bus/{bus}", **destination},
        **window,
    )
    return eventually(lambda: events.describe_replay(ReplayName=stack.name)["State"] == "COMPLETED")


def test_a_replay_goes_to_the_chosen_rules_only(deploy, unique):
    queue = {"Fn::GetAtt": ["Queue", "Arn"]}
    allow = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": queue}
    target = {"Id": "q", "Arn": queue, "Input": '{"by": "other"}'}
    pattern, bus = {"detail": {"name": ["one"]}}, {"Ref": "Bus"}
    body = template(
        Bus=resource("AWS::Events::EventBus", Name=unique),
        Archive=resource(
            "AWS::Events::Archive", ArchiveName=unique, SourceArn={"Fn::GetAtt": ["Bus", "Arn"]}
        ),
        Queue=resource("AWS::SQS::Queue"),
        Policy=resource(
            "AWS::SQS::QueuePolicy",
            Queues=[{"Ref": "Queue"}],
            PolicyDocument={"Statement": [allow]},
        ),
        Chosen=resource(
            "AWS::Events::Rule",
            EventBusName=bus,
            EventPattern=pattern,
            Targets=[{**target, "Input": '{"by": "chosen"}'}],
        ),
        Other=resource(
            "AWS::Events::Rule", EventBusName=bus, EventPattern=pattern, Targets=[target]
        ),
    )
    stack = deploy(body)
    stack.put(name="one")
    assert sorted(json.loads(one["Body"])["by"] for one in stack.messages("Queue")) == [
        "chosen",
        "other",
    ]
    name = stack.ids["Chosen"].rsplit("|", 1)[-1]
    rule = f"arn:aws:events:eu-central-1:{ACCOUNT}:rule/{unique}/{name}"
    assert replayed(stack, unique, unique, FilterArns=[rule])
    assert [json.loads(one["Body"])["by"] for one in stack.messages("Queue")] == ["chosen"]


def test_the_archive_of_the_default_bus_has_the_events_of_services_once(deploy, unique):
    notify = {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    archive = resource(
        "AWS::Events::Archive",
        ArchiveName=unique,
        SourceArn=f"arn:aws:events:eu-central-1:{ACCOUNT}:event-bus/default",
        EventPattern={"source": ["aws.s3", "test"], "detail": {"bucket": {"name": [unique]}}},
    )
    bucket = resource("AWS::S3::Bucket", BucketName=unique, NotificationConfiguration=notify)
    stack = deploy(template(Archive=archive, Bucket=bucket))
    count = lambda: stack.client("events").describe_archive(ArchiveName=unique)["EventCount"]  # noqa: E731
    stack.client("s3").put_object(Bucket=unique, Key="a", Body=b"")
    assert eventually(count) == 1
    stack.put("default", bucket={"name": unique})
    assert count() == 2
    assert replayed(stack, unique, "default")
    assert count() == 2
    stack.client("s3").delete_object(Bucket=unique, Key="a")
