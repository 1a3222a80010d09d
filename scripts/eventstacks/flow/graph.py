"""The flow of events through stacks.

Buses, rules, targets, archives, and the policies that allow it.

Everything is identified by its ARN: resources that two templates call by different names are the
same if their ARNs are equal.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from eventstacks.environment import Environment, Source
from eventstacks.flow.policies import Policy, permission_of, policy_of
from eventstacks.flow.resolve import Resource, Stack
from eventstacks.flow.symbols import (
    Json,
    as_dict,
    as_list,
    at,
    like,
    pattern_of,
)
from eventstacks.flow.targets import EVENTS, PIPES, SCHEDULER, Target, bare
from eventstacks.rendering import RenderedTemplate


@dataclass(frozen=True)
class Sender:
    """A resource other than a rule that sends to one target, in a role of its own.

    ``service``: who assumes the role. The others are dotted paths of properties; ``filters``: of
    entries with a Pattern.
    """

    title: str
    service: str
    target: str
    role: str
    dead_letters: tuple[str, ...]
    source: str = ""
    filters: str = ""


# A pipe's own dead-letter queue is that of a stream; a queue as source has a RedrivePolicy instead.
_STREAM_DLQ = "SourceParameters.%sStreamParameters.DeadLetterConfig.Arn"
SENDERS = {
    "AWS::Scheduler::Schedule": Sender(
        "schedule", SCHEDULER, "Target.Arn", "Target.RoleArn", ("Target.DeadLetterConfig.Arn",)
    ),
    "AWS::Pipes::Pipe": Sender(
        "pipe",
        PIPES,
        "Target",
        "RoleArn",
        (_STREAM_DLQ % "DynamoDB", _STREAM_DLQ % "Kinesis"),
        "Source",
        "SourceParameters.FilterCriteria.Filters",
    ),
    "AWS::EventsV2::Subscriber": Sender(
        "subscriber",
        EVENTS,
        "InvokeConfiguration.TargetArn",
        "InvokeConfiguration.RoleArn",
        ("OnFailureConfiguration.Arn",),
        "EventBusArn",
        "FilterConfiguration.Filters",
    ),
}


@dataclass(frozen=True)
class Rule:
    """A rule.

    Archives are rules without targets. ``sender``: what it is if it is a schedule, a pipe or a
    subscriber; its ``bus`` is the source of a pipe then, and "" for a schedule.

    ``pattern``: None if there is none, text if it is a symbol or not JSON.
    """

    label: str
    name: str
    arn: str
    bus: str  # ARN
    pattern: Json | str | None
    state: str = "ENABLED"
    targets: tuple[Target, ...] = ()
    sender: Sender | None = None


@dataclass(eq=False)  # hashable: results are cached by flow
class Flow:
    """Buses (ARN → label), rules, targets and policies.

    The default bus of a Region needs no resource.

    ``unexamined``: what can hold more of the flow but was not expanded.
    """

    buses: dict[str, str] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    archives: list[Rule] = field(default_factory=list)
    senders: list[Rule] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    resources: dict[str, Resource] = field(default_factory=dict)
    stacks: list[Stack] = field(default_factory=list)
    unexamined: list[str] = field(default_factory=list)

    def policies_of(self, arn: str) -> list[Policy]:
        """Return the resource policies that guard an ARN, open ones if they are not known to."""
        found = []
        for policy in self.policies:
            attached = policy.attached
            if attached == arn or (attached.endswith(":") and arn.startswith(attached)):
                found.append(policy)
            elif "?⟩" in attached and like(attached, arn, literal=True) is None:
                found.append(replace(policy, is_open=True))
        return found

    def label(self, arn: str) -> str:
        """Return a short name: the logical ID, or the last part of the ARN."""
        arn = arn.partition("/stream/")[0]  # of a table
        if arn in self.resources:
            return self.resources[arn].logical_id
        return self.buses.get(arn) or bus_name(arn) or arn.rsplit(":", 1)[-1].rsplit("/", 1)[-1]


def of_template(
    template: Mapping[str, Any], parameters: Mapping[str, str] | None = None, **where: Any
) -> Flow:
    """Return the flow of one parsed template. ``where``: further fields of ``resolve.Stack``.

    Permissions need a Region and an account, invented if need be: without them a literal
    ``arn:aws:`` is not known to be in the partition that ``${AWS::Partition}`` becomes.
    """
    return of_stacks([Stack(template, parameters or {}, **where)])


def of_environment(
    environment: Environment,
    templates: Mapping[str, RenderedTemplate],
    chosen: str | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Flow:
    """Return the flow of an environment, or of one of its stacks with other parameters.

    Each stack has the values that it gets from the others. ``templates``:
    ``rendering.render_all()``.
    """
    made = {
        ref: Stack(
            templates[ref.settings.template].document,
            name=ref.stack_name,
            region=ref.region,
            account=environment.account or "",
            scope=ref.stack_name + (f"@{ref.region}" if len(ref.settings.regions) > 1 else ""),
        )
        for ref in environment.choose()
    }
    for ref, stack in made.items():
        # The value of a source is known when it is deployed.
        values = {k: None if isinstance(one, Source) else one for k, one in ref.values().items()}
        outputs = {
            parameter: partial(made[source].output, name)
            for parameter, (source, name) in environment.references(ref).items()
        }
        given = (parameters or {}) if ref.stack == chosen else {}
        stack.parameters = {**values, **outputs, **given}
        stack.exporters = [other for source, other in made.items() if source.region == ref.region]
    return of_stacks(made[ref] for ref in environment.choose(chosen))


def of_stacks(stacks: Iterable[Stack]) -> Flow:
    """Return the flow through several stacks."""
    flow = Flow(stacks=list(stacks))
    found = [(resource, stack) for stack in flow.stacks for resource in stack.resources().values()]
    flow.resources = {bare(resource.arn): resource for resource, _ in found}
    for stack in flow.stacks:
        flow.buses[bus_arn("default", stack)] = "default"
        flow.unexamined += unexamined_of(stack.template)
        # Custom resources, such as the CDK's, call PutResourcePolicy of CloudWatch Logs.
        if "putresourcepolicy" in json.dumps(stack.template, default=str).lower():
            logs = stack.arn("logs", "")
            flow.policies.append(Policy("a custom resource", logs, (), is_open=True))
    for resource, stack in found:
        _add(flow, resource, stack)
    return flow


def bus_arn(name: Any, stack: Stack) -> str:
    """Return the ARN of a bus, given its name, its ARN, or nothing for the default bus."""
    text = str(name or "default")
    return text if text.startswith("arn:") else stack.arn("events", f"event-bus/{text}")


def bus_name(arn: str) -> str:
    """Return the name in the ARN of a bus, "" for other ARNs; that of a partner bus has slashes."""
    return arn.rpartition(":event-bus/")[2] if ":event-bus/" in arn else ""


def _add(flow: Flow, resource: Resource, stack: Stack) -> None:
    """Add the bus, rule, archive, sender and policies that a resource is or has."""
    given, label = resource.properties, resource.logical_id
    flow.policies += _policies(flow, resource, stack)
    entries = map(as_dict, as_list(given.get("Targets")))
    rule = Rule(
        label,
        resource.name,
        resource.arn,
        bus_arn(given.get("EventBusName") or given.get("SourceArn"), stack),
        pattern_of(given.get("EventPattern")),
        str(given.get("State", "ENABLED")),
        tuple(
            Target(str(entry.get("Id", label)), bare(str(entry.get("Arn", ""))), entry)
            for entry in entries
            if entry
        ),
    )
    match resource.type:
        case "AWS::Events::EventBus":
            flow.buses[resource.arn] = label
        case "AWS::Events::Rule":
            flow.buses.setdefault(rule.bus, flow.label(rule.bus))
            flow.rules.append(rule)
        case "AWS::Events::Archive":
            flow.archives.append(rule)
        case kind if kind in SENDERS:
            flow.senders.append(_sender(rule, given, SENDERS[kind]))


def _sender(rule: Rule, given: Mapping[str, Any], kind: Sender) -> Rule:
    """Return a schedule, a pipe or a subscriber: a rule with one target."""
    patterns = [pattern_of(at(one, "Pattern")) for one in as_list(at(given, kind.filters))]
    # One filter of a pipe is enough; those of a subscriber are on different parts of an event.
    combined = [{"$or": patterns}] if len(patterns) > 1 else patterns
    unknown = [one for one in patterns if isinstance(one, str)]
    dead_letters = next(filter(None, (at(given, path) for path in kind.dead_letters)), None)
    settings = {
        **as_dict(given.get("Target")),
        **as_dict(given.get("TargetParameters")),
        "RoleArn": at(given, kind.role),
        "DeadLetterConfig": {"Arn": dead_letters},
    }
    target = Target(rule.label, bare(str(at(given, kind.target) or "")), settings)
    source = str(at(given, kind.source) or "")
    pattern = next(iter(unknown + combined), None)
    return replace(rule, bus=source, pattern=pattern, targets=(target,), sender=kind)


# type: (property with the policy, property that names what it guards: queues by URL, topics by
# ARN). An inline policy is for one queue or topic (CloudFormation: AWS::SQS::QueueInlinePolicy).
_DOCUMENTS = {
    "AWS::Events::EventBus": ("Policy", ""),
    "AWS::KMS::Key": ("KeyPolicy", ""),
    "AWS::KMS::ReplicaKey": ("KeyPolicy", ""),
    "AWS::Logs::LogGroup": ("ResourcePolicyDocument", ""),
    "AWS::Logs::ResourcePolicy": ("PolicyDocument", ""),
    "AWS::SQS::QueuePolicy": ("PolicyDocument", "Queues"),
    "AWS::SQS::QueueInlinePolicy": ("PolicyDocument", "Queue"),
    "AWS::SNS::TopicPolicy": ("PolicyDocument", "Topics"),
    "AWS::SNS::TopicInlinePolicy": ("PolicyDocument", "TopicArn"),
}


def _policies(flow: Flow, resource: Resource, stack: Stack) -> list[Policy]:
    """Return the policies that a resource is or has."""
    given, label = resource.properties, resource.logical_id
    if resource.type == "AWS::Lambda::Permission":
        return [permission_of(resource, stack)]
    if resource.type == "AWS::Events::EventBusPolicy":
        bus = bus_arn(given.get("EventBusName"), stack)
        short = {"Effect": "Allow", "Resource": bus, **given}  # Action and Principal
        if condition := as_dict(given.get("Condition")):  # one, as Type, Key and Value
            operator, key = str(condition.get("Type")), str(condition.get("Key"))
            short["Condition"] = {operator: {key: condition.get("Value")}}
        return [Policy(label, bus, (as_dict(given.get("Statement")) or short,))]
    key, guards = _DOCUMENTS.get(resource.type, ("", ""))
    guarded = [bare(resource.arn)]
    if resource.type == "AWS::Logs::ResourcePolicy":
        guarded = [stack.arn("logs", "")]
    elif guards:
        arns = {one.ref: arn for arn, one in flow.resources.items()}
        guarded = [arns.get(name, name) for name in map(str, as_list(given.get(guards)))]
    policies = (policy_of(label, arn, given.get(key)) for arn in guarded)
    return [policy for policy in policies if policy.statements or policy.is_open]


# Transforms that add no resources: those of AWS::LanguageExtensions stand in the template as
# Fn::ForEach.
_KNOWN_TRANSFORMS = {
    "AWS::Serverless-2016-10-31",
    "AWS::LanguageExtensions",
    "AWS::CodeDeployBlueGreen",
    "AWS::SecretsManager-2020-07-23",
    "AWS::SecretsManager-2024-09-16",
}
_CONTAINERS = {
    "AWS::CloudFormation::Stack": "nested stack",
    "AWS::CloudFormation::StackSet": "stack set",
    "AWS::Serverless::Application": "nested stack",
    "AWS::Serverless::Connector": "connector",
}


def unexamined_of(template: Mapping[str, Any]) -> list[str]:
    """Return what can add rules, targets or policies to a template but is not expanded here."""
    macros = [
        str(as_dict(entry).get("Name", entry)) for entry in as_list(template.get("Transform"))
    ]
    found = [f"macro {name}" for name in macros if name not in _KNOWN_TRANSFORMS]
    for name, raw in as_dict(template.get("Resources")).items():
        kind = str(as_dict(raw).get("Type", ""))
        has_events = as_dict(as_dict(raw).get("Properties")).get("Events")
        if name.startswith("Fn::"):
            found.append(f"{name.split('::')[1]} {name.rsplit('::', 1)[-1]}")
        elif kind.endswith("::MODULE"):
            found.append(f"module {name}")
        elif kind in _CONTAINERS or "Connectors" in as_dict(raw):
            found.append(f"{_CONTAINERS.get(kind, 'connector')} {name}")
        elif kind.startswith("AWS::Serverless::") and has_events:
            found.append(f"SAM events of {name}")
    return found
