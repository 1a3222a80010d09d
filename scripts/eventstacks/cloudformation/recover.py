"""Recover stacks from a failed state, and follow operations that are in progress."""

from collections.abc import Mapping, Sequence
from typing import Any

from eventstacks.cloudformation import failure, operation
from eventstacks.cloudformation.run import Report, Result, Scope, Step
from eventstacks.cloudformation.stack import (
    NOT_DEPLOYED,
    StackClient,
    is_in_progress,
    state_of,
)


def propose(
    scope: Scope, *, skip: Sequence[str] = (), retain: Sequence[str] = (), force: bool = False
) -> list[Step]:
    """Return the step that leads each stack out of its state. Changes nothing.

    ``skip``: logical ids that a rollback leaves as they are (UPDATE_ROLLBACK_FAILED).
    ``retain``: logical ids that a deletion keeps, ``force``: it keeps what cannot be deleted
    (DELETE_FAILED).
    """
    given: dict[str, dict[str, Any]] = {
        "UPDATE_ROLLBACK_FAILED": {"ResourcesToSkip": list(skip)} if skip else {},
        "DELETE_FAILED": {"RetainResources": list(retain)} if retain else {},
    }
    if force:
        given["DELETE_FAILED"] = {"DeletionMode": "FORCE_DELETE_STACK"}
    return scope.for_each(lambda stack: _propose(stack, given), Step)


def recover(scope: Scope, steps: Sequence[Step]) -> list[Result]:
    """Carry out the steps that ``propose`` returns, all at once, and follow them."""

    def job(stack: StackClient, step: Step) -> Result:
        # The step can be minutes old, and somebody else can have deployed the stack since.
        newest = stack.newest_root_event(step.stack_id)
        if newest and (status := newest["ResourceStatus"]) != step.status:
            raise failure.refused(f"not changed: the stack is in {status} now", status, stack.ref)
        running = operation.start(
            stack,
            step.method,
            step.stack_id,
            on_start=lambda: scope.start(stack.ref),
            StackName=step.stack_id,
            **step.arguments,
        )
        return _finish(scope, stack, running)

    return scope.work([step for step in steps if step.method or step.problem], job)


def follow(scope: Scope) -> list[Result]:
    """Follow the operations in progress; return a result for each, [] without any."""

    def job(stack: StackClient, _: Report) -> Result:
        held = stack.describe() or {}
        if not is_in_progress(held.get("StackStatus", "")):
            return Result(stack.ref, "unchanged")
        scope.start(stack.ref)
        return _finish(scope, stack, operation.in_progress(stack, held))

    results = scope.work([Report(ref) for ref in scope.refs], job)
    return [one for one in results if one.outcome != "unchanged"]


def _propose(stack: StackClient, given: Mapping[str, dict[str, Any]]) -> Step:
    """Return the step for one stack, if it needs one.

    ``given``: state → arguments that are for this state only.

    Raises DeploymentError if more has to be given, or something was given for another state: a
    deletion that could not keep a resource must not start.
    """
    ref, held = stack.ref, stack.describe() or {"StackStatus": NOT_DEPLOYED}
    status = held["StackStatus"]
    (method, description), arguments = state_of(status).recovery, given.get(status, {})
    if not method:
        return Step(ref)
    if unfit := [needed for needed, one in given.items() if one and needed != status]:
        raise failure.refused(
            f"not changed: the stack is in {status}; the options are for {unfit[0]}",
            status,
            ref,
            f"Without them: {ref.command('recover')}",
        )
    if status == "DELETE_FAILED" and not arguments:
        raise _stuck(stack, held["StackId"])
    words = [f"{name}: {value}" for name, value in arguments.items()]
    text = ", ".join([description, *words])
    return Step(ref, method, text, held["StackId"], arguments, status)


def _stuck(stack: StackClient, stack_id: str) -> failure.DeploymentError:
    """Return the error for a failed deletion for which --retain or --force is missing."""
    resources = stack.items("list_stack_resources", "StackResourceSummaries", StackName=stack_id)
    stuck = {
        one["LogicalResourceId"]: one.get("ResourceStatusReason", "")
        for one in resources
        if one["ResourceStatus"] == "DELETE_FAILED"
    }
    listed = ", ".join(f"{name} ({reason})" for name, reason in stuck.items())
    options = [word for name in stuck for word in ("--retain", name)] or ["--force"]
    return failure.refused(
        f"could not be deleted: {listed or 'AWS does not name the resource'}",
        "DELETE_FAILED",
        stack.ref,
        f"To delete the stack and keep these: {stack.ref.command('recover', *options)}",
    )


def _finish(scope: Scope, stack: StackClient, running: operation.Operation) -> Result:
    """Follow an operation to its end. Raises DeploymentError if it failed.

    A rollback is a success if it was the purpose, and a failure if the operation began otherwise.
    """
    status = scope.follow_operation(stack, running)
    begun = running.started
    rolled_back = begun and state_of(begun.status).is_start and "ROLLBACK" in status
    outcome = state_of(status).outcome
    if rolled_back or not outcome:
        raise failure.of_operation(stack, running, status)
    return Result(stack.ref, outcome, status=status)
