"""The way out of a state in which a stack is stuck, and the following of what somebody else has started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eventstacks.aws import Clock
from eventstacks.cloudformation import events, failure, operation, schedule
from eventstacks.cloudformation.results import Listener, Result, Run
from eventstacks.cloudformation.stack import Remote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef


@dataclass(frozen=True, eq=False)
class Step:
    """What to do about one stack: a method of the client, or '' when there is nothing to do; ``words`` say it."""

    remote: Remote
    stack_id: str
    method: str
    words: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ref(self) -> StackRef:
        """Whose step it is."""
        return self.remote.ref


# Status, and what is done about it when it takes no more words than that.
_STEPS = {
    "UPDATE_FAILED": (
        "rollback_stack",
        "is left as its update failed: roll it back to what it was before",
    ),
    "REVIEW_IN_PROGRESS": ("delete_stack", "is empty, no change set was ever executed: delete it"),
    "ROLLBACK_COMPLETE": (
        "delete_stack",
        "could not be created and nothing of it is left but its name: delete it",
    ),
    "ROLLBACK_FAILED": (
        "delete_stack",
        "could not be created, and not all of it could be removed: delete it",
    ),
    "CREATE_FAILED": (
        "delete_stack",
        "is left as its creation failed: delete it, with all that was made",
    ),
}
_CANCELLATIONS = {
    "CREATE_IN_PROGRESS": ("delete_stack", "is being created: stop, and delete it"),
    "UPDATE_IN_PROGRESS": ("cancel_update_stack", "is being updated: stop, and roll it back"),
}


def propose(
    remote: Remote,
    *,
    skip: Sequence[str] = (),
    retain: Sequence[str] = (),
    force: bool = False,
    cancel: bool = False,
) -> Step:
    """The step that leads out of the stack's state. Changes nothing.

    ``skip``: logical ids that a rollback leaves as they are (UPDATE_ROLLBACK_FAILED). ``retain``: logical ids that a
    deletion keeps; ``force``: it keeps whatever it cannot delete (DELETE_FAILED). ``cancel``: end what is under way.
    Raises DeploymentError when more must be said first, and when the step could not keep what it is told to keep.
    Source: API reference of ContinueUpdateRollback, RollbackStack, CancelUpdateStack, DeleteStack.
    """
    ref, stack = remote.ref, remote.stack()
    if stack is None:
        return Step(remote, "", "", "is not deployed; there is nothing to recover")
    status, stack_id = stack["StackStatus"], stack["StackId"]
    arguments: dict[str, Any] = {}
    if status == "UPDATE_ROLLBACK_FAILED":
        if root := stack.get("RootId"):
            raise failure.DeploymentError(
                f"a nested stack is recovered from its root stack, {root}", where=str(ref)
            )
        arguments = {"ResourcesToSkip": list(skip)} if skip else {}
        left = f", leaving {', '.join(skip)} as it is" if skip else ""
        method, words = (
            "continue_update_rollback",
            f"is stuck halfway back: continue the rollback{left}",
        )
    elif status == "DELETE_FAILED":
        if not retain and not force:
            stuck = _stuck(remote, stack_id)
            listed = ", ".join(f"{name} ({reason})" for name, reason in stuck.items())
            raise failure.DeploymentError(
                f"say what may stay: {listed or 'AWS does not say what could not be deleted'}",
                where=str(ref),
                status=status,
                advice=ref.command(
                    "recover",
                    *([word for name in stuck for word in ("--retain", name)] or ["--force"]),
                ),
            )
        arguments = (
            {"RetainResources": list(retain)} if retain else {"DeletionMode": "FORCE_DELETE_STACK"}
        )
        method, kept = "delete_stack", ", ".join(retain) or "whatever cannot be deleted"
        words = f"could not be deleted: delete it, keeping {kept}"
    elif operation.is_under_way(stack):
        cannot = f"is in {status}{' and cannot be stopped now' if cancel else ''}. {failure.advice(status, ref)}"
        method, words = (_CANCELLATIONS if cancel else {}).get(status, ("", cannot))
    else:
        method, words = _STEPS.get(status, ("", f"is in {status}; there is nothing to recover"))
    if method and (retain or force) and status != "DELETE_FAILED":
        raise failure.keeping_nothing("recover", status, ref)
    if method and skip and status != "UPDATE_ROLLBACK_FAILED":
        raise failure.DeploymentError(
            f"not touched: the stack is in {status}, and --skip is for one in UPDATE_ROLLBACK_FAILED",
            where=str(ref),
            status=status,
            advice=f"Without it: {ref.command('recover')}",
        )
    return Step(remote, stack_id, method, words, arguments)


def _stuck(remote: Remote, stack_id: str) -> dict[str, str]:
    """Logical id → why, for the resources that could not be deleted."""
    return {
        one["LogicalResourceId"]: one.get("ResourceStatusReason", "")
        for page in remote.pages("list_stack_resources", StackName=stack_id)
        for one in page["StackResourceSummaries"]
        if one["ResourceStatus"] == "DELETE_FAILED"
    }


def carry_out(steps: Sequence[Step], clock: Clock, listener: Listener) -> list[Result]:
    """Does what ``propose`` said, at once, and follows it; a failure stands in its result. Raises Interrupted."""
    run, found = (
        Run((step.remote for step in steps), clock, listener),
        {step.remote: step for step in steps},
    )

    def start(remote: Remote) -> operation.Operation:
        step = found[remote]
        return operation.start(
            remote,
            step.method,
            step.stack_id,
            begin=lambda: run.start(remote.ref),
            StackName=step.stack_id,
            **step.arguments,
        )

    return run.in_order(lambda remote: _finish(run, remote, start))


def follow(
    aws: Aws,
    refs: Sequence[StackRef],
    *,
    listener: Listener | None = None,
    clock: Clock | None = None,
) -> list[Result]:
    """Follows the operations that are under way; gives a result for each, [] when there are none.

    Raises aws.AccountError, and Interrupted after Ctrl-C.
    """
    time = clock or Clock()
    remotes = schedule.remotes(aws, refs, time)
    stacks = dict(zip(remotes, schedule.at_once(remotes, Remote.stack, time), strict=True))
    moving = {
        remote: stack["StackId"]
        for remote, stack in stacks.items()
        if stack and operation.is_under_way(stack)
    }
    run = Run(moving, time, listener)

    def start(remote: Remote) -> operation.Operation:
        run.start(remote.ref)
        return operation.under_way(remote, moving[remote])

    return run.in_order(lambda remote: _finish(run, remote, start))


_OUTCOMES = {
    "DELETE_COMPLETE": "deleted",
    "CREATE_COMPLETE": "created",
    "UPDATE_COMPLETE": "updated",
    "IMPORT_COMPLETE": "updated",
    "UPDATE_ROLLBACK_COMPLETE": "recovered",
}


def _finish(run: Run, remote: Remote, start: Callable[[Remote], operation.Operation]) -> Result:
    """Follows an operation to its end and says how that is. Raises DeploymentError when it ended badly.

    That it rolls back is well when that was its purpose, and a failure when it began as an update.
    """
    running = start(remote)
    status = run.follow(remote, running)
    rolled_back = (
        running.started is not None
        and running.started.status in events.STARTS
        and "ROLLBACK" in status
    )
    if status not in _OUTCOMES or rolled_back:
        raise failure.of_operation(remote, running, status)
    return Result(remote.ref, _OUTCOMES[status], status=status)
