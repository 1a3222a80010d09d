"""Whether AWS would let an event through, and which statement of which policy says so.

Source: EventBridge User Guide, 'Using resource-based policies' and 'Using IAM roles for targets'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from eventstacks.flow.graph import Flow, Json, Policy, Rule, Target, as_list, documents_of
from eventstacks.flow.resolve import SYMBOL, as_dict, is_known

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eventstacks.flow.resolve import Resource

EVENTS = "events.amazonaws.com"
# What EventBridge does to a target, by the service in its ARN. Those that have no resource policy for it need a role.
ACTIONS = {
    "batch": "batch:SubmitJob",
    "codebuild": "codebuild:StartBuild",
    "events": "events:PutEvents",
    "codepipeline": "codepipeline:StartPipelineExecution",
    "ecs": "ecs:RunTask",
    "execute-api": "execute-api:Invoke",
    "firehose": "firehose:PutRecord",
    "kinesis": "kinesis:PutRecord",
    "lambda": "lambda:InvokeFunction",
    "redshift": "redshift-data:ExecuteStatement",
    "sagemaker": "sagemaker:StartPipelineExecution",
    "sns": "sns:Publish",
    "sqs": "sqs:SendMessage",
    "ssm": "ssm:SendCommand",
    "states": "states:StartExecution",
}
# By a part of the ARN. A built-in target (target/create-snapshot …) calls EC2 as its own role: not looked into.
SPECIAL = {
    ":api-destination/": "events:InvokeApiDestination",
    ":automation-definition/": "ssm:StartAutomationExecution",
    ":target/": "",
}
Context = Mapping[str, str | None]
# These take a resource policy; all others need a role.
WORDS = {
    "lambda": "permission",
    "sqs": "queue policy",
    "sns": "topic policy",
    "execute-api": "API policy",
    "logs": "Logs resource policy",
}


@dataclass(frozen=True)
class Verdict:
    """``allowed`` is None where the templates cannot tell; ``reason`` names the statement, or what is missing."""

    allowed: bool | None
    reason: str

    def __and__(self, other: Verdict) -> Verdict:
        """Both have to allow: a refusal wins over a doubt, and a doubt over a consent."""
        if self.allowed is False or (self.allowed is None and other.allowed is not False):
            return self
        reasons = dict.fromkeys(filter(None, (self.reason, other.reason)))
        return _yes(", ".join(reasons)) if other.allowed else other


_yes, _no, _unsure = (partial(Verdict, allowed) for allowed in (True, False, None))


def of_target(flow: Flow, rule: Rule, target: Target) -> Verdict:
    """Whether the rule may deliver to the target."""
    service = target.service
    if service == "logs":
        return _of_log_group(flow, rule, target)
    action = next(
        (one for part, one in SPECIAL.items() if part in target.arn), ACTIONS.get(service)
    )
    if not action:
        return _unsure(f"what {target.arn} asks for is not known here")
    if target.role:
        return _of_role(flow, rule, target.role, action, target.arn) & _of_key(flow, rule, target)
    if service not in WORDS and not target.is_bus:
        return _no(f"no RoleArn: a target of {service} needs a role that allows {action}")
    # An aws:SourceAccount keeps rules out of functions (EventBridge guide, 'Troubleshooting'); elsewhere it is sent.
    context = _context(rule) | ({"aws:sourceaccount": None} if service == "lambda" else {})
    return _asked(flow, target.arn, action, context, _callers(rule, target)) & _of_key(
        flow, rule, target
    )


def _callers(rule: Rule, target: Target) -> list[str]:
    """In whose name EventBridge asks, when it has no role: its own, or that of the rule's account at a bus.

    The guide's bus policies for other accounts and regions name the account ('Example policy: Send events from
    specific rules'). That a bus of the same account and region asks the same, and that a policy may name
    events.amazonaws.com as well, are guesses.
    """
    _, partition, _, _, account, _ = rule.arn.split(":", 5)
    return [f"arn:{partition}:iam::{account}:root", EVENTS] if target.is_bus else [EVENTS]


def of_dead_letters(flow: Flow, rule: Rule, arn: str) -> Verdict:
    """Whether the rule may put what it cannot deliver on the queue. Only a standard queue of its region will do."""
    queue = flow.resources.get(arn)
    if arn.endswith(".fifo") or (
        queue and str(queue.properties.get("FifoQueue")).lower() == "true"
    ):
        return _no("a FIFO queue takes no dead letters")
    if (
        arn.count(":") > 4
        and is_known([arn, rule.arn])
        and arn.split(":")[3] != rule.arn.split(":")[3]
    ):
        return _no("the dead-letter queue is in another region")
    return of_target(flow, rule, Target("", arn))


def _of_log_group(flow: Flow, rule: Rule, target: Target) -> Verdict:
    """Whether the rule may make both calls.

    The guide's policy names delivery.logs.amazonaws.com as well; a template that AWS publishes (serverless-patterns,
    eventbridge-cloudwatch) does without it, so it is not asked for.
    """
    if target.role:
        return _no("a log group takes no RoleArn: PutTargets refuses it")
    written, created = (
        _asked(flow, target.arn, action, context) for action, context in log_calls(rule).items()
    )
    return written & created


def log_calls(rule: Rule) -> dict[str, Context]:
    """What a log group is asked for; CreateLogStream carries no aws:SourceArn (serverless-patterns #618)."""
    return {
        "logs:PutLogEvents": {"aws:sourcearn": rule.arn},
        "logs:CreateLogStream": {"aws:sourcearn": None},
    }


def _asked(
    flow: Flow, arn: str, action: str, context: Context, callers: Sequence[str] = (EVENTS,)
) -> Verdict:
    """What the resource policies of a target say; of several callers one that may is enough."""
    service = arn.split(":")[2] if arn.count(":") > 4 else ""
    resource = f"{arn}:log-stream:x" if service == "logs" else arn
    found = [evaluate(flow.policies_of(arn), one, action, resource, context) for one in callers]
    if verdicts := list(filter(None, found)):
        return min(verdicts, key=lambda one: (False, True, None).index(one.allowed))  # a Deny wins
    words = f"no {WORDS.get(service, 'bus policy')} lets {' or '.join(callers)} do {action} for this rule"
    is_bus = flow.is_whole and ":event-bus/" in arn  # those of other places were not read
    if flow.covers(arn) if is_bus else (flow.is_whole or arn in flow.resources):
        return _no(words)
    return _unsure(f"{arn} is not of these stacks, so its policy is not known")


def _context(rule: Rule) -> dict[str, str | None]:
    return {"aws:sourcearn": rule.arn, "aws:sourceaccount": rule.arn.split(":")[4]}


def _of_role(flow: Flow, rule: Rule, arn: str, action: str, resource: str) -> Verdict:
    role = flow.resources.get(arn)
    if role is None:
        return (_no if flow.is_whole else _unsure)(f"the role {arn} is not of these stacks")
    context = _context(rule)
    trust = Policy(
        f"{role.logical_id} (trust)",
        arn,
        documents_of(role.properties.get("AssumeRolePolicyDocument")),
    )
    trusted = evaluate([trust], EVENTS, "sts:AssumeRole", None, context)
    if not trusted or not trusted.allowed:
        return trusted or _no(f"the role {role.logical_id} does not trust {EVENTS}")
    # A runbook is asked for with its version; which way AWS writes the default one was not seen.
    names = (
        [f"{resource}:$DEFAULT", resource] if ":automation-definition/" in resource else [resource]
    )
    found = [evaluate(policies_of_role(flow, role), None, action, one, context) for one in names]
    if verdict := next(filter(None, found), None):
        return verdict
    if role.properties.get("ManagedPolicyArns"):
        return _unsure(f"the managed policies of {role.logical_id} are not known here")
    return _no(f"the role {role.logical_id} does not allow {action}")


def policies_of_role(flow: Flow, role: Resource) -> list[Policy]:
    """The policies in a role, and those of these stacks that are attached to it."""
    found = [
        Policy(
            f"{role.logical_id}/{one.get('PolicyName')}",
            role.arn,
            documents_of(one.get("PolicyDocument")),
        )
        for one in as_list(role.properties.get("Policies"))
        if isinstance(one, dict)
    ]
    for resource in flow.resources.values():
        attached = resource.type in (
            "AWS::IAM::Policy",
            "AWS::IAM::ManagedPolicy",
            "AWS::IAM::RolePolicy",
        )
        roles = as_list(resource.properties.get("Roles")) + as_list(
            resource.properties.get("RoleName")
        )
        if attached and role.name in roles:
            found.append(
                Policy(
                    resource.logical_id,
                    role.arn,
                    documents_of(resource.properties.get("PolicyDocument")),
                )
            )
    return found


def _of_key(flow: Flow, rule: Rule, target: Target) -> Verdict:
    """A queue or topic encrypted with a customer key asks the key as well (EventBridge guide, 'Troubleshooting')."""
    resource = flow.resources.get(target.arn)
    key = str(resource.properties.get("KmsMasterKeyId") or "") if resource else ""
    if not resource or not key:
        return _yes("")
    if target.role:  # it is the role that asks then
        return _unsure(f"whether the role may use the key {key} is not known here")
    if "alias/aws/" in key:
        return _no(f"the key {key} of AWS does not admit {EVENTS}; SqsManagedSseEnabled does")
    if not (found := key_of(flow, key, resource.region)):
        return _unsure(f"the key {key} is not of these stacks, so its policy is not known")
    context = _context(rule)
    for action in ("kms:Decrypt", "kms:GenerateDataKey"):
        verdict = evaluate(flow.policies_of(found.arn), EVENTS, action, found.arn, context)
        if not verdict or not verdict.allowed:
            return verdict or _no(f"the key {found.logical_id} does not allow {EVENTS} {action}")
    return _yes(f"key {found.logical_id}")


def key_of(flow: Flow, name: Any, region: str) -> Resource | None:
    """The key of these stacks that is meant by its id, its ARN or an alias; None if it is none of theirs.

    ``region``: of what it encrypts, which is the key's, too; one name may be an alias in each of several regions.
    """
    found = _named(flow, name, region)
    if found and found.type == "AWS::KMS::Alias":
        return _named(flow, found.properties.get("TargetKeyId"), region)
    return found


def _named(flow: Flow, name: Any, region: str) -> Resource | None:
    return next(
        (
            one
            for arn, one in flow.resources.items()
            if one.region == region and name in (arn, one.ref, one.name)
        ),
        None,
    )


# --- policy documents --------------------------------------------------------------------------


def evaluate(
    policies: Iterable[Policy],
    principal: str | None,
    action: str,
    resource: str | None,
    context: Context,
) -> Verdict | None:
    """What the statements say; None when none of them speaks of this. A Deny wins; a doubt is ``allowed=None``.

    ``principal``: a service or an account's root; None for a role's own policies, which name none. ``resource``: None
    for a trust policy.
    ``context``: the request's condition keys, in lower case; None for one that is known not to be sent. A condition
    on any other key leaves a doubt. Source: IAM User Guide, 'Policy evaluation logic'.
    """
    context = {**_of_caller(principal), **context}
    best: Verdict | None = None
    for policy in policies:
        for number, statement in enumerate(policy.statements):
            applies = _applies(statement, principal, action, resource, context)
            label = (
                f"{policy.label}[{statement.get('Sid', number)}]"
                if len(policy.statements) > 1
                else policy.label
            )
            if applies is False:
                continue
            if statement.get("Effect") == "Deny":
                if applies:
                    return _no(f"{label} denies {action}")
                best = _unsure(f"{label} may deny {action}")
            elif applies and (
                best is None or (best.allowed is None and "may deny" not in best.reason)
            ):
                best = _yes(label)
            elif applies is None and best is None:
                best = _unsure(f"whether {label} applies depends on {_doubt(statement)}")
    return best


def _of_caller(principal: str | None) -> dict[str, str | None]:
    """What a request says of who makes it: a service in its own name, with a role, or for an account.

    A service in its own name belongs to no organization, so its request has no aws:PrincipalOrgID: it is what
    aws:PrincipalIsAWSService is there for. Source: IAM User Guide, 'AWS global condition context keys'. One for an
    account has none either: a bus that admits an organization wants a role (EventBridge API, PutTargets).
    """
    if principal is None:
        return {"aws:securetransport": "true", "aws:principalisawsservice": "false"}
    if principal.startswith("arn:"):
        return {
            "aws:securetransport": "true",
            "aws:principalisawsservice": "false",
            "aws:principalaccount": principal.split(":")[4],
            "aws:principalorgid": None,
            "aws:principalorgpaths": None,
        }
    return {
        "aws:securetransport": "true",
        "aws:principalisawsservice": "true",
        "aws:principalservicename": principal,
        "aws:principalorgid": None,
        "aws:principalorgpaths": None,
    }


def _doubt(statement: Json) -> str:
    found = sorted(set(SYMBOL.findall(str(statement))))
    return ", ".join(found) or "what only AWS knows"


def _applies(
    statement: Json, principal: str | None, action: str, resource: str | None, context: Context
) -> bool | None:
    checks = [_any(statement, "Action", action.lower(), lower=True)]
    if principal is not None:
        checks.append(
            None if "NotPrincipal" in statement else _names(statement.get("Principal"), principal)
        )
    if resource is not None:
        checks.append(_any(statement, "Resource", resource))
    if not isinstance(statement.get("Condition", {}), dict):
        checks.append(None)
    for operator, keys in as_dict(statement.get("Condition")).items():
        lines = as_dict(keys).items()
        checks += [
            _holds(operator, str(key).lower(), as_list(wanted), context) for key, wanted in lines
        ]
    return False if False in checks else None if None in checks else True


def _any(statement: Json, key: str, value: str, *, lower: bool = False) -> bool | None:
    negated = f"Not{key}" in statement
    wanted = [
        str(one).lower() if lower else str(one)
        for one in as_list(statement.get(f"Not{key}" if negated else key))
    ]
    found = _one_of([like(one, value) for one in wanted])
    return found if not negated or found is None else not found


def _names(principals: Any, caller: str) -> bool | None:
    """Whether a Principal element names the service, or the account by its root or its number; "*" means everyone."""
    if principals == "*":
        return True
    given = as_dict(principals)
    named = [str(one) for one in as_list(given.get("Service")) + as_list(given.get("AWS"))]
    names = {caller, caller.split(":")[4]} if caller.startswith("arn:") else {caller}
    if {*names, "*"} & {*named}:
        return True
    unread = [one for one in named or [str(principals)] if "?⟩" in one]
    return (
        None
        if any(like(one, name, literal=True) is None for one in unread for name in names)
        else False
    )


def _holds(operator: str, key: str, wanted: list[Any], context: Context) -> bool | None:
    """One line of a Condition block. An operator or a key that is not known here leaves a doubt."""
    if key not in context:
        return None
    value = context[key]
    name = operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:")
    if name == "Null":
        return _one_of(
            [like(str(one).lower(), str(value is None).lower(), literal=True) for one in wanted]
        )
    negated, optional = (
        "Not" in name,
        name.endswith("IfExists") or operator.startswith("ForAllValues:"),
    )
    if value is None:
        return optional or negated
    kind = name.removesuffix("IfExists").replace("Not", "")
    if kind not in (
        "ArnEquals",
        "ArnLike",
        "StringEquals",
        "StringLike",
        "StringEqualsIgnoreCase",
        "Bool",
    ):
        return None
    texts = [str(one) for one in wanted]
    if kind in ("Bool", "StringEqualsIgnoreCase"):
        value, texts = value.lower(), [one.lower() for one in texts]
    literal = kind not in ("ArnEquals", "ArnLike", "StringLike")
    found = _one_of([like(one, value, literal=literal) for one in texts])
    return found if not negated or found is None else not found


def _one_of(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def like(pattern: str, value: str, *, literal: bool = False) -> bool | None:
    """Whether ``*`` and ``?`` in a pattern cover a value; None when that hangs on a symbol in either."""
    if pattern == value or (not literal and _covers(pattern, value)):
        return True
    if is_known([pattern, value]):
        return False
    return (
        None
        if _covers(pattern, value, open_=True) or _covers(value, pattern, open_=True)
        else False
    )


def _covers(pattern: str, value: str, *, open_: bool = False) -> bool:
    """``open_``: what a symbol may stand for counts: anything, or any name but another that AWS makes."""
    expression = ""
    for part in re.split("(⟨[^⟩]*⟩|[*?])", pattern):
        if open_ and part.startswith("⟨"):
            expression += (
                ".*" if part.endswith("?⟩") else f"(?:{re.escape(part)}|(?:[^⟨]|⟨[^⟩]*[?]⟩)*)"
            )
        else:
            expression += {"*": ".*", "?": "."}.get(part) or re.escape(part)
    return re.fullmatch(expression, value, re.DOTALL) is not None
