"""Protection of stacks: termination protection, the stack policy, and refused losses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks.cloudformation.operation import NESTED_STACK
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventstacks.cloudformation.run import Plan
    from eventstacks.cloudformation.stack import StackClient
    from eventstacks.environment import Environment

TERMINATION, POLICY = "termination protection", "stack policy"


class ProtectedError(ToolError):
    """A change that a protected environment refuses."""

    default_code = ErrorCode.STACK_PROTECTED


def loss(change: Mapping[str, Any]) -> str:
    """Return how a ResourceChange can lose what a resource holds, or ''.

    A nested stack can lose anything if no change set of its own tells (ChangeSetId, missing
    without IncludeNestedStacks), or if AWS cannot tell what the change will be (Dynamic).
    Source: API Reference of ResourceChange.
    """
    if change["Action"] == "Remove":
        return "" if change.get("PolicyAction") == "Retain" else "would be deleted"
    if change.get("Replacement") in ("True", "Conditional"):
        return "would be replaced" if change["Replacement"] == "True" else "might be replaced"
    unknown = change["Action"] == "Dynamic" or (
        change["Action"] == "Modify" and not change.get("ChangeSetId")
    )
    if unknown and change.get("ResourceType") == NESTED_STACK:
        return "might lose resources: AWS does not tell what changes in this nested stack"
    return ""


def check(
    environment: Environment,
    plans: Iterable[Plan],
    allowed: frozenset[str],
    so_far: str = "nothing was changed",
) -> None:
    """Raise ProtectedError if a protected environment would lose a resource not in ``allowed``.

    ``so_far`` says what was done until now.
    """
    if not environment.protect:
        return
    losses = [
        (change["LogicalResourceId"], change["ResourceType"], how, plan.ref)
        for plan in plans
        if plan.change_set
        for change in plan.change_set.changes
        if (how := loss(change)) and change["LogicalResourceId"] not in allowed
    ]
    if losses:
        texts = [f"{name} ({kind}) {how} in {ref}" for name, kind, how, ref in losses]
        options = [
            word
            for name in sorted({one[0] for one in losses})
            for word in ("--allow-replace", name)
        ]
        raise ProtectedError(
            f"refused, {so_far}: {'; '.join(texts)}",
            where=f"{environment.path}: protect",
            advice=f"To allow it: {losses[0][3].command('deploy', *options)}",
        )


def read(
    stack: StackClient, environment: Environment, description: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the fields of a plan in which a stack's protection differs from the environment file."""
    wanted, settings = stack.ref.settings.policy, []
    if environment.protect and not (description or {}).get("EnableTerminationProtection"):
        settings.append(TERMINATION)
    held = _policy(stack, description, is_wanted=wanted is not None)
    if wanted is None:
        stays = "the stack policy stays: the file has none, and CloudFormation can only replace it"
        is_open = held is None or not _statements(held, "Deny")
        return {"settings": tuple(settings), "notes": () if is_open else (stays,)}
    if held != wanted:
        settings.append(POLICY)
    opens = _statements(held, "Deny") - _statements(wanted, "Deny")
    opens |= _statements(wanted, "Allow") - _statements(held, "Allow")
    return {"settings": tuple(settings), "policy_first": held is not None and bool(opens)}


def _policy(stack: StackClient, description: Mapping[str, Any] | None, *, is_wanted: bool) -> Any:
    """Return the deployed stack policy or None; permission denied is an error only if it is wanted."""
    if not description:
        return None
    try:
        answer = stack.call("get_stack_policy", StackName=description["StackId"])
    except ClientError:
        if is_wanted:
            raise
        return None
    return json.loads(answer.get("StackPolicyBody") or "null")


def _statements(policy: Any, effect: str) -> set[str]:
    """Return the statements of a stack policy with an effect, each as text that can be compared."""
    statements = (policy or {}).get("Statement") or []
    listed = statements if isinstance(statements, list) else [statements]
    return {json.dumps(one, sort_keys=True) for one in listed if one.get("Effect") == effect}


def apply(stack: StackClient, stack_id: str, settings: Iterable[str]) -> None:
    """Set what ``read`` found to be different."""
    if TERMINATION in settings:
        stack.call(
            "update_termination_protection", StackName=stack_id, EnableTerminationProtection=True
        )
    if POLICY in settings:
        policy = json.dumps(stack.ref.settings.policy)
        stack.call("set_stack_policy", StackName=stack_id, StackPolicyBody=policy)
