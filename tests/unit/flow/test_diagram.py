"""Diagrams: their nodes and arrows, and the same text every time."""

from pathlib import Path

import pytest

from dev import docs
from eventstacks import rendering
from eventstacks.documents import parse_template
from eventstacks.flow import graph

NAMES = sorted(one.name for one in (Path(__file__).parents[2] / "events").iterdir() if one.is_dir())
WHERE = {"name": "s", "region": "us-east-1", "account": "123456789012"}


def flow_of(text):
    return graph.of_template(parse_template(text, "t"), **WHERE)


def arrows(flow):
    return [(source.title, target.title) for source, target in docs.edges(flow)]


def test_events_go_from_the_publisher_to_the_dead_letter_queue():
    flow = graph.of_template(rendering.render("s3-object-events").document)
    assert arrows(flow) == [
        ("aws.s3", "default"),
        ("default", "ObjectCreatedRule"),
        ("ObjectCreatedRule", "ObjectLogGroup"),
        ("ObjectLogGroup", "DeadLetterQueue"),
        ("ObjectCreatedRule", "ObjectFunction"),
        ("ObjectFunction", "DeadLetterQueue"),
    ]


def test_a_bus_has_publishers_and_an_archive():
    flow = graph.of_template(rendering.render("custom-event-bus").document)
    assert {
        ("your applications", "EventBus"),
        ("EventBus", "Archive"),
        ("EventLogGroup", "DeadLetterQueue"),
    } <= set(arrows(flow))


def test_a_pipe_reads_its_source_and_sends_to_its_target():
    flow = graph.of_template(rendering.render("table-outbox").document)
    assert arrows(flow) == [
        ("your applications", "Table"),
        ("Table", "OutboxPipe"),
        ("OutboxPipe", "default"),
        ("default", "DeadLetterQueue"),
    ]


def test_a_bus_of_the_new_kind_has_subscribers():
    flow = graph.of_template(rendering.render("event-bus-v2").document)
    assert {
        ("your applications", "EventBus"),
        ("EventBus", "WorkSubscriber"),
        ("WorkSubscriber", "WorkQueue"),
        ("WorkQueue", "FailureQueue"),
        ("EventBus", "LogSubscriber"),
        ("LogSubscriber", "LogFunction"),
    } <= set(arrows(flow))


@pytest.mark.parametrize("name", NAMES)
def test_mermaid_has_every_node_and_arrow_and_is_the_same_every_time(name):
    flow = graph.of_template(rendering.render(name).document)
    drawn, text = set(docs.edges(flow)), docs.mermaid(flow)
    assert text == docs.mermaid(flow)
    assert text.startswith("flowchart LR\n")
    dashed = [target for _, target in drawn if target.kind == "dead-letter queue"]
    assert text.count(" -.->") == len(dashed)
    assert text.count(" -->") + text.count(" -.->") == len(drawn)
    assert all(f"<b>{node.title.strip('⟨?⟩')}</b>" in text for edge in drawn for node in edge)
    assert all(f"classDef {target.style} " in text for _, target in drawn)


def test_a_target_that_is_a_parameter_has_its_name():
    text = docs.mermaid(graph.of_template(rendering.render("event-spoke").document))
    assert "<b>HubEventBusArn</b>" in text


def test_a_template_without_a_flow_has_no_diagram():
    assert docs.mermaid(flow_of("Resources: {Q: {Type: AWS::SQS::Queue}}")) == ""


def test_schedules_are_drawn():
    flow = flow_of("""
Resources:
  Q: {Type: AWS::SQS::Queue}
  S:
    Type: AWS::Scheduler::Schedule
    Properties: {ScheduleExpression: rate(1 hour), Target: {Arn: !GetAtt Q.Arn}}
  R:
    Type: AWS::Events::Rule
    Properties: {ScheduleExpression: rate(1 day), Targets: [{Id: q, Arn: !GetAtt Q.Arn}]}
""")
    found = {(node.title, node.kind) for edge in docs.edges(flow) for node in edge}
    assert {("S", "schedule"), ("R", "rule")} <= found
    assert {("S", "Q"), ("R", "Q")} <= set(arrows(flow))


def test_text_of_a_template_cannot_break_out_of_the_diagram():
    flow = flow_of("""
Resources:
  R: {Type: AWS::Events::Rule, Properties: {EventPattern: {source: ['</text><script>"#;']}}}
""")
    text = docs.mermaid(flow)
    assert "script" in text
    assert "<script" not in text


OVER_BUSES = """
Resources:
  A: {Type: AWS::Events::EventBus, Properties: {Name: a}}
  B: {Type: AWS::Events::EventBus, Properties: {Name: b}}
  Role: {Type: AWS::IAM::Role, Properties: {
    AssumeRolePolicyDocument: {Statement: [
      {Effect: Allow, Principal: {Service: events.amazonaws.com}, Action: 'sts:AssumeRole'}]},
    Policies: [{PolicyName: p, PolicyDocument: {Statement: [
      {Effect: Allow, Action: 'events:*', Resource: '*'}]}}]}}
  Rule: {Type: AWS::Events::Rule, Properties: {
    EventBusName: !Ref A, EventPattern: {source: [shop]}, Targets: [
      {Id: b, Arn: !GetAtt B.Arn, RoleArn: !GetAtt Role.Arn},
      {Id: api, Arn: !GetAtt Api.Arn, RoleArn: !GetAtt Role.Arn}]}}
  Api: {Type: AWS::Events::ApiDestination, Properties: {Name: api}}
  First: {Type: AWS::Events::Archive, Properties: {
    SourceArn: !GetAtt A.Arn, EventPattern: {source: [other]}}}
  Second: {Type: AWS::Events::Archive, Properties: {SourceArn: !GetAtt B.Arn}}
"""


def test_a_bus_that_is_a_target_has_no_other_publisher():
    drawn = set(arrows(flow_of(OVER_BUSES)))
    assert drawn == {
        ("your applications", "A"),
        ("A", "Rule"),
        ("Rule", "B"),
        ("Rule", "Api"),
        ("A", "First"),
        ("B", "Second"),
    }


def test_a_partners_bus_keeps_its_whole_name():
    rule = {
        "Type": "AWS::Events::Rule",
        "Properties": {"EventBusName": "aws.partner/shop.com/x", "EventPattern": {}},
    }
    flow = graph.of_template({"Resources": {"Rule": rule}}, **WHERE)
    assert ("aws.partner/shop.com/x", "Rule") in arrows(flow)
