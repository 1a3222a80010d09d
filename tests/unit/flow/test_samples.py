"""Sample events: what may be written, and what is filled in."""

import json

import pytest

from eventstacks.documents import parse_template
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import graph, samples, trace

FLOW = graph.of_template(
    parse_template("Resources: {B: {Type: AWS::S3::Bucket, Properties: {BucketName: mine}}}", "t"),
    name="s",
    region="eu-west-1",
    account="111122223333",
)


def complete(text):
    return samples.complete(
        samples.parse(json.dumps(text), "file"), FLOW, "eu-west-1", "111122223333"
    )


def test_what_eventbridge_fills_in_may_be_left_out():
    event = complete({"source": "shop", "detail": {"a": 1}})
    assert {key: event[key] for key in ("account", "region", "detail", "source", "resources")} == {
        "account": "111122223333",
        "region": "eu-west-1",
        "detail": {"a": 1},
        "source": "shop",
        "resources": [],
    }


def test_names_of_the_stack_are_resolved():
    event = complete(
        {
            "event": {
                "detail": {"b": ["${B}", "${AWS::AccountId}", "$ {x}"]},
                "resources": ["${B.Arn}"],
            }
        }
    )
    assert event["detail"]["b"] == ["mine", "111122223333", "$ {x}"]
    assert event["resources"] == ["arn:aws:s3:::mine"]


def test_in_an_event_that_was_sent_they_are_text():
    assert complete({"source": "shop", "detail": {"b": "${B} ${HOME}"}})["detail"] == {
        "b": "${B} ${HOME}"
    }


def test_an_entry_of_put_events_becomes_an_event():
    sample = {"Source": "shop", "DetailType": "placed", "Detail": '{"a": 1}', "EventBusName": "b"}
    assert samples.parse(json.dumps(sample), "file").bus == "b"
    event = complete(sample)
    assert (event["source"], event["detail-type"], event["detail"]) == ("shop", "placed", {"a": 1})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[", ""),
        ("[]", ""),
        ('{"event": {}, "expects": {}}', "'expects'"),
        ('{"event": {}, "expect": ["R"]}', "'expect'"),
        ('{"event": {}, "parameters": [1]}', "'parameters'"),
        ('{"event": {}, "expect": {"R": "t"}}', "'R'"),
        ('{"a": NaN}', "NaN"),
        ("[" * 999_999, ""),
    ],
)
def test_what_is_no_sample(text, named):
    with pytest.raises(ToolError) as caught:
        samples.parse(text, "file.json")
    assert (caught.value.code, caught.value.where) == (ErrorCode.EVENT_INVALID, "file.json")
    assert named in caught.value.what


def test_lines_that_are_no_events_are_named():
    lines = samples.parse_lines('{"a": 1}\n\n{"a": "\u2028"}\n', "f")
    assert [(one.event, one.where) for one in lines] == [
        ({"a": 1}, "f:1"),
        ({"a": "\u2028"}, "f:3"),
    ]
    with pytest.raises(ToolError, match="f:3"):
        samples.parse_lines('{"a": 1}\n\n{', "f")


@pytest.mark.parametrize("detail", ["[1]", "{x", '"a"', pytest.param('{"a":' * 99_999, id="deep")])
def test_a_detail_that_put_events_refuses(detail):
    with pytest.raises(ToolError, match="Detail"):
        complete({"Source": "s", "Detail": detail})


def test_an_event_that_goes_too_deep(usual_depth):
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ToolError, match="too deeply"):
        samples.complete(samples.Sample({"detail": {"a": deep}}, "f"), FLOW, "x", "1")


def test_the_folder_names_the_stack(tmp_path):
    (tmp_path / "shop").mkdir()
    path = tmp_path / "shop" / "x.json"
    path.write_text('{"event": {}, "expect": {}}')
    assert samples.parse(path.read_text(), str(path)).stack == "shop"
    path.write_text('{"source": "a bare event"}')
    assert samples.parse(path.read_text(), str(path)).stack is None


RULES = """
Resources:
  R: {Type: AWS::Events::Rule, Properties: {
    EventPattern: {source: [a]}, Targets: [{Id: t, Arn: !GetAtt Q.Arn}]}}
  Q: {Type: AWS::SQS::Queue}
  P: {Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref Q], PolicyDocument: {Statement: [
    {Effect: Allow, Principal: '*', Action: 'sqs:*', Resource: '*'}]}}}
"""


@pytest.mark.parametrize(
    ("source", "expect", "found"),
    [
        ("a", {"R": ["t"]}, []),
        ("a", {"R": ["Q"]}, []),
        ("a", {"R": []}, []),
        ("b", {}, []),
        ("a", {}, ["R matches unexpectedly"]),
        ("b", {"R": ["t"]}, ["R does not match"]),
        ("a", {"R": ["u"]}, ["R does not deliver to u"]),
    ],
)
def test_deviations(source, expect, found):
    flow = graph.of_template(parse_template(RULES, "t"), name="s", region="eu-west-1", account="1")
    event = samples.complete(
        samples.parse(json.dumps({"source": source}), "f"), flow, "eu-west-1", "1"
    )
    [bus] = trace.entrances(flow, event)
    assert samples.deviations([trace.trace(flow, event, bus)], expect) == found


def test_a_target_that_gets_nothing_is_a_deviation():
    template = parse_template(RULES.replace("Effect: Allow", "Effect: Deny"), "t")
    flow = graph.of_template(template, name="s", region="eu-west-1", account="1")
    event = samples.complete(samples.Sample({"source": "a"}, "f"), flow, "eu-west-1", "1")
    [bus] = trace.entrances(flow, event)
    found = samples.deviations([trace.trace(flow, event, bus)], {"R": ["t"]})
    assert found == ["R does not deliver to t"]
