"""Decisions of resource policies and roles, by MiniStack's evaluator of IAM policies."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import eventbridge, iam, kms, sns, sqs

from eventstacks.flow.targets import (
    EVENTS,
    Call,
    Target,
    callers,
    kind_of,
    policy_arns,
    policy_calls,
    role_calls,
)
from eventstacks.local.ministack import Json, NotDelivered, call, in_region

Keys = Mapping[str, str | None]  # condition keys of a request, in lower case
OWN_POLICY = ("lambda", "sqs", "sns")  # kinds whose resource policy MiniStack reads by ARN


def decisions(
    policies: list[Any], service: str, action: str, resource: str, keys: Keys, caller: str = ""
) -> set[str]:
    """Return what resource policies decide.

    Allow, Deny or both, and nothing for a policy that does not apply.

    ``caller``: an ARN that can be named instead of the service.
    """
    sent = {"aws:sourceaccount": get_account_id(), **keys}
    question = iam_evaluator.EvalContext(
        caller,
        "AssumedRole",
        get_account_id(),
        action,
        resource,
        get_region(),
        secure_transport=True,
        service_context={key: value for key, value in sent.items() if value is not None},
    )
    return {
        iam_evaluator.evaluate_resource_policy(policy, question, service=service).decision
        for policy in policies
    } - {"ImplicitDeny"}


def policies_allow(policies: list[Any], *question: Any) -> bool:
    """Return True if resource policies allow what ``decisions`` is asked.

    A Deny in any of them wins.
    """
    return decisions(policies, *question) == {"Allow"}


def role_policies_allow(arn: str, action: str, resource: str) -> bool:
    """Return True if a role's identity policies, and its permissions boundary, allow the action.

    A role that does not exist has none.
    """
    name, account = arn.rsplit("/", 1)[-1], arn.split(":")[4]
    question = iam_evaluator.EvalContext(
        arn, "AssumedRole", account, action, resource, get_region(), secure_transport=True
    )
    policies = iam_evaluator._gather_role_policies(name, account)
    limits = iam_evaluator._permissions_boundary(iam._roles, name, account)
    return bool(iam_evaluator.evaluate(question, policies, *limits).decision == "Allow")


def role_allows(arn: str, calls: list[Call], source: str, service: str = EVENTS) -> bool:
    """Return True if a service can assume the role for a source, and it allows the calls."""
    role = iam._roles.get_scoped(arn.split(":")[4], None, arn.rsplit("/", 1)[-1])
    asked = ("sts:AssumeRole", arn, {"aws:sourcearn": source})
    return (
        role is not None
        and policies_allow([role["AssumeRolePolicyDocument"]], service, *asked)
        and all(
            any(role_policies_allow(arn, call.action, one) for one in policy_arns(call.resource))
            for call in calls
        )
    )


def resource_policies(arn: str) -> list[Any]:
    """Return the resource policies of a target, none for a kind without.

    Raises NotDelivered if it does not exist in this account and Region.
    """
    kind, (region, account) = kind_of(arn).name, arn.split(":")[3:5]
    if kind == "event-bus":
        get, name = eventbridge._event_bus_policies.get, arn.partition(":event-bus/")[2]
        return [in_region(region, get, name) or {}]
    if (region, account) != (get_region(), get_account_id()):
        raise NotDelivered("NO_RESOURCE", f"{arn} is not in {get_region()} of {get_account_id()}")
    if kind == "logs":
        describe = "Logs_20140328.DescribeResourcePolicies"
        answers = [
            call("cloudwatch_logs", describe, policyScope=scope)
            for scope in ("ACCOUNT", "RESOURCE")
        ]
        return [policy["policyDocument"] for each in answers for policy in each["resourcePolicies"]]
    found = iam_evaluator._resource_policy(kind, arn) if kind in OWN_POLICY else ({},)
    if found is None:
        raise NotDelivered("NO_RESOURCE", f"{arn} does not exist")
    return [found[0] or {}]


def put_events_keys(event: Json, *, is_forwarded: bool) -> dict[str, str | None]:
    """Return the condition keys of PutEvents.

    Source: EventBridge User Guide, 'Using IAM policy conditions'.
    """
    return {
        "events:source": event.get("Source"),
        "events:detail-type": event.get("DetailType"),
        "events:eventbusinvocation": str(is_forwarded).lower(),
    }


def key_refusal(arn: str, service: str, keys: Keys) -> str:
    """Return why a service may not use the key of a queue or topic.

    '' if it may, or there is none. A key that AWS manages allows no service (SNS Developer Guide,
    'Key management').
    """
    find = {"sqs": sqs._queue_by_arn, "sns": sns._topics.get}.get(kind_of(arn).name, {}.get)
    if not (name := (find(arn) or {}).get("attributes", {}).get("KmsMasterKeyId")):
        return ""
    key = kms._resolve_key(name) or {"Arn": name}
    for action in ("kms:Decrypt", "kms:GenerateDataKey"):
        if not policies_allow([key.get("Policy") or {}], service, action, key["Arn"], keys):
            return f"the policy of {key['Arn']} does not allow {service} to call {action}"
    return ""


def check_permission(
    target: Target, source: str, service: str = EVENTS, keys: Keys = MappingProxyType({})
) -> None:
    """Raise NotDelivered unless a service may deliver to a target for a source.

    ``source``: the ARN of a rule, pipe, schedule group or alarm. ``keys``: more condition keys.

    Within an account a role's permission is enough, unless the resource policy of the target denies
    it. A bus of another Region without a role is refused by MiniStack's PutTargets.
    """
    arn, role, kind = target.arn, target.role, kind_of(target.arn)
    if not kind.action:
        raise NotDelivered("NO_RESOURCE", f"the embedded AWS does not deliver to {arn}")
    policies = resource_policies(arn)  # also checks that the target exists
    if role:
        is_allowed = role_allows(role, role_calls(target, {}), source, service)
        if "Deny" in decisions(policies, "", kind.action, arn, keys, role):
            raise NotDelivered(
                "NO_PERMISSIONS", f"the policy of {arn} denies {kind.action} for {source}"
            )
    else:
        caller, calls = callers(arn, source)[0], policy_calls(arn, source)
        is_allowed = bool(calls) and all(
            policies_allow(
                policies, service, call.action, call.resource, {**call.context, **keys}, caller
            )
            for call in calls
        )
        if refusal := key_refusal(arn, service, {"aws:sourcearn": source}):
            raise NotDelivered("NO_PERMISSIONS", refusal)
    if not is_allowed:
        raise NotDelivered(
            "NO_PERMISSIONS",
            f"{role or f'the policy of {arn}'} does not allow {kind.action} for {source}",
        )
