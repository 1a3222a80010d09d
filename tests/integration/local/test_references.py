"""References to resources that do not exist fail with AWS's text, at creation and at update."""

import pytest
from raw_stacks import ACCOUNT, resource, template

HERE = f"arn:aws:{{}}:eu-central-1:{ACCOUNT}:"
QUEUE, TOPIC = HERE.format("sqs") + "missing", HERE.format("sns") + "missing"
QUEUE_URL = f"https://sqs.eu-central-1.amazonaws.com/{ACCOUNT}/missing"
NO_ROLE = f"arn:aws:iam::{ACCOUNT}:role/missing"
BUS = HERE.format("events") + "event-bus/missing"
ALLOW = {
    "Effect": "Allow",
    "Principal": {"Service": "events.amazonaws.com"},
    "Action": "*",
    "Resource": "*",
}
POLICY = {"Version": "2012-10-17", "Statement": [ALLOW]}
GRANT = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}],
}
FUNCTION = {
    "Runtime": "python3.13",
    "Handler": "index.handler",
    "Code": {"ZipFile": "def handler(event, context): pass"},
}
MACHINE = {"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}
SCHEDULE = {"FlexibleTimeWindow": {"Mode": "OFF"}, "ScheduleExpression": "rate(1 day)"}
METRIC = {"MetricName": "m", "MetricNamespace": "n", "MetricValue": "1"}
UNTRUSTED = {
    "lambda": "The role defined for the function cannot be assumed by Lambda.",
    "pipes": "The provided customer role cannot be assumed by Pipes",
    "scheduler": (
        "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
    ),
    "states": (
        "Neither the global service principal states.amazonaws.com, "
        "nor the regional one is authorized to assume"
    ),
}
NO_SOURCE = "SQS Error Code: AWS.SimpleQueueService.NonExistentQueue."


def att(name, key="Arn"):
    return {"Fn::GetAtt": [name, key]}


def role(service, *actions):
    """A role that the service assumes, with these actions on every resource."""
    statements = [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]
    own = {
        "PolicyName": "own",
        "PolicyDocument": {"Version": "2012-10-17", "Statement": statements},
    }
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    trusting = {"Version": "2012-10-17", "Statement": [trust]}
    return resource(
        "AWS::IAM::Role", AssumeRolePolicyDocument=trusting, Policies=[own] if actions else []
    )


@pytest.mark.parametrize(
    ("kind", "properties", "reason"),
    [
        ("Lambda::Function", {**FUNCTION, "Role": NO_ROLE}, UNTRUSTED["lambda"]),
        (
            "Lambda::Alias",
            {"FunctionName": "missing", "Name": "live", "FunctionVersion": "1"},
            "Function not found: missing",
        ),
        (
            "Lambda::EventInvokeConfig",
            {"FunctionName": "missing", "Qualifier": "$LATEST"},
            "function not found: missing",
        ),
        (
            "Lambda::EventSourceMapping",
            {"FunctionName": "missing", "EventSourceArn": QUEUE},
            "Function not found: missing",
        ),
        (
            "Lambda::Permission",
            {"FunctionName": "missing", "Action": "lambda:InvokeFunction", "Principal": "*"},
            "Function not found: missing",
        ),
        (
            "Lambda::Url",
            {"TargetFunctionArn": "missing", "AuthType": "NONE"},
            "function not found: missing",
        ),
        ("Lambda::Version", {"FunctionName": "missing"}, "Function not found: missing"),
        (
            "SQS::QueuePolicy",
            {"Queues": [QUEUE_URL], "PolicyDocument": POLICY},
            "The specified queue does not exist.",
        ),
        (
            "SQS::Queue",
            {"RedrivePolicy": {"deadLetterTargetArn": QUEUE, "maxReceiveCount": 3}},
            "Invalid value for the parameter RedrivePolicy",
        ),
        ("SNS::TopicPolicy", {"Topics": [TOPIC], "PolicyDocument": POLICY}, "Topic does not exist"),
        (
            "SNS::Subscription",
            {"TopicArn": TOPIC, "Protocol": "sqs", "Endpoint": QUEUE},
            "Topic does not exist",
        ),
        (
            "S3::Bucket",
            {
                "NotificationConfiguration": {
                    "QueueConfigurations": [{"Event": "s3:ObjectCreated:*", "Queue": QUEUE}]
                }
            },
            "Unable to validate the following destination configurations",
        ),
        (
            "S3::BucketPolicy",
            {"Bucket": "missing", "PolicyDocument": POLICY},
            "The specified bucket does not exist",
        ),
        ("Events::Archive", {"SourceArn": BUS}, "Event bus missing does not exist."),
        (
            "Events::EventBusPolicy",
            {"EventBusName": "missing", "StatementId": "a", "Statement": ALLOW},
            "Event bus missing does not exist.",
        ),
        (
            "Logs::LogGroup",
            {"KmsKeyId": HERE.format("kms") + "key/missing"},
            "The specified KMS key does not exist",
        ),
        ("Logs::LogStream", {"LogGroupName": "missing"}, "The specified log group does not exist."),
        (
            "Logs::MetricFilter",
            {"LogGroupName": "missing", "FilterPattern": "", "MetricTransformations": [METRIC]},
            "The specified log group does not exist.",
        ),
        (
            "Logs::SubscriptionFilter",
            {"LogGroupName": "missing", "FilterPattern": "", "DestinationArn": QUEUE},
            "The specified log group does not exist.",
        ),
        (
            "IAM::ManagedPolicy",
            {"Roles": ["missing"], "PolicyDocument": GRANT},
            "The role with name missing cannot be found.",
        ),
        (
            "IAM::Policy",
            {"PolicyName": "a", "Roles": ["missing"], "PolicyDocument": GRANT},
            "The role with name missing cannot be found.",
        ),
        (
            "IAM::Role",
            {
                "AssumeRolePolicyDocument": POLICY,
                "ManagedPolicyArns": [f"arn:aws:iam::{ACCOUNT}:policy/missing"],
            },
            f"Policy arn:aws:iam::{ACCOUNT}:policy/missing does not exist or is not attachable.",
        ),
        (
            "KMS::Alias",
            {"AliasName": "alias/references", "TargetKeyId": "missing"},
            "Key 'missing' does not exist",
        ),
        ("Pipes::Pipe", {"RoleArn": NO_ROLE, "Source": QUEUE, "Target": QUEUE}, UNTRUSTED["pipes"]),
        (
            "Scheduler::Schedule",
            {**SCHEDULE, "Target": {"Arn": QUEUE, "RoleArn": NO_ROLE}},
            UNTRUSTED["scheduler"],
        ),
        (
            "Scheduler::Schedule",
            {**SCHEDULE, "GroupName": "missing", "Target": {"Arn": QUEUE, "RoleArn": NO_ROLE}},
            "Schedule group missing does not exist.",
        ),
        (
            "Scheduler::Schedule",
            {**SCHEDULE, "ScheduleExpression": "daily", "Target": {"RoleArn": NO_ROLE}},
            "Invalid Schedule Expression daily",
        ),
        (
            "Scheduler::Schedule",
            {**SCHEDULE, "ScheduleExpressionTimezone": "Mars", "Target": {"RoleArn": NO_ROLE}},
            "Invalid Schedule Expression rate(1 day) Mars",
        ),
        (
            "StepFunctions::StateMachine",
            {"RoleArn": NO_ROLE, "Definition": MACHINE},
            UNTRUSTED["states"],
        ),
    ],
)
def test_references_to_missing_resources_are_refused(deploy, kind, properties, reason):
    stack = deploy(template(Own=resource(f"AWS::{kind}", **properties)))
    assert stack.status == "ROLLBACK_COMPLETE"
    assert reason in stack.reasons()


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    ("service", "kind", "properties"),
    [
        ("lambda", "Lambda::Function", {**FUNCTION, "Role": att("Role")}),
        ("pipes", "Pipes::Pipe", {"RoleArn": att("Role"), "Source": TOPIC, "Target": QUEUE}),
        (
            "scheduler",
            "Scheduler::Schedule",
            {**SCHEDULE, "Target": {"Arn": QUEUE, "RoleArn": att("Role")}},
        ),
        ("states", "StepFunctions::StateMachine", {"RoleArn": att("Role"), "Definition": MACHINE}),
    ],
)
def test_a_role_must_trust_the_service_that_assumes_it(deploy, service, kind, properties, trusted):
    trusting = role(service if trusted else "events")
    stack = deploy(template(Role=trusting, Own=resource(f"AWS::{kind}", **properties)))
    assert stack.status == ("CREATE_COMPLETE" if trusted else "ROLLBACK_COMPLETE")
    assert (UNTRUSTED[service] in stack.reasons()) is not trusted


@pytest.mark.parametrize("reader", ["lambda", "pipes"])
@pytest.mark.parametrize(
    ("actions", "queue", "reason"),
    [
        (["sqs:ReceiveMessage"], QUEUE, NO_SOURCE),
        (
            ["sqs:DeleteMessage"],
            att("Queue"),
            "role does not have permissions to call ReceiveMessage on SQS",
        ),
        (["sqs:*"], att("Queue"), None),
    ],
)
def test_a_reader_of_a_queue_needs_the_queue_and_permission(deploy, reader, actions, queue, reason):
    there = {"Queue": resource("AWS::SQS::Queue"), "Role": role(reader, *actions)}
    if reader == "lambda":
        there["Function"] = resource("AWS::Lambda::Function", **FUNCTION, Role=att("Role"))
        own = resource(
            "AWS::Lambda::EventSourceMapping",
            FunctionName={"Ref": "Function"},
            EventSourceArn=queue,
        )
    else:
        there["Target"] = resource("AWS::SQS::Queue")
        own = resource("AWS::Pipes::Pipe", RoleArn=att("Role"), Source=queue, Target=att("Target"))
    stack = deploy(template(**there, Own=own))
    assert stack.status == ("ROLLBACK_COMPLETE" if reason else "CREATE_COMPLETE")
    assert (reason or "") in stack.reasons()


def test_resources_with_valid_references_are_created(deploy):
    """Every kind that is refused above, beside what it names."""
    stack = deploy(
        template(
            Queue=resource("AWS::SQS::Queue"),
            QueuePolicy=resource(
                "AWS::SQS::QueuePolicy", Queues=[{"Ref": "Queue"}], PolicyDocument=POLICY
            ),
            Topic=resource("AWS::SNS::Topic"),
            TopicPolicy=resource(
                "AWS::SNS::TopicPolicy", Topics=[{"Ref": "Topic"}], PolicyDocument=POLICY
            ),
            Subscription=resource(
                "AWS::SNS::Subscription",
                TopicArn={"Ref": "Topic"},
                Protocol="sqs",
                Endpoint=att("Queue"),
            ),
            Bucket=resource("AWS::S3::Bucket"),
            BucketPolicy=resource(
                "AWS::S3::BucketPolicy", Bucket={"Ref": "Bucket"}, PolicyDocument=POLICY
            ),
            Bus=resource("AWS::Events::EventBus", Name={"Ref": "AWS::StackName"}),
            Archive=resource("AWS::Events::Archive", SourceArn=att("Bus")),
            BusPolicy=resource(
                "AWS::Events::EventBusPolicy",
                EventBusName={"Ref": "Bus"},
                StatementId="a",
                Statement=ALLOW,
            ),
            DefaultPolicy=resource(
                "AWS::Events::EventBusPolicy", StatementId="references", Statement=ALLOW
            ),
            Key=resource("AWS::KMS::Key", KeyPolicy=POLICY),
            Alias=resource(
                "AWS::KMS::Alias", AliasName="alias/references", TargetKeyId={"Ref": "Key"}
            ),
            Group=resource("AWS::Logs::LogGroup", KmsKeyId=att("Key")),
            Stream=resource("AWS::Logs::LogStream", LogGroupName={"Ref": "Group"}),
            Metric=resource(
                "AWS::Logs::MetricFilter",
                LogGroupName={"Ref": "Group"},
                FilterPattern="",
                MetricTransformations=[METRIC],
            ),
            Role=role("lambda"),
            Function=resource("AWS::Lambda::Function", **FUNCTION, Role=att("Role")),
            Version=resource("AWS::Lambda::Version", FunctionName={"Ref": "Function"}),
            Live=resource(
                "AWS::Lambda::Alias",
                FunctionName=att("Function"),
                Name="live",
                FunctionVersion=att("Version", "Version"),
            ),
            Permission=resource(
                "AWS::Lambda::Permission",
                FunctionName={"Ref": "Live"},
                Action="lambda:InvokeFunction",
                Principal="*",
            ),
            Managed=resource(
                "AWS::IAM::ManagedPolicy", Roles=[{"Ref": "Role"}], PolicyDocument=GRANT
            ),
            Managing=resource(
                "AWS::IAM::Role",
                AssumeRolePolicyDocument=POLICY,
                ManagedPolicyArns=[{"Ref": "Managed"}],
            ),
            Schedules=resource("AWS::Scheduler::ScheduleGroup", Name={"Ref": "AWS::StackName"}),
            Scheduling=role("scheduler"),
            Schedule=resource(
                "AWS::Scheduler::Schedule",
                **SCHEDULE,
                GroupName={"Ref": "Schedules"},
                Target={"Arn": att("Queue"), "RoleArn": att("Scheduling")},
            ),
        )
    )
    assert stack.status == "CREATE_COMPLETE", stack.reasons()


def test_an_update_with_a_reference_to_a_missing_resource_is_refused(deploy):
    def function(arn):
        return resource("AWS::Lambda::Function", **FUNCTION, Role=arn)

    stack = deploy(template(Role=role("lambda"), Function=function(att("Role"))))
    assert (
        stack.update(template(Role=role("lambda"), Function=function(NO_ROLE)))
        == "UPDATE_ROLLBACK_COMPLETE"
    )
    assert UNTRUSTED["lambda"] in stack.reasons()
    kept = stack.client("lambda").get_function_configuration(FunctionName=stack.ids["Function"])[
        "Role"
    ]
    assert kept.endswith(stack.ids["Role"])


def test_a_pipe_with_an_invalid_filter_is_refused(deploy):
    criteria = {"FilterCriteria": {"Filters": [{"Pattern": '{"eventName": []}'}]}}
    own = resource(
        "AWS::Pipes::Pipe",
        RoleArn=att("Role"),
        Source=TOPIC,
        SourceParameters=criteria,
        Target=QUEUE,
    )
    stack = deploy(template(Role=role("pipes"), Own=own))
    assert stack.status == "ROLLBACK_COMPLETE"
    assert "Event pattern is not valid" in stack.reasons()


def test_a_missing_property_is_named(deploy):
    stack = deploy(template(Own=resource("AWS::Lambda::Function", **FUNCTION)))
    assert stack.status == "ROLLBACK_COMPLETE"
    assert "[#: required key [Role] not found]" in stack.reasons()
