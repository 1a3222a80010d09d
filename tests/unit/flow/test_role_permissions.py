"""Targets with a role: its trust policy, its policies, its boundary, and denials of the target."""

import pytest
from rule_target import MACHINE, QUEUE, ROLE, WITH_ROLE, verdict


def test_a_role_must_trust_eventbridge_and_allow_the_action():
    assert verdict(MACHINE + ROLE % "events.amazonaws.com", "!Ref T", WITH_ROLE).reason == "Role/p"
    untrusted = verdict(MACHINE + ROLE % "lambda.amazonaws.com", "!Ref T", WITH_ROLE)
    assert (untrusted.allowed, untrusted.code) == (False, "role_trust")
    other = (ROLE % "events.amazonaws.com").replace("StartExecution", "ListExecutions")
    assert verdict(MACHINE + other, "!Ref T", WITH_ROLE).code == "role_policy"
    attached = other.replace(
        "Properties:", "Properties:\n      ManagedPolicyArns: ['arn:aws:iam::aws:policy/X']"
    )
    unknown = verdict(MACHINE + attached, "!Ref T", WITH_ROLE)
    assert (unknown.allowed, unknown.code) == (None, "managed_policy")


def test_a_policy_attached_to_the_role_applies():
    bare_role = (ROLE % "events.amazonaws.com").rsplit("      Policies", 1)[0]
    statement = "{Effect: Allow, Action: 'states:*', Resource: '*'}"
    properties = f"{{Roles: [!Ref Role], PolicyDocument: {{Statement: {statement}}}}}"
    policy = f"  More: {{Type: AWS::IAM::Policy, Properties: {properties}}}\n"
    assert verdict(MACHINE + bare_role + policy, "!Ref T", WITH_ROLE).reason == "More"


@pytest.mark.parametrize("name", ["!Ref More", "!GetAtt More.PolicyArn"])
@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("Effect: Allow, Action: 'states:*'", "allowed"),
        ("Effect: Allow, Action: 's3:*'", "role_policy"),
    ],
)
def test_a_managed_policy_of_the_stack_applies(name, statement, code):
    bare_role = (ROLE % "events.amazonaws.com").rsplit("      Policies", 1)[0]
    attached = f"      ManagedPolicyArns: [{name}]\n"
    document = f"{{Statement: {{{statement}, Resource: '*'}}}}"
    properties = f"{{Path: /p/, PolicyDocument: {document}}}"
    policy = f"  More: {{Type: AWS::IAM::ManagedPolicy, Properties: {properties}}}\n"
    assert verdict(MACHINE + bare_role + attached + policy, "!Ref T", WITH_ROLE).code == code
    own = "arn:aws:iam::123456789012:policy/p/⟨s.More⟩"
    named = bare_role + attached.replace(name, f"'{own}', 'arn:aws:iam::aws:policy/X'")
    found = verdict(MACHINE + named + policy, "!Ref T", WITH_ROLE).code
    assert found == ("allowed" if code == "allowed" else "managed_policy")


def test_a_deny_in_a_managed_policy_of_the_stack_applies():
    role = (ROLE % "events.amazonaws.com").replace(
        "    Properties:", "    Properties:\n      ManagedPolicyArns: [!Ref Deny]"
    )
    statement = "{Effect: Deny, Action: '*', Resource: '*'}"
    properties = f"{{PolicyDocument: {{Statement: {statement}}}}}"
    deny = f"  Deny: {{Type: AWS::IAM::ManagedPolicy, Properties: {properties}}}\n"
    assert verdict(MACHINE + role + deny, "!Ref T", WITH_ROLE).code == "denied"


def test_a_role_for_an_api_destination_covers_its_id():
    destination = "  T: {Type: AWS::Events::ApiDestination, Properties: {Name: d}}\n"
    role = (ROLE % "events.amazonaws.com").replace(
        "states:StartExecution", "events:InvokeApiDestination"
    )
    role = role.replace(
        "!Ref T", "!Sub 'arn:aws:events:us-east-1:123456789012:api-destination/${T}/*'"
    )
    assert verdict(destination + role, more=WITH_ROLE).reason == "Role/p"


@pytest.mark.parametrize(
    ("boundary", "code"),
    [
        ("!Ref Limit", "allowed"),
        ("!Ref Other", "role_policy"),
        ("arn:aws:iam::123456789012:policy/elsewhere", "depends"),
    ],
)
def test_the_permissions_boundary_of_a_role_limits_it(boundary, code):
    limit = (
        "{Type: AWS::IAM::ManagedPolicy, Properties: {PolicyDocument: "
        "{Statement: [{Effect: Allow, Action: '%s:*', Resource: '*'}]}}}"
    )
    policies = f"  Limit: {limit % 'states'}\n  Other: {limit % 's3'}\n"
    role = (ROLE % "events.amazonaws.com").replace(
        "    Properties:", f"    Properties:\n      PermissionsBoundary: {boundary}"
    )
    assert verdict(MACHINE + role + policies, "!Ref T", WITH_ROLE).code == code


def test_conditions_on_a_role_do_not_see_it_as_a_service():
    role = (ROLE % "events.amazonaws.com").replace("!Ref T}", "!Ref T, Condition: {%s}}")
    own = "Bool: {'aws:PrincipalIsAWSService': 'false'}"
    assert verdict(MACHINE + role % own, "!Ref T", WITH_ROLE).allowed is True
    organization = "StringEquals: {'aws:PrincipalOrgID': o-1}"
    assert verdict(MACHINE + role % organization, "!Ref T", WITH_ROLE).allowed is None


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("Principal: '*'", "denied"),
        ("Principal: {AWS: !Ref AWS::AccountId}", "denied"),
        ("Principal: {AWS: !Sub 'arn:aws:iam::${AWS::AccountId}:root'}", "denied"),
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
def test_a_deny_in_a_queue_policy_applies_to_the_role_of_a_rule(statement, code):
    role = (ROLE % "events.amazonaws.com").replace("states:StartExecution", "sqs:*")
    deny = f"Effect: Deny, Action: 'sqs:SendMessage', Resource: '*', {statement}"
    properties = f"{{Queues: [!Ref T], PolicyDocument: {{Statement: [{{{deny}}}]}}}}"
    policy = f"  P: {{Type: AWS::SQS::QueuePolicy, Properties: {properties}}}\n"
    role = role.replace("!Ref T", "!GetAtt T.Arn")
    assert verdict(QUEUE + role + policy, more=WITH_ROLE).code == code
