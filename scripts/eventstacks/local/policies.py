"""Decisions of resource policies and roles, by MiniStack's evaluator of IAM policies."""

from collections.abc import Mapping
from typing import Any

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region
from ministack.services import iam

from eventstacks.flow.targets import EVENTS, Call, policy_arns


def decisions(
    policies: list[Any],
    service: str,
    action: str,
    resource: str,
    keys: Mapping[str, str | None],
    caller: str = "",
) -> set[str]:
    """Return what resource policies decide.

    Allow, Deny or both, and nothing for a policy that does not apply.

    ``keys``: condition keys of the request, in lower case. ``caller``: an ARN that can be named
    instead of the service.
    """
    question = iam_evaluator.EvalContext(
        caller,
        "AssumedRole",
        get_account_id(),
        action,
        resource,
        get_region(),
        secure_transport=True,
        service_context={
            key: value
            for key, value in {"aws:sourceaccount": get_account_id(), **keys}.items()
            if value is not None
        },
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
    """Return True if a role's identity policies allow the action.

    A role that does not exist has none.
    """
    name, account = arn.rsplit("/", 1)[-1], arn.split(":")[4]
    question = iam_evaluator.EvalContext(
        arn, "AssumedRole", account, action, resource, get_region()
    )
    policies = iam_evaluator._gather_role_policies(name, account)
    return bool(iam_evaluator.evaluate(question, policies).decision == "Allow")


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
