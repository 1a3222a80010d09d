"""Read the flow as it is deployed, as the resources that a template would have."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from eventstacks.aws import Aws, error_code, error_message
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import graph
from eventstacks.flow.graph import Flow
from eventstacks.flow.policies import Policy
from eventstacks.flow.resolve import Resource, Stack
from eventstacks.flow.symbols import Json, as_dict, documents_of, is_known

# Parts of the error codes with which services say that a resource does not exist.
_NOT_FOUND = ("NotFound", "NoSuch", "NonExistent", "DoesNotExist")


def locate(aws: Aws, stacks: list[Stack], account: str) -> Flow:
    """Return the flow of the templates with the names that CloudFormation generated.

    Raises ToolError (STACK_NOT_DEPLOYED) for a stack that does not exist, and botocore's errors.
    """
    for stack in stacks:
        stack.account = account
        pages = aws.client("cloudformation", stack.region).get_paginator("list_stack_resources")
        try:
            found = [
                resource
                for page in pages.paginate(StackName=stack.name)
                for resource in page["StackResourceSummaries"]
            ]
        except ClientError as error:
            if error_code(error) != "ValidationError":
                raise
            raise ToolError(
                "the stack is not deployed",
                code=ErrorCode.STACK_NOT_DEPLOYED,
                where=f"{stack.name} in {stack.region}",
                advice="Deploy it, or trace without --live.",
            ) from None
        stack.physical = {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in found
        }
    return graph.of_stacks(stacks)


def read(aws: Aws, planned: Flow) -> Flow:
    """Return all buses, rules, targets and policies of the Regions of ``planned`` (``locate``).

    Labels come from ``planned``. Raises botocore's errors, also for permissions that are missing to
    list these.
    """
    flow = graph.Flow(stacks=planned.stacks, is_whole=True)
    for stack in {one.region: one for one in planned.stacks}.values():
        for kind, arn, properties in _resources(aws, stack.region):
            graph.add(flow, _resource(planned, kind, arn, properties), stack)
    for target in [target for rule in flow.rules for target in rule.targets]:
        for arn in filter(None, (target.arn, target.dead_letters, target.role)):
            if arn not in flow.resources and is_known(arn):
                _read_target(aws, flow, arn, planned)
    return flow


def _resource(planned: Flow, kind: str, arn: str, properties: Json) -> Resource:
    name = graph.bus_name(arn) or arn.rsplit(":", 1)[-1].rsplit("/", 1)[-1]
    return Resource(planned.label(arn), kind, properties, name, arn, arn, arn.split(":")[3])


def _resources(aws: Aws, region: str) -> Iterator[tuple[str, str, Json]]:
    """Yield type, ARN and properties of what a Region has of EventBridge and Logs policies."""
    events, logs = aws.client("events", region), aws.client("logs", region)
    for bus in _pages(events.list_event_buses, "EventBuses"):
        yield "AWS::Events::EventBus", bus["Arn"], bus
        for rule in _pages(events.list_rules, "Rules", EventBusName=bus["Name"]):
            names = {"Rule": rule["Name"], "EventBusName": bus["Name"]}
            targets = list(_pages(events.list_targets_by_rule, "Targets", **names))
            placed = {**rule, "EventBusName": bus["Arn"], "Targets": targets}
            yield "AWS::Events::Rule", rule["Arn"], placed
    for one in _pages(events.list_archives, "Archives"):
        archive = events.describe_archive(ArchiveName=one["ArchiveName"])
        source = {"SourceArn": archive["EventSourceArn"]}
        yield "AWS::Events::Archive", archive["ArchiveArn"], archive | source
    for policy in _pages(logs.describe_resource_policies, "resourcePolicies"):
        document = {"PolicyDocument": policy["policyDocument"]}
        yield "AWS::Logs::ResourcePolicy", f"arn:::{region}::{policy['policyName']}", document


def _pages(call: Any, key: str, **arguments: Any) -> Iterator[Json]:
    """Yield the items of an operation that botocore has no paginator for."""
    token: Json | None = {}
    while token is not None:
        page = call(**arguments, **token)
        yield from page.get(key, ())
        names = (name for name in ("NextToken", "nextToken") if page.get(name))
        token = next(({name: page[name]} for name in names), None)


def _read_target(aws: Aws, flow: Flow, arn: str, planned: Flow) -> None:
    """Read what permissions need of the resource with an ARN.

    One that does not exist is left out; of one that may not be read, the policy is not known.
    """
    try:
        kind, properties = _describe(aws, arn)
        graph.add(flow, _resource(planned, kind, arn, properties), flow.stacks[0])
        key = str(properties.get("KmsMasterKeyId") or "")
        if key and "alias/aws/" not in key:
            region = arn.split(":")[3]
            kms = aws.client("kms", region)
            found = kms.describe_key(KeyId=key)["KeyMetadata"]  # GetKeyPolicy refuses an alias
            policy = kms.get_key_policy(KeyId=found["KeyId"], PolicyName="default")["Policy"]
            names = (found["KeyId"], key, found["Arn"], region)
            resource = Resource(key, "AWS::KMS::Key", {"KeyPolicy": policy}, *names)
            graph.add(flow, resource, flow.stacks[0])
    except ClientError as error:
        if "AccessDenied" in error_code(error):
            text = f"{arn} (not readable: {error_message(error)})"
            flow.policies.append(Policy(text, arn, (), is_open=True))
        elif not any(part in error_code(error) for part in _NOT_FOUND):
            raise


def _describe(aws: Aws, arn: str) -> tuple[str, Json]:
    """Return the type and the properties of a resource; none of other services."""
    _, _, service, region, account, *_, name = arn.split(":")
    connect = partial(aws.client, service, region or aws.environment.regions[0])
    match service:
        case "lambda":
            return "AWS::Lambda::Function", connect().get_policy(FunctionName=arn)
        case "sqs":
            owner = {"QueueName": name, "QueueOwnerAWSAccountId": account}
            url = connect().get_queue_url(**owner)["QueueUrl"]
            answer = connect().get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            return "AWS::SQS::Queue", answer.get("Attributes", {})
        case "sns":
            return "AWS::SNS::Topic", connect().get_topic_attributes(TopicArn=arn)["Attributes"]
        case "logs":
            answer = connect().describe_resource_policies(resourceArn=arn, policyScope="RESOURCE")
            documents = (one["policyDocument"] for one in answer["resourcePolicies"])
            statements = [one for document in documents for one in documents_of(document)]
            return "AWS::Logs::LogGroup", {"ResourcePolicyDocument": {"Statement": statements}}
        case "iam":
            return "AWS::IAM::Role", _role(connect(), name.rsplit("/", 1)[-1])
    return "", {}


def _role(iam: Any, name: str) -> Json:
    """Return the properties of a role as in CloudFormation, with documents in place of ARNs."""
    role = iam.get_role(RoleName=name)["Role"]
    documents = [
        (one, iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"])
        for one in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
    documents += [(one["PolicyName"], _managed(iam, one["PolicyArn"])) for one in attached]
    policies = [{"PolicyName": key, "PolicyDocument": value} for key, value in documents]
    given = {"AssumeRolePolicyDocument": role["AssumeRolePolicyDocument"], "Policies": policies}
    if boundary := role.get("PermissionsBoundary"):
        given["PermissionsBoundary"] = _managed(iam, boundary["PermissionsBoundaryArn"])
    return given


def _managed(iam: Any, arn: str) -> Json:
    """Return the document of a managed policy."""
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    found: Json = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
    return as_dict(found["Document"])
