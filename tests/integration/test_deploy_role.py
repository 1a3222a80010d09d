"""github-deploy-role: whose workflows may take which role, and what that lets them do."""

import base64
import contextlib
import dataclasses
import fnmatch
import json

import pytest
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from eventstacks import environment, rendering
from eventstacks.aws import Aws
from eventstacks.cloudformation import deployer
from eventstacks.cloudformation.change_set import Options
from eventstacks.flow import graph
from eventstacks.local import server

REGION = "us-east-1"
TEMPLATES = rendering.render_all()
REPOSITORY = "my-organization/my-repository"
NUMBERED = "my-organization@1234/my-repository@5678"  # as GitHub names it since 15 July 2026
EMPTY = "Resources: {Nothing: {Type: AWS::CloudFormation::WaitConditionHandle}}"


@contextlib.contextmanager
def pipeline(clients, name, **values):
    """The outputs of a github-deploy-role, for the environment 'dev' and stacks whose names begin with 'made-'."""
    cloudformation, values = (
        clients("cloudformation", REGION),
        {"StackNamePrefix": "made-", **values},
    )
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(rendering.BUILD / "github-deploy-role.yaml").read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in values.items()
        ],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 0.1}
    )
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    try:
        yield {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    finally:
        cloudformation.delete_stack(StackName=name)
        cloudformation.get_waiter("stack_delete_complete").wait(
            StackName=name, WaiterConfig={"Delay": 0.1}
        )


@pytest.fixture(scope="module")
def roles(clients):
    with pipeline(clients, "made-github-deploy-role", Repository=REPOSITORY) as outputs:
        yield outputs
    assert providers(clients) == [outputs["OidcProviderArn"]], "deleting the stack deletes it"
    clients("iam").delete_open_id_connect_provider(
        OpenIDConnectProviderArn=outputs["OidcProviderArn"]
    )


def providers(clients):
    listed = clients("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    return [one["Arn"] for one in listed]


@pytest.fixture(scope="module")
def numbered_roles(clients, roles):
    """Those of a repository whose token names it with its numbers; the account has its identity provider already."""
    given = {"Repository": NUMBERED, "OidcProviderArn": roles["OidcProviderArn"]}
    with pipeline(clients, "made-numbered-github-deploy-role", **given) as outputs:
        yield outputs


def token(
    subject, audience="sts.amazonaws.com", issuer="https://token.actions.githubusercontent.com"
):
    """A token as GitHub writes it, but for the signature, which the embedded AWS does not check."""
    parts = ({"alg": "RS256"}, {"iss": issuer, "sub": f"repo:{subject}", "aud": audience})
    coded = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts
    ]
    return ".".join([*coded, "c2lnbmF0dXJl"])


def assume(clients, role, subject, **claims):
    """clients(service) of the role, for a workflow that GitHub's token is about."""
    given = clients("sts", REGION).assume_role_with_web_identity(
        RoleArn=role, RoleSessionName="test", WebIdentityToken=token(subject, **claims)
    )["Credentials"]
    keys = {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }
    return lambda service: clients(service, REGION, **keys)


@pytest.fixture
def take(clients, roles):
    """take(output, subject): clients(service) of that role of the stack."""
    return lambda output, subject, **claims: assume(clients, roles[output], subject, **claims)


@pytest.mark.parametrize(
    ("output", "subject", "claims"),
    [
        ("DeployRoleArn", "someone-else/my-repository:environment:dev", {}),
        ("DeployRoleArn", f"{REPOSITORY}:environment:prod", {}),
        ("DeployRoleArn", f"{REPOSITORY}:ref:refs/heads/main", {}),
        ("DeployRoleArn", f"{REPOSITORY}:pull_request", {}),
        ("DeployRoleArn", f"{NUMBERED}:environment:dev", {}),
        (
            "DeployRoleArn",
            f"{REPOSITORY}:environment:dev",
            {"audience": "https://github.com/my-organization"},
        ),
        ("DeployRoleArn", f"{REPOSITORY}:environment:dev", {"audience": "sts.amazonaws.com.cn"}),
        ("DeployRoleArn", f"{REPOSITORY}:environment:dev", {"issuer": "https://token.example.com"}),
        ("PlanRoleArn", "someone-else/my-repository:pull_request", {}),
        ("PlanRoleArn", f"{REPOSITORY}-2:pull_request", {}),
        ("ExecutionRoleArn", f"{REPOSITORY}:environment:dev", {}),
    ],
)
def test_nobody_else_gets_a_role(take, output, subject, claims):
    with pytest.raises(Exception, match="AccessDenied"):
        take(output, subject, **claims)


@pytest.mark.parametrize(
    ("output", "whence"), [("DeployRoleArn", "environment:dev"), ("PlanRoleArn", "pull_request")]
)
def test_a_repository_with_numbers_gets_the_roles_by_them_alone(
    clients, numbered_roles, output, whence
):
    """GitHub: OpenID Connect reference, immutable subject claims. The numbers cannot be taken over."""
    role = numbered_roles[output]
    assert (
        assume(clients, role, f"{NUMBERED}:{whence}")("sts")
        .get_caller_identity()["Arn"]
        .endswith("/test")
    )
    for other in (
        REPOSITORY,
        "my-organization@1234/my-repository@567",
        "my-organization@9/my-repository@5678",
    ):
        denied(assume, clients, role, f"{other}:{whence}")


@pytest.mark.parametrize(
    "name",
    [
        "my-organization",
        "my-organization/",
        "/my-repository",
        "my-organization/my-repository/more",
        "my-organization/*",
        "my-organization@1234/my-repository",
        "my-organization/my-repository@5678",
        "my-organization@/my-repository@",
        "my-organization@x/my-repository@y",
        f"repo:{NUMBERED}",
        f"{NUMBERED}:environment:dev",
        f"{REPOSITORY}:ref:*",
    ],
)
def test_a_repository_that_no_token_could_name_is_refused(clients, name):
    with pytest.raises(
        Exception, match=r"Repository.* must look like owner/name or owner@123/name@456"
    ):
        pipeline(clients, "made-wrong", Repository=name).__enter__()


def test_the_audience_is_the_same_in_every_partition():
    """A client id of the provider's own (IAM User Guide, create an OIDC provider), not the address of an endpoint."""
    resources = TEMPLATES["github-deploy-role"].document["Resources"]
    for role in ("PlanRole", "DeployRole"):
        (statement,) = resources[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        wanted = statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:aud"]
        assert (
            [wanted]
            == resources["OidcProvider"]["Properties"]["ClientIdList"]
            == ["sts.amazonaws.com"]
        )


def test_the_identity_provider_survives_its_own_arn_as_a_parameter(clients, roles):
    cloudformation, name = clients("cloudformation", REGION), "made-github-deploy-role"
    values = {
        "StackNamePrefix": "made-",
        "Repository": REPOSITORY,
        "OidcProviderArn": roles["OidcProviderArn"],
    }
    cloudformation.update_stack(
        StackName=name,
        UsePreviousTemplate=True,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in values.items()
        ],
    )
    cloudformation.get_waiter("stack_update_complete").wait(
        StackName=name, WaiterConfig={"Delay": 0.1}
    )
    assert providers(clients) == [roles["OidcProviderArn"]]


def change_set(client, stack, **more):
    return client.create_change_set(
        StackName=stack, ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=EMPTY, **more
    )


def denied(call, *arguments, **more):
    with pytest.raises(Exception, match="AccessDenied") as error:
        call(*arguments, **more)
    return error


def test_the_deployer_deploys_by_the_execution_role_and_does_nothing_else(take, roles, clients):
    service = take("DeployRoleArn", f"{REPOSITORY}:environment:dev")
    cloudformation = service("cloudformation")
    change_set(cloudformation, "made-one", RoleARN=roles["ExecutionRoleArn"])
    cloudformation.execute_change_set(StackName="made-one", ChangeSetName="c")
    assert cloudformation.describe_stacks(StackName="made-one")["Stacks"]
    denied(change_set, cloudformation, "other-one")
    denied(cloudformation.delete_stack, StackName="made-one")
    denied(change_set, cloudformation, "made-github-deploy-role")
    denied(service("sts").assume_role, RoleArn=roles["ExecutionRoleArn"], RoleSessionName="test")
    denied(service("events").put_rule, Name="made-rule", EventPattern='{"source": ["x"]}')
    denied(service("s3").create_bucket, Bucket="made-bucket")
    denied(
        service("iam").put_role_policy,
        RoleName=roles["DeployRoleArn"].rsplit("/", 1)[1],
        PolicyName="p",
        PolicyDocument="{}",
    )
    clients("cloudformation", REGION).delete_stack(StackName="made-one")


def test_the_planner_sees_and_executes_nothing(take, roles, clients):
    cloudformation = take("PlanRoleArn", f"{REPOSITORY}:pull_request")("cloudformation")
    change_set(cloudformation, "made-two", RoleARN=roles["ExecutionRoleArn"])
    assert cloudformation.describe_change_set(StackName="made-two", ChangeSetName="c")["Changes"]
    denied(cloudformation.execute_change_set, StackName="made-two", ChangeSetName="c")
    denied(cloudformation.delete_stack, StackName="made-two")
    denied(change_set, cloudformation, "other-two")
    cloudformation.delete_change_set(StackName="made-two", ChangeSetName="c")
    clients("cloudformation", REGION).delete_stack(StackName="made-two")


class Taken(Aws):
    """AWS as a workflow sees it that took a role."""

    def __init__(self, made, service):
        super().__init__(made, server.start)
        self.service = service

    def client(self, service, region=None):
        return self.service(service)


def environment_of(roles, retention):
    stack = environment.StackSettings(
        "bus",
        "made-bus",
        "custom-event-bus",
        (REGION,),
        {"ArchiveRetentionInDays": retention},
        role=roles["ExecutionRoleArn"],
    )
    return environment.Environment(
        "test", environment.PARAMETERS / "test.yaml", (REGION,), {"bus": stack}, protect=True
    )


def test_our_own_deployer_needs_no_more_than_the_roles_allow(take, roles, clients):
    """All calls of `make plan` and `make deploy`: for a new stack, for one that changes, and for one that does not."""
    deploying = take("DeployRoleArn", f"{REPOSITORY}:environment:dev")
    planner = take("PlanRoleArn", f"{REPOSITORY}:pull_request")
    admin = clients("cloudformation", REGION)
    try:
        for retention, outcome in (("1", "created"), ("3", "updated"), ("3", "unchanged")):
            made = environment_of(roles, retention)
            (plan,) = deployer.create(Taken(made, planner), made.choose()).plan(
                TEMPLATES, Options()
            )
            assert (plan.problem, plan.changes) == (None, outcome != "unchanged")
            if (
                outcome == "created"
            ):  # what the plan leaves: MiniStack, unlike AWS, gives it another id with the next change set
                assert (
                    admin.describe_stacks(StackName="made-bus")["Stacks"][0]["StackStatus"]
                    == "REVIEW_IN_PROGRESS"
                )
                admin.delete_stack(StackName="made-bus")
            (result,) = deployer.create(Taken(made, deploying), made.choose()).deploy(
                TEMPLATES, Options()
            )
            assert (result.outcome, str(result.problem), result.warnings) == (outcome, "None", ())
    finally:
        admin.update_termination_protection(StackName="made-bus", EnableTerminationProtection=False)
        admin.delete_stack(StackName="made-bus")


def test_a_long_template_goes_by_way_of_the_bucket_which_only_the_deployer_may_fill(
    clients, endpoint, roles, unique
):
    """PutObject is enough: nothing is listed.

    CloudFormation reads TemplateURL with what its caller may do: the roles of the CDK's bootstrap stack are made so. The
    embedded AWS reads it without asking, so that the deploying itself reads here what CloudFormation would.
    """
    short = TEMPLATES["custom-event-bus"]
    long = short.text + "# so that it is too long for a request\n" * 1400
    templates = {short.name: dataclasses.replace(short, text=long)}
    s3 = clients("s3", REGION)
    s3.create_bucket(Bucket=unique)
    given = {
        "Repository": REPOSITORY,
        "OidcProviderArn": roles["OidcProviderArn"],
        "TemplateBucket": unique,
    }
    with pipeline(clients, "made-long-github-deploy-role", **given) as outputs:
        deploying = assume(clients, outputs["DeployRoleArn"], f"{REPOSITORY}:environment:dev")
        planner = assume(clients, outputs["PlanRoleArn"], f"{REPOSITORY}:pull_request")
        made = dataclasses.replace(
            environment_of(outputs, "1"), bucket=unique, endpoint="embedded", protect=False
        )
        (plan,) = deployer.create(Taken(made, planner), made.choose()).plan(templates, Options())
        assert "s3:PutObject" in str(plan.problem)
        (result,) = deployer.create(Taken(made, deploying), made.choose()).deploy(
            templates, Options()
        )
        clients("cloudformation", REGION).delete_stack(StackName="made-bus")
        assert (result.outcome, str(result.problem), result.warnings) == ("created", "None", ())
        (key,) = (one["Key"] for one in s3.list_objects_v2(Bucket=unique)["Contents"])
        assert deploying("s3").get_object(Bucket=unique, Key=key)["ContentLength"] > 51_200
        denied(planner("s3").get_object, Bucket=unique, Key=key)
        denied(deploying("s3").delete_object, Bucket=unique, Key=key)
        denied(deploying("s3").put_object, Bucket=unique, Key="elsewhere.yaml", Body=b"")
        denied(deploying("s3").list_objects_v2, Bucket=unique)


def test_a_stack_can_do_nothing_to_the_roles_of_the_pipeline_however_long_its_name_is(
    clients, roles
):
    name = f"made-{'long-' * 15}github-deploy-role"
    given = {"Repository": REPOSITORY, "OidcProviderArn": roles["OidcProviderArn"]}
    actions = ["iam:DeleteRole", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy"]
    with pipeline(clients, name, **given) as outputs:
        own = {outputs[f"{role}RoleArn"] for role in ("Deploy", "Execution", "Plan")}
        assert not any(
            f"{name}-" in arn for arn in own
        )  # what a name of 64 characters has no room for
        for arn in {*own, outputs["DeployRoleArn"] + "-of-a-function"}:
            answer = clients("iam").simulate_principal_policy(
                PolicySourceArn=outputs["ExecutionRoleArn"], ActionNames=actions, ResourceArns=[arn]
            )
            decisions = {one["EvalDecision"] for one in answer["EvaluationResults"]}
            assert decisions == {"explicitDeny" if arn in own else "allowed"}, arn


ACCOUNT = "000000000000"
STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/made-x/1"
SAM = f"arn:aws:cloudformation:{REGION}:aws:transform/Serverless-2016-10-31"


@pytest.mark.parametrize(
    ("role", "action", "resource", "allowed"),
    [
        (
            "Deploy",
            "CreateChangeSet",
            SAM,
            True,
        ),  # asked beside the stack itself (serverless-application-model #179)
        ("Plan", "CreateChangeSet", SAM, True),
        ("Deploy", "RollbackStack", STACK, True),  # what recover does with UPDATE_FAILED
        ("Deploy", "RollbackStack", STACK.replace("made-", "other-"), False),
        ("Plan", "RollbackStack", STACK, False),
        ("Deploy", "DeleteStack", STACK, False),
    ],
)
def test_a_transform_and_a_rollback_are_in_reach(
    *, clients, roles, role, action, resource, allowed
):
    answer = clients("iam").simulate_principal_policy(
        PolicySourceArn=roles[f"{role}RoleArn"],
        ActionNames=[f"cloudformation:{action}"],
        ResourceArns=[resource],
    )
    assert [one["EvalDecision"] == "allowed" for one in answer["EvaluationResults"]] == [allowed]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("event-source-mapping:1", True), ("function:made-x", True), ("function:other-x", False)],
)
def test_stacks_tag_no_functions_of_others(clients, roles, name, allowed):
    answer = clients("iam").simulate_principal_policy(
        PolicySourceArn=roles["ExecutionRoleArn"],
        ActionNames=["lambda:TagResource"],
        ResourceArns=[f"arn:aws:lambda:{REGION}:{ACCOUNT}:{name}"],
    )
    assert [one["EvalDecision"] == "allowed" for one in answer["EvaluationResults"]] == [allowed]


# What the handlers of the resource types ask for and our stacks do not use: the ExecutionRole does without it.
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
    "chatbot:*",  # as does who wants a Slack channel
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


def test_the_execution_role_may_make_what_our_stacks_consist_of():
    """Held to AWS's own schemas of the resource types (handlers.*.permissions), as cfn-lint carries them."""
    role = TEMPLATES["github-deploy-role"].document["Resources"]["ExecutionRole"]
    actions = [
        action.lower()
        for statement in role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
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


def test_its_policy_fits_into_a_role():
    """The inline policies of a role have at most 10,240 characters (IAM quotas), spaces not counted."""
    template = TEMPLATES["github-deploy-role"].document
    given = {"StackNamePrefix": "a" * 12, "Repository": REPOSITORY}
    where = {"name": "x", "region": "us-gov-west-1", "account": "1" * 12}
    flow = graph.of_template(template, given, **where)
    (role,) = [one for one in flow.resources.values() if one.logical_id == "ExecutionRole"]
    text = json.dumps([one["PolicyDocument"] for one in role.properties["Policies"]])
    assert len(text.replace(" ", "")) < 10_240


def test_its_names_are_those_that_our_stacks_give():
    """Every name that a template gives begins with the stack's name, which begins with the prefix."""
    text = json.dumps(TEMPLATES["github-deploy-role"].document["Resources"]["ExecutionRole"])
    for template in TEMPLATES.values():
        for one in template.document["Resources"].values():
            if one["Type"] == "AWS::Logs::LogGroup":
                folder = one["Properties"]["LogGroupName"]["Fn::Sub"].partition(
                    "${AWS::StackName}"
                )[0]
                assert f"log-group:{folder}${{StackNamePrefix}}*" in text


def execution_statements():
    role = TEMPLATES["github-deploy-role"].document["Resources"]["ExecutionRole"]
    return {
        one["Sid"]: one for one in role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    }


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
        json.dumps(one["Resource"])
        for one in execution_statements().values()
        if action in one["Action"]
    }
    assert resources == {'"*"'}


def test_a_boundary_is_required_of_every_role(clients, roles):
    given = {
        "Repository": REPOSITORY,
        "OidcProviderArn": roles["OidcProviderArn"],
        "PermissionsBoundaryArn": "arn:aws:iam::000000000000:policy/limit",
    }
    iam = clients("iam")
    with pipeline(clients, "made-bound-github-deploy-role", **given) as outputs:
        role = outputs["ExecutionRoleArn"].rsplit("/", 1)[1]
        policy = iam.get_role_policy(RoleName=role, PolicyName="stack-resources")["PolicyDocument"]
    (create,) = [one for one in policy["Statement"] if one["Sid"] == "CreateRoles"]
    assert {"iam:CreateRole", "iam:PutRolePolicy"} <= set(create["Action"])
    assert create["Condition"] == {
        "StringEquals": {"iam:PermissionsBoundary": given["PermissionsBoundaryArn"]}
    }
    elsewhere = [one for one in policy["Statement"] if one["Sid"] != "CreateRoles"]
    assert not {"iam:CreateRole", "iam:PutRolePolicy"} & {
        action for one in elsewhere for action in one["Action"]
    }


def test_trust_may_name_the_repositorys_number_and_the_workflow(clients, roles):
    workflow = f"{REPOSITORY}/.github/workflows/deploy.yaml@refs/heads/main"
    given = {
        "Repository": REPOSITORY,
        "OidcProviderArn": roles["OidcProviderArn"],
        "RepositoryId": "5678",
        "WorkflowRef": workflow,
    }
    claims = "token.actions.githubusercontent.com"
    with pipeline(clients, "made-claims-github-deploy-role", **given) as outputs:
        trusted = {}
        for output in ("PlanRoleArn", "DeployRoleArn"):
            role = clients("iam").get_role(RoleName=outputs[output].rsplit("/", 1)[1])["Role"]
            (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
            trusted[output] = statement["Condition"]["StringEquals"]
    assert {one[f"{claims}:repository_id"] for one in trusted.values()} == {"5678"}
    assert trusted["DeployRoleArn"][f"{claims}:job_workflow_ref"] == workflow
    assert f"{claims}:job_workflow_ref" not in trusted["PlanRoleArn"]


@pytest.mark.parametrize("prefix", ["dev", "-", "Dev-", "1dev-", "d" * 31 + "-"])
def test_a_prefix_ends_with_a_hyphen(clients, prefix):
    with pytest.raises(Exception, match=r"StackNamePrefix.* end with a hyphen"):
        pipeline(clients, "made-wrong", Repository=REPOSITORY, StackNamePrefix=prefix).__enter__()


def test_the_planner_cannot_plan_the_pipelines_own_stack(take):
    cloudformation = take("PlanRoleArn", f"{REPOSITORY}:pull_request")("cloudformation")
    denied(change_set, cloudformation, "made-github-deploy-role")
