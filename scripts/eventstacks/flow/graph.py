"""The flow of events through stacks: buses, rules, targets, archives, and the policies that let events pass.

Everything is found by its ARN: what two templates call by different names is the same thing when the ARN is.
``of_template`` and ``of_environment`` read it from templates, ``live.read`` from an account; the rest of this room
does not care which.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from eventstacks.documents import is_too_deep
from eventstacks.environment import OutputReference
from eventstacks.flow.resolve import Resource, Stack, as_dict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventstacks.environment import Environment, StackRef
    from eventstacks.rendering import RenderedTemplate

Json = dict[str, Any]
INPUTS = ("Input", "InputPath", "InputTransformer")


@dataclass(frozen=True)
class Target:
    """One entry of a rule's Targets; ``settings`` is the whole entry, resolved."""

    id: str
    arn: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def service(self) -> str:
        """``lambda``, ``sqs``, ``logs`` …: the third part of the ARN, "" where the ARN is a symbol."""
        parts = self.arn.split(":")
        return parts[2] if len(parts) > 5 else ""

    @property
    def role(self) -> str | None:
        """The role that EventBridge acts as."""
        role = self.settings.get("RoleArn")
        return str(role) if role else None

    @property
    def dead_letters(self) -> str | None:
        """The ARN of the queue that takes what cannot be delivered."""
        arn = as_dict(self.settings.get("DeadLetterConfig")).get("Arn")
        return arn if isinstance(arn, str) else None

    @property
    def is_bus(self) -> bool:
        """Whether the events go on to another bus."""
        return ":event-bus/" in self.arn


@dataclass(frozen=True)
class Rule:
    """A rule; ``pattern`` is None for a rule with a schedule alone, and text where it is a symbol or no JSON."""

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
    """An event bus; the default one of a region is there without a resource."""

    label: str
    name: str
    arn: str
    resource: Resource | None = None


@dataclass(frozen=True)
class Archive:
    """An archive of a bus; no pattern: every event."""

    label: str
    arn: str
    bus: str  # ARN
    pattern: Json | str | None = None


@dataclass(frozen=True)
class Schedule:
    """A schedule of EventBridge Scheduler, which acts as its target's role."""

    label: str
    expression: str
    target: Target


@dataclass(frozen=True)
class Policy:
    """A resource policy (or a Lambda permission, as the statement that it adds); ``attached``: ARN of what it guards.

    A policy of CloudWatch Logs guards the account's region: it is attached to ``arn:…:logs:<region>:<account>:``.
    """

    label: str
    attached: str
    statements: tuple[Json, ...]


@dataclass
class Flow:
    """All of it. ``is_whole``: what is not in here does not exist (an account was read, not a template)."""

    buses: dict[str, Bus] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)
    archives: list[Archive] = field(default_factory=list)
    schedules: list[Schedule] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    resources: dict[str, Resource] = field(default_factory=dict)
    stacks: list[Stack] = field(default_factory=list)
    is_whole: bool = False

    def rules_on(self, bus: str) -> list[Rule]:
        """The rules of a bus, in the order of the templates."""
        return [rule for rule in self.rules if rule.bus == bus]

    def covers(self, arn: str) -> bool:
        """Whether all buses of the region and account that an ARN names were read."""
        return self.is_whole and any(
            one.split(":")[3:5] == arn.split(":")[3:5] for one in self.buses
        )

    def policies_of(self, arn: str) -> list[Policy]:
        """The resource policies that guard an ARN."""
        return [
            one
            for one in self.policies
            if one.attached == arn or (one.attached.endswith(":") and arn.startswith(one.attached))
        ]

    def label(self, arn: str) -> str:
        """A short name: the logical id, or the last part of the ARN."""
        if arn in self.buses:
            return self.buses[arn].label
        if arn in self.resources:
            return self.resources[arn].logical_id
        _, is_bus, name = arn.rpartition(":event-bus/")  # that of a partner's bus has slashes in it
        return name if is_bus else arn.rsplit(":", 1)[-1].rsplit("/", 1)[-1]


def bare(arn: str) -> str:
    """An ARN as targets name things: a log group's without the ``:*`` that Fn::GetAtt puts at its end."""
    return arn.removesuffix(":*") if ":log-group:" in arn else arn


def of_template(
    template: Mapping[str, Any], parameters: Mapping[str, str] | None = None, **where: Any
) -> Flow:
    """The flow of one parsed template. ``where``: name, region, account, conditions … of ``resolution.Stack``.

    Give a region and an account, made up if need be, where permissions are to be judged: without them a literal
    ``arn:aws:`` in the template is not known to be the partition that ``${AWS::Partition}`` will be.
    """
    return of_stacks([Stack(template, parameters or {}, **where)])


def stacks_of(
    environment: Environment,
    templates: Mapping[str, RenderedTemplate],
    overrides: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[StackRef, Stack]:
    """Every stack of an environment, its values and imports looked up among the others.

    ``templates``: ``rendering.render_all()``. ``overrides``: stack → parameters that differ from what the environment says.
    """
    made = {
        ref: Stack(
            templates[ref.settings.template].document,
            name=ref.stack_name,
            region=ref.region,
            account=environment.account or "",
            scope=ref.stack_name
            if len(ref.settings.regions) == 1
            else f"{ref.stack_name}@{ref.region}",
        )
        for ref in environment.choose()
    }
    for ref, stack in made.items():
        values = {**ref.values(), **(overrides or {}).get(ref.stack, {})}
        stack.parameters = {
            key: partial(
                made[environment.ref(one.stack, one.region or ref.region)].output, one.output
            )
            if isinstance(one, OutputReference)
            else one
            for key, one in values.items()
        }
        stack.imports = partial(
            _import, [other for one, other in made.items() if one.region == ref.region]
        )
    return made


def _import(stacks: Iterable[Stack], name: str) -> Any:
    """Fn::ImportValue among the stacks of a region."""
    return next((found for one in stacks if (found := one.export(name)) is not None), None)


def of_environment(
    environment: Environment,
    templates: Mapping[str, RenderedTemplate],
    stack: str | None = None,
    overrides: Mapping[str, Mapping[str, str]] | None = None,
) -> Flow:
    """The flow of an environment, or of one of its stacks. For the arguments see ``stacks_of``."""
    stacks = stacks_of(environment, templates, overrides)
    return of_stacks(stacks[ref] for ref in environment.choose(stack))


def of_stacks(stacks: Iterable[Stack]) -> Flow:
    """The flow through several stacks, resolved already or not."""
    flow = Flow(stacks=list(stacks))
    found = [(resource, stack) for stack in flow.stacks for resource in stack.resources().values()]
    flow.resources = {bare(one.arn): one for one, _ in found}
    for default in (bus_arn("default", stack) for stack in flow.stacks):
        flow.buses[default] = Bus("default", "default", default)
    for resource, stack in found:
        if reader := _READERS.get(resource.type):
            reader(flow, resource, stack)
    return flow


def bus_arn(name: Any, stack: Stack) -> str:
    """The ARN of a bus, given its name, its ARN already, or nothing: the default one."""
    text = str(name or "default")
    return text if text.startswith("arn:") else stack.arn("events", f"event-bus/{text}")


def documents_of(raw: Any) -> tuple[Json, ...]:
    """The statements of a policy document, which may be JSON text; none where it is no JSON, or too deep."""
    raw = _parsed(raw) if isinstance(raw, str) else raw
    found = raw.get("Statement", []) if isinstance(raw, dict) else []
    return tuple(
        one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)
    )


def as_list(value: Any) -> list[Any]:
    """What may be one or several, as several."""
    return value if isinstance(value, list) else [] if value is None else [value]


def target_of(name: str, settings: Json) -> Target:
    """A target by its settings."""
    return Target(name, bare(str(settings.get("Arn", ""))), settings)


def pattern_of(raw: Any) -> Json | str | None:
    """An event pattern, given as an object or as JSON text; text where that holds no object, or is too deep."""
    if isinstance(raw, str):
        return raw if (found := _parsed(raw)) is None else found
    return raw if isinstance(raw, dict) else None


def _parsed(text: str) -> Json | None:
    """The object of JSON text; None where it is none, or deeper than a template: Python 3.13 reads 10,000 levels."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and not is_too_deep(found) else None


def _read_bus(flow: Flow, resource: Resource, stack: Stack) -> None:
    flow.buses[resource.arn] = Bus(resource.logical_id, resource.name, resource.arn, resource)
    _read_document(flow, resource, stack)


def _read_rule(flow: Flow, resource: Resource, stack: Stack) -> None:
    given = resource.properties
    bus = bus_arn(given.get("EventBusName"), stack)
    flow.buses.setdefault(bus, Bus(flow.label(bus), bus.rpartition(":event-bus/")[2], bus))
    schedule = given.get("ScheduleExpression")
    targets = [
        target_of(str(one.get("Id", "")), one)
        for one in as_list(given.get("Targets"))
        if isinstance(one, dict)
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
    flow.schedules.append(
        Schedule(
            resource.logical_id, str(resource.properties.get("ScheduleExpression", "")), target
        )
    )


_PERMISSION_CONDITIONS = (
    ("SourceArn", "ArnLike", "AWS:SourceArn"),
    ("SourceAccount", "StringEquals", "AWS:SourceAccount"),
    ("PrincipalOrgID", "StringEquals", "aws:PrincipalOrgID"),
    ("EventSourceToken", "StringEquals", "lambda:EventSourceToken"),
    ("FunctionUrlAuthType", "StringEquals", "lambda:FunctionUrlAuthType"),
)


def _read_permission(flow: Flow, resource: Resource, stack: Stack) -> None:
    """A Lambda permission as the statement that AddPermission writes (Lambda API reference)."""
    given = resource.properties
    function = str(given.get("FunctionName", ""))
    if not function.startswith("arn:"):
        function = stack.arn(
            "lambda", f"function:{function.rpartition(':function:')[2]}"
        )  # or with the account
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
    """The policy that a resource carries itself, or one for queues (by URL), topics (by ARN) or all log groups.

    An inline policy is for one queue or topic (CloudFormation: AWS::SQS::QueueInlinePolicy).
    """
    given = resource.properties
    statements = documents_of(given.get(_DOCUMENTS[resource.type]))
    guarded = [bare(resource.arn)]
    if resource.type == "AWS::Logs::ResourcePolicy":
        guarded = [stack.arn("logs", "")]
    elif key := _GUARDED.get(resource.type):
        arns = {one.ref: arn for arn, one in flow.resources.items()}
        guarded = [arns.get(str(one), str(one)) for one in as_list(given.get(key))]
    flow.policies += [Policy(resource.logical_id, one, statements) for one in guarded if statements]


_GUARDED = {
    "AWS::SQS::QueuePolicy": "Queues",
    "AWS::SQS::QueueInlinePolicy": "Queue",
    "AWS::SNS::TopicPolicy": "Topics",
    "AWS::SNS::TopicInlinePolicy": "TopicArn",
}
_DOCUMENTS = {
    "AWS::Events::EventBus": "Policy",
    "AWS::KMS::Key": "KeyPolicy",
    "AWS::Logs::LogGroup": "ResourcePolicyDocument",
    "AWS::Logs::ResourcePolicy": "PolicyDocument",
    **dict.fromkeys(_GUARDED, "PolicyDocument"),
}
_READERS = dict.fromkeys(_DOCUMENTS, _read_document) | {
    "AWS::Events::EventBus": _read_bus,
    "AWS::Events::Rule": _read_rule,
    "AWS::Events::Archive": _read_archive,
    "AWS::Events::EventBusPolicy": _read_bus_policy,
    "AWS::Scheduler::Schedule": _read_schedule,
    "AWS::Lambda::Permission": _read_permission,
}
