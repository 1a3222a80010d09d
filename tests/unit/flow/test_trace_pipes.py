"""Records of a stream through a pipe to a bus."""

import json

import pytest
from flows import ACCOUNT, REGION, flow_of

from eventstacks.flow import trace

PIPE = """
  T: {Type: AWS::DynamoDB::Table, Properties: {
    TableName: t, StreamSpecification: {StreamViewType: NEW_IMAGE}}}
  B: {Type: AWS::Events::EventBus, Properties: {Name: b}}
  R: {Type: AWS::Events::Rule, Properties: {
    EventBusName: !Ref B, EventPattern: {source: [made]}, Targets: []}}
  Role: {Type: AWS::IAM::Role, Properties: {
    AssumeRolePolicyDocument: {Statement: [
      {Effect: Allow, Principal: {Service: pipes.amazonaws.com}, Action: 'sts:AssumeRole'}]},
    Policies: [{PolicyName: p, PolicyDocument: {Statement: [
      {Effect: Allow, Action: [%s], Resource: '*'}]}}]}}
  P: {Type: AWS::Pipes::Pipe, Properties: {
    Source: !GetAtt T.StreamArn, RoleArn: !GetAtt Role.Arn, Target: !GetAtt B.Arn,
    SourceParameters: {DynamoDBStreamParameters: {StartingPosition: LATEST}%s}, TargetParameters: {
      EventBridgeEventBusParameters: {Source: $.dynamodb.NewImage.source.S}, InputTemplate: %s}}}
"""


READ_AND_PUT = "'dynamodb:*', 'events:PutEvents'"


OBJECT = """'{"id": <$.dynamodb.NewImage.id.S>}'"""


FILTER = """, FilterCriteria: {Filters: [
  {Pattern: '{"eventName": ["INSERT"]}'}, {Pattern: '{"eventName": ["REMOVE"]}'}]}"""


RECORD = {
    "eventSource": "aws:dynamodb",
    "eventSourceARN": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/t/stream/⟨s.T.StreamLabel⟩",
    "eventName": "INSERT",
    "dynamodb": {"NewImage": {"id": {"S": "7"}, "source": {"S": "made"}}},
}


def with_source(text):
    image = {**RECORD["dynamodb"]["NewImage"], "source": {"S": text}}
    return {**RECORD, "dynamodb": {"NewImage": image}}


def through_pipe(record=RECORD, actions=READ_AND_PUT, filters="", template=OBJECT):
    flow = flow_of(PIPE % (actions, filters, template))
    [stream] = trace.entrances(flow, record)
    return trace.trace(flow, record, stream)


def test_a_pipe_turns_a_record_into_an_event():
    [route] = through_pipe().routes
    [delivery] = route.deliveries
    assert (route.rule.label, delivery.fate, delivery.label) == ("P", "delivered", "B")
    assert json.loads(delivery.payload.text) == {"id": "7"}
    assert [one.rule.label for one in delivery.onward.routes if one.matched] == ["R"]


@pytest.mark.parametrize(
    ("name", "matched"), [("INSERT", True), ("MODIFY", False), ("REMOVE", True)]
)
def test_a_record_needs_to_match_one_filter_of_a_pipe(name, matched):
    [route] = through_pipe({**RECORD, "eventName": name}, filters=FILTER).routes
    assert route.matched is matched


@pytest.mark.parametrize(
    ("change", "fate", "code"),
    [
        ({"actions": "'dynamodb:*'"}, "lost", "role_policy"),
        ({"actions": "'events:PutEvents'"}, "lost", "role_policy"),
        ({"template": "'text <$.eventName>'"}, "lost", "payload"),
        ({"template": "'[<$.eventName>]'"}, "lost", "payload"),
        ({"record": {**RECORD, "dynamodb": {"NewImage": {}}}}, "lost", "payload"),  # no source
        ({"record": with_source("x" * 257)}, "lost", "payload"),
        ({"record": with_source("aws.s3")}, "lost", "payload"),
    ],
)
def test_a_pipe_that_cannot_deliver(change, fate, code):
    [delivery] = through_pipe(**change).routes[0].deliveries
    assert (delivery.fate, delivery.verdict.code) == (fate, code)


@pytest.mark.parametrize(
    ("invocation", "source", "fate", "code"),
    [
        ("false", "made", "lost", "denied"),
        ("true", "made", "delivered", "allowed"),
        ("false", "other", "delivered", "allowed"),
    ],
)
def test_a_deny_in_the_policy_of_a_bus_binds_a_pipe(invocation, source, fate, code):
    policy = f"""
  Policy: {{Type: AWS::Events::EventBusPolicy, Properties: {{
    EventBusName: b, StatementId: x, Statement: {{
      Effect: Deny, Principal: '*', Action: 'events:PutEvents', Resource: !GetAtt B.Arn,
      Condition: {{
        Bool: {{'events:eventBusInvocation': '{invocation}'}},
        StringEquals: {{'events:source': {source}}}}}}}}}}}
"""
    flow = flow_of(PIPE % (READ_AND_PUT, "", OBJECT) + policy)
    [stream] = trace.entrances(flow, RECORD)
    [delivery] = trace.trace(flow, RECORD, stream).routes[0].deliveries
    assert (delivery.fate, delivery.verdict.code) == (fate, code)


@pytest.mark.parametrize(
    ("queue", "role", "fate", "code"),
    [
        ("!GetAtt D.Arn", "!GetAtt Role.Arn", "lost", "role_policy"),
        ("!Ref Other", "!GetAtt Role.Arn", "unknown", "kind_unknown"),
        ("!GetAtt D.Arn", "!Ref AWS::NoValue", "unknown", "kind_unknown"),
    ],
)
def test_a_pipe_whose_dead_letter_queue_may_be_out_of_reach(queue, role, fate, code):
    pipe = PIPE.replace("LATEST}", f"LATEST, DeadLetterConfig: {{Arn: {queue}}}}}")
    pipe = pipe.replace("RoleArn: !GetAtt Role.Arn", f"RoleArn: {role}")
    flow = flow_of(pipe % ("'dynamodb:*'", "", OBJECT) + "  D: {Type: AWS::SQS::Queue}\n")
    [stream] = trace.entrances(flow, RECORD)
    [delivery] = trace.trace(flow, RECORD, stream).routes[0].deliveries
    assert (delivery.fate, delivery.queue.code) == (fate, code)


def test_a_filter_that_is_a_parameter_leaves_a_doubt():
    filters = FILTER.replace('{Pattern: \'{"eventName": ["INSERT"]}\'}', "{Pattern: !Ref Other}")
    [route] = through_pipe(filters=filters).routes
    assert (route.matched, route.why) == (None, ("depends on ⟨s.Other?⟩",))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("aws.pipes.event.json", RECORD),
        ("aws.pipes.event", RECORD),
        ("aws.pipes.pipe-name", "⟨s.P⟩"),
        ("aws.pipes.pipe-arn", f"arn:aws:pipes:{REGION}:{ACCOUNT}:pipe/⟨s.P⟩"),
        ("aws.pipes.source-arn", RECORD["eventSourceARN"]),
        ("aws.pipes.target-arn", f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/b"),
        ("aws.pipes.event.ingestion-time", "<aws.pipes.event.ingestion-time>"),
    ],
)
def test_a_pipe_has_variables_of_its_own(variable, value):
    [delivery] = through_pipe(template=f"""'{{"x": <{variable}>}}'""").routes[0].deliveries
    assert json.loads(delivery.payload.text) == {"x": value}
    assert delivery.payload.missing == ()


def test_a_stream_without_a_pipe_leads_nowhere():
    found = through_pipe({**RECORD, "eventSourceARN": RECORD["eventSourceARN"] + "x"})
    assert (found.exists, found.routes) == (False, ())
