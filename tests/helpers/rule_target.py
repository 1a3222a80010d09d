"""Templates with one rule and one target ``T``, and whether the target may be reached."""

from eventstacks.documents import parse_template
from eventstacks.flow import graph, permissions

WHERE = {"name": "s", "region": "us-east-1", "account": "123456789012"}
POLICY = (
    "{Version: '2012-10-17', Statement: [{Effect: Allow, "
    "Principal: {Service: events.amazonaws.com}, Action: %s, Resource: '*'%s}]}"
)
SOURCE = ", Condition: {ArnEquals: {'aws:SourceArn': !GetAtt Rule.Arn}}"


def flow_of(resources, target="!GetAtt T.Arn", more=""):
    text = f"""
Parameters:
  Outside: {{Type: String, Default: 'arn:aws:sqs:us-east-1:999999999999:theirs'}}
  Key: {{Type: String}}
Resources:
  Rule: {{Type: AWS::Events::Rule, Properties: {{
    EventPattern: {{source: [a]}}, Targets: [{{Id: t, Arn: {target}{more}}}]}}}}
{resources}
"""
    return graph.of_template(parse_template(text, "test"), **WHERE)


def verdict(resources, target="!GetAtt T.Arn", more=""):
    flow = flow_of(resources, target, more)
    [rule] = flow.rules
    return permissions.of_target(flow, rule, rule.targets[0])


QUEUE = "  T: {Type: AWS::SQS::Queue}\n"
TOPIC = "  T: {Type: AWS::SNS::Topic}\n"
FUNCTION = "  T: {Type: AWS::Lambda::Function, Properties: {FunctionName: f}}\n"
MACHINE = "  T: {Type: AWS::StepFunctions::StateMachine}\n"


def queue_policy(
    condition=SOURCE, action="'sqs:SendMessage'", kind="SQS::QueuePolicy", key="Queues"
):
    given = f"{key}: [!Ref T], PolicyDocument: {POLICY % (action, condition)}"
    return f"  P: {{Type: 'AWS::{kind}', Properties: {{{given}}}}}\n"


def permission(
    more=", SourceArn: !GetAtt Rule.Arn", function="!Ref T", action="lambda:InvokeFunction"
):
    given = f"FunctionName: {function}, Action: '{action}', Principal: events.amazonaws.com{more}"
    return f"  P: {{Type: AWS::Lambda::Permission, Properties: {{{given}}}}}\n"


ROLE = """
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Statement: [{Effect: Allow, Principal: {Service: %s}, Action: 'sts:AssumeRole'}]
      Policies:
      - PolicyName: p
        PolicyDocument:
          Statement: [{Effect: Allow, Action: 'states:StartExecution', Resource: !Ref T}]
"""
WITH_ROLE = ", RoleArn: !GetAtt Role.Arn"
