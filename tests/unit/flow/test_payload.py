"""What targets receive: the examples of the EventBridge guide's 'Input transformation'.

And what it refuses.
"""

import json

import pytest

from eventstacks.flow.graph import Rule
from eventstacks.flow.payload import ENTRY_LIMITS, build, find, refusal_of, refusal_of_entry
from eventstacks.flow.targets import Target

QUEUE = "arn:aws:sqs:us-east-1:123456789012:q"
GROUP = "arn:aws:logs:us-east-1:123456789012:log-group:/g"
RULE = Rule("R", "my-rule", "arn:aws:events:us-east-1:123456789012:rule/my-rule", "bus", {})
EVENT = {
    "version": "0",
    "id": "7bf73129",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2015-11-11T21:29:54Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"],
    "detail": {
        "instance-id": "i-0123456789",
        "state": "RUNNING",
        "count": 3,
        "on": True,
        "none": None,
        "tags": {"a": "b"},
        "list": ["x", "y"],
        "nested": [{"k": 1}, {"k": 2}],
    },
}
PATHS = {
    "instance": "$.detail.instance-id",
    "state": "$.detail.state",
    "count": "$.detail.count",
    "tags": "$.detail.tags",
    "list": "$.detail.list",
    "missing": "$.detail.missing",
    "first": "$.detail.list[0]",
    "on": "$.detail.on",
}


def receives(arn="arn:aws:lambda:us-east-1:123456789012:function:f", **settings):
    return build(RULE, Target("T", arn, settings), EVENT)


def transformed(template, **more):
    return receives(InputTransformer={"InputPathsMap": PATHS, "InputTemplate": template}, **more)


def test_the_event_itself():
    assert json.loads(receives().text) == EVENT
    assert ", " not in receives().text.replace("EC2 Instance", "")


def test_input_takes_the_place_of_the_event():
    assert receives(Input='{"a": 1}').text == '{"a": 1}'
    assert receives(Input="{a").refusal.code == "refused_input"
    assert receives(Input="[" * 99_999).refusal.code == "refused_input"


def test_what_only_aws_knows_may_be_a_number():
    assert receives(Input='{"port": ⟨s.Db.Endpoint.Port⟩}').refusal is None
    assert transformed('{"port": ⟨s.Db.Endpoint.Port⟩, "at": "⟨s.Db⟩"}').refusal is None
    group = "arn:aws:logs:us-east-1:123456789012:log-group:/g"
    assert transformed('{"timestamp": ⟨s.Now⟩, "message": <state>}', arn=group).refusal is None
    assert receives(Input='{"port": ⟨s.Db.Endpoint.Port⟩').refusal.code == "refused_input"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("$", EVENT),
        ("$.detail.state", "RUNNING"),
        ("$.detail.list[1]", "y"),
        ("$.detail.list[9]", None),
        ("$.detail.nested[*].k", [1, 2]),
        ("$['detail']['instance-id']", "i-0123456789"),
        ("$.nothing.here", None),
        ("$.detail.state.deeper", None),
        ("$.detail-type", "EC2 Instance State-change Notification"),
    ],
)
def test_paths(path, expected):
    assert find(path, EVENT) == expected
    assert json.loads(receives(InputPath=path).text) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ('"instance <instance> is in <state>"', '"instance i-0123456789 is in RUNNING"'),
        (
            '{"instance": <instance>, "state": <state>}',
            '{"instance": "i-0123456789", "state": "RUNNING"}',
        ),
        (
            '{"instance": "<instance>", "state": "is <state>"}',
            '{"instance": "i-0123456789", "state": "is RUNNING"}',
        ),
        (
            '{"n": <count>, "b": <on>, "l": <list>, "t": <tags>}',
            '{"n": 3, "b": true, "l": ["x","y"], "t": {"a":"b"}}',
        ),
        ('{"t": "<tags> <count> <on>"}', '{"t": "{a:b} 3 true"}'),
        ('{"m": <missing>, "s": "<missing>!"}', '{"m": "", "s": "!"}'),
        (
            '{"r": <aws.events.rule-name>, "a": "<aws.events.rule-arn>"}',
            '{"r": "my-rule", "a": "arn:aws:events:us-east-1:123456789012:rule/my-rule"}',
        ),
        ('{"t": <aws.events.event.ingestion-time>}', '{"t": "<aws.events.event.ingestion-time>"}'),
    ],
)
def test_templates(template, expected):
    made = transformed(template)
    assert (made.text, made.refusal) == (expected, None)
    json.loads(made.text)


def test_the_reserved_events():
    made = json.loads(
        transformed('{"whole": <aws.events.event.json>, "envelope": <aws.events.event>}').text
    )
    assert made == {
        "whole": EVENT,
        "envelope": {key: one for key, one in EVENT.items() if key != "detail"},
    }


def test_a_path_cannot_redefine_a_reserved_variable():
    mapping = {
        "InputPathsMap": {"aws.events.rule-name": "$.source"},
        "InputTemplate": '"<aws.events.rule-name>"',
    }
    assert receives(InputTransformer=mapping).text == '"my-rule"'


def test_plain_text_is_no_json_and_a_queue_does_not_mind():
    queue = "arn:aws:sqs:us-east-1:123456789012:q"
    assert transformed("it is <state>", arn=queue).text == "it is RUNNING"
    assert transformed("it is <state>", arn=queue).refusal is None
    assert transformed("it is <state>").refusal.code == "payload"


@pytest.mark.parametrize(
    ("template", "arn"),
    [
        ('{"x": <undefined>}', QUEUE),
        ('{"name": at_<state>}', QUEUE),  # aws-cdk 9191
        ('{"x": 1}', "arn:aws:events:us-east-1:123456789012:event-bus/b"),
        ('"state = <state>"', GROUP),  # aws-cloudformation-user-guide 1010
        ('{"message": <state>}', GROUP),
    ],
)
def test_templates_that_put_targets_refuses(template, arn):
    assert transformed(template, arn=arn).refusal.code == "refused_input"


def test_a_value_with_quotes_breaks_the_payload_and_not_the_template():
    event = {**EVENT, "detail": {"state": 'a "quoted" word'}}
    settings = {"InputPathsMap": PATHS, "InputTemplate": '{"s": <state>}'}
    arn = "arn:aws:lambda:us-east-1:123456789012:function:f"
    made = build(RULE, Target("T", arn, {"InputTransformer": settings}), event)
    assert made.refusal.code == "payload"
    queue = build(RULE, Target("T", QUEUE, {"InputTransformer": settings}), event)
    assert (queue.refusal, queue.text) == (None, '{"s": "a "quoted" word"}')


def test_a_log_group_wants_timestamp_and_message():
    group = "arn:aws:logs:us-east-1:123456789012:log-group:/g"
    assert transformed('{"timestamp": <count>, "message": <state>}', arn=group).refusal is None


def test_text_for_a_function_is_refused_before_there_is_an_event():
    function = "arn:aws:lambda:us-east-1:123456789012:function:f"
    settings = {"InputTransformer": {"InputTemplate": "text"}}
    assert refusal_of(Target("t", function, settings)).code == "payload"
    assert refusal_of(Target("t", QUEUE, settings)) is None


@pytest.mark.parametrize("key", ENTRY_LIMITS)
def test_the_parts_of_an_entry_have_limits(key):
    longest = "{" + " " * (ENTRY_LIMITS[key] - 2) + "}"
    entry = {"Source": "s", "DetailType": "t", "Detail": "{}"}
    assert refusal_of_entry({**entry, key: longest}) is None
    for text in (f"{longest} ", ""):
        assert refusal_of_entry({**entry, key: text})[0] == "InvalidArgument"


def test_paths_that_lead_nowhere_are_named():
    assert transformed('{"a": <missing>, "b": <state>}').missing == ("$.detail.missing",)
    assert transformed('{"b": <state>}').missing == ()
    assert receives(InputPath="$.detail.nothing").missing == ("$.detail.nothing",)
    assert receives(InputPath="$.detail.tags").missing == ()
    assert receives(QUEUE, InputTemplate='{"a": <$.detail.x>}').missing == ("$.detail.x",)
