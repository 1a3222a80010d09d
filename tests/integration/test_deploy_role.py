"""github-deploy-role: which workflows can assume which role, and what the roles can do."""

import base64
import contextlib
import dataclasses
import itertools
import json

import pytest

from eventstacks import environment, rendering
from eventstacks.aws import Aws
from eventstacks.cloudformation import deploy
from eventstacks.cloudformation.run import Scope
from eventstacks.local import server

REGION = "us-east-1"
TEMPLATES = rendering.render_all()
REPOSITORY = "my-organization/my-repository"
DEV = f"{REPOSITORY}:environment:dev"
NUMBERED = "my-organization@1234/my-repository@5678"  # as GitHub names it since 15 July 2026
EMPTY = "Resources: {Nothing: {Type: AWS::CloudFormation::WaitConditionHandle}}"


def wait_for(cloudformation, waiter, name):
    cloudformation.get_waiter(waiter).wait(StackName=name, WaiterConfig={"Delay": 0.1})


def parameters(values):
    return [{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()]


@contextlib.contextmanager
def pipeline(clients, name, **values):
    """The outputs of a github-deploy-role for the environment 'dev'.

    Its stacks have names that begin with 'made-'.
    """
    cloudformation = clients("cloudformation", REGION)
    values = {"StackNamePrefix": "made-", "Repository": REPOSITORY, **values}
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(rendering.BUILD / "github-deploy-role.yaml").read_text(),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=parameters(values),
    )
    wait_for(cloudformation, "stack_create_complete", name)
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    try:
        yield {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    finally:
        cloudformation.delete_stack(StackName=name)
        wait_for(cloudformation, "stack_delete_complete", name)


@pytest.fixture(scope="module")
def roles(clients):
    with pipeline(clients, "made-github-deploy-role") as outputs:
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
    """The roles of a repository whose token names it with its numbers.

    The account has its identity provider already.
    """
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
        ("DeployRoleArn", DEV, {"audience": "https://github.com/my-organization"}),
        ("DeployRoleArn", DEV, {"audience": "sts.amazonaws.com.cn"}),
        ("DeployRoleArn", DEV, {"issuer": "https://token.example.com"}),
        ("PlanRoleArn", "someone-else/my-repository:pull_request", {}),
        ("PlanRoleArn", f"{REPOSITORY}-2:pull_request", {}),
        ("ExecutionRoleArn", DEV, {}),
    ],
)
def test_other_subjects_audiences_and_issuers_cannot_assume_a_role(take, output, subject, claims):
    with pytest.raises(Exception, match="AccessDenied"):
        take(output, subject, **claims)


@pytest.mark.parametrize(
    ("output", "whence"), [("DeployRoleArn", "environment:dev"), ("PlanRoleArn", "pull_request")]
)
def test_a_repository_with_numeric_ids_is_matched_by_them(clients, numbered_roles, output, whence):
    """GitHub: OpenID Connect reference, immutable subject claims.

    The numbers cannot be taken over.
    """
    role = numbered_roles[output]
    identity = assume(clients, role, f"{NUMBERED}:{whence}")("sts").get_caller_identity()
    assert identity["Arn"].endswith("/test")
    wrong = ("my-organization@1234/my-repository@567", "my-organization@9/my-repository@5678")
    for other in (REPOSITORY, *wrong):
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
def test_an_invalid_repository_name_is_refused(clients, name):
    wanted = r"Repository.* must look like owner/name or owner@123/name@456"
    with pytest.raises(Exception, match=wanted):
        pipeline(clients, "made-wrong", Repository=name).__enter__()


def test_the_identity_provider_is_kept_when_its_arn_becomes_a_parameter(clients, roles):
    cloudformation, name = clients("cloudformation", REGION), "made-github-deploy-role"
    values = {"StackNamePrefix": "made-", "Repository": REPOSITORY}
    cloudformation.update_stack(
        StackName=name,
        UsePreviousTemplate=True,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=parameters({**values, "OidcProviderArn": roles["OidcProviderArn"]}),
    )
    wait_for(cloudformation, "stack_update_complete", name)
    assert providers(clients) == [roles["OidcProviderArn"]]


def change_set(client, stack, **more):
    return client.create_change_set(
        StackName=stack, ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=EMPTY, **more
    )


def denied(call, *arguments, **more):
    with pytest.raises(Exception, match="AccessDenied") as error:
        call(*arguments, **more)
    return error


def test_the_deploy_role_can_only_deploy_with_the_execution_role(take, roles, clients):
    service = take("DeployRoleArn", DEV)
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
    own_policy = {"RoleName": roles["DeployRoleArn"].rsplit("/", 1)[1], "PolicyName": "p"}
    denied(service("iam").put_role_policy, **own_policy, PolicyDocument="{}")
    clients("cloudformation", REGION).delete_stack(StackName="made-one")


def test_the_plan_role_cannot_execute_or_delete(take, roles, clients):
    cloudformation = take("PlanRoleArn", f"{REPOSITORY}:pull_request")("cloudformation")
    change_set(cloudformation, "made-two", RoleARN=roles["ExecutionRoleArn"])
    assert cloudformation.describe_change_set(StackName="made-two", ChangeSetName="c")["Changes"]
    denied(cloudformation.execute_change_set, StackName="made-two", ChangeSetName="c")
    denied(cloudformation.delete_stack, StackName="made-two")
    denied(change_set, cloudformation, "other-two")
    cloudformation.delete_change_set(StackName="made-two", ChangeSetName="c")
    clients("cloudformation", REGION).delete_stack(StackName="made-two")


class AssumedRole(Aws):
    """AWS with the clients of an assumed role."""

    def __init__(self, made, service):
        super().__init__(made, server.start)
        self.service = service

    def client(self, service, region=None):
        return self.service(service)


def scope_with(service, made):
    return Scope(AssumedRole(made, service), made.choose())


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


def test_plan_and_deploy_work_with_the_roles(take, roles, clients):
    """All calls of `make plan` and `make deploy`.

    For a new stack, for one that changes, and for one that does not.
    """
    deploying = take("DeployRoleArn", DEV)
    planner = take("PlanRoleArn", f"{REPOSITORY}:pull_request")
    admin = clients("cloudformation", REGION)
    try:
        for retention, outcome in (("1", "created"), ("3", "updated"), ("3", "unchanged")):
            made = environment_of(roles, retention)
            (plan,) = deploy.plan(scope_with(planner, made), TEMPLATES)
            assert (plan.problem, plan.changes) == (None, outcome != "unchanged")
            if outcome == "created":
                # Delete what the plan leaves: MiniStack, unlike AWS, would give it another ID.
                (left,) = admin.describe_stacks(StackName="made-bus")["Stacks"]
                assert left["StackStatus"] == "REVIEW_IN_PROGRESS"
                admin.delete_stack(StackName="made-bus")
            (result,) = deploy.deploy(scope_with(deploying, made), TEMPLATES)
            assert (result.outcome, str(result.problem), result.warnings) == (outcome, "None", ())
    finally:
        admin.update_termination_protection(StackName="made-bus", EnableTerminationProtection=False)
        admin.delete_stack(StackName="made-bus")


def test_only_the_deploy_role_can_upload_a_long_template(clients, endpoint, roles, unique):
    """PutObject is enough: nothing is listed.

    CloudFormation reads TemplateURL with what its caller may do: the roles of the CDK's bootstrap
    stack are made so. The embedded AWS reads it without asking, so that the deploying itself reads
    here what CloudFormation would.
    """
    short = TEMPLATES["custom-event-bus"]
    long = short.text + "# so that it is too long for a request\n" * 1400
    templates = {short.name: dataclasses.replace(short, text=long)}
    s3 = clients("s3", REGION)
    s3.create_bucket(Bucket=unique)
    given = {
        "OidcProviderArn": roles["OidcProviderArn"],
        "TemplateBucket": unique,
    }
    with pipeline(clients, "made-long-github-deploy-role", **given) as outputs:
        deploying = assume(clients, outputs["DeployRoleArn"], DEV)
        planner = assume(clients, outputs["PlanRoleArn"], f"{REPOSITORY}:pull_request")
        made = dataclasses.replace(
            environment_of(outputs, "1"), bucket=unique, endpoint="embedded", protect=False
        )
        (plan,) = deploy.plan(scope_with(planner, made), templates)
        assert "s3:PutObject" in str(plan.problem)
        (result,) = deploy.deploy(scope_with(deploying, made), templates)
        clients("cloudformation", REGION).delete_stack(StackName="made-bus")
        assert (result.outcome, str(result.problem), result.warnings) == ("created", "None", ())
        (key,) = (one["Key"] for one in s3.list_objects_v2(Bucket=unique)["Contents"])
        assert deploying("s3").get_object(Bucket=unique, Key=key)["ContentLength"] > 51_200
        denied(planner("s3").get_object, Bucket=unique, Key=key)
        denied(deploying("s3").delete_object, Bucket=unique, Key=key)
        denied(deploying("s3").put_object, Bucket=unique, Key="elsewhere.yaml", Body=b"")
        denied(deploying("s3").list_objects_v2, Bucket=unique)


def simulate(clients, role, actions, resource):
    """Return the decisions of IAM's policy simulator."""
    answer = clients("iam").simulate_principal_policy(
        PolicySourceArn=role, ActionNames=actions, ResourceArns=[resource]
    )
    return [one["EvalDecision"] for one in answer["EvaluationResults"]]


def test_the_execution_role_cannot_change_roles_of_a_pipeline_with_a_long_name(clients, roles):
    name = f"made-{'long-' * 15}github-deploy-role"
    given = {"OidcProviderArn": roles["OidcProviderArn"]}
    actions = ["iam:DeleteRole", "iam:PutRolePolicy", "iam:UpdateAssumeRolePolicy"]
    with pipeline(clients, name, **given) as outputs:
        own = {outputs[f"{role}RoleArn"] for role in ("Deploy", "Execution", "Plan")}
        # A role's name has at most 64 characters: the stack's name does not fit into it.
        assert not any(f"{name}-" in arn for arn in own)
        for arn in {*own, outputs["DeployRoleArn"] + "-of-a-function"}:
            decisions = simulate(clients, outputs["ExecutionRoleArn"], actions, arn)
            assert set(decisions) == {"explicitDeny" if arn in own else "allowed"}, arn


ACCOUNT = "000000000000"
STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/made-x/1"
SAM = f"arn:aws:cloudformation:{REGION}:aws:transform/Serverless-2016-10-31"


@pytest.mark.parametrize(
    ("role", "action", "resource", "allowed"),
    [
        # Needed in addition to the stack itself (serverless-application-model #179).
        ("Deploy", "CreateChangeSet", SAM, True),
        ("Plan", "CreateChangeSet", SAM, True),
        ("Deploy", "RollbackStack", STACK, True),  # what recover does with UPDATE_FAILED
        ("Deploy", "RollbackStack", STACK.replace("made-", "other-"), False),
        ("Plan", "RollbackStack", STACK, False),
        ("Deploy", "DeleteStack", STACK, False),
    ],
)
def test_who_may_use_transforms_and_roll_back(*, clients, roles, role, action, resource, allowed):
    decisions = simulate(clients, roles[f"{role}RoleArn"], [f"cloudformation:{action}"], resource)
    assert [one == "allowed" for one in decisions] == [allowed]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("event-source-mapping:1", True), ("function:made-x", True), ("function:other-x", False)],
)
def test_the_execution_role_tags_only_functions_with_the_prefix(clients, roles, name, allowed):
    resource = f"arn:aws:lambda:{REGION}:{ACCOUNT}:{name}"
    decisions = simulate(clients, roles["ExecutionRoleArn"], ["lambda:TagResource"], resource)
    assert [one == "allowed" for one in decisions] == [allowed]


def test_a_permissions_boundary_is_required_for_every_role(clients, roles):
    given = {
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
    others = [one["Action"] for one in policy["Statement"] if one["Sid"] != "CreateRoles"]
    assert not {"iam:CreateRole", "iam:PutRolePolicy"} & set(itertools.chain(*others))


def test_trust_can_be_limited_to_a_repository_id_and_a_workflow(clients, roles):
    workflow = f"{REPOSITORY}/.github/workflows/deploy.yaml@refs/heads/main"
    given = {
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
        pipeline(clients, "made-wrong", StackNamePrefix=prefix).__enter__()


def test_the_plan_role_cannot_plan_its_own_stack(take):
    cloudformation = take("PlanRoleArn", f"{REPOSITORY}:pull_request")("cloudformation")
    denied(change_set, cloudformation, "made-github-deploy-role")
