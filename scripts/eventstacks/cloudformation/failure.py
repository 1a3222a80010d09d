"""Why it failed, in one sentence, and what to do next."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from eventstacks.aws import AWS_ERRORS, error_code, error_message, is_login_error
from eventstacks.cloudformation import events
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from eventstacks.cloudformation.events import Event
    from eventstacks.cloudformation.operation import Operation
    from eventstacks.cloudformation.stack import Remote
    from eventstacks.environment import StackRef

_PROPERTY = re.compile(
    r"#/([\w/]+)|\{/([\w/]+)\}|[Uu]nsupported property (\w+)|[Pp]roperty (\w+) (?:is|must|cannot)"
)
_NESTED = re.compile(r"[Nn]ested change set (arn:\S+)")
_EARLY = timedelta(
    seconds=10
)  # a guess: what validation says may come before the stack's first event
_DEPTH = 10  # nested stacks below nested stacks

_ADVICE = {
    "REVIEW_IN_PROGRESS": "The stack is empty: a change set was made for it and never executed. "
    "{deploy} goes on from there, {recover} removes it.",
    "ROLLBACK_COMPLETE": "The stack could not be created and only its name is left; it must be deleted before "
    "the next try: {recover}",
    "ROLLBACK_FAILED": "Some of what was made could not be removed again. {recover} deletes the rest of the stack.",
    "CREATE_FAILED": "What was made is still there. Mend it and {onward}, or {recover} to delete it.",
    "UPDATE_FAILED": "What was changed is still there. Mend it and {onward}, or {recover} to roll it back.",
    "UPDATE_ROLLBACK_COMPLETE": "The stack is as it was before. Mend what failed, then {deploy}.",
    "UPDATE_ROLLBACK_FAILED": "The stack is stuck halfway back. Mend what AWS names, then {recover}; "
    "what cannot be mended is left out with ARGS='--skip LogicalId'.",
    "DELETE_FAILED": "{recover} with ARGS='--retain LogicalId' deletes the stack and keeps what cannot be deleted; "
    "ARGS=--force keeps whatever cannot.",
    "DELETE_COMPLETE": "The stack is gone. Mend what failed, then {deploy}.",
    "IMPORT_ROLLBACK_COMPLETE": "The stack is as it was before the import.",
    "IMPORT_ROLLBACK_FAILED": "The import could not be taken back. Mend what AWS names, then {deploy}.",
}


class DeploymentError(ToolError):
    """An operation on a stack that failed, or was not even started; ``status`` is the stack's."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        advice: str = "",
        status: str = "",
        code: ErrorCode | None = None,
    ) -> None:
        super().__init__(what, code=code, where=where, advice=advice)
        self.status = status


@dataclass(frozen=True)
class Cause:
    """The root cause of a failure."""

    at: datetime | None
    logical_id: str
    type: str
    status: str  # CREATE_FAILED …
    reason: str  # AWS's words
    property: str = ""
    path: tuple[str, ...] = ()  # logical ids of the nested stacks on the way down

    def __str__(self) -> str:
        verb = {
            "CREATE": "created",
            "UPDATE": "updated",
            "DELETE": "deleted",
            "IMPORT": "imported",
        }.get(self.status.split("_")[0])
        within = f" in the nested stack {' → '.join(self.path)}" if self.path else ""
        known = ", ".join(
            one for one in (self.type, f"property {self.property}" if self.property else "") if one
        )
        subject = f"{self.logical_id or 'the template'}{f' ({known})' if known else ''}{within}"
        return (
            f"{subject} could not be {verb}: {self.reason}" if verb else f"{subject}: {self.reason}"
        )


def advice(status: str, ref: StackRef) -> str:
    """What to do about a stack in this status; whole names count: UPDATE_ROLLBACK_COMPLETE is no ROLLBACK_COMPLETE."""
    if status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
        return f"An operation is under way: {ref.command('follow')}"
    onward = ref.command("deploy", "--disable-rollback")
    return _ADVICE.get(status, "").format(
        recover=ref.command("recover"), deploy=ref.command("deploy"), onward=onward
    )


def stays_failed(status: str, ref: StackRef) -> DeploymentError:
    """The error for a deployment that would roll back, of a stack whose last failure was not rolled back.

    AWS refuses it when the change set is executed: 'This stack is currently in a non-terminal [UPDATE_FAILED] state.
    To update the stack from this state, please use the disable-rollback parameter'. Source: User Guide, Choose how to
    handle failures when provisioning resources; github.com/ansible-collections/amazon.aws/issues/1655.
    """
    return DeploymentError(
        f"the stack is in {status}: it can be changed only without a rollback",
        where=str(ref),
        status=status,
        advice=advice(status, ref),
    )


def keeping_nothing(verb: str, status: str, ref: StackRef) -> DeploymentError:
    """The error for a deletion that is to keep something, of a stack of which nothing can be kept."""
    return DeploymentError(
        f"not touched: the stack is in {status}, and --retain and --force are for one in DELETE_FAILED",
        where=str(ref),
        status=status,
        advice=f"With all that is in it: {ref.command(verb)}\n"
        "What is to stay needs 'DeletionPolicy: Retain' in the template, deployed before.",
    )


def wrap(error: Exception, ref: StackRef, mask: Callable[[str], str] = str) -> ToolError:
    """What AWS or the way to it has against a call, as an error that says where and what to do.

    ``mask`` is applied to AWS's words: a refusal can repeat the value of a secret.
    """
    if isinstance(error, ToolError):
        return error
    if is_login_error(error):
        advice = "Log in again and repeat the command: it goes on where this one ended."
        return DeploymentError(
            "the credentials are not valid, or not any more", where=str(ref), advice=advice
        )
    words = mask(error_message(error))
    said = f"AWS says: {words}" if error_code(error) else words
    return DeploymentError(
        said, where=str(ref), advice=f"What the stack is in: {ref.command('status')}"
    )


def property_of(reason: str) -> str:
    """The property that AWS's words name, or ''."""
    found = _PROPERTY.search(reason)
    return next((one for one in found.groups() if one), "").replace("/", ".") if found else ""


def root_cause(
    remote: Remote, found: Sequence[Event], since: datetime | None, depth: int = 0
) -> Cause | None:
    """The earliest failure among ``found``, events of one stack in order, down to the bottom of nested stacks.

    Not a cause: a resource that was only cancelled since another one had failed, and the stack's own failure.
    ``since``: when the operation began; a nested stack's events from before it belong to another one.
    """
    hooks = {
        one.logical_id: one
        for one in reversed(found)
        if one.hook and one.hook_status.endswith("FAILED")
    }
    causes = []
    for one in found:
        if (
            one.is_root
            or not one.status.endswith("_FAILED")
            or re.search(r"\bcancell?ed\b", one.reason)
        ):
            continue
        hook = hooks.pop(one.logical_id, None)
        reason = (
            _refusal(hook.hook, hook.hook_reason or one.reason)
            if hook
            else one.reason or "AWS gives no reason"
        )
        cause = Cause(one.at, one.logical_id, one.type, one.status, reason, property_of(one.reason))
        if one.type == events.NESTED and one.physical_id and depth < _DEPTH:
            cause = _inside(remote, one, since, depth) or cause
        causes.append(cause)
    causes += [
        Cause(one.at, one.logical_id, one.type, "", _refusal(one.hook, one.hook_reason))
        for one in hooks.values()
    ]
    return min(causes, key=lambda one: one.at.timestamp() if one.at else 0.0, default=None)


def _refusal(hook: str | None, reason: str | None) -> str:
    return f"the hook {hook} refuses it: {reason}"


def _inside(remote: Remote, nested: Event, since: datetime | None, depth: int) -> Cause | None:
    try:
        found = events.read(remote, nested.physical_id, set())
    except AWS_ERRORS:
        return None  # deleted, or not ours to read: the parent's words must do
    cause = root_cause(
        remote, [one for one in found if since is None or one.at >= since], since, depth + 1
    )
    return cause and replace(cause, path=(nested.logical_id, *cause.path))


def validations(remote: Remote, since: datetime | None = None, **where: str) -> list[str]:
    """What early validation and hooks have against a change set or a stack's operation, from DescribeEvents.

    ``where``: ChangeSetName (ARN), or StackName: that answers with all of the stack's operations, also of long ago, and
    ``since`` leaves out those before this one. It needs a permission of its own: without it, and wherever it is not
    known, the answer is empty and the stack's events must do. Source: API reference of DescribeEvents.
    """
    try:
        pages = remote.pages("describe_events", Filters={"FailedEvents": True}, **where)
        found = [one for page in pages for one in page.get("OperationEvents") or ()]
    except AWS_ERRORS:
        return []
    causes = []
    for one in found:
        if since and one.get("Timestamp", since) < since - _EARLY:
            continue
        reason = {
            "VALIDATION_ERROR": one.get("ValidationStatusReason"),
            "HOOK_INVOCATION_ERROR": _refusal(one.get("HookType"), one.get("HookStatusReason")),
            "PROVISIONING_ERROR": one.get("ResourceStatusReason"),
        }.get(one.get("EventType", ""))
        if (
            reason
            and one.get("ValidationFailureMode") != "WARN"
            and one.get("ResourceType") != events.NESTED
        ):
            path = (one.get("ValidationPath") or "").strip("/").replace("/", ".")
            causes.append(
                Cause(
                    one.get("Timestamp"),
                    one.get("LogicalResourceId", ""),
                    one.get("ResourceType", ""),
                    one.get("ResourceStatus", ""),
                    reason,
                    path or property_of(reason),
                )
            )
    return list(dict.fromkeys(remote.mask(str(one)) for one in causes))


def of_change_set(remote: Remote, arn: str, reason: str) -> DeploymentError:
    """The error for a change set that could not be made; of a nested stack's it is that one's reason.

    The root's own says no more than which one failed: github.com/aws/aws-sam-cli/issues/2406.
    """
    within, advice = "", f"Nothing was changed. Mend it, then {remote.ref.command('plan')}"
    with contextlib.suppress(*AWS_ERRORS):  # then the words that are there must do
        while (nested := _NESTED.search(reason)) and nested[1] != arn:
            arn = nested[1]
            found = remote.call("describe_change_set", ChangeSetName=arn)
            within, reason = (
                f"in the nested stack {found['StackName']}: ",
                found.get("StatusReason") or reason,
            )
    what = "; ".join(validations(remote, ChangeSetName=arn)) or remote.mask(reason)
    if within:
        advice += " (ARGS=--no-nested if it is only the look into nested stacks that AWS cannot do)"
    return DeploymentError(
        f"AWS refuses the change: {within}{what}", where=str(remote.ref), advice=advice
    )


def of_operation(remote: Remote, operation: Operation, status: str) -> DeploymentError:
    """The error for an operation that ended badly. Its events are read once more: some come late."""
    with contextlib.suppress(*AWS_ERRORS):  # then what has been seen must do
        operation.take(events.read(remote, operation.stack_id, operation.seen))
    found = operation.events
    cause = root_cause(remote, found, found[0].at if found else None)
    reasons = [str(cause)] if cause else []
    if found and (not cause or any(one.detail == "VALIDATION_FAILED" for one in found)):
        reasons = validations(remote, found[0].at, StackName=operation.stack_id) or reasons
    if not reasons:
        own = [one for one in found if one.is_root and one.reason]
        failed = [one.reason for one in own if "FAILED" in one.status + one.detail]
        turned = [one.reason for one in own if "ROLLBACK" in one.status]
        # A deletion that an importer forbids ends in the state before, UPDATE_COMPLETE say, and that event has the
        # reason: github.com/aws/aws-cdk/issues/604. What a beginning says ('User Initiated') is none.
        others = [one.reason for one in reversed(own) if one.status not in events.STARTS]
        reasons = [*failed, *turned, *others, f"the stack is in {status}; AWS gives no reason"][:1]
    back = next(
        (
            at
            for at, one in enumerate(found)
            if one.is_root and "ROLLBACK_IN_PROGRESS" in one.status
        ),
        None,
    )
    if status.endswith("ROLLBACK_FAILED") and back is not None:
        again = root_cause(remote, found[back:], found[back].at)
        if again and str(again) not in reasons:
            reasons.append(f"and then the rollback failed, too: {again}")
    return DeploymentError(
        "; ".join(reasons),
        where=str(remote.ref),
        status=status,
        advice=f"It is now in {status}. {advice(status, remote.ref)}".rstrip(),
    )
