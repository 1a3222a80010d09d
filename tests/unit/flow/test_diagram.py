"""Diagrams: their nodes and arrows, and the same text every time."""

from pathlib import Path

import pytest

from dev import diagram
from eventstacks import rendering
from eventstacks.documents import parse_template
from eventstacks.flow import graph

NAMES = sorted(one.name for one in (Path(__file__).parents[2] / "events").iterdir() if one.is_dir())
WHERE = {"name": "s", "region": "us-east-1", "account": "123456789012"}


def flow_of(text):
    return graph.of_template(parse_template(text, "t"), **WHERE)


def arrows(flow):
    return [(one.source.title, one.target.title, one.label) for one in diagram.edges(flow)]


def test_events_go_from_the_publisher_to_the_dead_letter_queue():
    flow = graph.of_template(rendering.render("s3-object-events").document)
    assert arrows(flow) == [
        ("aws.s3", "default", ""),
        ("default", "ObjectCreatedRule", ""),
        ("ObjectCreatedRule", "ObjectLogGroup", ""),
        ("ObjectLogGroup", "DeadLetterQueue", "not delivered"),
        ("ObjectCreatedRule", "ObjectFunction", ""),
        ("ObjectFunction", "DeadLetterQueue", "not delivered"),
    ]


def test_a_bus_has_publishers_and_an_archive():
    flow = graph.of_template(rendering.render("custom-event-bus").document)
    assert {
        ("your applications", "EventBus", "PutEvents"),
        ("EventBus", "Archive", ""),
        ("EventLogGroup", "DeadLetterQueue", "not delivered"),
    } <= set(arrows(flow))


def test_a_pipe_reads_its_source_and_sends_to_its_target():
    flow = graph.of_template(rendering.render("table-outbox").document)
    assert arrows(flow) == [
        ("your applications", "Table", ""),
        ("Table", "OutboxPipe", ""),
        ("OutboxPipe", "default", ""),
        ("default", "DeadLetterQueue", "not delivered"),
    ]
    [pipe] = {one.target for one in diagram.edges(flow) if one.target.title == "OutboxPipe"}
    assert pipe.lines[0] == "eventName: INSERT"


def test_a_bus_of_the_new_kind_has_subscribers():
    flow = graph.of_template(rendering.render("event-bus-v2").document)
    assert {
        ("your applications", "EventBus", "PutEvents"),
        ("EventBus", "WorkSubscriber", ""),
        ("WorkSubscriber", "WorkQueue", ""),
        ("WorkQueue", "FailureQueue", "not delivered"),
        ("EventBus", "LogSubscriber", ""),
        ("LogSubscriber", "LogFunction", ""),
    } <= set(arrows(flow))


@pytest.mark.parametrize("name", NAMES)
def test_mermaid_has_every_node_and_arrow_and_is_the_same_every_time(name):
    flow = graph.of_template(rendering.render(name).document)
    drawn, text = set(diagram.edges(flow)), diagram.mermaid(flow)
    assert text == diagram.mermaid(flow)
    assert text.startswith("flowchart LR\n")
    dashed = {one for one in drawn if one.label == "not delivered"}
    assert text.count(" -.->") == len(dashed)
    assert text.count(" -->") + text.count(" -.->") == len(drawn)
    assert all(f"<b>{node.title}</b>" in text for one in drawn for node in (one.source, one.target))
    assert all(f"classDef {one.target.style} " in text for one in drawn)


def test_a_template_without_a_flow_has_no_diagram():
    assert diagram.mermaid(flow_of("Resources: {Q: {Type: AWS::SQS::Queue}}")) == ""


def test_schedules_and_disabled_rules_are_drawn():
    flow = flow_of("""
Resources:
  Q: {Type: AWS::SQS::Queue}
  S: {Type: AWS::Scheduler::Schedule, Properties: {ScheduleExpression: rate(1 hour), Target: {Arn: !GetAtt Q.Arn}}}
  R: {Type: AWS::Events::Rule, Properties: {ScheduleExpression: rate(1 day), State: DISABLED, Targets: [{Id: q, Arn: !GetAtt Q.Arn, Input: '{}'}]}}
""")
    found = {
        node.title: (node.kind, node.lines)
        for one in diagram.edges(flow)
        for node in (one.source, one.target)
    }
    assert found["S"] == ("schedule", ("rate(1 hour)",))
    assert found["R"] == ("rule (disabled)", ("rate(1 day)",))
    assert {("S", "Q", ""), ("R", "Q", "Input")} <= set(arrows(flow))


def test_text_of_a_template_cannot_break_out_of_the_diagram():
    flow = flow_of("""
Resources:
  R: {Type: AWS::Events::Rule, Properties: {EventPattern: {source: ['</text><script>"#;']}}}
""")
    text = diagram.mermaid(flow)
    assert "script" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("pattern", "lines"),
    [
        ({"source": ["a", "b"]}, ("source: a, b",)),
        (
            {"detail": {"a": {"b": [{"prefix": "x"}]}, "n": [{"numeric": [">", 5]}]}},
            ('detail.a.b: {"prefix": "x"}', 'detail.n: {"numeric": [">", 5]}'),
        ),
        ({"a": [{"exists": False}, None]}, ('a: {"exists": false}, null',)),
        ({"$or": [{"a": [1]}, {"b": ["2"]}]}, ('$or: {"a": [1]}, {"b": ["2"]}',)),
        (
            {str(number): ["x"] for number in range(20)},
            (*(f"{number}: x" for number in range(8)), "…"),
        ),
    ],
)
def test_patterns_in_short(pattern, lines):
    assert diagram.short(pattern) == lines


OVER_BUSES = """
Resources:
  A: {Type: AWS::Events::EventBus, Properties: {Name: a}}
  B: {Type: AWS::Events::EventBus, Properties: {Name: b}}
  Role: {Type: AWS::IAM::Role, Properties: {
    AssumeRolePolicyDocument: {Statement: [{Effect: Allow, Principal: {Service: events.amazonaws.com}, Action: 'sts:AssumeRole'}]},
    Policies: [{PolicyName: p, PolicyDocument: {Statement: [{Effect: Allow, Action: 'events:*', Resource: '*'}]}}]}}
  Rule: {Type: AWS::Events::Rule, Properties: {EventBusName: !Ref A, EventPattern: {source: [shop]}, Targets: [
    {Id: b, Arn: !GetAtt B.Arn, RoleArn: !GetAtt Role.Arn}, {Id: api, Arn: !GetAtt Api.Arn, RoleArn: !GetAtt Role.Arn}]}}
  Api: {Type: AWS::Events::ApiDestination, Properties: {Name: api}}
  First: {Type: AWS::Events::Archive, Properties: {SourceArn: !GetAtt A.Arn, EventPattern: {source: [other]}}}
  Second: {Type: AWS::Events::Archive, Properties: {SourceArn: !GetAtt B.Arn}}
"""


def test_a_bus_that_is_a_target_has_no_other_publisher():
    drawn = set(arrows(flow_of(OVER_BUSES)))
    assert drawn == {
        ("your applications", "A", "PutEvents"),
        ("A", "Rule", ""),
        ("Rule", "B", ""),
        ("Rule", "Api", ""),
        ("A", "First", ""),
        ("B", "Second", ""),
    }


def test_a_partners_bus_keeps_its_whole_name():
    rule = {
        "Type": "AWS::Events::Rule",
        "Properties": {"EventBusName": "aws.partner/shop.com/x", "EventPattern": {}},
    }
    flow = graph.of_template({"Resources": {"Rule": rule}}, **WHERE)
    assert ("aws.partner/shop.com/x", "Rule", "") in arrows(flow)
