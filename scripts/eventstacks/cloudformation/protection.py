"""What guards a stack: termination protection, a stack policy, and a refusal to lose resources unasked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eventstacks.cloudformation import events
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventstacks.cloudformation.results import Plan
    from eventstacks.cloudformation.stack import Remote
    from eventstacks.environment import Environment, StackSettings

_TERMINATION, _POLICY = "termination protection", "stack policy"


class ProtectedError(ToolError):
    """A change that a protected environment refuses."""


def losses(change: Mapping[str, Any]) -> str:
    """How a change (ResourceChange) may lose what a resource holds, in words, or ''.

    A nested stack may lose whatever is in it when no change set of its own tells (ChangeSetId; so it is without
    IncludeNestedStacks), or AWS cannot say what the change is to be (Dynamic). Source: API reference of ResourceChange.
    """
    if change["Action"] == "Remove":
        return "" if change.get("PolicyAction") == "Retain" else "would be deleted"
    if change.get("Replacement") in ("True", "Conditional"):
        return "would be replaced" if change["Replacement"] == "True" else "might be replaced"
    unknown = change["Action"] == "Dynamic" or (
        change["Action"] == "Modify" and not change.get("ChangeSetId")
    )
    if unknown and change.get("ResourceType") == events.NESTED:
        return "might lose what is in it: AWS does not say what becomes of this nested stack"
    return ""


def check(
    environment: Environment,
    plans: Iterable[Plan],
    allowed: frozenset[str],
    so_far: str = "nothing was changed",
) -> None:
    """Raises ProtectedError when a protected environment would lose a resource that ``allowed`` (logical ids) lacks.

    ``so_far``: what has been done until now, in words.
    """
    if not environment.protect:
        return
    found = [
        (
            change["LogicalResourceId"],
            f"{change['LogicalResourceId']} ({change['ResourceType']}) {loss} in {plan.ref}",
        )
        for plan in plans
        if plan.change_set
        for change in plan.change_set.changes
        if (loss := losses(change)) and change["LogicalResourceId"] not in allowed
    ]
    if found:
        names = sorted({name for name, _ in found})
        raise ProtectedError(
            f"refused, {so_far}: " + "; ".join(what for _, what in found),
            where=f"{environment.path}: protect",
            advice="If that is wanted, name it: ARGS='"
            + " ".join(f"--allow-replace {name}" for name in names)
            + "'",
        )


def differences(
    remote: Remote,
    environment: Environment,
    settings: StackSettings,
    stack: Mapping[str, Any] | None,
) -> tuple[str, ...]:
    """What ``apply`` has to set."""
    found = []
    if environment.protect and not (stack or {}).get("EnableTerminationProtection"):
        found.append(_TERMINATION)
    if settings.policy is not None:
        held = remote.call("get_stack_policy", StackName=stack["StackId"]) if stack else {}
        if json.loads(held.get("StackPolicyBody") or "null") != settings.policy:
            found.append(_POLICY)
    return tuple(found)


def apply(remote: Remote, settings: StackSettings, stack_id: str, wanted: Iterable[str]) -> None:
    """Sets what ``differences`` found, once the stack's operation has ended well."""
    if _TERMINATION in wanted:
        remote.call(
            "update_termination_protection", StackName=stack_id, EnableTerminationProtection=True
        )
    if _POLICY in wanted:
        remote.call(
            "set_stack_policy", StackName=stack_id, StackPolicyBody=json.dumps(settings.policy)
        )
