"""The way out of a state in which a stack is stuck: proposed first, done when wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scripts.cloudformation import calls, events, failure, operation, results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.aws import Aws
    from scripts.cloudformation.calls import Clock
    from scripts.cloudformation.place import Place


@dataclass(frozen=True)
class Step:
    """What to do about one stack: a method of the client, or '' when there is nothing to do; ``words`` say it."""

    place: Place
    stack_id: str
    method: str
    words: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def propose(  # noqa: PLR0911 - a state, an answer
    aws: Aws, place: Place, *, clock: Clock, skip: Sequence[str] = (), retain: Sequence[str] = (), force: bool = False,
    cancel: bool = False,
) -> Step:  # fmt: skip
    """The step that leads out of the stack's state. Changes nothing.

    ``skip``: logical ids that a rollback leaves as they are (UPDATE_ROLLBACK_FAILED). ``retain``: logical ids that a
    deletion keeps; ``force``: it keeps whatever it cannot delete (DELETE_FAILED). ``cancel``: end what is under way.
    Raises DeploymentError when more must be said first.
    Source: API reference of ContinueUpdateRollback, RollbackStack, CancelUpdateStack, DeleteStack.
    """
    client = aws.client("cloudformation", place.region)
    stack = calls.find_stack(client, place.stack_name, clock=clock)
    if stack is None:
        return Step(place, "", "", "is not deployed; there is nothing to recover")
    status, stack_id = stack["StackStatus"], stack["StackId"]
    if status == "UPDATE_ROLLBACK_FAILED":
        if root := stack.get("RootId"):
            raise failure.DeploymentError(f"a nested stack is recovered from its root stack, {root}", where=str(place))
        left = f", leaving {', '.join(skip)} as it is" if skip else ""
        return Step(place, stack_id, "continue_update_rollback", f"is stuck halfway back: continue the rollback{left}",
                    {"ResourcesToSkip": list(skip)} if skip else {})  # fmt: skip
    if status == "UPDATE_FAILED":
        return Step(
            place, stack_id, "rollback_stack", "is left as its update failed: roll it back to what it was before"
        )
    if status == "DELETE_FAILED":
        if not retain and not force:
            stuck = _stuck(client, stack_id)
            listed = ", ".join(f"{name} ({reason})" for name, reason in stuck.items())
            raise failure.DeploymentError(
                f"say what may stay: {listed or 'AWS does not say what could not be deleted'}",
                where=str(place), status=status,
                advice=place.command("recover", " ".join(f"--retain {name}" for name in stuck) or "--force"),
            )  # fmt: skip
        how = {"RetainResources": list(retain)} if retain else {"DeletionMode": "FORCE_DELETE_STACK"}
        kept = ", ".join(retain) or "whatever cannot be deleted"
        return Step(place, stack_id, "delete_stack", f"could not be deleted: delete it, keeping {kept}", how)
    reasons = {
        "REVIEW_IN_PROGRESS": "is empty, no change set was ever executed: delete it",
        "ROLLBACK_COMPLETE": "could not be created and nothing of it is left but its name: delete it",
        "ROLLBACK_FAILED": "could not be created, and not all of it could be removed: delete it",
        "CREATE_FAILED": "is left as its creation failed: delete it, with all that was made",
    }
    if status in reasons or (cancel and status == "CREATE_IN_PROGRESS"):
        return Step(place, stack_id, "delete_stack", reasons.get(status, "is being created: stop, and delete it"))
    if cancel and status == "UPDATE_IN_PROGRESS":
        return Step(place, stack_id, "cancel_update_stack", "is being updated: stop, and roll it back")
    if status.endswith("_IN_PROGRESS"):
        cannot = " and cannot be stopped now" if cancel else ""
        return Step(place, stack_id, "", f"is in {status}{cannot}. {failure.advice(status, place)}")
    return Step(place, stack_id, "", f"is in {status}; there is nothing to recover")


def _stuck(client: Any, stack_id: str) -> dict[str, str]:
    """Logical id → why, for the resources that could not be deleted."""
    return {
        one["LogicalResourceId"]: one.get("ResourceStatusReason", "")
        for page in client.get_paginator("list_stack_resources").paginate(StackName=stack_id)
        for one in page["StackResourceSummaries"] if one["ResourceStatus"] == "DELETE_FAILED"
    }  # fmt: skip


def carry_out(aws: Aws, step: Step, *, clock: Clock, listener: results.Listener) -> results.Result:
    """Does what ``propose`` said and follows it. A failure stands in the result; Ctrl-C raises KeyboardInterrupt."""
    client = aws.client("cloudformation", step.place.region)
    method = getattr(client, step.method)

    def work() -> results.Result:
        running = operation.start(client, method, step.stack_id, clock, StackName=step.stack_id, **step.arguments)
        return finish(client, running, step.place, clock, listener)

    try:
        return results.attempt(step.place, work, {}, clock=clock, listener=listener)
    except KeyboardInterrupt:
        raise results.Interrupted([step.place]) from None


_OUTCOMES = {"DELETE_COMPLETE": "deleted", "CREATE_COMPLETE": "created", "UPDATE_COMPLETE": "updated",
             "IMPORT_COMPLETE": "updated", "UPDATE_ROLLBACK_COMPLETE": "recovered"}  # fmt: skip


def finish(
    client: Any, running: operation.Operation, place: Place, clock: Clock, listener: results.Listener
) -> results.Result:
    """Follows an operation that is under way and says how it ended. Raises DeploymentError when badly.

    That it rolls back is well when that was its purpose, and a failure when it began as an update.
    """
    status = operation.follow(client, running, place, clock, results.Tracker(place, 0, listener))
    rolled_back = running.started is not None and running.started.status in events.STARTS and "ROLLBACK" in status
    if status not in _OUTCOMES or rolled_back:
        raise failure.of_operation(client, running, status, place, clock)
    return results.Result(place, _OUTCOMES[status], status=status)
