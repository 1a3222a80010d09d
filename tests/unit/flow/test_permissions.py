"""Which statement lets an event through; each case is a template with one rule and one target."""

import copy
from pathlib import Path

import pytest

from eventstacks.documents import parse_template, read_text
from eventstacks.flow import graph, permissions
from eventstacks.flow.policies import Verdict
from eventstacks.flow.resolve import Stack
from eventstacks.flow.symbols import SYMBOL, like
from eventstacks.flow.targets import Reason

WHERE = {"name": "s", "region": "us-east-1", "account": "123456789012"}
POLICY = "{Version: '2012-10-17', Statement: [{Effect: Allow, Principal: {Service: events.amazonaws.com}, Action: %s, Resource: '*'%s}]}"
SOURCE = ", Condition: {ArnEquals: {'aws:SourceArn': !GetAtt Rule.Arn}}"


def flow_of(resources, target="!GetAtt T.Arn", more=""):
    text = f"""
Parameters: {{Outside: {{Type: String, Default: 'arn:aws:sqs:us-east-1:999999999999:theirs'}}, Key: {{Type: String}}}}
Resources:
  Rule: {{Type: AWS::Events::Rule, Properties: {{EventPattern: {{source: [a]}}, Targets: [{{Id: t, Arn: {target}{more}}}]}}}}
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
    return f"  P: {{Type: 'AWS::{kind}', Properties: {{{key}: [!Ref T], PolicyDocument: {POLICY % (action, condition)}}}}}\n"


def permission(
    more=", SourceArn: !GetAtt Rule.Arn", function="!Ref T", action="lambda:InvokeFunction"
):
    given = f"FunctionName: {function}, Action: '{action}', Principal: events.amazonaws.com{more}"
    return f"  P: {{Type: AWS::Lambda::Permission, Properties: {{{given}}}}}\n"


@pytest.mark.parametrize(
    ("resources", "allowed", "reason"),
    [
        (QUEUE + queue_policy(), True, "P"),
        (QUEUE + queue_policy(""), True, "P"),
        (QUEUE + queue_policy(action="'SQS:Send*'"), True, "P"),
        (QUEUE, False, "no_policy"),
        (QUEUE + queue_policy(action="'sqs:ReceiveMessage'"), False, "no_policy"),
        (
            QUEUE
            + queue_policy(
                ", Condition: {ArnEquals: {'aws:SourceArn': 'arn:aws:events:us-east-1:123456789012:rule/b/x'}}"
            ),
            None,
            "depends",
        ),  # the rule has no name yet, and may get that one
        (
            QUEUE
            + queue_policy(
                ", Condition: {ArnLike: {'aws:SourceArn': 'arn:aws:events:*:123456789012:rule/*'}}"
            ),
            True,
            "P",
        ),
        (
            QUEUE + queue_policy(", Condition: {ArnLike: {'aws:SourceArn': 'arn:aws:sns:*'}}"),
            False,
            "no_policy",
        ),
        (
            QUEUE
            + queue_policy(
                ", Condition: {StringEquals: {'aws:SourceAccount': !Ref AWS::AccountId}}"
            ),
            True,
            "P",
        ),
        (
            QUEUE + queue_policy(", Condition: {StringEquals: {'aws:PrincipalOrgID': o-1}}"),
            False,
            "no_policy",
        ),
        (
            QUEUE
            + queue_policy(", Condition: {StringEqualsIfExists: {'aws:PrincipalOrgID': o-1}}"),
            True,
            "P",
        ),
        (QUEUE + queue_policy(", Condition: {Bool: {'aws:SecureTransport': 'true'}}"), True, "P"),
        # A negated operator holds for a key that the request does not have.
        (
            QUEUE + queue_policy(", Condition: {StringNotEquals: {'aws:PrincipalOrgID': o-1}}"),
            True,
            "P",
        ),
        (
            QUEUE + queue_policy(", Condition: {StringEquals: {'aws:SourceAccount': !Ref Key}}"),
            None,
            "⟨s.Key?⟩",
        ),
        (QUEUE + queue_policy().replace("Effect: Allow", "Effect: Deny"), False, "denied"),
        (
            TOPIC + queue_policy(action="'sns:Publish'", kind="SNS::TopicPolicy", key="Topics"),
            True,
            "P",
        ),
        (TOPIC, False, "no_policy"),
        (FUNCTION + permission(), True, "P"),
        (FUNCTION + permission(function="!GetAtt T.Arn"), True, "P"),
        (FUNCTION + permission(function="!Sub '${AWS::AccountId}:function:${T}'"), True, "P"),
        (FUNCTION + permission(""), True, "P"),
        (FUNCTION, False, "no_policy"),
        (FUNCTION + permission(", SourceAccount: !Ref AWS::AccountId"), False, "no_policy"),
        (FUNCTION + permission(action="lambda:GetFunction"), False, "no_policy"),
        (FUNCTION + permission(", PrincipalOrgID: o-1"), False, "no_policy"),
        (
            QUEUE
            + queue_policy(
                ", Condition: {'ForAllValues:StringEquals': {'aws:PrincipalOrgPaths': o-1}}"
            ),
            True,
            "P",
        ),
        (QUEUE + queue_policy().replace("Principal", "NotPrincipal"), None, "depends"),
        # Whether EventBridge sends these is not known.
        (
            QUEUE + queue_policy(", Condition: {StringEquals: {'aws:SourceOrgID': o-1}}"),
            None,
            "depends",
        ),
        (
            QUEUE + queue_policy(", Condition: {StringNotEquals: {'aws:SourceVpce': vpce-1}}"),
            None,
            "depends",
        ),
        (
            QUEUE + queue_policy(", Condition: {'Null': {'aws:SourceOrgID': 'true'}}"),
            None,
            "depends",
        ),
        (
            QUEUE + queue_policy(", Condition: {'Null': {'aws:SourceArn': 'true'}}"),
            False,
            "no_policy",
        ),
        (
            QUEUE + queue_policy(", Condition: {'Null': {'aws:SourceArn': !Ref Key}}"),
            None,
            "⟨s.Key?⟩",
        ),
        (
            QUEUE + queue_policy(", Condition: {'Null': {'aws:SourceArn': []}}"),
            False,
            "no_policy",
        ),
        (
            QUEUE + queue_policy(", Condition: {Bool: {'aws:PrincipalIsAWSService': 'true'}}"),
            True,
            "P",
        ),
        (
            QUEUE + queue_policy(", Condition: {Bool: {'aws:PrincipalIsAWSService': 'false'}}"),
            False,
            "no_policy",
        ),
        (
            QUEUE
            + queue_policy(
                ", Condition: {StringEquals: {'aws:PrincipalServiceName': events.amazonaws.com}}"
            ),
            True,
            "P",
        ),
        (
            QUEUE
            + queue_policy(
                ", Condition: {StringEquals: {'aws:PrincipalServiceName': sns.amazonaws.com}}"
            ),
            False,
            "no_policy",
        ),
        (
            QUEUE
            + queue_policy(
                ", Condition: {StringEqualsIgnoreCase: {'aws:SourceArn': !GetAtt Rule.Arn}}"
            ),
            True,
            "P",
        ),
        (
            QUEUE
            + queue_policy(
                ", Condition: {StringNotEqualsIgnoreCase: {'aws:SourceArn': !GetAtt Rule.Arn}}"
            ),
            False,
            "no_policy",
        ),
        # A parameter can name any principal; a name that AWS generates is never a service.
        (QUEUE + queue_policy().replace("events.amazonaws.com", "!Ref Key"), None, "⟨s.Key?⟩"),
        (
            QUEUE + queue_policy().replace("events.amazonaws.com", "!Sub '${Key}.amazonaws.com'"),
            None,
            "⟨s.Key?⟩",
        ),
        (
            QUEUE
            + queue_policy().replace("events.amazonaws.com", "[!Ref Key, events.amazonaws.com]"),
            True,
            "P",
        ),
        (
            QUEUE + queue_policy().replace("{Service: events.amazonaws.com}", "!Ref Key"),
            None,
            "⟨s.Key?⟩",
        ),
        (
            QUEUE
            + queue_policy().replace(
                "Service: events.amazonaws.com", "AWS: !Sub 'arn:aws:iam::${Key}:root'"
            ),
            False,
            "no_policy",
        ),
        (
            QUEUE + queue_policy().replace("Service: events.amazonaws.com", "AWS: !GetAtt T.Arn"),
            False,
            "no_policy",
        ),
        (
            QUEUE
            + queue_policy()
            .replace("Effect: Allow", "Effect: Deny")
            .replace("events.amazonaws.com", "!Ref Key"),
            None,
            "may_be_denied",
        ),
        (FUNCTION + permission().replace("events.amazonaws.com", "!Ref Key"), None, "⟨s.Key?⟩"),
        (
            FUNCTION + permission().replace("events.amazonaws.com", "s3.amazonaws.com"),
            False,
            "no_policy",
        ),
        (FUNCTION + permission(", EventSourceToken: x"), None, "depends"),
        (MACHINE, False, "refused_role"),
    ],
)
def test_resource_policies(resources, allowed, reason):
    found = verdict(resources)
    assert found.allowed is allowed
    assert reason in (found.reason, found.code, *SYMBOL.findall(found.reason)), found


INLINE = {
    "SQS::QueueInlinePolicy": ("Queue", "sqs:SendMessage", QUEUE),
    "SNS::TopicInlinePolicy": ("TopicArn", "sns:Publish", TOPIC),
}


@pytest.mark.parametrize("kind", INLINE)
def test_an_inline_policy_guards_its_one_queue_or_topic(kind):
    key, action, target = INLINE[kind]
    policy = queue_policy(action=f"'{action}'", kind=kind, key=key).replace("[!Ref T]", "!Ref T")
    assert verdict(target + policy).reason == "P"
    assert verdict(target + policy.replace(action, "x:Other")).allowed is False
    assert (
        verdict(
            target + target.replace("T:", "Other:") + policy.replace("!Ref T", "!Ref Other")
        ).allowed
        is False
    )


PERIMETER = "Effect: Deny, Principal: '*', Action: '*', Resource: '*', Condition: {StringNotEqualsIfExists: {'aws:PrincipalOrgID': o-1}%s}"


@pytest.mark.parametrize(
    ("exception", "allowed", "reason"),
    [
        (", BoolIfExists: {'aws:PrincipalIsAWSService': 'false'}", True, "P[0]"),
        (", Bool: {'aws:PrincipalIsAWSService': 'false'}", True, "P[0]"),
        ("", False, "denied"),  # a service is of no organization
        (", StringNotLikeIfExists: {'aws:SourceOrgID': o-1}", None, "may_be_denied"),
    ],
)
def test_a_data_perimeter_shuts_out_a_service_only_if_it_says_so(exception, allowed, reason):
    policy = queue_policy().replace("}]}", "}, {%s}]}" % (PERIMETER % exception))
    found = verdict(QUEUE + policy)
    assert found.allowed is allowed
    assert reason in (found.reason, found.code)


def test_a_role_is_no_service_and_may_be_of_an_organization():
    role = (ROLE % "events.amazonaws.com").replace("!Ref T}", "!Ref T, Condition: {%s}}")
    own = "Bool: {'aws:PrincipalIsAWSService': 'false'}"
    assert verdict(MACHINE + role % own, "!Ref T", ", RoleArn: !GetAtt Role.Arn").allowed is True
    organization = "StringEquals: {'aws:PrincipalOrgID': o-1}"
    assert (
        verdict(MACHINE + role % organization, "!Ref T", ", RoleArn: !GetAtt Role.Arn").allowed
        is None
    )


@pytest.mark.parametrize(
    ("function", "allowed"),
    [
        ("!Ref Alias", True),
        ("!Sub '${T}:live'", True),
        ("!Ref T", False),
        ("!Sub '${T}:other'", False),
    ],
)
def test_an_alias_of_a_function_has_permissions_of_its_own(function, allowed):
    alias = "  Alias: {Type: AWS::Lambda::Alias, Properties: {FunctionName: !Ref T, Name: live}}\n"
    assert (
        verdict(FUNCTION + alias + permission(function=function), "!Ref Alias").allowed is allowed
    )


def test_a_queue_of_others_is_not_judged():
    assert verdict("", "!Ref Outside").allowed is None


ROLE = """
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Statement: [{Effect: Allow, Principal: {Service: %s}, Action: 'sts:AssumeRole'}]}
      Policies: [{PolicyName: p, PolicyDocument: {Statement: [{Effect: Allow, Action: 'states:StartExecution', Resource: !Ref T}]}}]
"""


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("Principal: '*'", "denied"),
        ("Principal: {AWS: !Ref AWS::AccountId}", "denied"),
        ("Principal: {AWS: !GetAtt Role.Arn}", "denied"),
        ("Principal: {Service: events.amazonaws.com}", "allowed"),
        # A role's request has no source.
        (
            "Principal: '*', Condition: {ArnNotEquals: {'aws:SourceArn': !GetAtt Rule.Arn}}",
            "denied",
        ),
        (
            "Principal: '*', Condition: {StringNotEquals: {'aws:PrincipalOrgID': o}}",
            "may_be_denied",
        ),
    ],
)
def test_a_deny_in_the_policy_of_a_queue_binds_the_role_of_a_rule(statement, code):
    role = (ROLE % "events.amazonaws.com").replace("states:StartExecution", "sqs:*")
    deny = f"Effect: Deny, Action: 'sqs:SendMessage', Resource: '*', {statement}"
    policy = f"  P: {{Type: AWS::SQS::QueuePolicy, Properties: {{Queues: [!Ref T], PolicyDocument: {{Statement: [{{{deny}}}]}}}}}}\n"
    role = role.replace("!Ref T", "!GetAtt T.Arn")
    assert verdict(QUEUE + role + policy, more=", RoleArn: !GetAtt Role.Arn").code == code


@pytest.mark.parametrize(
    ("boundary", "code"),
    [
        ("!Ref Limit", "allowed"),
        ("!Ref Other", "role_policy"),
        ("arn:aws:iam::123456789012:policy/elsewhere", "depends"),
    ],
)
def test_the_permissions_boundary_of_a_role_limits_it(boundary, code):
    limit = "{Type: AWS::IAM::ManagedPolicy, Properties: {PolicyDocument: {Statement: [{Effect: Allow, Action: '%s:*', Resource: '*'}]}}}"
    policies = f"  Limit: {limit % 'states'}\n  Other: {limit % 's3'}\n"
    role = (ROLE % "events.amazonaws.com").replace(
        "    Properties:", f"    Properties:\n      PermissionsBoundary: {boundary}"
    )
    assert verdict(MACHINE + role + policies, "!Ref T", ", RoleArn: !GetAtt Role.Arn").code == code


def test_the_default_policy_of_a_topic_does_not_allow_eventbridge():
    default = "{Effect: Allow, Principal: {AWS: '*'}, Action: 'SNS:Publish', Resource: '*', Condition: {StringEquals: {'AWS:SourceOwner': !Ref AWS::AccountId}}}"
    policy = f"  P: {{Type: AWS::SNS::TopicPolicy, Properties: {{Topics: [!Ref T], PolicyDocument: {{Statement: [{default}]}}}}}}\n"
    assert verdict(TOPIC + policy, "!Ref T").code == "no_policy"


@pytest.mark.parametrize(
    ("more", "code"),
    [("", "refused_input"), (", SqsParameters: {MessageGroupId: g}", "allowed")],
)
def test_a_fifo_queue_needs_a_message_group(more, code):
    queue = QUEUE.replace("}", ", Properties: {FifoQueue: true, QueueName: q.fifo}}")
    assert verdict(queue + queue_policy(), more=more).code == code


def test_a_role_must_trust_eventbridge_and_allow_the_action():
    with_role = ", RoleArn: !GetAtt Role.Arn"
    assert verdict(MACHINE + ROLE % "events.amazonaws.com", "!Ref T", with_role).reason == "Role/p"
    untrusted = verdict(MACHINE + ROLE % "lambda.amazonaws.com", "!Ref T", with_role)
    assert (untrusted.allowed, untrusted.code) == (False, "role_trust")
    other = (ROLE % "events.amazonaws.com").replace("StartExecution", "ListExecutions")
    assert verdict(MACHINE + other, "!Ref T", with_role).code == "role_policy"
    attached = other.replace(
        "Properties:", "Properties:\n      ManagedPolicyArns: ['arn:aws:iam::aws:policy/X']"
    )
    unknown = verdict(MACHINE + attached, "!Ref T", with_role)
    assert (unknown.allowed, unknown.code) == (None, "managed_policy")


def test_a_role_for_an_api_destination_covers_its_id():
    destination = "  T: {Type: AWS::Events::ApiDestination, Properties: {Name: d}}\n"
    role = (ROLE % "events.amazonaws.com").replace(
        "states:StartExecution", "events:InvokeApiDestination"
    )
    role = role.replace(
        "!Ref T", "!Sub 'arn:aws:events:us-east-1:123456789012:api-destination/${T}/*'"
    )
    assert verdict(destination + role, more=", RoleArn: !GetAtt Role.Arn").reason == "Role/p"


def test_targets_that_are_not_looked_into():
    assert (
        verdict("", "'arn:aws:events:us-east-1:123456789012:target/create-snapshot'").allowed
        is None
    )


def test_a_policy_attached_to_the_role_counts():
    bare_role = (ROLE % "events.amazonaws.com").rsplit("      Policies", 1)[0]
    policy = "  More: {Type: AWS::IAM::Policy, Properties: {Roles: [!Ref Role], PolicyDocument: {Statement: {Effect: Allow, Action: 'states:*', Resource: '*'}}}}\n"
    assert (
        verdict(MACHINE + bare_role + policy, "!Ref T", ", RoleArn: !GetAtt Role.Arn").reason
        == "More"
    )


def bus_policy(principal, more=""):
    statement = f"{{Effect: Allow, Principal: {principal}, Action: events:PutEvents, Resource: !GetAtt T.Arn{more}}}"
    return f"  P: {{Type: AWS::Events::EventBusPolicy, Properties: {{EventBusName: !Ref T, StatementId: x, Statement: {statement}}}}}\n"


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        ("", False),
        (bus_policy("{Service: events.amazonaws.com}", SOURCE), True),
        (
            bus_policy("{AWS: !Sub 'arn:aws:iam::${AWS::AccountId}:root'}", SOURCE),
            True,
        ),  # as in the guide
        (bus_policy("{AWS: '123456789012'}"), True),
        (bus_policy("{AWS: '999999999999'}"), False),
        (bus_policy("{AWS: !Sub 'arn:aws:iam::${AWS::AccountId}:role/sender'}"), False),
        (
            bus_policy("'*'", ", Condition: {StringEquals: {'aws:PrincipalOrgID': o-1}}"),
            False,
        ),  # it wants a role then
        (bus_policy("{AWS: !Ref Key}"), None),
        (
            bus_policy("{AWS: '123456789012'}")
            + bus_policy("{Service: events.amazonaws.com}")
            .replace("  P:", "  D:")
            .replace("Effect: Allow", "Effect: Deny"),
            False,
        ),
    ],
)
def test_a_bus_needs_a_role_or_a_policy(policy, allowed):
    bus = "  T: {Type: AWS::Events::EventBus, Properties: {Name: b}}\n"
    found = verdict(bus + policy)
    assert found.allowed is allowed, found


def test_an_account_is_no_principal_of_a_queue():
    policy = queue_policy().replace("Service: events.amazonaws.com", "AWS: '123456789012'")
    assert verdict(QUEUE + policy).allowed is False


GROUP = "  T: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /aws/events/x}}\n"
LOGS = "'arn:aws:logs:us-east-1:123456789012:log-group:/aws/events/*:*'"
BOTH = "[events.amazonaws.com, delivery.logs.amazonaws.com]"


def logs_policy(
    principals=BOTH,
    actions="['logs:CreateLogStream', 'logs:PutLogEvents']",
    resource=LOGS,
    condition="",
):
    document = f"{{Statement: [{{Effect: Allow, Principal: {{Service: {principals}}}, Action: {actions}, Resource: {resource}{condition}}}]}}"
    return f'  P: {{Type: AWS::Logs::ResourcePolicy, Properties: {{PolicyName: p, PolicyDocument: !Sub ["${{d}}", {{d: !ToJsonString {document}}}]}}}}\n'


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        (logs_policy(), True),
        ("", False),
        (logs_policy(principals="[events.amazonaws.com]"), True),
        (logs_policy(principals="[delivery.logs.amazonaws.com]"), False),
        (logs_policy(actions="['logs:PutLogEvents']"), False),
        (logs_policy(actions="['logs:CreateLogStream']"), False),
        (logs_policy(resource="'arn:aws:logs:us-east-1:123456789012:log-group:/other/*:*'"), False),
        # CreateLogStream carries no aws:SourceArn, so a condition on it shuts EventBridge out.
        (logs_policy(condition=SOURCE), False),
        (
            logs_policy(
                condition=", Condition: {StringEquals: {'aws:SourceAccount': '123456789012'}}"
            ),
            None,
        ),
    ],
)
@pytest.mark.parametrize(
    "target", ["!GetAtt T.Arn", "!Sub 'arn:aws:logs:us-east-1:123456789012:log-group:${T}'"]
)
def test_log_groups(policy, allowed, target):
    assert verdict(GROUP + policy, target).allowed is allowed


def test_a_log_group_takes_no_role():
    found = verdict(GROUP + logs_policy() + ROLE % "x", more=", RoleArn: !GetAtt Role.Arn")
    assert (found.allowed, found.code) == (False, "refused_role")


def test_a_policy_on_the_group_itself():
    own = logs_policy().split("d: !ToJsonString ")[1].removesuffix("}]}}\n")
    group = GROUP.replace("/aws/events/x}", f"/aws/events/x, ResourcePolicyDocument: {own}}}")
    assert verdict(group).reason == "T"


def test_a_queue_with_a_customer_key_asks_the_key():
    keyed = QUEUE.replace("SQS::Queue}", "SQS::Queue, Properties: {KmsMasterKeyId: %s}}")
    document = POLICY % ("['kms:Decrypt', 'kms:GenerateDataKey']", "")
    key = f"  Key2: {{Type: AWS::KMS::Key, Properties: {{KeyPolicy: {document}}}}}\n"
    assert verdict(keyed % "!Ref Key2" + queue_policy() + key).allowed is True
    assert (
        verdict(
            keyed % "!GetAtt Key2.Arn" + queue_policy() + key.replace("'kms:Decrypt', ", "")
        ).allowed
        is False
    )
    alias = "  Alias: {Type: AWS::KMS::Alias, Properties: {AliasName: alias/mine, TargetKeyId: !Ref Key2}}\n"
    for named in ("!Ref Alias", "alias/mine"):
        assert verdict(keyed % named + queue_policy() + key + alias).allowed is True
        refusing = key.replace("'kms:Decrypt', ", "") + alias
        assert verdict(keyed % named + queue_policy() + refusing).code == "key_policy"
    assert verdict(keyed % "alias/aws/sqs" + queue_policy()).code == "key_aws_managed"
    through = document.replace(
        "'*'", "'*', Condition: {StringEquals: {'kms:ViaService': sqs.us-east-1.amazonaws.com}}"
    )
    assert (
        verdict(keyed % "!Ref Key2" + queue_policy() + key.replace(document, through)).allowed
        is None
    )
    assert verdict(keyed % "!Ref Key" + queue_policy()).allowed is None


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [("", True), (", Condition: {StringEquals: {'aws:SourceAccount': '123456789012'}}", False)],
)
def test_the_key_of_a_topic_is_not_told_the_source(condition, allowed):
    topic = TOPIC.replace("SNS::Topic", "SNS::Topic, Properties: {KmsMasterKeyId: !Ref Key2}")
    document = POLICY % ("['kms:Decrypt', 'kms:GenerateDataKey']", condition)
    key = f"  Key2: {{Type: AWS::KMS::Key, Properties: {{KeyPolicy: {document}}}}}\n"
    policy = queue_policy(action="'sns:Publish'", kind="SNS::TopicPolicy", key="Topics")
    assert verdict(topic + policy + key, "!Ref T").allowed is allowed


@pytest.mark.parametrize("key", ["!Ref Key2", "!Ref Key", "alias/aws/sqs"])
def test_a_role_asks_the_key_itself(key):
    keyed = QUEUE.replace("SQS::Queue}", f"SQS::Queue, Properties: {{KmsMasterKeyId: {key}}}}}")
    keyed += f"  Key2: {{Type: AWS::KMS::Key, Properties: {{KeyPolicy: {POLICY % ('kms:Decrypt', '')}}}}}\n"
    role = (
        (ROLE % "events.amazonaws.com")
        .replace("states:StartExecution", "sqs:SendMessage")
        .replace("!Ref T", "'*'")
    )
    found = verdict(keyed + role, more=", RoleArn: !GetAtt Role.Arn")
    assert (found.allowed, found.code) == (None, "not_in_stacks")
    refused = verdict(
        keyed + role.replace("sqs:SendMessage", "sqs:Other"), more=", RoleArn: !GetAtt Role.Arn"
    )
    assert refused.allowed is False
    assert verdict(QUEUE + role, more=", RoleArn: !GetAtt Role.Arn").allowed is True


def test_an_alias_is_one_of_its_own_region():
    text = """
Resources:
  K: {Type: AWS::KMS::Key}
  A: {Type: AWS::KMS::Alias, Properties: {AliasName: alias/mine, TargetKeyId: !Ref K}}
"""
    both = [
        Stack(
            parse_template(text, "t"),
            name="s",
            region=one,
            account="123456789012",
            scope=f"s@{one}",
        )
        for one in ("us-east-1", "eu-west-1")
    ]
    flow = graph.of_stacks(both)
    regions = ["us-east-1", "eu-west-1"]
    assert [permissions.key_of(flow, "alias/mine", one).region for one in regions] == regions


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        (QUEUE + queue_policy(), "P"),
        (QUEUE, "no_policy"),
        (
            QUEUE.replace("Queue}", "Queue, Properties: {FifoQueue: true, QueueName: q.fifo}}")
            + queue_policy(),
            "fifo_queue",
        ),
    ],
)
def test_dead_letter_queues(resources, reason):
    flow = flow_of(resources)
    found = permissions.of_dead_letters(flow, flow.rules[0], flow.rules[0].targets[0].arn)
    assert reason in {found.reason, found.code}
    assert found.allowed is (reason == "P")


def test_a_dead_letter_queue_of_another_region_takes_nothing():
    flow = graph.of_template(
        parse_template(
            "Resources: {Rule: {Type: AWS::Events::Rule, Properties: {Name: r}}}", "test"
        ),
        **WHERE,
    )
    far = "arn:aws:sqs:eu-west-1:123456789012:q"
    assert permissions.of_dead_letters(flow, flow.rules[0], far).code == "other_region"


@pytest.mark.parametrize("stack", ["custom-event-bus", "s3-object-events", "rds-snapshot-events"])
def test_the_article_has_no_logs_policy_and_no_dead_letter_queue(stack):
    flow = graph.of_template(
        parse_template(read_text(Path("tests/fixtures/article") / f"{stack}.yaml"), "t"), **WHERE
    )
    [rule] = flow.rules
    groups = [one for one in rule.targets if one.service == "logs"]
    assert [permissions.of_target(flow, rule, one).allowed for one in groups] == [False]
    assert not any(one.dead_letters for one in rule.targets)


def test_of_the_articles_stacks_the_function_is_reached():
    flow = graph.of_template(
        parse_template(read_text(Path("tests/fixtures/article/s3-object-events.yaml")), "t"),
        **WHERE,
    )
    [rule] = flow.rules
    assert [
        permissions.of_target(flow, rule, one).allowed
        for one in rule.targets
        if one.service == "lambda"
    ] == [True]


def test_without_its_resources_nothing_is_known_to_be_allowed():
    flow = flow_of(QUEUE + queue_policy())
    alone = copy.copy(flow)
    alone.policies = []
    assert permissions.of_target(alone, flow.rules[0], flow.rules[0].targets[0]).allowed is False


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("a*c", "abc", True),
        ("a?c", "ac", False),
        ("*", "", True),
        ("a.c", "abc", False),
        ("⟨x⟩", "⟨x⟩", True),
        ("⟨x⟩", "b", None),
        ("arn:⟨x⟩:a", "arn:q:b", False),
        ("arn:⟨x⟩:*", "arn:⟨x⟩:b", True),
        ("p/*", "p/⟨y⟩", True),
        ("r/⟨A⟩", "r/⟨B⟩", False),
        ("r/⟨A?⟩", "r/⟨B⟩", None),
        ("r/⟨A⟩", "r/⟨B?⟩", None),
        ("r/⟨A⟩/x", "r/⟨A⟩/y", False),
    ],
)
def test_likeness(pattern, value, expected):
    assert like(pattern, value) is expected


VERDICTS = {
    True: Verdict(Reason.ALLOWED, "a"),
    None: Verdict(Reason.DEPENDS, "b"),
    False: Verdict(Reason.DENIED, "c"),
}


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (True, True, True),
        (True, None, None),
        (None, None, None),
        (True, False, False),
        (None, False, False),  # a denial is certain, whatever the other turns out to be
        (False, False, False),
    ],
)
def test_deny_beats_unknown_beats_allow(first, second, both):
    for one, other in ((first, second), (second, first)):
        assert (VERDICTS[one] & VERDICTS[other]).code == VERDICTS[both].code
