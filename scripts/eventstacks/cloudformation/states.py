"""The states of a stack: what each means for an operation, for a deployment and for recovery.

Sources: CloudFormation User Guide, 'Stack status codes'; API Reference of ContinueUpdateRollback,
RollbackStack, CancelUpdateStack and DeleteStack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventstacks.environment import StackRef

NOT_DEPLOYED = "NOT_DEPLOYED"  # this project's word for a stack that does not exist
IN_REVIEW = "REVIEW_IN_PROGRESS"  # created by a change set that was never executed
DELETED = "DELETE_COMPLETE"


@dataclass(frozen=True)
class State:
    """What is true of a stack in one state. Whole names are compared, never parts of them."""

    is_end: bool = False  # an operation can end in it
    is_start: bool = False  # an operation begins with it
    keeps_failure: bool = False  # an end only if the failure is not rolled back
    outcome: str = ""  # what an operation has achieved that ends in it; '' is a failure
    is_sound: bool = False  # nothing to advise on
    accepts_change_sets: bool = False
    # What `recover` does: a method of the API, and its description. The second pair is for --cancel.
    recovery: tuple[str, str] = ("", "")
    cancellation: tuple[str, str] = ("", "")
    advice: str = ""


def _good(outcome: str) -> State:
    return State(is_end=True, outcome=outcome, is_sound=True, accepts_change_sets=True)


_DELETE = "delete_stack"
STATES = {
    "CREATE_IN_PROGRESS": State(
        is_start=True, cancellation=(_DELETE, "is being created: stop and delete it")
    ),
    "CREATE_COMPLETE": _good("created"),
    "CREATE_FAILED": State(
        is_end=True,
        keeps_failure=True,
        accepts_change_sets=True,
        recovery=(
            _DELETE,
            "failed to create and was not rolled back: delete it with its resources",
        ),
        advice="The resources that were created still exist. Fix the cause and run: {onward}\n"
        "Or delete the stack: {recover}",
    ),
    "ROLLBACK_COMPLETE": State(
        is_end=True,
        recovery=(_DELETE, "failed to create and is empty: delete it"),
        advice="Its first creation failed, and CloudFormation only allows deleting it.\n"
        "Delete it: {recover}\nThen create it again: {deploy}",
    ),
    "ROLLBACK_FAILED": State(
        is_end=True,
        recovery=(_DELETE, "failed to create, and not all resources were removed: delete it"),
        advice="Some resources could not be removed after its creation failed.\n"
        "Delete the stack: {recover}",
    ),
    IN_REVIEW: State(
        accepts_change_sets=True,
        recovery=(_DELETE, "is empty, its change set was never executed: delete it"),
        advice="The stack is empty: its change set was never executed.\n"
        "Continue: {deploy}\nOr delete it: {recover}",
    ),
    "UPDATE_IN_PROGRESS": State(
        is_start=True, cancellation=("cancel_update_stack", "is being updated: stop and roll back")
    ),
    "UPDATE_COMPLETE": _good("updated"),
    "UPDATE_FAILED": State(
        is_end=True,
        keeps_failure=True,
        accepts_change_sets=True,
        recovery=("rollback_stack", "failed to update and was not rolled back: roll it back"),
        advice="The changes that succeeded are still in place. Fix the cause and run: {onward}\n"
        "Or roll the stack back: {recover}",
    ),
    "UPDATE_ROLLBACK_COMPLETE": State(
        is_end=True,
        outcome="recovered",
        accepts_change_sets=True,
        advice="The stack is as it was before. Fix the cause, then run: {deploy}",
    ),
    "UPDATE_ROLLBACK_FAILED": State(
        is_end=True,
        recovery=("continue_update_rollback", "failed to roll back: continue the rollback"),
        advice="The rollback failed. Fix the resources AWS names, then run: {recover}\n"
        "Leave a resource as it is: {skip}",
    ),
    "DELETE_IN_PROGRESS": State(is_start=True),
    DELETED: State(
        is_end=True,
        outcome="deleted",
        accepts_change_sets=True,
        advice="The stack was deleted. Fix the cause, then run: {deploy}",
    ),
    "DELETE_FAILED": State(
        is_end=True,
        recovery=(_DELETE, "failed to delete: delete it"),
        advice="Delete it and keep a resource: {retain}\n"
        "Or keep every resource that cannot be deleted: {force}",
    ),
    "IMPORT_IN_PROGRESS": State(is_start=True),
    "IMPORT_COMPLETE": _good("updated"),
    "IMPORT_ROLLBACK_COMPLETE": State(
        is_end=True, accepts_change_sets=True, advice="The stack is as it was before the import."
    ),
    # That AWS accepts a change set here is an assumption: no page of its documentation says so.
    "IMPORT_ROLLBACK_FAILED": State(
        is_end=True,
        accepts_change_sets=True,
        advice="The rollback of an import failed. Fix the resources AWS names, then run: {deploy}\n"
        "If AWS refuses that, only AWS Support can help.",
    ),
}
# Operations that start with a rollback: a continued one, a cancellation, RollbackStack.
ROLLBACK_STARTS = ("UPDATE_ROLLBACK_IN_PROGRESS", "ROLLBACK_IN_PROGRESS")


def of(status: str) -> State:
    """Return the state of that name; an unknown one is neither an end nor fit for anything."""
    return STATES.get(status, State())


def in_progress(status: str) -> bool:
    """Return True if an operation is in progress; a stack in review only waits."""
    return status.endswith("_IN_PROGRESS") and status != IN_REVIEW


def advice(status: str, ref: StackRef) -> str:
    """Return what to do about a stack in this state, with commands to type, or ''."""
    if in_progress(status):
        return f"An operation is in progress. Watch it: {ref.command('follow')}"
    return of(status).advice.format(
        deploy=ref.command("deploy"),
        onward=ref.command("deploy", "--disable-rollback"),
        recover=ref.command("recover"),
        skip=ref.command("recover", "--skip", "LogicalId"),
        retain=ref.command("recover", "--retain", "LogicalId"),
        force=ref.command("recover", "--force"),
    )
