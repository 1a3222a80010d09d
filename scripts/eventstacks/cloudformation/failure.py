"""Why an operation failed: the root cause in one sentence, and what to do next."""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from eventstacks.aws import AWS_ERRORS, error_code, error_message, is_login_error
from eventstacks.cloudformation.operation import NESTED_STACK, Event, Operation, read_events
from eventstacks.cloudformation.stack import StackClient, advice_for, is_in_progress, state_of
from eventstacks.environment import StackRef
from eventstacks.errors import ErrorCode, ToolError

_NESTED_CHANGE_SET = re.compile(r"[Nn]ested change set (arn:\S+)")
# An assumption: validation can report this long before the stack's first event.
_EARLY = timedelta(seconds=10)
_VERBS = {"CREATE": "created", "UPDATE": "updated", "DELETE": "deleted", "IMPORT": "imported"}


class DeploymentError(ToolError):
    """An operation on a stack failed or was refused; ``status`` is the stack's."""

    default_code = ErrorCode.STACK_FAILED

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

    at: float  # seconds
    logical_id: str
    type: str
    status: str  # CREATE_FAILED …
    reason: str  # AWS's words
    path: tuple[str, ...] = ()  # logical ids of the nested stacks above it

    def __str__(self) -> str:
        verb = _VERBS.get(self.status.split("_")[0])
        known = f" ({self.type})" if self.type else ""
        within = f" in the nested stack {' → '.join(self.path)}" if self.path else ""
        failed = f" could not be {verb}" if verb else ""
        return f"{self.logical_id or 'the template'}{known}{within}{failed}: {self.reason}"


def wrap(error: Exception, ref: StackRef, mask: Callable[[str], str] = str) -> ToolError:
    """Return an error of AWS, or on the way to it, as one that says where and what to do.

    ``mask`` is applied to AWS's words: a refusal can repeat the value of a secret.
    """
    if isinstance(error, ToolError):
        error.where = error.where or str(ref)
        return error
    if is_login_error(error):
        return DeploymentError(
            "invalid or expired credentials",
            code=ErrorCode.CREDENTIALS,
            where=str(ref),
            advice="Log in again and repeat the command: it continues where this one ended.",
        )
    code = error_code(error)
    words = mask(error_message(error))
    denied = code.startswith(("AccessDenied", "Unauthorized"))
    permit = "Give these credentials the permission, or choose the Regions that they can use."
    return DeploymentError(
        f"AWS says: {words}" if code else words,
        code=ErrorCode.ACCESS_DENIED if denied else ErrorCode.AWS_ERROR,
        where=str(ref),
        advice=permit if denied else f"See the state of the stack: {ref.command('status')}",
    )


def refused(what: str, status: str, ref: StackRef, advice: str = "") -> DeploymentError:
    """Return the error for a stack whose state does not allow what was asked for."""
    code = ErrorCode.STACK_BUSY if is_in_progress(status) else ErrorCode.STACK_STUCK
    text = advice or advice_for(status, ref)
    return DeploymentError(what, code=code, where=str(ref), status=status, advice=text)


def root_cause(stack: StackClient, events: Sequence[Event], since: datetime | None) -> Cause | None:
    """Return the earliest failure among the events of one stack, down to its nested stacks.

    Not a cause: the stack's own failure, and a resource that was cancelled because another failed.
    ``since``: the operation's start; events of a nested stack from before belong to another one.
    """
    causes = []
    hooks = {one.logical_id: one.hook_failure for one in events if one.hook_failure}
    for one in events:
        is_failure = one.status.endswith("_FAILED") or one.hook_failure
        if one.is_root or not is_failure or re.search(r"\bcancell?ed\b", one.reason):
            continue
        reason = hooks.get(one.logical_id) or one.reason or "AWS gives no reason"
        cause = Cause(one.at.timestamp(), one.logical_id, one.type, one.status, reason)
        if one.type == NESTED_STACK and one.physical_id:
            cause = _nested_cause(stack, one, since) or cause
        causes.append(cause)
    return min(causes, key=lambda one: one.at, default=None)


def _nested_cause(stack: StackClient, nested: Event, since: datetime | None) -> Cause | None:
    try:
        events = read_events(stack, nested.physical_id, set())
    except AWS_ERRORS:
        return None  # deleted, or permission denied: the parent's event has to do
    events = [one for one in events if since is None or one.at >= since]
    cause = root_cause(stack, events, since)
    return cause and replace(cause, path=(nested.logical_id, *cause.path))


def validations(stack: StackClient, since: datetime | None = None, **which: str) -> list[str]:
    """Return what early validation and hooks report, from DescribeEvents.

    ``which``: ChangeSetName (ARN), or StackName, which answers with all operations of the stack;
    ``since`` leaves out those before this one. Without the permission for DescribeEvents, and where
    it is unknown, the answer is empty. Source: API Reference of DescribeEvents.
    """
    events, filters = [], {"FailedEvents": True}
    with contextlib.suppress(*AWS_ERRORS):
        events = [*stack.items("describe_events", "OperationEvents", Filters=filters, **which)]
    recent = (one for one in events if not since or one.get("Timestamp", since) >= since - _EARLY)
    return [*dict.fromkeys(stack.mask(text) for one in recent if (text := _validation(one)))]


def _validation(event: Mapping[str, Any]) -> str:
    """Return what one entry of DescribeEvents reports; '' for warnings and nested stacks."""
    if event.get("ValidationFailureMode") == "WARN" or event.get("ResourceType") == NESTED_STACK:
        return ""
    reason = {
        "VALIDATION_ERROR": event.get("ValidationStatusReason"),
        "HOOK_INVOCATION_ERROR": f"hook {event.get('HookType')} failed: "
        f"{event.get('HookStatusReason')}",
        "PROVISIONING_ERROR": event.get("ResourceStatusReason"),
    }.get(event.get("EventType", ""))
    path = (event.get("ValidationPath") or "").strip("/").replace("/", ".")
    kind = ", ".join(filter(None, [event.get("ResourceType"), path and f"property {path}"]))
    name, status = event.get("LogicalResourceId", ""), event.get("ResourceStatus", "")
    return str(Cause(0.0, name, kind, status, reason)) if reason else ""


def of_change_set(stack: StackClient, arn: str, reason: str) -> DeploymentError:
    """Return the error for a change set that failed; the reason can be a nested stack's.

    The root's own reason only says which one failed: github.com/aws/aws-sam-cli/issues/2406.
    """
    ref, within = stack.ref, ""
    with contextlib.suppress(*AWS_ERRORS):  # then the words so far have to do
        while (nested := _NESTED_CHANGE_SET.search(reason)) and nested[1] != arn:
            arn = nested[1]
            answer = stack.call("describe_change_set", ChangeSetName=arn)
            within = f"in the nested stack {answer['StackName']}: "
            reason = answer.get("StatusReason") or reason
    what = "; ".join(validations(stack, ChangeSetName=arn)) or stack.mask(reason)
    advice = f"Nothing was changed. Fix the cause, then run: {ref.command('plan')}"
    if within:
        advice += (
            "\nIf only the preview of nested stacks fails, leave it out: "
            f"{ref.command('plan', '--no-nested')}"
        )
    return DeploymentError(
        f"AWS refuses the change: {within}{what}",
        code=ErrorCode.CHANGE_SET_FAILED,
        where=str(ref),
        advice=advice,
    )


def of_operation(stack: StackClient, operation: Operation, status: str) -> DeploymentError:
    """Return the error for an operation that failed. Reads events once more: some come late."""
    with contextlib.suppress(*AWS_ERRORS):  # then the events so far have to do
        operation.take(read_events(stack, operation.stack_id, operation.seen))
    events = operation.events
    since = events[0].at if events else None
    cause = root_cause(stack, events, since)
    reasons = [str(cause)] if cause else []
    if events and (not cause or any(one.detail == "VALIDATION_FAILED" for one in events)):
        reasons = validations(stack, since, StackName=operation.stack_id) or reasons
    reasons = reasons or [_own_reason(events, status)]
    back = [
        index
        for index, one in enumerate(events)
        if one.is_root and "ROLLBACK_IN_PROGRESS" in one.status
    ]
    if status.endswith("ROLLBACK_FAILED") and back:
        again = root_cause(stack, events[back[0] :], events[back[0]].at)
        if again and str(again) not in reasons:
            reasons.append(f"then the rollback failed: {again}")
    return DeploymentError(
        "; ".join(reasons),
        where=str(stack.ref),
        status=status,
        advice=f"The stack is in {status}. {advice_for(status, stack.ref)}".rstrip(),
    )


def _own_reason(events: Sequence[Event], status: str) -> str:
    """Return the reason that the stack's own events give: a failure's, a rollback's, any other's.

    A deletion that an importer forbids ends in the state before, and that event has the reason:
    github.com/aws/aws-cdk/issues/604. The reason of a start ('User Initiated') is none.
    """
    own = [one for one in events if one.is_root and one.reason]
    failed = [one.reason for one in own if "FAILED" in one.status + one.detail]
    turned = [one.reason for one in own if "ROLLBACK" in one.status]
    others = [one.reason for one in reversed(own) if not state_of(one.status).is_start]
    return [*failed, *turned, *others, f"the stack is in {status}; AWS gives no reason"][0]
