"""Which statement lets an event through; each case is a template with one rule and one target."""

import copy

import pytest
from rule_target import (
    FUNCTION,
    MACHINE,
    QUEUE,
    ROLE,
    SOURCE,
    TOPIC,
    WHERE,
    WITH_ROLE,
    flow_of,
    permission,
    queue_policy,
    verdict,
)

from eventstacks.documents import parse_template
from eventstacks.flow import graph, permissions
from eventstacks.flow.symbols import SYMBOL


def assert_verdict(resources, allowed, reason):
    """The reason is the statement that allows, an error code, or a symbol that is not known."""
    found = verdict(resources)
    assert found.allowed is allowed
    assert reason in (found.reason, found.code, *SYMBOL.findall(found.reason)), found


@pytest.mark.parametrize(
    ("resources", "allowed", "reason"),
    [
        (QUEUE + queue_policy(), True, "P"),
        (QUEUE + queue_policy(""), True, "P"),
        (QUEUE + queue_policy(action="'SQS:Send*'"), True, "P"),
        (QUEUE, False, "no_policy"),
        (QUEUE + queue_policy(action="'sqs:ReceiveMessage'"), False, "no_policy"),
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
        (QUEUE + queue_policy().replace("Principal", "NotPrincipal"), None, "depends"),
        (QUEUE + queue_policy().replace("Action:", "NotAction:"), False, "no_policy"),
        (
            QUEUE + queue_policy(action="'sqs:ReceiveMessage'").replace("Action:", "NotAction:"),
            True,
            "P",
        ),
        (QUEUE + queue_policy().replace("Resource:", "NotResource:"), False, "no_policy"),
        (
            QUEUE + queue_policy().replace("Resource: '*'", "NotResource: 'arn:aws:s3:::*'"),
            True,
            "P",
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
    assert_verdict(resources, allowed, reason)


@pytest.mark.parametrize(
    ("condition", "allowed", "reason"),
    [
        # The rule has no name yet, and may get that one.
        (
            "ArnEquals: {'aws:SourceArn': 'arn:aws:events:us-east-1:123456789012:rule/b/x'}",
            None,
            "depends",
        ),
        ("ArnLike: {'aws:SourceArn': 'arn:aws:events:*:123456789012:rule/*'}", True, "P"),
        ("ArnLike: {'aws:SourceArn': 'arn:aws:sns:*'}", False, "no_policy"),
        ("StringLike: {'aws:SourceArn': 'arn:aws:events:*'}", True, "P"),
        ("StringEquals: {'aws:SourceArn': 'arn:aws:events:*'}", False, "no_policy"),
        ("StringEquals: {'aws:SourceAccount': !Ref AWS::AccountId}", True, "P"),
        ("StringEquals: {'aws:PrincipalOrgID': o-1}", False, "no_policy"),
        ("StringEqualsIfExists: {'aws:PrincipalOrgID': o-1}", True, "P"),
        ("Bool: {'aws:SecureTransport': 'true'}", True, "P"),
        # A negated operator holds for a key that the request does not have.
        ("StringNotEquals: {'aws:PrincipalOrgID': o-1}", True, "P"),
        ("StringEquals: {'aws:SourceAccount': !Ref Key}", None, "⟨s.Key?⟩"),
        ("'ForAllValues:StringEquals': {'aws:PrincipalOrgPaths': o-1}", True, "P"),
        # Whether EventBridge sends these is not known.
        ("StringEquals: {'aws:SourceOrgID': o-1}", None, "depends"),
        ("StringNotEquals: {'aws:SourceVpce': vpce-1}", None, "depends"),
        ("'Null': {'aws:SourceOrgID': 'true'}", None, "depends"),
        ("'Null': {'aws:SourceArn': 'true'}", False, "no_policy"),
        ("'Null': {'aws:SourceArn': !Ref Key}", None, "⟨s.Key?⟩"),
        ("'Null': {'aws:SourceArn': []}", False, "no_policy"),
        ("Bool: {'aws:PrincipalIsAWSService': 'true'}", True, "P"),
        ("Bool: {'aws:PrincipalIsAWSService': 'false'}", False, "no_policy"),
        ("StringEquals: {'aws:PrincipalServiceName': events.amazonaws.com}", True, "P"),
        ("StringEquals: {'aws:PrincipalServiceName': sns.amazonaws.com}", False, "no_policy"),
        ("StringEqualsIgnoreCase: {'aws:SourceArn': !GetAtt Rule.Arn}", True, "P"),
        ("StringNotEqualsIgnoreCase: {'aws:SourceArn': !GetAtt Rule.Arn}", False, "no_policy"),
    ],
)
def test_conditions_of_a_queue_policy(condition, allowed, reason):
    assert_verdict(QUEUE + queue_policy(f", Condition: {{{condition}}}"), allowed, reason)


INLINE = {
    "SQS::QueueInlinePolicy": ("Queue", "sqs:SendMessage", QUEUE),
    "SNS::TopicInlinePolicy": ("TopicArn", "sns:Publish", TOPIC),
}


@pytest.mark.parametrize("kind", INLINE)
def test_an_inline_policy_applies_to_its_queue_or_topic_only(kind):
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


PERIMETER = (
    "Effect: Deny, Principal: '*', Action: '*', Resource: '*', "
    "Condition: {StringNotEqualsIfExists: {'aws:PrincipalOrgID': o-1}%s}"
)


@pytest.mark.parametrize(
    ("exception", "allowed", "reason"),
    [
        (", BoolIfExists: {'aws:PrincipalIsAWSService': 'false'}", True, "P[0]"),
        (", Bool: {'aws:PrincipalIsAWSService': 'false'}", True, "P[0]"),
        ("", False, "denied"),  # a service is of no organization
        (", StringNotLikeIfExists: {'aws:SourceOrgID': o-1}", None, "may_be_denied"),
    ],
)
def test_a_deny_for_other_organizations_covers_services_unless_excepted(exception, allowed, reason):
    policy = queue_policy().replace("}]}", "}, {%s}]}" % (PERIMETER % exception))
    found = verdict(QUEUE + policy)
    assert found.allowed is allowed
    assert reason in (found.reason, found.code)


def test_a_denial_that_does_not_apply_is_not_the_reason():
    denial = PERIMETER % ", Bool: {'aws:SecureTransport': 'false'}"
    policy = queue_policy(action="'sqs:ReceiveMessage'").replace("}]}", f"}}, {{{denial}}}]}}")
    found = verdict(QUEUE + policy)
    assert found.code == "no_policy"
    assert "P[1]" not in found.reason


@pytest.mark.parametrize(
    ("function", "allowed"),
    [
        ("!Ref Alias", True),
        ("!Sub '${T}:live'", True),
        ("!Ref T", False),
        ("!Sub '${T}:other'", False),
    ],
)
def test_a_permission_of_a_function_does_not_cover_its_alias(function, allowed):
    alias = "  Alias: {Type: AWS::Lambda::Alias, Properties: {FunctionName: !Ref T, Name: live}}\n"
    assert (
        verdict(FUNCTION + alias + permission(function=function), "!Ref Alias").allowed is allowed
    )


def test_a_policy_is_not_that_of_a_queue_with_a_longer_name():
    queues = "  T: {Type: AWS::SQS::Queue, Properties: {QueueName: orders-failed}}\n"
    queues += "  Short: {Type: AWS::SQS::Queue, Properties: {QueueName: orders}}\n"
    assert verdict(queues + queue_policy().replace("!Ref T", "!Ref Short")).code == "no_policy"


def test_a_queue_outside_of_the_stacks_is_unknown():
    assert verdict("", "!Ref Outside").allowed is None


def test_the_default_policy_of_a_topic_does_not_allow_eventbridge():
    default = (
        "{Effect: Allow, Principal: {AWS: '*'}, Action: 'SNS:Publish', Resource: '*', "
        "Condition: {StringEquals: {'AWS:SourceOwner': !Ref AWS::AccountId}}}"
    )
    properties = f"{{Topics: [!Ref T], PolicyDocument: {{Statement: [{default}]}}}}"
    policy = f"  P: {{Type: AWS::SNS::TopicPolicy, Properties: {properties}}}\n"
    assert verdict(TOPIC + policy, "!Ref T").code == "no_policy"


@pytest.mark.parametrize(
    ("more", "code"),
    [("", "refused_input"), (", SqsParameters: {MessageGroupId: g}", "allowed")],
)
def test_a_fifo_queue_needs_a_message_group(more, code):
    queue = QUEUE.replace("}", ", Properties: {FifoQueue: true, QueueName: q.fifo}}")
    assert verdict(queue + queue_policy(), more=more).code == code


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("", "allowed"),
        ("{Type: StringEquals, Key: 'aws:PrincipalOrgID', Value: o-1}", "no_policy"),  # see below
        ("{Type: StringEquals, Key: 'aws:SourceAccount', Value: '123456789012'}", "allowed"),
        ("!Ref Key", "depends"),
    ],
)
def test_a_bus_policy_without_a_statement_has_one_condition(condition, code):
    more = f", Condition: {condition}" if condition else ""
    short = f"EventBusName: b, StatementId: x, Action: 'events:PutEvents', Principal: '*'{more}"
    resources = f"""
  T: {{Type: AWS::Events::EventBus, Properties: {{Name: b}}}}
  P: {{Type: AWS::Events::EventBusPolicy, Properties: {{{short}}}}}
"""
    assert verdict(resources).code == code


def test_targets_without_a_known_policy_are_unknown():
    assert (
        verdict("", "'arn:aws:events:us-east-1:123456789012:target/create-snapshot'").allowed
        is None
    )


def bus_policy(principal, more=""):
    statement = (
        f"{{Effect: Allow, Principal: {principal}, "
        f"Action: events:PutEvents, Resource: !GetAtt T.Arn{more}}}"
    )
    properties = f"{{EventBusName: !Ref T, StatementId: x, Statement: {statement}}}"
    return f"  P: {{Type: AWS::Events::EventBusPolicy, Properties: {properties}}}\n"


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


def test_an_account_as_principal_does_not_allow_eventbridge():
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
    statement = (
        f"{{Effect: Allow, Principal: {{Service: {principals}}}, "
        f"Action: {actions}, Resource: {resource}{condition}}}"
    )
    document = f'!Sub ["${{d}}", {{d: !ToJsonString {{Statement: [{statement}]}}}}]'
    properties = f"{{PolicyName: p, PolicyDocument: {document}}}"
    return f"  P: {{Type: AWS::Logs::ResourcePolicy, Properties: {properties}}}\n"


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


def test_a_role_for_a_log_group_is_refused():
    found = verdict(GROUP + logs_policy() + ROLE % "x", more=WITH_ROLE)
    assert (found.allowed, found.code) == (False, "refused_role")


def test_a_resource_policy_on_the_log_group_allows():
    own = logs_policy().split("d: !ToJsonString ")[1].removesuffix("}]}}\n")
    group = GROUP.replace("/aws/events/x}", f"/aws/events/x, ResourcePolicyDocument: {own}}}")
    assert verdict(group).reason == "T"


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


def test_a_dead_letter_queue_in_another_region_is_refused():
    flow = graph.of_template(
        parse_template(
            "Resources: {Rule: {Type: AWS::Events::Rule, Properties: {Name: r}}}", "test"
        ),
        **WHERE,
    )
    far = "arn:aws:sqs:eu-west-1:123456789012:q"
    assert permissions.of_dead_letters(flow, flow.rules[0], far).code == "other_region"


def test_without_policies_nothing_is_allowed():
    flow = flow_of(QUEUE + queue_policy())
    alone = copy.copy(flow)
    alone.policies = []
    assert permissions.of_target(alone, flow.rules[0], flow.rules[0].targets[0]).allowed is False
