"""Diagrams: their nodes and arrows, the marked route, and the same text every time."""

from pathlib import Path

import pytest

from eventstacks import rendering
from eventstacks.documents import parse_template
from eventstacks.flow import diagram, graph, trace

NAMES = sorted(one.name for one in (Path(__file__).parents[2] / "events").iterdir() if one.is_dir())


def picture(name):
    return diagram.picture(graph.of_template(rendering.render(name).document))


def test_events_go_from_the_publisher_to_the_dead_letters():
    drawn = picture("s3-object-events")
    titles = {key: one.title for key, one in drawn.nodes.items()}
    assert [
        (titles[one.source], titles[one.target], one.dashed) for one in drawn.edges.values()
    ] == [
        ("DataBucket", "Trail", False),
        ("Trail", "default", False),
        ("default", "ObjectCreatedRule", False),
        ("ObjectCreatedRule", "ObjectLogGroup", False),
        ("ObjectCreatedRule", "ObjectFunction", False),
        ("ObjectLogGroup", "DeadLetterQueue", True),
        ("ObjectFunction", "DeadLetterQueue", True),
    ]


def test_the_archive_hangs_on_the_bus():
    drawn = picture("custom-event-bus")
    titles = {key: one.title for key, one in drawn.nodes.items()}
    pairs = {(titles[one.source], titles[one.target]) for one in drawn.edges.values()}
    assert {
        ("EventBus", "Archive"),
        ("your applications", "EventBus"),
        ("EventLogGroup", "DeadLetterQueue"),
    } <= pairs


def test_a_bus_with_a_key_has_dead_letters_of_its_own():
    template = rendering.render("custom-event-bus").document
    key = {"KmsKeyArn": "arn:aws:kms:us-east-1:111122223333:key/x"}
    drawn = diagram.picture(graph.of_template(template, key))
    titles = {name: one.title for name, one in drawn.nodes.items()}
    (link,) = [one for one in drawn.edges.values() if titles[one.target] == "BusDeadLetterQueue"]
    assert (titles[link.source], link.label, link.dashed) == ("EventBus", "not decrypted", True)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bytes_every_time(name):
    assert diagram.mermaid(picture(name)) == diagram.mermaid(picture(name))


@pytest.mark.parametrize("name", NAMES)
def test_mermaid_names_every_card_and_arrow(name):
    drawn = picture(name)
    text = diagram.mermaid(drawn)
    assert text.startswith("flowchart LR\n")
    assert text.count(" -.->") == sum(one.dashed for one in drawn.edges.values())
    assert text.count(" -->") + text.count(" -.->") == len(drawn.edges)
    assert all(f"<b>{one.title}</b>" in text for one in drawn.nodes.values())


def test_schedules_and_disabled_rules_are_drawn():
    template = """
Resources:
  Q: {Type: AWS::SQS::Queue}
  S: {Type: AWS::Scheduler::Schedule, Properties: {ScheduleExpression: rate(1 hour), Target: {Arn: !GetAtt Q.Arn}}}
  R: {Type: AWS::Events::Rule, Properties: {ScheduleExpression: rate(1 day), State: DISABLED, Targets: [{Id: q, Arn: !GetAtt Q.Arn}]}}
"""
    drawn = diagram.picture(graph.of_template(parse_template(template, "t")))
    found = {one.title: (one.kind, one.lines) for one in drawn.nodes.values()}
    assert found["S"] == ("schedule", ("rate(1 hour)",))
    assert found["R"] == ("rule (disabled)", ("rate(1 day)",))
    assert [drawn.nodes[one.target].title for one in drawn.edges.values()].count("Q") == 2


def test_text_of_a_template_cannot_break_out_of_the_picture():
    template = """
Resources:
  R: {Type: AWS::Events::Rule, Properties: {EventPattern: {source: ['</text><script>"#;']}}}
"""
    drawn = diagram.picture(graph.of_template(parse_template(template, "t")))
    assert "<script" not in diagram.mermaid(drawn)


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
            {"a": ["⟨AWS.AccountId⟩", "⟨my-stack.Bucket⟩", "⟨Name?⟩"]},
            ("a: this account, [Bucket], [Name?]",),
        ),
        (
            {str(number): ["x"] for number in range(20)},
            (*(f"{number}: x" for number in range(7)), "… and 13 more"),
        ),
    ],
)
def test_patterns_in_short(pattern, lines):
    assert diagram.short(pattern) == lines


def test_of_a_route_only_what_the_event_passes_is_drawn():
    flow = graph.of_template(
        rendering.render("custom-event-bus").document,
        name="s",
        region="us-east-1",
        account="123456789012",
    )
    event = {"source": "shop", "account": "123456789012", "region": "us-east-1", "detail": {}}
    [bus] = trace.entrances(flow, event)

    def drawn(event):
        made = diagram.picture(flow, [trace.trace(flow, event, bus)])
        lost = {made.nodes[one.target].title for one in made.edges.values() if one.is_lost}
        return {one.title for one in made.nodes.values()}, lost

    route = {"your applications", "EventBus", "CatchAllRule", "Archive", "EventLogGroup"}
    assert drawn(event) == (route, set())
    assert "CatchAllRule" not in drawn({**event, "account": "1"})[0]
    flow.policies = [one for one in flow.policies if "Queue" in one.label]
    assert drawn(event) == (route | {"DeadLetterQueue"}, {"EventLogGroup"})


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


def test_what_a_later_bus_keeps_is_on_the_way():
    flow = graph.of_template(
        parse_template(OVER_BUSES, "t"), name="s", region="us-east-1", account="123456789012"
    )
    event = {"source": "shop", "account": "123456789012", "region": "us-east-1", "detail": {}}
    [bus] = [one.arn for one in flow.buses.values() if one.name == "a"]
    drawn = diagram.picture(flow, [trace.trace(flow, event, bus)])
    found = {one.title: one.kind for one in drawn.nodes.values()}
    assert found == {
        "your applications": "publisher",
        "A": "event bus",
        "Rule": "rule",
        "B": "event bus",
        "Api": "API destination",
        "Second": "archive",
    }


def test_a_partners_bus_keeps_its_whole_name():
    rule = {
        "Type": "AWS::Events::Rule",
        "Properties": {"EventBusName": "aws.partner/shop.com/x", "EventPattern": {}},
    }
    flow = graph.of_template(
        {"Resources": {"Rule": rule}}, name="s", region="us-east-1", account="123456789012"
    )
    assert "aws.partner/shop.com/x" in {one.name for one in flow.buses.values()}
    assert "aws.partner/shop.com/x" in {one.title for one in diagram.picture(flow).nodes.values()}
