"""The flow as it is deployed: rules, targets and policies of the account, and where they differ from the templates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eventstacks.errors import ToolError
from eventstacks.flow import graph, permissions, trace
from eventstacks.flow.resolve import Resource, is_known

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eventstacks.aws import Aws
    from eventstacks.flow.graph import Flow, Json
    from eventstacks.flow.resolve import Stack

# Fields of a target that AWS gives back as they were put.
_KEPT = ("RoleArn", "DeadLetterConfig", *graph.INPUTS)
_ABSENT = (
    "NotFound",
    "NoSuch",
    "NonExistent",
    "DoesNotExist",
)  # parts of the codes by which services say so


def locate(aws: Aws, stacks: list[Stack], account: str) -> Flow:
    """The flow of the templates with the names that CloudFormation gave. Raises ToolError for one it cannot read."""
    from botocore.exceptions import ClientError

    for stack in stacks:
        stack.account = account
        try:
            pages = aws.client("cloudformation", stack.region).get_paginator("list_stack_resources")
            found = [
                one
                for page in pages.paginate(StackName=stack.name)
                for one in page["StackResourceSummaries"]
            ]
        except ClientError as error:
            raise ToolError(
                f"the stack cannot be read: {error}",
                where=f"{stack.region} {stack.name}",
                advice="Is it deployed? make status",
            ) from None
        stack.physical = {
            one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in found
        }
    return graph.of_stacks(stacks)


def read(aws: Aws, planned: Flow) -> Flow:
    """All buses, rules, targets and policies of the regions of ``planned`` (``locate``), which gives them their labels.

    Raises botocore's errors, also for what the credentials may not see.
    """
    found = graph.Flow(stacks=planned.stacks, is_whole=True)
    for region, stack in sorted({one.region: one for one in planned.stacks}.items()):
        events = aws.client("events", region)
        for bus in _pages(events.list_event_buses, "EventBuses"):
            found.buses[bus["Arn"]] = graph.Bus(planned.label(bus["Arn"]), bus["Name"], bus["Arn"])
            _guard(found, "bus policy", bus["Arn"], bus.get("Policy"))
            rules = _pages(events.list_rules, "Rules", EventBusName=bus["Name"])
            found.rules += [_rule(events, bus["Arn"], one, planned) for one in rules]
        for one in _pages(events.list_archives, "Archives"):
            archive = events.describe_archive(ArchiveName=one["ArchiveName"])
            arn, pattern = archive["ArchiveArn"], graph.pattern_of(archive.get("EventPattern"))
            found.archives.append(
                graph.Archive(planned.label(arn), arn, archive["EventSourceArn"], pattern)
            )
        for one in _pages(
            aws.client("logs", region).describe_resource_policies, "resourcePolicies"
        ):
            _guard(found, one["policyName"], stack.arn("logs", ""), one["policyDocument"])
    for target in [one for rule in found.rules for one in rule.targets]:
        for arn in filter(None, (target.arn, target.dead_letters, target.role)):
            if arn not in found.resources and is_known(arn):
                _read_resource(aws, found, arn, planned)
    return found


def _pages(call: Any, key: str, **arguments: Any) -> Iterator[Json]:
    """The items of an operation that botocore has no paginator for."""
    following: Json | None = {}
    while following is not None:
        page = call(**arguments, **following)
        yield from page.get(key, ())
        following = next(
            ({one: page[one]} for one in ("NextToken", "nextToken") if page.get(one)), None
        )


def _rule(events: Any, bus: str, one: Mapping[str, Any], planned: Flow) -> graph.Rule:
    targets = _pages(
        events.list_targets_by_rule, "Targets", Rule=one["Name"], EventBusName=one["EventBusName"]
    )
    label = next((rule.label for rule in planned.rules if rule.arn == one["Arn"]), one["Name"])
    return graph.Rule(
        label,
        one["Name"],
        one["Arn"],
        bus,
        graph.pattern_of(one.get("EventPattern")),
        one.get("ScheduleExpression"),
        one["State"],
        tuple(graph.target_of(target["Id"], target) for target in targets),
    )


def _guard(flow: Flow, label: str, arn: str, document: str | None) -> None:
    if document and (statements := graph.documents_of(document)):
        flow.policies.append(graph.Policy(label, arn, statements))


def _read_resource(aws: Aws, flow: Flow, arn: str, planned: Flow) -> None:
    """The resource behind an ARN, as far as permissions need it; one that is not there is left out.

    A function's code is the template's: Lambda gives back none that is inline.
    """
    from botocore.exceptions import ClientError

    label = planned.label(arn)
    service, region, name = (arn.split(":")[index] for index in (2, 3, -1))
    region = region or aws.environment.regions[0]
    properties: Json = {}
    try:
        if service == "lambda":
            _guard(
                flow,
                f"permission of {label}",
                arn,
                aws.client("lambda", region).get_policy(FunctionName=arn)["Policy"],
            )
        elif service == "sqs":
            sqs = aws.client("sqs", region)
            url = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=arn.split(":")[4])[
                "QueueUrl"
            ]
            properties = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]).get(
                "Attributes", {}
            )
            _guard(flow, f"policy of {label}", arn, properties.get("Policy"))
        elif service == "sns":
            properties = aws.client("sns", region).get_topic_attributes(TopicArn=arn)["Attributes"]
            _guard(flow, f"policy of {label}", arn, properties.get("Policy"))
        elif service == "logs":
            own = aws.client("logs", region).describe_resource_policies(
                resourceArn=arn, policyScope="RESOURCE"
            )
            for one in own["resourcePolicies"]:
                _guard(flow, f"policy of {label}", arn, one["policyDocument"])
        elif service == "iam":
            properties = _role(aws.client("iam", region), arn.rsplit("/", 1)[-1])
        if key := properties.get("KmsMasterKeyId"):
            _read_key(aws.client("kms", region), flow, str(key))
    except ClientError as error:
        if not any(part in error.response["Error"]["Code"] for part in _ABSENT):
            raise
        return
    kind = {"lambda": "AWS::Lambda::Function", "iam": "AWS::IAM::Role"}.get(service, service)
    made = Resource(label, kind, properties, name.rsplit("/", 1)[-1], arn, arn, region=region)
    flow.resources[arn] = planned.resources.get(arn, made) if service == "lambda" else made


def _role(iam: Any, name: str) -> Json:
    """A role as CloudFormation would say it, with what is attached to it among its own policies."""
    role = iam.get_role(RoleName=name)["Role"]
    inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
    documents = [
        (one, iam.get_role_policy(RoleName=name, PolicyName=one)["PolicyDocument"])
        for one in inline
    ]
    for one in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=one["PolicyArn"])["Policy"]["DefaultVersionId"]
        found = iam.get_policy_version(PolicyArn=one["PolicyArn"], VersionId=version)[
            "PolicyVersion"
        ]["Document"]
        documents.append((one["PolicyName"], found))
    policies = [{"PolicyName": key, "PolicyDocument": value} for key, value in documents]
    return {"AssumeRolePolicyDocument": role["AssumeRolePolicyDocument"], "Policies": policies}


def _read_key(kms: Any, flow: Flow, key: str) -> None:
    if "alias/aws/" in key:
        return
    found = kms.describe_key(KeyId=key)["KeyMetadata"]
    arn, name = (
        found["Arn"],
        found["KeyId"],
    )  # ``key`` may be an alias, which get_key_policy does not take
    _guard(
        flow,
        f"policy of key {key}",
        arn,
        kms.get_key_policy(KeyId=name, PolicyName="default")["Policy"],
    )
    flow.resources[arn] = Resource(
        key, "AWS::KMS::Key", {}, name, key, arn, region=arn.split(":")[3]
    )


def differences(planned: Flow, found: Flow) -> list[str]:
    """Where the account is not what the templates say: rules, their targets, and what lets the events pass.

    Each line begins with the region: a stack may be the same in one and differ in the other. What only AWS knows is
    not compared, nor are rules whose bus only AWS knows: the name of a rule is known once it is deployed.
    """
    own = {one.arn for one in planned.buses.values() if one.resource}
    unplaced = [
        one
        for one in planned.rules
        if is_known(one.name) and not is_known(one.arn) and one.bus not in own
    ]
    deployed = {one.arn: one for one in found.rules}
    lines = []
    for rule in (one for one in planned.rules if one not in unplaced):
        there, label = deployed.pop(rule.arn, None), _placed(rule.label, rule)
        if there is None:
            lines.append(f"{label} is not deployed")
            continue
        pairs = (
            ("pattern", rule.pattern, there.pattern),
            ("state", rule.state, there.state),
            ("schedule", rule.schedule, there.schedule),
        )
        lines += [
            f"{label}: {key} is {was}, the template says {says}"
            for key, says, was in pairs
            if says != was and is_known(says)
        ]
        targets = {one.id: one for one in there.targets}
        for target in rule.targets:
            live = targets.pop(target.id, None)
            name = f"{label}, target {target.id}"
            if live is None:
                lines.append(f"{name} is not deployed")
                continue
            wanted = {key: target.settings[key] for key in _KEPT if key in target.settings} | {
                "Arn": target.arn
            }
            given = {key: live.settings[key] for key in _KEPT if key in live.settings} | {
                "Arn": live.arn
            }
            lines += [
                f"{name}: {key} is {given.get(key)}, the template says {wanted.get(key)}"
                for key in sorted({*wanted, *given})
                if wanted.get(key) != given.get(key) and is_known(wanted.get(key))
            ]
            says, was = (
                permissions.of_target(planned, rule, target),
                permissions.of_target(found, there, live),
            )
            if says.allowed is not None and says.allowed != was.allowed:
                lines.append(f"{name}: {was.reason}; the template says: {says.reason}")
        lines += [f"{label}: target {one} is not in the template" for one in targets]
    names = {one.name for one in unplaced}
    others = [one for one in deployed.values() if one.bus in own and one.name not in names]
    return lines + [f"{_placed(one.name, one)} is on the bus and in no template" for one in others]


def _placed(label: str, rule: graph.Rule) -> str:
    return f"{rule.bus.split(':')[3]}: rule {label}" if rule.bus.count(":") > 2 else f"rule {label}"


def matcher(aws: Aws) -> trace.Matcher:
    """Asks TestEventPattern for the verdict; why not is this project's own explanation."""
    from botocore.exceptions import ClientError

    def ask(pattern: Json, event: Mapping[str, Any]) -> trace.Matched:
        events = aws.client("events")
        try:
            verdict = events.test_event_pattern(
                EventPattern=json.dumps(pattern), Event=json.dumps(event)
            )["Result"]
        except ClientError as error:
            return False, (f"AWS refuses: {error.response['Error']['Message']}",)
        ours, why = trace.match(pattern, event)
        return bool(verdict), why if bool(verdict) == ours else (
            f"AWS says so; this project's matcher says {ours}",
        )

    return ask
