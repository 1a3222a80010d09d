"""Recover stacks from failed states, and follow operations that somebody else started."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from eventstacks.cloudformation import failure, operation, states
from eventstacks.cloudformation.run import Result, Run, Scope
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eventstacks.cloudformation.stack import StackClient
    from eventstacks.environment import StackRef


@dataclass(frozen=True)
class Step:
    """What to do about one stack: a method of the API, or '' if there is nothing to do."""

    ref: StackRef
    method: str = ""
    description: str = ""  # continues the sentence that begins with the stack
    stack_id: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: ToolError | None = None


def propose(
    scope: Scope,
    *,
    skip: Sequence[str] = (),
    retain: Sequence[str] = (),
    force: bool = False,
    cancel: bool = False,
) -> list[Step]:
    """Return the step that leads each stack out of its state. Changes nothing.

    ``skip``: logical ids that a rollback leaves as they are (UPDATE_ROLLBACK_FAILED). ``retain``:
    logical ids that a deletion keeps, ``force``: it keeps what cannot be deleted (DELETE_FAILED).
    ``cancel``: stop the operation in progress. A step has a ``problem`` if more has to be given, or
    if it could not keep what it is told to keep. Raises ToolError for the wrong account.
    """

    def job(stack: StackClient) -> Step:
        return _propose(stack, skip, retain, force=force, cancel=cancel)

    return scope.for_each(job, lambda ref, error: Step(ref, problem=error))


def _propose(
    stack: StackClient, skip: Sequence[str], retain: Sequence[str], *, force: bool, cancel: bool
) -> Step:
    ref, held = stack.ref, stack.describe()
    if held is None:
        return Step(ref, description="is not deployed: there is nothing to recover")
    status, stack_id = held["StackStatus"], held["StackId"]
    state = states.of(status)
    cancels = cancel and states.in_progress(status)
    method, description = state.cancellation if cancels else state.recovery
    if not method:
        return Step(ref, description=_nothing_to_do(status, ref, cancel=cancel))
    if (retain or force) and status != "DELETE_FAILED":
        raise failure.cannot_retain("recover", status, ref)
    if skip and status != "UPDATE_ROLLBACK_FAILED":
        raise failure.refused(
            f"not changed: the stack is in {status}; --skip needs one in UPDATE_ROLLBACK_FAILED",
            status,
            ref,
            f"Without it: {ref.command('recover')}",
        )
    step = Step(ref, method, description, stack_id)
    if status == "UPDATE_ROLLBACK_FAILED":
        if root := held.get("RootId"):
            what = f"a nested stack is recovered through its root stack {root}"
            raise failure.DeploymentError(what, code=ErrorCode.STACK_STUCK, where=str(ref))
        if skip:
            text = f"{description}, leaving {', '.join(skip)} as it is"
            return replace(step, description=text, arguments={"ResourcesToSkip": list(skip)})
    if status == "DELETE_FAILED":
        return _delete_again(stack, step, retain, force=force)
    return step


def _nothing_to_do(status: str, ref: StackRef, *, cancel: bool) -> str:
    moving = states.in_progress(status)
    what = " and cannot be stopped now" if cancel and moving else ""
    what = what if moving else ": there is nothing to recover"
    advice = "" if states.of(status).is_sound else states.advice(status, ref)
    return f"is in {status}{what}. {advice}".rstrip(". ")


def _delete_again(stack: StackClient, step: Step, retain: Sequence[str], *, force: bool) -> Step:
    if retain:
        text = f"{step.description}, keeping {', '.join(retain)}"
        return replace(step, description=text, arguments={"RetainResources": list(retain)})
    if force:
        text = f"{step.description}, keeping what cannot be deleted"
        return replace(step, description=text, arguments={"DeletionMode": "FORCE_DELETE_STACK"})
    resources = stack.items(
        "list_stack_resources", "StackResourceSummaries", StackName=step.stack_id
    )
    stuck = {
        one["LogicalResourceId"]: one.get("ResourceStatusReason", "")
        for one in resources
        if one["ResourceStatus"] == "DELETE_FAILED"
    }
    listed = ", ".join(f"{name} ({reason})" for name, reason in stuck.items())
    options = [word for name in stuck for word in ("--retain", name)] or ["--force"]
    raise failure.refused(
        f"could not be deleted: {listed or 'AWS does not name the resource'}",
        "DELETE_FAILED",
        step.ref,
        f"To delete the stack and keep these: {step.ref.command('recover', *options)}",
    )


def recover(scope: Scope, steps: Sequence[Step]) -> list[Result]:
    """Carry out steps, all at once, and follow them. Raises Interrupted."""
    by_ref = {step.ref: step for step in steps if step.method or step.problem}
    run = Run(scope, by_ref.keys())

    def start(stack: StackClient) -> operation.Operation:
        step = by_ref[stack.ref]
        if step.problem:
            raise step.problem
        return operation.start(
            stack,
            step.method,
            step.stack_id,
            on_start=lambda: run.start(stack.ref),
            StackName=step.stack_id,
            **step.arguments,
        )

    return run.work(lambda stack: _finish(run, stack, start))


def follow(scope: Scope) -> list[Result]:
    """Follow the operations in progress; return a result for each, [] without any.

    A stack that cannot be read has a failed result. Raises ToolError for the wrong account, and Interrupted.
    """

    def describe(stack: StackClient) -> tuple[StackRef, Any]:
        return stack.ref, stack.describe() or {"StackStatus": states.DELETED}

    held = dict(scope.for_each(describe, lambda ref, error: (ref, error)))
    moving = {
        ref: found
        for ref, found in held.items()
        if isinstance(found, ToolError) or states.in_progress(found["StackStatus"])
    }
    run = Run(scope, moving.keys())

    def start(stack: StackClient) -> operation.Operation:
        found = moving[stack.ref]
        if isinstance(found, ToolError):
            raise found
        run.start(stack.ref)
        return operation.in_progress(stack, found)

    return run.work(lambda stack: _finish(run, stack, start))


def _finish(
    run: Run, stack: StackClient, start: Callable[[StackClient], operation.Operation]
) -> Result:
    """Follow an operation to its end. Raises DeploymentError if it failed.

    A rollback is a success if it was the purpose, and a failure if the operation began otherwise.
    """
    running = start(stack)
    status = run.follow(stack, running)
    begun = running.started
    rolled_back = begun and states.of(begun.status).is_start and "ROLLBACK" in status
    outcome = states.of(status).outcome
    if rolled_back or not outcome:
        raise failure.of_operation(stack, running, status)
    return Result(stack.ref, outcome, status=status)
