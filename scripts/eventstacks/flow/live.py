"""Read the flow as it is deployed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks.aws import error_code, error_message
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import graph, json_text
from eventstacks.flow.resolve import Resource
from eventstacks.flow.symbols import is_known

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eventstacks.aws import Aws
    from eventstacks.flow.graph import Flow, Json, Rule
    from eventstacks.flow.resolve import Stack

# Parts of the error codes with which services say that a resource does not exist.
_NOT_FOUND = ("NotFound", "NoSuch", "NonExistent", "DoesNotExist")


def locate(aws: Aws, stacks: list[Stack], account: str) -> Flow:
    """Return the flow of the templates with the names that CloudFormation generated.

    Raises ToolError (STACK_NOT_DEPLOYED) for a stack that cannot be read.
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
            raise ToolError(
                f"cannot read the stack: {error_message(error)}",
                code=ErrorCode.STACK_NOT_DEPLOYED,
                where=f"{stack.name} in {stack.region}",
                advice="Is it deployed?",
            ) from None
        stack.physical = {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in found
        }
    return graph.of_stacks(stacks)


def read(aws: Aws, planned: Flow) -> Flow:
    """Return all buses, rules, targets and policies of the Regions of ``planned`` (``locate``).

    Labels come from ``planned``. Raises botocore's errors, also for missing permissions.
    """
    found = graph.Flow(stacks=planned.stacks, is_whole=True)
    for region, stack in sorted({one.region: one for one in planned.stacks}.items()):
        events = aws.client("events", region)
        for bus in _pages(events.list_event_buses, "EventBuses"):
            found.buses[bus["Arn"]] = graph.Bus(planned.label(bus["Arn"]), bus["Name"], bus["Arn"])
            _add_policy(found, "bus policy", bus["Arn"], bus.get("Policy"))
            rules = _pages(events.list_rules, "Rules", EventBusName=bus["Name"])
            found.rules += [_rule(events, bus["Arn"], one, planned) for one in rules]
        for one in _pages(events.list_archives, "Archives"):
            archive = events.describe_archive(ArchiveName=one["ArchiveName"])
            arn, pattern = archive["ArchiveArn"], json_text.pattern_of(archive.get("EventPattern"))
            found.archives.append(
                graph.Archive(planned.label(arn), arn, archive["EventSourceArn"], pattern)
            )
        logs = aws.client("logs", region)
        for one in _pages(logs.describe_resource_policies, "resourcePolicies"):
            _add_policy(found, one["policyName"], stack.arn("logs", ""), one["policyDocument"])
    for target in [target for rule in found.rules for target in rule.targets]:
        for arn in filter(None, (target.arn, target.dead_letters, target.role)):
            if arn not in found.resources and is_known(arn):
                _read_resource(aws, found, arn, planned)
    return found


def _pages(call: Any, key: str, **arguments: Any) -> Iterator[Json]:
    """Yield the items of an operation that botocore has no paginator for."""
    token: Json | None = {}
    while token is not None:
        page = call(**arguments, **token)
        yield from page.get(key, ())
        names = (name for name in ("NextToken", "nextToken") if page.get(name))
        token = next(({name: page[name]} for name in names), None)


def _rule(events: Any, bus: str, one: Mapping[str, Any], planned: Flow) -> Rule:
    names = {"Rule": one["Name"], "EventBusName": one["EventBusName"]}
    targets = _pages(events.list_targets_by_rule, "Targets", **names)
    return graph.Rule(
        next((rule.label for rule in planned.rules if rule.arn == one["Arn"]), one["Name"]),
        one["Name"],
        one["Arn"],
        bus,
        json_text.pattern_of(one.get("EventPattern")),
        one.get("ScheduleExpression"),
        one["State"],
        tuple(graph.target_of(target["Id"], target) for target in targets),
    )


def _add_policy(flow: Flow, label: str, arn: str, document: str | None) -> None:
    if document and (statements := json_text.documents_of(document)):
        flow.policies.append(graph.Policy(label, arn, statements))


def _read_resource(aws: Aws, flow: Flow, arn: str, planned: Flow) -> None:
    """Read what permissions need of the resource with an ARN; one that does not exist is left out."""
    _, _, service, region, *_, name = arn.split(":")
    label = planned.label(arn)
    try:
        properties, documents = _describe(aws, arn)
        for document in documents:
            _add_policy(flow, f"policy of {label}", arn, document)
        if key := properties.get("KmsMasterKeyId"):
            _read_key(aws.client("kms", region), flow, str(key))
    except ClientError as error:
        if not any(part in error_code(error) for part in _NOT_FOUND):
            raise
        return
    kind = {"lambda": "AWS::Lambda::Function", "iam": "AWS::IAM::Role"}.get(service, service)
    short = name.rsplit("/", 1)[-1]
    flow.resources[arn] = Resource(label, kind, properties, short, arn, arn, region=region)


def _describe(aws: Aws, arn: str) -> tuple[Json, list[str | None]]:
    """Return the properties and the policy documents of a resource; none of other services."""
    _, _, service, region, account, *_, name = arn.split(":")
    connect = partial(aws.client, service, region or aws.environment.regions[0])
    match service:
        case "lambda":
            return {}, [connect().get_policy(FunctionName=arn)["Policy"]]
        case "sqs":
            owner = {"QueueName": name, "QueueOwnerAWSAccountId": account}
            url = connect().get_queue_url(**owner)["QueueUrl"]
            answer = connect().get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        case "sns":
            answer = connect().get_topic_attributes(TopicArn=arn)
        case "logs":
            answer = connect().describe_resource_policies(resourceArn=arn, policyScope="RESOURCE")
            return {}, [one["policyDocument"] for one in answer["resourcePolicies"]]
        case "iam":
            return _role(connect(), name.rsplit("/", 1)[-1]), []
        case _:
            return {}, []
    attributes = answer.get("Attributes", {})
    return attributes, [attributes.get("Policy")]


def _role(iam: Any, name: str) -> Json:
    """Return the properties of a role as in CloudFormation, attached policies as inline ones."""
    role = iam.get_role(RoleName=name)["Role"]
    documents = [
        (one, iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"])
        for one in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    for one in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        arn = one["PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
        documents.append((one["PolicyName"], found["Document"]))
    policies = [{"PolicyName": key, "PolicyDocument": value} for key, value in documents]
    return {"AssumeRolePolicyDocument": role["AssumeRolePolicyDocument"], "Policies": policies}


def _read_key(kms: Any, flow: Flow, key: str) -> None:
    if "alias/aws/" in key:
        return
    # ``key`` can be an alias, which GetKeyPolicy does not take.
    found = kms.describe_key(KeyId=key)["KeyMetadata"]
    arn = found["Arn"]
    document = kms.get_key_policy(KeyId=found["KeyId"], PolicyName="default")["Policy"]
    _add_policy(flow, f"policy of key {key}", arn, document)
    flow.resources[arn] = Resource(
        key, "AWS::KMS::Key", {}, found["KeyId"], key, arn, region=arn.split(":")[3]
    )
