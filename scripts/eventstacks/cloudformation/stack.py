"""One stack: the client with retries and pages, and the states of stacks.

Sources: CloudFormation User Guide, 'Stack status codes'; API Reference of ContinueUpdateRollback,
RollbackStack and DeleteStack.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from eventstacks.aws import RETRY_SHORT, Clock, call, error_code, error_message
from eventstacks.environment import StackRef

MASK = "****"  # as AWS masks the value of a NoEcho parameter
_SHORT = 4  # characters; a shorter secret is masked only where it is a word of its own


def is_missing(error: Exception) -> bool:
    """Return True if AWS answers that the stack does not exist.

    There are two wordings: 'Stack with id X does not exist' (DescribeStacks) and
    'Stack [X] does not exist' (DescribeStackEvents).
    """
    return error_code(error) == "ValidationError" and "does not exist" in error_message(error)


@dataclass(frozen=True, eq=False)
class StackClient:
    """One stack, the client of its Region, and the clock that retries and waits go by."""

    ref: StackRef
    client: Any
    clock: Clock
    secrets: set[str] = field(default_factory=set)  # values of NoEcho parameters

    def mask(self, text: str) -> str:
        """Replace the values of NoEcho parameters, in plain form and as they are in JSON."""
        for value in sorted(filter(None, self.secrets), key=len, reverse=True):
            for form in {value, json.dumps(value)[1:-1]}:
                pattern = re.escape(form)
                text = re.sub(pattern if len(form) >= _SHORT else rf"\b{pattern}\b", MASK, text)
        return text

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of the client with retries (``aws.call``); accepts ``retry_for``."""
        return call(getattr(self.client, method), clock=self.clock, **arguments)

    def pages(self, method: str, first: Any = None, **arguments: Any) -> Iterator[Any]:
        """Yield all pages of an answer, each with retries; ``first``: if that is known already.

        Not by botocore's paginators: they cannot go on after a page that failed.
        """
        page = first or self.call(method, **arguments)
        yield page
        while token := page.get("NextToken"):
            page = self.call(method, NextToken=token, **arguments)
            yield page

    def items(self, method: str, key: str, **arguments: Any) -> Iterator[Any]:
        """Yield the entries of a list that is answered in pages."""
        for page in self.pages(method, **arguments):
            yield from page.get(key) or ()

    def describe(
        self, stack_id: str = "", *, retry_for: float = RETRY_SHORT
    ) -> dict[str, Any] | None:
        """Return DescribeStacks of an ARN, by default of the stack's name.

        None if it is missing.
        """
        name = stack_id or self.ref.stack_name
        try:
            return dict(
                self.call("describe_stacks", retry_for=retry_for, StackName=name)["Stacks"][0]
            )
        except ClientError as error:
            if not is_missing(error):
                raise
        return None

    def newest_root_event(
        self, stack_id: str = "", *, retry_for: float = RETRY_SHORT
    ) -> dict[str, Any] | None:
        """Return the stack's own newest event, or None if there is no such stack.

        Events are written when something happens; DescribeStacks can answer with what was true
        some seconds ago.
        """
        name = {"StackName": stack_id or self.ref.stack_name, "retry_for": retry_for}
        try:
            events = self.items("describe_stack_events", "StackEvents", **name)
            return next((e for e in events if e.get("PhysicalResourceId") == e["StackId"]), None)
        except ClientError as error:
            if not is_missing(error):
                raise
        return None


# --- states ----------------------------------------------------------------------------------

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
    accepts_change_sets: bool = False
    recovery: tuple[str, str] = ("", "")  # what `recover` does: a method of the API, in words
    advice: str = ""


def _good(outcome: str) -> State:
    return State(is_end=True, outcome=outcome, accepts_change_sets=True)


_DELETE = "delete_stack"
STATES = {
    "CREATE_IN_PROGRESS": State(is_start=True),
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
    "UPDATE_IN_PROGRESS": State(is_start=True),
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
        advice="Fix the cause, then run: {delete}\nOr delete it and keep a resource: {retain}\n"
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


def state_of(status: str) -> State:
    """Return the state of that name; an unknown one is neither an end nor fit for anything."""
    return STATES.get(status, State())


def is_in_progress(status: str) -> bool:
    """Return True if an operation is in progress; a stack in review only waits."""
    return status.endswith("_IN_PROGRESS") and status != IN_REVIEW


def advice_for(status: str, ref: StackRef) -> str:
    """Return what to do about a stack in this state, with commands to type, or ''."""
    if is_in_progress(status):
        return f"An operation is in progress. Watch it: {ref.command('follow')}"
    return state_of(status).advice.format(
        deploy=ref.command("deploy"),
        onward=ref.command("deploy", "--disable-rollback"),
        recover=ref.command("recover"),
        skip=ref.command("recover", "--skip", "LogicalId"),
        delete=ref.command("delete"),
        retain=ref.command("recover", "--retain", "LogicalId"),
        force=ref.command("recover", "--force"),
    )
