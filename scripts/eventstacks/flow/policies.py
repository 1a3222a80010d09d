"""Evaluate policy documents as far as templates tell what they say.

Source: IAM User Guide, 'Policy evaluation logic' and 'Condition operators'.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from eventstacks.flow.resolve import Resource, Stack
from eventstacks.flow.symbols import SYMBOL, Json, as_dict, as_list, documents_of, is_known, like
from eventstacks.flow.targets import Context, Reason, Verdict


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


def policy_of(label: str, arn: str, raw: Any) -> Policy:
    """Return the policy with a document, its JSON text, or what only AWS knows."""
    statements = documents_of(raw)
    return Policy(label, arn, statements, not statements and not is_known(raw))


_PERMISSION_CONDITIONS = {
    "ArnLike": {"SourceArn": "AWS:SourceArn"},
    "StringEquals": {
        "SourceAccount": "AWS:SourceAccount",
        "PrincipalOrgID": "aws:PrincipalOrgID",
        "EventSourceToken": "lambda:EventSourceToken",
        "FunctionUrlAuthType": "lambda:FunctionUrlAuthType",
    },
}


def permission_of(resource: Resource, stack: Stack) -> Policy:
    """Return a Lambda permission as the statement that AddPermission writes (API reference)."""
    given = resource.properties
    function = str(given.get("FunctionName", ""))
    if not function.startswith("arn:"):  # a name, or an account and a name
        function = stack.arn("lambda", f"function:{function.rpartition(':function:')[2]}")
    conditions = {
        operator: {key: given[name] for name, key in keys.items() if name in given}
        for operator, keys in _PERMISSION_CONDITIONS.items()
    }
    principal = str(given.get("Principal", ""))
    statement = {
        "Effect": "Allow",
        "Action": given.get("Action"),
        "Resource": function,
        "Condition": conditions,
        "Principal": {"Service" if "." in principal else "AWS": principal},
    }
    return Policy(resource.logical_id, function, (statement,))


def decisive(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that decides among those on several statements, callers or names."""
    order = (
        Reason.DENIED,
        Reason.MAY_BE_DENIED,
        Reason.ALLOWED,
        Reason.DEPENDS,
        Reason.NO_POLICY,
    )
    return min(
        verdicts,
        key=lambda one: (order.index(one.code), not one.reason),
        default=Verdict(Reason.NO_POLICY),
    )


def evaluate(
    policies: Iterable[Policy],
    principal: str | None,
    action: str,
    resource: str | None,
    context: Context,
) -> Verdict:
    """Return what the statements of policies decide.

    NO_POLICY if none of them applies; its reason is a condition that does not hold, or "".

    ``principal``: a service, a role or the root of an account; None for a role's own policies,
    which name no principal. ``resource``: None for a trust policy. ``context``: condition keys of
    the request in lower case; a condition on a key that is missing here leaves a doubt.
    """
    context = {**_context_of(principal), **context}
    found: list[Verdict] = []
    for policy in policies:
        if policy.is_open and not policy.statements:
            found.append(Verdict(Reason.DEPENDS, f"the statements of {policy.label} are not known"))
        for number, statement in enumerate(policy.statements):
            is_alone = len(policy.statements) == 1
            label = policy.label if is_alone else f"{policy.label}[{statement.get('Sid', number)}]"
            addressed = _addresses(statement, principal, action, resource)
            if addressed is not False:
                is_certain = bool(addressed) and not policy.is_open
                found.append(_decide(statement, label, action, context, is_certain=is_certain))
    return decisive(found)


def _decide(
    statement: Json, label: str, action: str, context: Context, *, is_certain: bool
) -> Verdict:
    """Return what a statement on this caller, action and resource decides."""
    is_deny, conditions = statement.get("Effect") == "Deny", statement.get("Condition", {})
    is_certain = is_certain and isinstance(conditions, dict)
    for operator, keys in as_dict(conditions).items():
        for key, wanted in as_dict(keys).items():
            holds = _holds(operator, str(key).lower(), as_list(wanted), context)
            if holds is False:
                expected = " or ".join(map(str, as_list(wanted)))
                value = context[str(key).lower()] or "absent"
                text = f"{label} requires {key} {expected}, but it is {value}"
                return Verdict(Reason.NO_POLICY, "" if is_deny else text)
            is_certain = is_certain and holds is True
    if is_deny:
        denied = Verdict(Reason.DENIED, f"{label} denies {action}")
        return denied if is_certain else Verdict(Reason.MAY_BE_DENIED, f"{label} may deny {action}")
    symbols = sorted(set(SYMBOL.findall(str(statement)))) or ["what only AWS knows"]
    doubt = Verdict(Reason.DEPENDS, f"whether {label} applies depends on {', '.join(symbols)}")
    return Verdict(reason=label) if is_certain else doubt


def _context_of(principal: str | None) -> dict[str, str | None]:
    """Return the condition keys of the caller: a service, a role (None), or an account's root.

    A service in its own name belongs to no organization, so its request has no aws:PrincipalOrgID;
    aws:PrincipalIsAWSService is for that case. Source: IAM User Guide, 'AWS global condition
    context keys'. A request for an account has none either: a bus that admits an organization wants
    a role (EventBridge API, PutTargets).
    """
    is_service = principal is not None and not principal.startswith("arn:")
    context: dict[str, str | None] = {
        "aws:securetransport": "true",
        "aws:principalisawsservice": str(is_service).lower(),
    }
    if principal is not None and (is_service or principal.endswith(":root")):
        context |= {"aws:principalorgid": None, "aws:principalorgpaths": None}
        own = "aws:principalservicename" if is_service else "aws:principalaccount"
        context[own] = principal if is_service else principal.split(":")[4]
    return context


def _addresses(
    statement: Json, principal: str | None, action: str, resource: str | None
) -> bool | None:
    """Return whether a statement is for this caller, action and resource.

    None if that is not known.
    """
    checks = [_matches(statement, "Action", action.lower(), fold=True)]
    if principal is not None:
        named = statement.get("Principal")
        checks.append(None if "NotPrincipal" in statement else _names(named, principal))
    if resource is not None:
        checks.append(_matches(statement, "Resource", resource))
    if False in checks:
        return False
    return None if None in checks else True


def _matches(statement: Json, key: str, value: str, *, fold: bool = False) -> bool | None:
    negated = f"Not{key}" in statement
    wanted = [str(one) for one in as_list(statement.get(f"Not{key}" if negated else key))]
    found = [like(one.lower() if fold else one, value) for one in wanted]
    return _any_of(found, negated=negated)


def _names(principals: Any, caller: str) -> bool | None:
    """Return whether a Principal element names a service, a role or its account."""
    given = as_dict(principals)
    named = as_list(given.get("Service")) + as_list(given.get("AWS")) or [str(principals)]
    names = {caller}
    if caller.startswith("arn:"):
        _, partition, _, _, account, *_ = caller.split(":")
        names |= {account, f"arn:{partition}:iam::{account}:root"}
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
    value, texts = context[key], [str(one) for one in wanted]
    name = operator.removeprefix("ForAnyValue:").removeprefix("ForAllValues:")
    negated = "Not" in name
    if name == "Null":
        absent = str(value is None).lower()
        return _any_of([like(one.lower(), absent, literal=True) for one in texts])
    if value is None:  # a negated operator holds for an absent key (IAM, 'Condition operators')
        return negated or name.endswith("IfExists") or operator.startswith("ForAllValues:")
    kind = name.removesuffix("IfExists").replace("Not", "")
    if kind not in _OPERATORS:
        return None
    if kind in {"Bool", "StringEqualsIgnoreCase"}:
        value, texts = value.lower(), [one.lower() for one in texts]
    literal = kind not in {"ArnEquals", "ArnLike", "StringLike"}
    return _any_of([like(one, value, literal=literal) for one in texts], negated=negated)


def _any_of(results: list[bool | None], *, negated: bool = False) -> bool | None:
    """Return whether one of some verdicts is True, negated if that is asked for."""
    if True in results:
        return not negated
    return None if None in results else negated
