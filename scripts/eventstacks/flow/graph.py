"""The flow of events through stacks: buses, rules, targets, archives, and the policies that allow it.

Everything is identified by its ARN: resources that two templates call by different names are the same
if their ARNs are equal. ``of_template`` and ``of_environment`` read the flow from templates,
``live.read`` from an account; the rest of this package does not depend on which.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from eventstacks.environment import Source
from eventstacks.flow import unexamined
from eventstacks.flow.json_text import documents_of, pattern_of
from eventstacks.flow.resolve import Resource, Stack
from eventstacks.flow.symbols import as_dict, as_list, is_known, like
from eventstacks.flow.targets import Target, bare

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventstacks.environment import Environment, StackRef
    from eventstacks.rendering import RenderedTemplate

Json = dict[str, Any]


@dataclass(frozen=True)
class Rule:
    """A rule. ``pattern``: None if it only has a schedule, text if it is a symbol or not JSON."""

    label: str
    name: str
    arn: str
    bus: str  # ARN
    pattern: Json | str | None
    schedule: str | None = None
    state: str = "ENABLED"
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Bus:
    """An event bus; the default bus of a Region exists without a resource."""

    label: str
    name: str
    arn: str
    resource: Resource | None = None


@dataclass(frozen=True)
class Archive:
    """An archive of a bus; without a pattern it keeps every event."""

    label: str
    arn: str
    bus: str  # ARN
    pattern: Json | str | None = None


@dataclass(frozen=True)
class Schedule:
    """A schedule of EventBridge Scheduler, which assumes the role of its target."""

    label: str
    expression: str
    target: Target


@dataclass(frozen=True)
class Policy:
    """A resource policy, or a Lambda permission as the statement that it adds.

    ``attached``: the ARN of what it guards. A policy of CloudWatch Logs guards the log groups of an
    account and Region: it is attached to ``arn:…:logs:<region>:<account>:``. ``is_open``: only AWS
    knows its statements, or whether it guards this ARN.
    """

    label: str
    attached: str
    statements: tuple[Json, ...]
    is_open: bool = False


@dataclass(eq=False)  # hashable: results are cached by flow
class Flow:
    """Buses, rules, targets and policies.

    ``is_whole``: it was read from an account, so whatever is not in here does not exist. ``unexamined``:
    what can hold more of the flow but was not expanded.
    """

    buses: dict[str, Bus] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    archives: list[Archive] = field(default_factory=list)
    schedules: list[Schedule] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    resources: dict[str, Resource] = field(default_factory=dict)
    stacks: list[Stack] = field(default_factory=list)
    unexamined: list[str] = field(default_factory=list)
    is_whole: bool = False

    def rules_on(self, bus: str) -> list[Rule]:
        """Return the rules of a bus in the order of the templates."""
        return [rule for rule in self.rules if rule.bus == bus]

    def covers(self, arn: str) -> bool:
        """Return True if all buses of the Region and account in an ARN were read."""
        place = arn.split(":")[3:5]
        return self.is_whole and any(bus.split(":")[3:5] == place for bus in self.buses)

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
        if arn in self.buses:
            return self.buses[arn].label
        if arn in self.resources:
            return self.resources[arn].logical_id
        _, is_bus, name = arn.rpartition(":event-bus/")  # a partner bus has slashes in its name
        return name if is_bus else arn.rsplit(":", 1)[-1].rsplit("/", 1)[-1]


def of_template(
    template: Mapping[str, Any], parameters: Mapping[str, str] | None = None, **where: Any
) -> Flow:
    """Return the flow of one parsed template. ``where``: further fields of ``resolve.Stack``.

    Permissions need a Region and an account, invented if need be: without them a literal ``arn:aws:``
    is not known to be in the partition that ``${AWS::Partition}`` becomes.
    """
    return of_stacks([Stack(template, parameters or {}, **where)])


def stacks_of(
    environment: Environment,
    templates: Mapping[str, RenderedTemplate],
    overrides: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[StackRef, Stack]:
    """Return every stack of an environment, with the values and imports that it gets from the others.

    ``templates``: ``rendering.render_all()``. ``overrides``: stack → parameters that replace those of
    the environment.
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
        outputs = {
            parameter: partial(made[source].output, name)
            for parameter, (source, name) in environment.references(ref).items()
        }
        # The value of a source is known when it is deployed.
        values = {
            name: None if isinstance(value, Source) else value
            for name, value in ref.values().items()
        }
        stack.parameters = {**values, **outputs, **(overrides or {}).get(ref.stack, {})}
        others = [other for source, other in made.items() if source.region == ref.region]
        stack.imports = partial(_first_export, others)
    return made


def _first_export(stacks: Iterable[Stack], name: str) -> Any:
    return next((value for stack in stacks if (value := stack.export(name)) is not None), None)


def of_environment(
    environment: Environment,
    templates: Mapping[str, RenderedTemplate],
    stack: str | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Flow:
    """Return the flow of an environment, or of one of its stacks with other values of parameters."""
    stacks = stacks_of(environment, templates, {str(stack): parameters or {}})
    return of_stacks(stacks[ref] for ref in environment.choose(stack))


def of_stacks(stacks: Iterable[Stack]) -> Flow:
    """Return the flow through several stacks."""
    flow = Flow(stacks=list(stacks))
    found = [(resource, stack) for stack in flow.stacks for resource in stack.resources().values()]
    flow.resources = {bare(resource.arn): resource for resource, _ in found}
    for stack in flow.stacks:
        default = bus_arn("default", stack)
        flow.buses[default] = Bus("default", "default", default)
        flow.unexamined += unexamined.of_template(stack.template)
        # Custom resources, such as the CDK's, call PutResourcePolicy of CloudWatch Logs.
        if "putresourcepolicy" in json.dumps(stack.template, default=str).lower():
            logs = stack.arn("logs", "")
            flow.policies.append(Policy("a custom resource", logs, (), is_open=True))
    for resource, stack in found:
        if reader := _READERS.get(resource.type):
            reader(flow, resource, stack)
    return flow


def bus_arn(name: Any, stack: Stack) -> str:
    """Return the ARN of a bus, given its name, its ARN, or nothing for the default bus."""
    text = str(name or "default")
    return text if text.startswith("arn:") else stack.arn("events", f"event-bus/{text}")


def target_of(name: str, settings: Json) -> Target:
    """Return the target with these settings."""
    return Target(name, bare(str(settings.get("Arn", ""))), settings)


def _read_bus(flow: Flow, resource: Resource, stack: Stack) -> None:
    flow.buses[resource.arn] = Bus(resource.logical_id, resource.name, resource.arn, resource)
    _read_document(flow, resource, stack)


def _read_rule(flow: Flow, resource: Resource, stack: Stack) -> None:
    given = resource.properties
    bus = bus_arn(given.get("EventBusName"), stack)
    flow.buses.setdefault(bus, Bus(flow.label(bus), bus.rpartition(":event-bus/")[2], bus))
    schedule = given.get("ScheduleExpression")
    targets = [
        target_of(str(entry.get("Id", "")), entry)
        for entry in as_list(given.get("Targets"))
        if isinstance(entry, dict)
    ]
    flow.rules.append(
        Rule(
            resource.logical_id,
            resource.name,
            resource.arn,
            bus,
            pattern_of(given.get("EventPattern")),
            None if schedule is None else str(schedule),
            str(given.get("State", "ENABLED")),
            tuple(targets),
        )
    )


def _read_archive(flow: Flow, resource: Resource, stack: Stack) -> None:
    bus = bus_arn(resource.properties.get("SourceArn"), stack)
    pattern = pattern_of(resource.properties.get("EventPattern"))
    flow.archives.append(Archive(resource.logical_id, resource.arn, bus, pattern))


def _read_schedule(flow: Flow, resource: Resource, _: Stack) -> None:
    target = target_of(resource.logical_id, as_dict(resource.properties.get("Target")))
    text = str(resource.properties.get("ScheduleExpression", ""))
    flow.schedules.append(Schedule(resource.logical_id, text, target))


_PERMISSION_CONDITIONS = (
    ("SourceArn", "ArnLike", "AWS:SourceArn"),
    ("SourceAccount", "StringEquals", "AWS:SourceAccount"),
    ("PrincipalOrgID", "StringEquals", "aws:PrincipalOrgID"),
    ("EventSourceToken", "StringEquals", "lambda:EventSourceToken"),
    ("FunctionUrlAuthType", "StringEquals", "lambda:FunctionUrlAuthType"),
)


def _read_permission(flow: Flow, resource: Resource, stack: Stack) -> None:
    """Read a Lambda permission as the statement that AddPermission writes (Lambda API reference)."""
    given = resource.properties
    function = str(given.get("FunctionName", ""))
    if not function.startswith("arn:"):  # a name, or an account and a name
        function = stack.arn("lambda", f"function:{function.rpartition(':function:')[2]}")
    conditions: Json = {}
    for name, operator, key in _PERMISSION_CONDITIONS:
        if name in given:
            conditions.setdefault(operator, {})[key] = given[name]
    principal = str(given.get("Principal", ""))
    statement = {
        "Effect": "Allow",
        "Action": given.get("Action"),
        "Resource": function,
        "Condition": conditions,
        "Principal": {"Service" if "." in principal else "AWS": principal},
    }
    flow.policies.append(Policy(resource.logical_id, function, (statement,)))


def _read_bus_policy(flow: Flow, resource: Resource, stack: Stack) -> None:
    given = resource.properties
    bus = bus_arn(given.get("EventBusName"), stack)
    statement = as_dict(given.get("Statement")) or {
        "Effect": "Allow",
        "Action": given.get("Action"),
        "Resource": bus,
        "Principal": given.get("Principal"),
    }
    flow.policies.append(Policy(resource.logical_id, bus, (statement,)))


def _read_document(flow: Flow, resource: Resource, stack: Stack) -> None:
    """Read the policy of a resource itself, or one for queues (by URL), topics (by ARN) or log groups.

    An inline policy is for one queue or topic (CloudFormation: AWS::SQS::QueueInlinePolicy).
    """
    key, guards = _DOCUMENTS[resource.type]
    raw = resource.properties.get(key)
    statements = documents_of(raw)
    guarded = [bare(resource.arn)]
    if resource.type == "AWS::Logs::ResourcePolicy":
        guarded = [stack.arn("logs", "")]
    elif guards:
        arns = {one.ref: arn for arn, one in flow.resources.items()}
        named = map(str, as_list(resource.properties.get(guards)))
        guarded = [arns.get(name, name) for name in named]
    is_open = not statements and not is_known(raw)
    if statements or is_open:
        flow.policies += [Policy(resource.logical_id, arn, statements, is_open) for arn in guarded]


# type: (property with the policy, property that names what it guards).
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
_READERS = dict.fromkeys(_DOCUMENTS, _read_document) | {
    "AWS::Events::EventBus": _read_bus,
    "AWS::Events::Rule": _read_rule,
    "AWS::Events::Archive": _read_archive,
    "AWS::Events::EventBusPolicy": _read_bus_policy,
    "AWS::Scheduler::Schedule": _read_schedule,
    "AWS::Lambda::Permission": _read_permission,
}
