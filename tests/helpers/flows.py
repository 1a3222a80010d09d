"""Flows of small templates, and the route of an event through the first rule."""

from eventstacks.documents import parse_template
from eventstacks.flow import graph, trace

REGION, ACCOUNT = "us-east-1", "123456789012"
EVENT = {
    "version": "0",
    "id": "1",
    "detail-type": "placed",
    "source": "shop",
    "account": ACCOUNT,
    "time": "2024-01-01T00:00:00Z",
    "region": REGION,
    "resources": [],
    "detail": {"total": 5, "bucket": "mine"},
}
DEFAULT = f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"


def flow_of(resources, **where):
    text = "Parameters: {Other: {Type: String}}\nResources:\n" + resources
    return graph.of_template(
        parse_template(text, "t"), **{"name": "s", "region": REGION, "account": ACCOUNT, **where}
    )


def rule(name="R", pattern="{source: [shop]}", targets="", more=""):
    given = f"EventPattern: {pattern}, Targets: [{targets}]{more}"
    return f"  {name}: {{Type: AWS::Events::Rule, Properties: {{{given}}}}}\n"


def route(flow, event=None, bus=DEFAULT):
    return trace.trace(flow, {**EVENT, **(event or {})}, bus).routes[0]


QUEUE = """
  Q: {Type: AWS::SQS::Queue}
  D: {Type: AWS::SQS::Queue}
"""
OPEN = """
  P%s: {Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref %s], PolicyDocument: {Statement: [
    {Effect: Allow, Principal: {Service: events.amazonaws.com},
     Action: 'sqs:SendMessage', Resource: '*'}]}}}
"""
TO_QUEUE = "{Id: q, Arn: !GetAtt Q.Arn}"
