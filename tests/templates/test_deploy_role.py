"""github-deploy-role: its permissions, compared with the other templates and AWS's schemas."""

import fnmatch
import json

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from eventstacks import rendering
from eventstacks.flow import graph

REGION = "us-east-1"
REPOSITORY = "my-organization/my-repository"
TEMPLATES = rendering.render_all()


def execution_statements():
    """Return the statements of the execution role's policy."""
    role = TEMPLATES["github-deploy-role"].document["Resources"]["ExecutionRole"]
    return role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]


def test_the_audience_is_the_same_in_every_partition():
    """A client id of the provider's own, not the address of an endpoint.

    Source: IAM User Guide, create an OIDC provider.
    """
    resources = TEMPLATES["github-deploy-role"].document["Resources"]
    for role in ("PlanRole", "DeployRole"):
        (statement,) = resources[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        wanted = statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:aud"]
        assert (
            [wanted]
            == resources["OidcProvider"]["Properties"]["ClientIdList"]
            == ["sts.amazonaws.com"]
        )


# What the handlers of the resource types ask for and our stacks do not use:
# the ExecutionRole does without it.
UNUSED = [
    "*:AllowVendedLogDeliveryForResource",  # of services other than EventBridge
    "ec2:*",
    "elasticfilesystem:*",
    "firehose:*",
    "organizations:*",
    "s3files:*",
    "s3tables:*",
    "iam:AttachRolePolicy",
    "iam:DetachRolePolicy",
    "iam:*PermissionsBoundary",
    "kms:*",  # a key's user brings ExtraPolicyArn
    "dynamodb:*Replica",
    "dynamodb:*Item",
    "dynamodb:*Import",
    "dynamodb:ImportTable",
    "dynamodb:?*ableKinesisStreamingDestination",
    "dynamodb:UpdateKinesisStreamingDestination",
    "dynamodb:UpdateContributorInsights",
    "dynamodb:DeleteResourcePolicy",
    "dynamodb:PutResourcePolicy",
    "dynamodb:Query",
    "dynamodb:Scan",
    "kinesis:*",
    "chatbot:*",  # a Slack workspace is authorized by a person: ExtraPolicyArn
    "sns:*DataProtectionPolicy",
    "secretsmanager:*Region*",
    "logs:CreateLogStream",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
    "s3:GetObjectMetadata",
    "cloudtrail:PutInsightSelectors",
    "cloudtrail:PutEventConfiguration",
    "lambda:*Concurrency",
    "lambda:*CodeSigningConfig",
    "lambda:GetLayerVersion",
    "lambda:PublishVersion",
    "lambda:PutRuntimeManagementConfig",
    "lambda:PutFunctionRecursionConfig",
    "lambda:PutFunctionScalingConfig",
    "lambda:PassCapacityProvider",
    "lambda:AssociateRuntimeAlias",
    "s3:*Object",
    "s3:*ObjectAcl",
    "s3:*ObjectVersion",
    "s3:REST.PUT.OBJECT",
    "s3:*BucketMetadata*",
    "s3:DeleteBucket?*",
]


def test_the_execution_role_allows_what_the_resource_types_of_the_stacks_need():
    """Held to AWS's schemas of the resource types (handlers.*.permissions), which cfn-lint has."""
    actions = [
        action.lower()
        for statement in execution_statements()
        if statement["Effect"] == "Allow"
        for action in (
            [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        )
    ]
    lacking = set()
    kinds = {
        one["Type"]
        for name, template in TEMPLATES.items()
        if name != "github-deploy-role"
        for one in template.document["Resources"].values()
    }
    for kind in kinds:
        handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema["handlers"]
        asked = {
            action.lower()
            for verb, one in handlers.items()
            if verb != "list"
            for action in one["permissions"]
        }
        lacking |= {
            (kind, action)
            for action in asked
            if not any(fnmatch.fnmatch(action, one) for one in actions)
            and not any(fnmatch.fnmatch(action, one.lower()) for one in UNUSED)
        }
    assert sorted(lacking) == []


def test_the_policy_of_the_execution_role_is_within_the_quota():
    """The inline policies of a role have at most 10,240 characters without spaces (IAM quotas)."""
    template = TEMPLATES["github-deploy-role"].document
    given = {"StackNamePrefix": "a" * 12, "Repository": REPOSITORY}
    where = {"name": "x", "region": "us-gov-west-1", "account": "1" * 12}
    flow = graph.of_template(template, given, **where)
    (role,) = [one for one in flow.resources.values() if one.logical_id == "ExecutionRole"]
    text = json.dumps([one["PolicyDocument"] for one in role.properties["Policies"]])
    assert len(text.replace(" ", "")) < 10_240


def test_the_execution_role_covers_the_log_groups_of_the_stacks():
    """The names of templates begin with the stack's name, which begins with the prefix."""
    text = json.dumps(TEMPLATES["github-deploy-role"].document["Resources"]["ExecutionRole"])
    for template in TEMPLATES.values():
        for one in template.document["Resources"].values():
            if one["Type"] == "AWS::Logs::LogGroup":
                folder = one["Properties"]["LogGroupName"]["Fn::Sub"].partition(
                    "${AWS::StackName}"
                )[0]
                assert f"log-group:{folder}${{StackNamePrefix}}*" in text


@pytest.mark.parametrize(
    "action",
    [
        "events:PutPermission",
        "events:RemovePermission",
        "logs:PutIndexPolicy",
        "logs:DeleteIndexPolicy",
        "logs:PutResourcePolicy",
        "sns:Unsubscribe",
    ],
)
def test_actions_without_resource_types_are_allowed_on_everything(action):
    """Source: service authorization reference; a statement with an ARN never allows them."""
    resources = {
        json.dumps(one["Resource"]) for one in execution_statements() if action in one["Action"]
    }
    assert resources == {'"*"'}
