"""Decide whether AWS lets an event reach a target, and which policy statement decides it.

Source: EventBridge User Guide, 'Using resource-based policies' and 'IAM roles for sending events to
targets'; IAM User Guide, 'Policy evaluation logic'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.flow import targets
from eventstacks.flow.graph import Flow, Policy, Rule, policy_of
from eventstacks.flow.symbols import SYMBOL, Json, as_dict, as_list, like
from eventstacks.flow.targets import DOUBTS, EVENTS, SCHEDULER, Call, Context, Reason, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from eventstacks.flow.resolve import Resource


@dataclass(frozen=True)
class Verdict:
    """``reason``: the deciding statement, or what is missing."""

    code: Reason = Reason.ALLOWED
    reason: str = ""

    @property
    def allowed(self) -> bool | None:
        """None if the templates cannot tell."""
        return True if self.code is Reason.ALLOWED else None if self.code in DOUBTS else False

    def __and__(self, other: Verdict) -> Verdict:
        """Combine two verdicts that must both allow: deny > unknown > allow."""
        first = min(self, other, key=lambda one: (False, None, True).index(one.allowed))
        reasons = ", ".join(dict.fromkeys(filter(None, (self.reason, other.reason))))
        return first if first.allowed is not True else Verdict(reason=reasons)

    def otherwise(self, code: Reason, reason: str) -> Verdict:
        """Return this verdict of ``evaluate``, or another if no statement applies."""
        return Verdict(code, reason) if self.code is Reason.NO_POLICY else self


def _decisive(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that decides among those on several statements or callers."""
    order = (
        Reason.DENIED,
        Reason.MAY_BE_DENIED,
        Reason.ALLOWED,
        Reason.DEPENDS,
        Reason.NO_POLICY,
    )
    return min(verdicts, key=lambda one: order.index(one.code), default=Verdict(Reason.NO_POLICY))


def of_target(flow: Flow, rule: Rule, target: Target, event: Json | None = None) -> Verdict:
    """Decide whether a rule may deliver to a target.

    ``event``: if it is known, a bus policy that denies some sources or detail types counts as well.
    """
    refusal = targets.refusal_of(target, rule.arn)
    if refusal and not flow.is_whole:  # what is deployed was not refused
        return Verdict(*refusal)
    kind = targets.kind_of(target.arn)
    if not kind or not kind.action:
        return Verdict(Reason.KIND_UNKNOWN, f"what the target {target.arn} needs is not known")
    if kind.name != "event-bus" and targets.is_elsewhere(target.arn, rule.arn):
        return Verdict(Reason.OTHER_REGION, "the target is in another Region than the rule")
    if target.role:
        verdict = of_role(flow, rule, target) & _of_key(flow, rule, target)
        return (_denied_by_bus(flow, rule, target, event) if event else None) or verdict
    if not kind.policy:
        return Verdict(Reason.REFUSED_ROLE, f"RoleArn is required for target {target.arn}")
    verdict = _of_key(flow, rule, target)
    for call in reversed(targets.policy_calls(target.arn, rule.arn)):
        verdict = (
            _of_policies(flow, target.arn, call, targets.callers(target.arn, rule.arn)) & verdict
        )
    return verdict


def of_dead_letters(flow: Flow, rule: Rule, arn: str) -> Verdict:
    """Decide whether a rule may write to a dead-letter queue: a standard queue of its own Region."""
    if is_fifo(flow, arn):
        return Verdict(Reason.FIFO_QUEUE, "a FIFO queue cannot be a dead-letter queue")
    if targets.is_elsewhere(arn, rule.arn):
        return Verdict(Reason.OTHER_REGION, "the dead-letter queue is in another Region")
    return of_target(flow, rule, Target("", arn))


def is_fifo(flow: Flow, arn: str) -> bool:
    """Return True if a queue is known to be a FIFO queue."""
    queue = flow.resources.get(arn)
    is_marked = queue and str(queue.properties.get("FifoQueue")).lower() == "true"
    return arn.endswith(".fifo") or bool(is_marked)


def of_schedule(flow: Flow, schedule: Rule) -> Iterator[tuple[str, Verdict]]:
    """Yield the verdict on a schedule's target (key ``Arn``) and its dead-letter queue.

    EventBridge Scheduler does both in its role; a queue policy is not needed. Source: EventBridge
    Scheduler User Guide, 'Execution role' and 'Configuring a dead-letter queue' (aws-cdk issue 32032).
    """
    [target] = schedule.targets
    queue = Target("", str(target.dead_letters), {"RoleArn": target.role})
    # aws:SourceArn is the ARN of the schedule group, which is not looked up here.
    if target.role and targets.role_calls(target, flow.resources):
        yield "Arn", of_role(flow, schedule, target, SCHEDULER, {})
    if target.role and target.dead_letters:
        yield "DeadLetterConfig", of_role(flow, schedule, queue, SCHEDULER, {})


def _context(rule: Rule) -> dict[str, str | None]:
    return {"aws:sourcearn": rule.arn, "aws:sourceaccount": rule.arn.split(":")[4]}


def _of_policies(flow: Flow, arn: str, call: Call, callers: Sequence[str]) -> Verdict:
    """Decide by the resource policies of a target; of several callers one has to be allowed."""
    policies = flow.policies_of(arn)
    verdict = _decisive(
        evaluate(policies, caller, call.action, call.resource, call.context) for caller in callers
    )
    kind = targets.kind_of(arn)
    is_bus = flow.is_whole and ":event-bus/" in arn  # only those of some Regions were read
    if not (flow.covers(arn) if is_bus else (flow.is_whole or arn in flow.resources)):
        text = f"{arn} is not in these stacks, nor is its policy"
        return verdict.otherwise(Reason.NOT_IN_STACKS, text)
    words = f"no {kind.policy if kind else 'policy'} allows {' or '.join(callers)} to call {call.action}"
    misses = (_near_miss(policies, caller, call) for caller in callers)
    return verdict.otherwise(
        Reason.NO_POLICY, f"{words} for this rule{next(filter(None, misses), '')}"
    )


def of_role(
    flow: Flow, rule: Rule, target: Target, service: str = EVENTS, context: Context | None = None
) -> Verdict:
    """Decide by the role of a target: its trust policy and what it allows."""
    context = _context(rule) if context is None else context
    arn = str(target.role)
    role = flow.resources.get(arn)
    if role is None and flow.is_whole:
        return Verdict(Reason.ROLE_NOT_FOUND, f"the role {arn} does not exist")
    if role is None:
        return Verdict(Reason.NOT_IN_STACKS, f"the role {arn} is not in these stacks")
    label = role.logical_id
    trust = policy_of(f"{label} (trust)", arn, role.properties.get("AssumeRolePolicyDocument"))
    text = f"the trust policy of the role {label} does not allow {service}"
    trusted = evaluate([trust], service, "sts:AssumeRole", None, context)
    if not trusted.allowed:
        return trusted.otherwise(Reason.ROLE_TRUST, text)
    policies, verdict = policies_of_role(flow, role), Verdict()
    for call in targets.role_calls(target, flow.resources):
        code, text = (
            Reason.ROLE_POLICY,
            f"the role {label} does not allow {call.action} on {call.resource}",
        )
        if role.properties.get("ManagedPolicyArns"):
            code, text = (
                Reason.MANAGED_POLICY,
                f"the managed policies of the role {label} are not known",
            )
        verdicts = (
            evaluate(policies, None, call.action, one, call.context)
            for one in targets.policy_arns(call.resource)
        )
        verdict &= _decisive(verdicts).otherwise(code, text)
    return verdict


def policies_of_role(flow: Flow, role: Resource) -> list[Policy]:
    """Return the inline policies of a role, and those of the stacks that are attached to it."""
    sources: list[tuple[str, Mapping[str, Any]]] = [
        (f"{role.logical_id}/{entry.get('PolicyName')}", entry)
        for entry in map(as_dict, as_list(role.properties.get("Policies")))
    ]
    for resource in flow.resources.values():
        if resource.type in {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"}:
            given = resource.properties
            if role.name in as_list(given.get("Roles")) + as_list(given.get("RoleName")):
                sources.append((resource.logical_id, given))
    return [policy_of(label, role.arn, given.get("PolicyDocument")) for label, given in sources]


def _denied_by_bus(flow: Flow, rule: Rule, target: Target, event: Json) -> Verdict | None:
    """Return the Deny in a bus policy that binds a role as well, None if there is none."""
    if not target.is_bus:
        return None
    _, partition, _, _, account, *_ = rule.arn.split(":")
    context = {
        "events:source": event.get("source"),
        "events:detail-type": event.get("detail-type"),
        "events:eventbusinvocation": "true",
    }
    found = evaluate(
        flow.policies_of(target.arn),
        f"arn:{partition}:iam::{account}:root",
        "events:PutEvents",
        target.arn,
        context,
    )
    return found if found.code is Reason.DENIED else None


def _of_key(flow: Flow, rule: Rule, target: Target) -> Verdict:
    """Decide by the customer key of a queue or topic (EventBridge guide, 'Troubleshooting')."""
    resource = flow.resources.get(target.arn)
    key = str(resource.properties.get("KmsMasterKeyId") or "") if resource else ""
    if not resource or not key:
        return Verdict()
    if target.role:  # the role needs the permissions for the key
        return Verdict(Reason.NOT_IN_STACKS, f"whether the role may use the key {key} is not known")
    if "alias/aws/" in key:
        text = f"the policy of {key}, a key that AWS manages, cannot allow {EVENTS}"
        return Verdict(Reason.KEY_AWS_MANAGED, text)
    found = key_of(flow, key, resource.region)
    if not found or found.type not in {"AWS::KMS::Key", "AWS::KMS::ReplicaKey"}:
        return Verdict(Reason.NOT_IN_STACKS, f"the key {key} is not in these stacks")
    for action in ("kms:Decrypt", "kms:GenerateDataKey"):
        text = f"the key {found.logical_id} does not allow {EVENTS} to call {action}"
        policies = flow.policies_of(found.arn)
        verdict = evaluate(policies, EVENTS, action, found.arn, _context(rule))
        if not verdict.allowed:
            return verdict.otherwise(Reason.KEY_POLICY, text)
    return Verdict(reason=f"key {found.logical_id}")


def key_of(flow: Flow, name: Any, region: str) -> Resource | None:
    """Return the key that an ID, an ARN or an alias names, if it is in the stacks.

    ``region``: of the resource it encrypts; one alias can exist in several Regions.
    """
    found = _named(flow, name, region)
    if found and found.type == "AWS::KMS::Alias":
        return _named(flow, found.properties.get("TargetKeyId"), region)
    return found


def _named(flow: Flow, name: Any, region: str) -> Resource | None:
    here = ((arn, one) for arn, one in flow.resources.items() if one.region == region)
    return next((one for arn, one in here if name in (arn, one.ref, one.name)), None)


# --- policy documents --------------------------------------------------------------------------


def evaluate(
    policies: Iterable[Policy],
    principal: str | None,
    action: str,
    resource: str | None,
    context: Context,
) -> Verdict:
    """Return what the statements of policies decide; NO_POLICY if none of them applies.

    ``principal``: a service or the root of an account; None for a role's own policies, which name no
    principal. ``resource``: None for a trust policy. ``context``: condition keys of the request in
    lower case; a condition on a key that is missing here leaves a doubt.
    """
    context = {**_context_of(principal), **context}
    found: list[Verdict] = []
    for policy in policies:
        if policy.is_open and not policy.statements:
            text = f"the statements of {policy.label} are not known"
            found.append(Verdict(Reason.DEPENDS, text))
        for number, statement in enumerate(policy.statements):
            applies = _applies(statement, principal, action, resource, context)
            label, is_deny = _label(policy, number), statement.get("Effect") == "Deny"
            if applies and not policy.is_open:
                denied = Verdict(Reason.DENIED, f"{label} denies {action}")
                found.append(denied if is_deny else Verdict(reason=label))
            elif applies is not False and is_deny:
                found.append(Verdict(Reason.MAY_BE_DENIED, f"{label} may deny {action}"))
            elif applies is not False:
                symbols = sorted(set(SYMBOL.findall(str(statement)))) or ["what only AWS knows"]
                text = f"whether {label} applies depends on {', '.join(symbols)}"
                found.append(Verdict(Reason.DEPENDS, text))
    return _decisive(found)


def _label(policy: Policy, number: int) -> str:
    if len(policy.statements) == 1:
        return policy.label
    return f"{policy.label}[{policy.statements[number].get('Sid', number)}]"


def _near_miss(policies: Iterable[Policy], principal: str, call: Call) -> str:
    """Return the condition that keeps a statement from applying, and what the request has instead."""
    context = {**_context_of(principal), **call.context}
    for policy in policies:
        for number, statement in enumerate(policy.statements):
            bare = {**statement, "Condition": {}}
            applies = _applies(bare, principal, call.action, call.resource, context)
            if statement.get("Effect") == "Deny" or not applies:
                continue
            for operator, key, wanted in _conditions(statement):
                if _holds(operator, key.lower(), wanted, context) is False:
                    value = context[key.lower()] or "absent"
                    expected = " or ".join(map(str, wanted))
                    return (
                        f": {_label(policy, number)} requires {key} {expected}, but it is {value}"
                    )
    return ""


def _context_of(principal: str | None) -> dict[str, str | None]:
    """Return the condition keys of the caller: a service, a role (None), or an account's root.

    A service in its own name belongs to no organization, so its request has no aws:PrincipalOrgID;
    aws:PrincipalIsAWSService is for that case. Source: IAM User Guide, 'AWS global condition context
    keys'. A request for an account has none either: a bus that admits an organization wants a role
    (EventBridge API, PutTargets).
    """
    is_service = principal is not None and not principal.startswith("arn:")
    context: dict[str, str | None] = {
        "aws:securetransport": "true",
        "aws:principalisawsservice": str(is_service).lower(),
    }
    if principal is not None:
        context |= {"aws:principalorgid": None, "aws:principalorgpaths": None}
        own = "aws:principalservicename" if is_service else "aws:principalaccount"
        context[own] = principal if is_service else principal.split(":")[4]
    return context


def _applies(
    statement: Json, principal: str | None, action: str, resource: str | None, context: Context
) -> bool | None:
    checks = [_matches(statement, "Action", action.lower(), fold=True)]
    if principal is not None:
        named = statement.get("Principal")
        checks.append(None if "NotPrincipal" in statement else _names(named, principal))
    if resource is not None:
        checks.append(_matches(statement, "Resource", resource))
    if not isinstance(statement.get("Condition", {}), dict):
        checks.append(None)
    checks += [
        _holds(operator, key.lower(), wanted, context)
        for operator, key, wanted in _conditions(statement)
    ]
    return False if False in checks else None if None in checks else True


def _conditions(statement: Json) -> Iterator[tuple[str, str, list[Any]]]:
    """Yield the operator, the key and the values of each line of a Condition block."""
    for operator, keys in as_dict(statement.get("Condition")).items():
        for key, wanted in as_dict(keys).items():
            yield operator, str(key), as_list(wanted)


def _matches(statement: Json, key: str, value: str, *, fold: bool = False) -> bool | None:
    negated = f"Not{key}" in statement
    wanted = [str(one) for one in as_list(statement.get(f"Not{key}" if negated else key))]
    result = _any_of([like(one.lower() if fold else one, value) for one in wanted])
    return result if not negated or result is None else not result


def _names(principals: Any, caller: str) -> bool | None:
    """Return whether a Principal element names a service, or an account by root ARN or number."""
    given = as_dict(principals)
    named = as_list(given.get("Service")) + as_list(given.get("AWS")) or [str(principals)]
    names = {caller, caller.split(":")[4]} if caller.startswith("arn:") else {caller}
    results = [like(str(one), name, literal=True) for one in named for name in names]
    return True if "*" in named else _any_of(results)


_OPERATORS = {
    "ArnEquals",
    "ArnLike",
    "StringEquals",
    "StringLike",
    "StringEqualsIgnoreCase",
    "Bool",
}


def _holds(operator: str, key: str, wanted: list[Any], context: Context) -> bool | None:
    """Return whether one line of a Condition block holds; None for an unknown operator or key."""
    if key not in context:
        return None
    value = context[key]
    name = operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:")
    if name == "Null":
        absent = str(value is None).lower()
        return _any_of([like(str(one).lower(), absent, literal=True) for one in wanted])
    negated = "Not" in name
    if value is None:  # a negated operator holds for an absent key (IAM, 'Condition operators')
        return negated or name.endswith("IfExists") or operator.startswith("ForAllValues:")
    kind = name.removesuffix("IfExists").replace("Not", "")
    if kind not in _OPERATORS:
        return None
    texts = [str(one) for one in wanted]
    if kind in {"Bool", "StringEqualsIgnoreCase"}:
        value, texts = value.lower(), [one.lower() for one in texts]
    literal = kind not in {"ArnEquals", "ArnLike", "StringLike"}
    result = _any_of([like(one, value, literal=literal) for one in texts])
    return result if not negated or result is None else not result


def _any_of(results: list[bool | None]) -> bool | None:
    return True if True in results else None if None in results else False
