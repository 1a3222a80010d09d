"""What trace says is what happens on the embedded AWS: all sample events, every kind of target."""

import json
import re
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from eventstacks import environment, rendering
from eventstacks.documents import parse_template
from eventstacks.flow import graph, samples, trace
from eventstacks.flow.resolve import _TYPES, Stack
from eventstacks.flow.targets import service_of

REGION, ACCOUNT = "eu-central-1", "000000000000"
# Their targets are in another stack or on another machine, or a pipe reads what comes in:
# test_event_hub.py, test_webhook_out.py and test_table_outbox.py deploy these.
ELSEWHERE = {"event-spoke", "table-outbox", "webhook-out"}
TARGETS = Path("tests/fixtures/stacks/targets-of-every-kind.yaml")
SAMPLES = [
    one
    for one in sorted((Path(__file__).parent.parent / "events").glob("*/*.json"))
    if one.parent.name not in ELSEWHERE
]


def until(find, wanted, wait=60.0):
    """What ``find`` gives once ``wanted`` likes it, or last gave."""
    end = time.monotonic() + wait
    while not wanted(found := find()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


@pytest.fixture
def deploy(clients, unique):
    """deploy(text, **parameters): the Stack, whose resources all have a name.

    It is deleted after the test. Its functions do not consume queues: what arrives in a queue stays
    there, for the test to see.
    """
    cloudformation, aws_lambda = clients("cloudformation", REGION), clients("lambda", REGION)
    made = []

    def one(text, **parameters):
        name = f"{unique}-{len(made)}"
        template = parse_template(text, name)
        for logical_id, resource in template["Resources"].items():
            if key := _TYPES.get(resource["Type"], ("",))[0]:
                resource.setdefault("Properties", {}).setdefault(
                    key, f"{name}-{logical_id}".lower()
                )
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=json.dumps(template),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
        )
        made.append(name)
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=name, WaiterConfig={"Delay": 0.1}
        )
        for one in cloudformation.describe_stack_resources(StackName=name)["StackResources"]:
            if one["ResourceType"] == "AWS::Lambda::EventSourceMapping":
                aws_lambda.update_event_source_mapping(
                    UUID=one["PhysicalResourceId"], Enabled=False
                )
        return Stack(template, parameters, name, REGION, ACCOUNT)

    yield one
    for name in made:
        cloudformation.delete_stack(StackName=name)


def messages(clients, group):
    """The messages of a log group, or None if it does not exist."""
    try:
        return [
            one["message"]
            for one in clients("logs", REGION).filter_log_events(logGroupName=group)["events"]
        ]
    except ClientError:
        return None


def queue_messages(clients, url):
    """(target, code) and body of what a queue holds; each is seen once."""
    sqs = clients("sqs", REGION)
    found = sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=600
    )
    return [
        (
            {key: value["StringValue"] for key, value in one.get("MessageAttributes", {}).items()},
            one["Body"],
        )
        for one in found.get("Messages", [])
    ]


def arrivals(clients, target):
    """A function that returns what has come to a log group, a queue or the log of a function."""
    if target.type == "AWS::SQS::Queue":
        url, bodies = clients("sqs", REGION).get_queue_url(QueueName=target.name)["QueueUrl"], []

        def look():
            bodies.extend(body for _, body in queue_messages(clients, url))
            return bodies

        return look
    group = target.name
    if target.type == "AWS::Lambda::Function":
        group = target.properties["LoggingConfig"]["LogGroup"]
    return lambda: messages(clients, group) or []


def disguise(event, mark):
    """Return a copy of an event that PutEvents accepts; ``mark`` identifies it.

    PutEvents refuses sources of AWS: ``test.`` replaces ``aws.``.
    """
    detail = {**event["detail"], "mark": mark}
    for name in {"object", "requestParameters"} & detail.keys():
        detail[name] = {
            **detail[name],
            "key": f"{detail[name]['key']}-{mark}",
        }  # what the function logs
    return {**event, "source": event["source"].replace("aws.", "test."), "detail": detail}


def put(clients, event, bus):
    entry = {
        "Source": event["source"],
        "DetailType": event["detail-type"],
        "Detail": json.dumps(event["detail"]),
        "Resources": event["resources"],
        "EventBusName": bus.rsplit("/", 1)[1],
    }
    assert clients("events", REGION).put_events(Entries=[entry])["FailedEntryCount"] == 0


def reached(arrival):
    return {one.target.arn: one for _, one in arrival.walk() if one}


@pytest.mark.parametrize("path", SAMPLES, ids=[f"{one.parent.name}/{one.stem}" for one in SAMPLES])
def test_a_sample_event_goes_where_trace_says(path, deploy, clients, unique):
    sample = samples.parse(path.read_text(), str(path))
    text = re.sub(
        r"(?<=- )aws\.(?=s3$|rds$)",
        "test.",
        rendering.render(sample.stack).text,
        flags=re.MULTILINE,
    )
    planned = graph.of_stacks([deploy(text, **sample.parameters)])
    event = disguise(samples.complete(sample, planned, REGION, ACCOUNT), f"{unique}-event")
    [bus] = trace.entrances(planned, event)
    found = trace.trace(planned, event, bus)
    assert samples.deviations([found], sample.expect) == []
    if event["account"] != ACCOUNT:
        # PutEvents writes the caller's account into the event: all that can be asked
        # is whether it would match.
        return
    # After it goes one that reaches every target: once that is there,
    # what is not there does not come.
    alike = (
        one
        for one in (samples.parse(path.read_text(), str(path)) for path in SAMPLES)
        if (one.stack, one.parameters) == (sample.stack, sample.parameters)
    )
    following = samples.complete(next(one for one in alike if one.expect), planned, REGION, ACCOUNT)
    following = disguise(following, f"{unique}-following")
    put(clients, event, bus)
    put(clients, following, bus)
    expected = reached(found)
    targets = reached(trace.trace(planned, following, bus))
    assert (
        {one.arn for rule in planned.rules for one in rule.targets}
        == targets.keys()
        >= expected.keys()
    )
    for arn, delivery in targets.items():
        look = arrivals(clients, planned.resources[arn])

        def hits(word, look=look):
            return [one for one in look() if f"{unique}-{word}" in one]

        assert until(lambda hits=hits: hits("following"), bool)
        if arn not in expected:
            assert hits("event") == []
            continue
        got = until(lambda hits=hits: hits("event"), bool)
        assert got
        if service_of(delivery.target.arn) in {"logs", "sqs"}:
            said = json.loads(expected[arn].payload.text)
            assert json.loads(got[0]) == said | {
                key: json.loads(got[0])[key] for key in ("id", "time")
            }
    queue = next(
        one.name for one in planned.resources.values() if one.logical_id == "DeadLetterQueue"
    )
    url = clients("sqs", REGION).get_queue_url(QueueName=queue)["QueueUrl"]
    assert queue_messages(clients, url) == []


def test_targets_of_every_kind_get_what_trace_says(deploy, clients):
    planned = graph.of_stacks([deploy(TARGETS.read_text())])
    detail = {"order": "47", "items": [1, {"a": None}], "total": 12.5}
    event = samples.complete(
        samples.parse(json.dumps({"source": "shop", "detail-type": "t", "detail": detail}), "t"),
        planned,
        REGION,
        ACCOUNT,
    )
    [bus] = trace.entrances(planned, event, planned.stacks[0].name + "-a")
    found = trace.trace(planned, event, bus)
    fates = {one.target.id: one.fate for _, one in found.walk()}
    assert fates == {
        "plain": "delivered",
        "refused": "dead letter",
        "lost": "lost",
        "topic": "delivered",
        "group": "dead letter",
        "input": "delivered",
        "path": "delivered",
        "made": "delivered",
        "bus": "delivered",
        "roleless": "dead letter",
        "onward": "delivered",
    }
    urls = {
        one.logical_id: clients("sqs", REGION).get_queue_url(QueueName=one.name)["QueueUrl"]
        for one in planned.resources.values()
        if one.type == "AWS::SQS::Queue"
    }
    boxes = {name: [] for name in urls}

    def collect():
        for name, url in urls.items():
            boxes[name] += queue_messages(clients, url)
        return {name: len(box) for name, box in boxes.items()}

    counts = {"Open": 4, "Shut": 0, "Onward": 1, "Heard": 1, "Dead": 3, "Deaf": 0}
    for times in (1, 2):  # what is too much of the first round is too much of the second, too
        put(clients, event, bus)
        wanted = {key: times * count for key, count in counts.items()}
        assert until(collect, wanted.__eq__) == wanted
    said = {one.target.id: one for _, one in found.walk()}
    # White space apart: AWS writes none between the parts of an event, the embedded AWS does.
    texts = [json.loads(body) for _, body in boxes["Open"]]
    for one in ("input", "path", "made"):
        assert json.loads(said[one].payload.text) in texts
    assert {one["TARGET_ARN"] for one, _ in boxes["Dead"]} == {
        one.target.arn for one in said.values() if one.fate == "dead letter"
    }
    assert {one["ERROR_CODE"] for one, _ in boxes["Dead"]} == {"NO_PERMISSIONS"}
    assert messages(clients, planned.stacks[0].resources()["Group"].name) == []


def test_the_flow_of_the_whole_environment_is_what_its_stacks_are():
    local, templates = environment.load("local"), rendering.render_all()
    whole = graph.of_environment(local, templates)
    parts = [graph.of_environment(local, templates, name) for name in local.stacks]
    assert {one.arn for one in whole.rules} == {one.arn for part in parts for one in part.rules}
