"""The table of target kinds: what each needs, by AWS's guides and by public issues."""

import json

import pytest

from eventstacks.documents import parse_template
from eventstacks.flow import graph, permissions, targets, trace

WHERE = {"name": "s", "region": "us-east-1", "account": "123456789012"}
RULE = "arn:aws:events:us-east-1:123456789012:rule/r"
ARN = "arn:aws:%s:us-east-1:123456789012:%s"


def flow_of(resources, target):
    settings = json.dumps({"Id": "t", **target})
    text = f"""
Parameters: {{Any: {{Type: String}}}}
Resources:
  Rule: {{Type: AWS::Events::Rule, Properties: {{
    Name: r, EventPattern: {{source: [a]}}, Targets: [{settings}]}}}}
{resources}
"""
    return graph.of_template(parse_template(text, "t"), **WHERE)


def verdict(resources, **target):
    flow = flow_of(resources, target)
    [rule] = flow.rules
    return permissions.of_target(flow, rule, rule.targets[0])


def role(*statements, service="events.amazonaws.com", more=""):
    policies = json.dumps([{"PolicyName": "p", "PolicyDocument": {"Statement": [*statements]}}])
    trust = f"{{Effect: Allow, Principal: {{Service: {service}}}, Action: 'sts:AssumeRole'}}"
    document = f"AssumeRolePolicyDocument: {{Statement: [{trust}]}}"
    properties = f"{{{document}, Policies: {policies}{more}}}"
    return f"  Role: {{Type: AWS::IAM::Role, Properties: {properties}}}\n"


def allow(action, resource="*", **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


WITH_ROLE = {"RoleArn": {"Fn::GetAtt": ["Role", "Arn"]}}
KINDS = {  # ARN and further settings of a target: its calls
    ARN % ("events", "api-destination/d/1"): ({}, ["events:InvokeApiDestination"]),
    ARN % ("events", "event-bus/b"): ({}, ["events:PutEvents"]),
    ARN % ("appsync", "endpoints/graphql-api/x"): ({}, ["appsync:GraphQL"]),
    ARN % ("batch", "job-queue/q"): (
        {"BatchParameters": {"JobDefinition": "j", "JobName": "n"}},
        ["batch:SubmitJob", "batch:SubmitJob"],
    ),
    ARN % ("codebuild", "project/p"): ({}, ["codebuild:StartBuild"]),
    ARN % ("codepipeline", "p"): ({}, ["codepipeline:StartPipelineExecution"]),
    ARN % ("ecs", "cluster/c"): (
        {"EcsParameters": {"TaskDefinitionArn": ARN % ("ecs", "task-definition/t:1")}},
        ["ecs:RunTask"],
    ),
    ARN % ("execute-api", "a/prod/POST/hook"): ({}, ["execute-api:Invoke"]),
    ARN % ("firehose", "deliverystream/s"): ({}, ["firehose:PutRecord"]),
    ARN % ("glue", "workflow/w"): ({}, ["glue:NotifyEvent"]),
    ARN % ("kinesis", "stream/s"): ({}, ["kinesis:PutRecord"]),
    ARN % ("lambda", "function:f"): ({}, ["lambda:InvokeFunction"]),
    ARN % ("redshift", "cluster:c"): ({}, ["redshift-data:ExecuteStatement"]),
    ARN % ("sagemaker", "pipeline/p"): ({}, ["sagemaker:StartPipelineExecution"]),
    ARN % ("sns", "t"): ({}, ["sns:Publish"]),
    ARN % ("sqs", "q"): ({}, ["sqs:SendMessage"]),
    ARN % ("ssm", "automation-definition/a"): ({}, ["ssm:StartAutomationExecution"]),
    ARN % ("ssm", "document/d"): ({}, ["ssm:SendCommand", "ssm:SendCommand"]),
    ARN % ("ssm", "opsitem"): ({}, ["ssm:CreateOpsItem"]),
    "arn:aws:ssm-incidents::123456789012:response-plan/p": ({}, ["ssm-incidents:StartIncident"]),
    ARN % ("states", "stateMachine:m"): ({}, ["states:StartExecution"]),
}


@pytest.mark.parametrize("arn", KINDS, ids=lambda arn: ":".join(arn.split(":")[2:6:3]))
def test_a_role_has_to_trust_eventbridge_and_to_allow_the_action(arn):
    settings, actions = KINDS[arn]
    target = {"Arn": arn, **WITH_ROLE, **settings}
    calls = targets.role_calls(targets.Target("t", arn, settings), {})
    assert [call.action for call in calls] == actions
    allowing = [allow(action) for action in actions]
    assert verdict(role(*allowing), **target).allowed is True
    assert verdict(role(allow("s3:Get*")), **target).code == "role_policy"
    other = role(*allowing, service="lambda.amazonaws.com")
    assert verdict(other, **target).code == "role_trust"
    managed = role(more=", ManagedPolicyArns: ['arn:aws:iam::aws:policy/X']")
    assert verdict(managed, **target).code == "managed_policy"


@pytest.mark.parametrize("arn", KINDS, ids=lambda arn: ":".join(arn.split(":")[2:6:3]))
def test_what_has_no_resource_policy_needs_a_role(arn):
    kind, settings = targets.kind_of(arn), KINDS[arn][0]
    found = verdict("", Arn=arn, **settings)
    expected = "not_in_stacks" if kind.policy else "refused_role"
    assert found.code == expected
    assert (found.allowed, found.code in targets.REFUSALS) == (
        (None, False) if kind.policy else (False, True)
    )


@pytest.mark.parametrize(
    ("arn", "code"),
    [
        ("", "refused_target"),
        ("my-queue", "refused_target"),
        ("arn:aws:s3:::bucket", "refused_target"),  # LocalStack's recorded test
        ("arn:aws:iam::123456789012:role/r", "refused_target"),  # cfn-lint 4505
        (ARN % ("quantum", "thing"), "kind_unknown"),
        (ARN % ("events", "target/create-snapshot"), "kind_unknown"),
        ({"Ref": "Any"}, "kind_unknown"),
        ("arn:aws:sqs:eu-west-1:123456789012:far", "other_region"),
        ("arn:aws:events:eu-west-1:123456789012:event-bus/default", "refused_role"),
    ],
)
def test_targets_that_are_refused_or_not_known(arn, code):
    found = verdict("", Arn=arn)
    assert found.code == code
    assert found.allowed is (None if code == "kind_unknown" else False)


TASK = """
  Cluster: {Type: AWS::ECS::Cluster}
  Task: {Type: AWS::ECS::TaskDefinition, Properties: {
    Family: job, TaskRoleArn: 'arn:aws:iam::123456789012:role/task'}}
"""
RUN_TASK = {
    "Arn": {"Fn::GetAtt": ["Cluster", "Arn"]},
    "EcsParameters": {"TaskDefinitionArn": {"Ref": "Task"}},
    **WITH_ROLE,
}
OF_CLUSTER = {"ArnEquals": {"ecs:cluster": {"Fn::GetAtt": ["Cluster", "Arn"]}}}
TO_TASKS = {"StringLike": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([allow("ecs:RunTask", {"Ref": "Task"})], False),  # aws-cdk 16181: no iam:PassRole
        ([allow("ecs:RunTask", {"Ref": "Task"}), allow("iam:PassRole")], True),
        ([allow("ecs:RunTask", {"Fn::GetAtt": "Cluster.Arn"}), allow("iam:PassRole")], False),
        (
            [allow("ecs:RunTask", Condition=OF_CLUSTER), allow("iam:PassRole", Condition=TO_TASKS)],
            True,
        ),
        (
            [allow("ecs:RunTask"), allow("iam:PassRole", "arn:aws:iam::123456789012:role/other")],
            False,
        ),
    ],
)
def test_ecs_asks_for_the_task_definition_and_its_roles(statements, allowed):
    assert verdict(TASK + role(*statements), **RUN_TASK).allowed is allowed


@pytest.mark.parametrize(
    ("resource", "allowed"), [("job:*", True), ("job", False), ("jo*", True), ("job:3", None)]
)
def test_a_task_definition_without_a_revision_has_one_when_it_runs(resource, allowed):
    family = "arn:aws:ecs:us-east-1:123456789012:task-definition/job"
    statements = [allow("ecs:RunTask", family.replace("job", resource)), allow("iam:PassRole")]
    run = {**RUN_TASK, "EcsParameters": {"TaskDefinitionArn": family}}
    assert verdict(TASK + role(*statements), **run).allowed is allowed


MACHINE = """
  M: {Type: AWS::StepFunctions::StateMachine, Properties: {StateMachineName: m}}
  V: {Type: AWS::StepFunctions::StateMachineVersion, Properties: {StateMachineArn: !Ref M}}
  Alias: {Type: AWS::StepFunctions::StateMachineAlias, Properties: {Name: live, %s}}
"""
ALIASES = [
    "DeploymentPreference: {Type: ALL_AT_ONCE, StateMachineVersionArn: !Ref V}",
    "RoutingConfiguration: [{StateMachineVersionArn: !Ref V, Weight: 100}]",
]


@pytest.mark.parametrize("given", ALIASES, ids=["preference", "routing"])
@pytest.mark.parametrize(("resource", "allowed"), [("M", True), ("Alias", False)])
def test_iam_is_asked_for_the_machine_of_an_alias(given, resource, allowed):
    start = role(allow("states:StartExecution", {"Ref": resource}))
    target = {"Arn": {"Ref": "Alias"}, **WITH_ROLE}
    assert verdict(MACHINE % given + start, **target).allowed is allowed


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        ("*", "allowed"),
        ("arn:aws:appsync:us-east-1:123456789012:apis/*", "allowed"),
        ({"Fn::Sub": "${Api.Arn}/types/Mutation/*"}, "depends"),
        ("arn:aws:appsync:us-east-1:123456789012:apis/x/types/Query/*", "role_policy"),
    ],
)
def test_the_api_of_an_endpoint_is_not_looked_up(resource, code):
    api = "  Api: {Type: AWS::AppSync::GraphQLApi, Properties: {Name: a}}\n"
    target = {"Arn": {"Fn::GetAtt": ["Api", "GraphQLEndpointArn"]}, **WITH_ROLE}
    assert verdict(api + role(allow("appsync:GraphQL", resource)), **target).code == code


def test_the_condition_that_does_not_hold_is_named_with_both_values():
    function = "  F: {Type: AWS::Lambda::Function, Properties: {FunctionName: f}}\n"
    wrong = "arn:aws:events:us-east-1:123456789012:rule/default/r"  # serverless 13038
    permission = (
        "  P: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref F,"
        " Action: 'lambda:InvokeFunction', Principal: events.amazonaws.com,"
        f" SourceArn: '{wrong}'}}}}\n"
    )
    found = verdict(function + permission, Arn={"Fn::GetAtt": "F.Arn"})
    assert found.code == "no_policy"
    assert "P requires" in found.reason
    assert wrong in found.reason
    assert RULE in found.reason


QUEUE = "  Q: {Type: AWS::SQS::Queue}\n"
OPEN = "  P: {Type: AWS::SQS::QueuePolicy, Properties: {Queues: [%s], PolicyDocument: %s}}\n"
STATEMENT = (
    "{Statement: [{Effect: Allow, Principal: '*', Action: 'sqs:SendMessage', Resource: '*'}]}"
)


@pytest.mark.parametrize(
    ("queue", "document", "code"),
    [
        ("!Ref Q", STATEMENT, "allowed"),
        ("!Ref Any", STATEMENT, "depends"),
        ("!Ref Q", "!Ref Any", "depends"),
        ("'https://other'", STATEMENT, "no_policy"),
    ],
)
def test_a_policy_that_only_aws_can_read_leaves_a_doubt(queue, document, code):
    found = verdict(QUEUE + OPEN % (queue, document), Arn={"Fn::GetAtt": "Q.Arn"})
    assert found.code == code


def test_a_custom_resource_can_make_the_logs_policy():
    group = "  G: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /g}}\n"
    create = '{Create: \'{"action":"putResourcePolicy"}\'}'
    custom = f"  C: {{Type: 'Custom::Policy', Properties: {create}}}\n"
    target = {"Arn": {"Fn::GetAtt": "G.Arn"}}
    assert verdict(group, **target).code == "no_policy"
    assert verdict(group + custom, **target).code == "depends"


@pytest.mark.parametrize(
    ("template", "unexamined"),
    [
        ({"Transform": ["MyMacro", "AWS::LanguageExtensions"]}, ["macro MyMacro"]),
        ({"Transform": {"Name": "AWS::Include"}}, ["macro AWS::Include"]),
        ({"Resources": {"Fn::ForEach::Rules": []}}, ["ForEach Rules"]),
        ({"Resources": {"N": {"Type": "AWS::CloudFormation::Stack"}}}, ["nested stack N"]),
        ({"Resources": {"N": {"Type": "AWS::CloudFormation::StackSet"}}}, ["stack set N"]),
        ({"Resources": {"M": {"Type": "Acme::Rule::MODULE"}}}, ["module M"]),
        (
            {
                "Resources": {
                    "F": {"Type": "AWS::Serverless::Function", "Properties": {"Events": {"E": {}}}}
                }
            },
            ["SAM events of F"],
        ),
        (
            {
                "Transform": "AWS::Serverless-2016-10-31",
                "Resources": {"Q": {"Type": "AWS::SQS::Queue"}},
            },
            [],
        ),
    ],
)
def test_what_is_not_expanded_is_named(template, unexamined):
    flow = graph.of_template(template, **WHERE)
    event = {"source": "a", "region": "us-east-1", "account": "123456789012"}
    [bus] = trace.entrances(flow, event)
    assert [*trace.trace(flow, event, bus).unexamined] == unexamined


def test_a_rule_on_a_bus_of_another_region_is_refused():
    flow = flow_of("", {"Arn": ARN % ("sqs", "q")})
    text = """
Resources:
  Rule: {Type: AWS::Events::Rule, Properties: {EventPattern: {source: [a]},
    EventBusName: 'arn:aws:events:eu-west-2:999999999999:event-bus/b'}}
"""
    flow = graph.of_template(parse_template(text, "t"), **WHERE)
    event = {"source": "a", "region": "us-east-1", "account": "123456789012"}
    [bus] = trace.entrances(flow, event)
    [route] = trace.trace(flow, event, bus).routes
    assert (route.matched, route.rule.label) == (False, "Rule")
    assert "PutRule refuses" in route.why[0]


def test_a_dead_letter_queue_that_cannot_be_written_shows_on_a_delivered_event():
    dead = "  D: {Type: AWS::SQS::Queue, Properties: {KmsMasterKeyId: alias/aws/sqs}}\n"
    policies = OPEN % ("!Ref Q, !Ref D", STATEMENT)
    settings = {
        "Arn": {"Fn::GetAtt": "Q.Arn"},
        "DeadLetterConfig": {"Arn": {"Fn::GetAtt": "D.Arn"}},
    }
    flow = flow_of(QUEUE + dead + policies, settings)
    event = {"source": "a", "region": "us-east-1", "account": "123456789012"}
    [bus] = trace.entrances(flow, event)
    [delivery] = trace.trace(flow, event, bus).routes[0].deliveries
    assert (delivery.fate, delivery.queue.code) == ("delivered", "key_aws_managed")
