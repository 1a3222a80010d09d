"""A stack operation: started, and followed until it ends by one call per stack and tick."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from scripts.cloudformation import calls, events
from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scripts.cloudformation.calls import Clock
    from scripts.cloudformation.change_set import ChangeSet
    from scripts.cloudformation.events import Event
    from scripts.cloudformation.place import Place

TICK = 0.6  # seconds between two looks: the end is noticed after half of it on average
_LOOKS = 18  # at a stack after its end, until DescribeStacks shows it: half a minute
_SILENCE = 20  # looks without any event, after which the stack itself is looked at
_DOUBTS = 10  # times that DescribeStacks may contradict the events at the end
_FIRST_TICKS = (0.05, 0.1, 0.2, 0.4)  # some operations are over at once


class LostSightError(ToolError):
    """AWS could not be asked any more; what was started goes on there."""


class StartError(Exception):
    """AWS refuses an operation; ``cause`` says why."""

    def __init__(self, operation: Operation, cause: ClientError) -> None:
        super().__init__(str(cause))
        self.operation, self.cause = operation, cause


@dataclass
class Operation:
    """Something that CloudFormation does to a stack. ``token`` is '' when somebody else has started it."""

    stack_id: str
    token: str
    seen: set[str]  # EventIds from before
    events: list[Event] = field(default_factory=list)  # its own, in order
    late: list[Event] = field(default_factory=list)  # not known yet whether they belong to it
    doubts: int = 0  # times that the stack contradicted the events at the end
    stays: bool = False  # a failure is not rolled back: CREATE_FAILED and UPDATE_FAILED are ends
    deletes: bool = False  # a failure ends in deletion

    @property
    def started(self) -> Event | None:
        """The root event with which it begins, when that has been seen. An empty stack's deletion has but its end."""
        return next(
            (one for one in self.events if one.is_root and (one.status.endswith("_IN_PROGRESS") or one.token)), None
        )

    @property
    def status(self) -> str:
        """The latest status of the stack itself, or ''."""
        return next((one.status for one in reversed(self.events) if one.is_root), "")

    def take(self, fresh: list[Event]) -> list[Event]:
        """Sorts new events in; gives those that belong to this operation.

        Its own carry its token, or none; those of a rollback or a cancellation may carry another one, but come later
        than its start. What is left over belongs to an operation before it, and has come late.
        """
        pending = sorted([*self.late, *fresh], key=lambda one: one.at)
        begun = self.started
        if begun is None and self.token:
            starts = events.STARTS | {"UPDATE_ROLLBACK_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"}
            mine = [one for one in pending if one.is_root and one.token in (self.token, "")]
            begun = next((one for one in mine if one.status in starts), None)
        mine, self.late = [], []
        for one in pending:
            belongs = not self.token or one.token == self.token or (begun is not None and one.at >= begun.at)
            (mine if belongs else self.late).append(one)
        self.events = sorted([*self.events, *mine], key=lambda one: one.at)
        return mine

    @property
    def end(self) -> str:
        """The status with which it ended, or ''. A good one is sure; ``follow`` asks about the others."""
        begun, last = self.started, ""
        for one in self.events if begun else ():
            if one.is_root and begun and one.at >= begun.at:
                if last in events.ENDS and one.token != self.token:
                    break  # somebody has started the next operation since
                last = one.status
        return last if last in events.ENDS | events.MAYBE_ENDS else ""


def is_under_way(status: str) -> bool:
    """Whether something is being done to a stack in this status; a stack in review only waits."""
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def mark(client: Any, stack_id: str, clock: Clock) -> Operation:
    """An operation that is about to be started: the events from before it are known, and not taken for its own."""
    seen: set[str] = set()
    page = calls.call(client.describe_stack_events, clock=clock, StackName=stack_id)
    seen.update(one["EventId"] for one in page.get("StackEvents") or ())
    return Operation(stack_id, uuid.uuid4().hex, seen)


def under_way(client: Any, stack_id: str, clock: Clock) -> Operation:
    """The operation that runs on a stack, whoever has started it, with its events so far."""
    operation = Operation(stack_id, "", set())
    found = events.read(client, stack_id, operation.seen, clock=clock)
    begins = [at for at, one in enumerate(found) if one.is_root and one.status in events.STARTS]
    operation.events = found[begins[-1]:] if begins else found  # fmt: skip
    return operation


def execute(client: Any, change_set: ChangeSet, arguments: Mapping[str, Any], clock: Clock) -> Operation:
    """Executes a change set. The marker is taken first; a lost answer does not execute it twice."""
    try:
        return start(
            client, client.execute_change_set, change_set.stack_id, clock, ChangeSetName=change_set.arn, **arguments
        )
    except StartError as error:
        # The change set is known to this run alone: when it is being executed, this run's first call did it.
        if calls.code(error.cause) != "InvalidChangeSetStatus" or not _executed(client, change_set, clock):
            raise error.cause from None
        return error.operation


def start(client: Any, method: Callable[..., Any], stack_id: str, clock: Clock, **arguments: Any) -> Operation:
    """Calls what starts an operation: the marker is taken first, and the call carries the operation's token.

    Raises StartError with AWS's refusal.
    """
    operation = mark(client, stack_id, clock)
    try:
        calls.call(method, clock=clock, patience=calls.LONG, ClientRequestToken=operation.token, **arguments)
    except ClientError as error:
        raise StartError(operation, error) from error
    return operation


def _executed(client: Any, change_set: ChangeSet, clock: Clock) -> bool:
    found = calls.call(client.describe_change_set, clock=clock, ChangeSetName=change_set.arn)
    return str(found.get("ExecutionStatus", "")).startswith("EXECUTE_")


def follow(
    client: Any, operation: Operation, place: Place, clock: Clock, heard: Callable[[Event], None] = lambda _: None,
) -> str:  # fmt: skip
    """Waits for the end of an operation and gives the stack's status then.

    ``heard`` gets every event of the operation once. One DescribeStackEvents per tick: the stack's own event carries
    its status. A failed call is never the operation's failure: what passes is waited out for ten minutes.
    Raises LostSightError when AWS cannot be asked any more, Stopped after Ctrl-C.
    """
    ticks = itertools.chain(_FIRST_TICKS, itertools.repeat(TICK))
    for look in itertools.count(1):
        try:
            fresh = events.read(client, operation.stack_id, operation.seen, clock=clock, patience=calls.LONG)
            for one in operation.take(fresh):
                heard(one)
            if end := _ended(client, operation, look, clock):
                return end
        except calls.TROUBLE as error:
            if calls.is_missing(error):  # deleted, and forgotten already
                return "DELETE_COMPLETE"
            raise lost(operation, place, error) from None
        clock.sleep(next(ticks))
    raise AssertionError  # itertools.count() does not end


def _ended(client: Any, operation: Operation, look: int, clock: Clock) -> str:
    """The end of an operation, or ''. When it seems to have ended badly, the stack is asked, too."""
    end = operation.end
    if end in events.GOOD_ENDS | {"DELETE_COMPLETE"}:
        return end
    if not end and (operation.events or look % _SILENCE):
        return ""
    stack = calls.find_stack(client, operation.stack_id, clock=clock, patience=calls.LONG)
    now = stack["StackStatus"] if stack else "DELETE_COMPLETE"
    if not end:  # the deletion of an empty stack may go without an event
        return now if now == "DELETE_COMPLETE" else ""
    operation.doubts += now != "DELETE_IN_PROGRESS"  # else it may be an answer from before: not for ever
    sure = now == end and (end in events.ENDS or operation.stays or (stack or {}).get("DisableRollback"))
    if operation.deletes and not end.startswith("DELETE"):
        sure = False  # between the rollback and the deletion
    return end if sure or operation.doubts > _DOUBTS else ""


def lost(operation: Operation, place: Place, error: Exception) -> LostSightError:
    """What is said when an operation goes on unwatched."""
    why = "the credentials have expired" if calls.is_login(error) else f"AWS cannot be asked: {calls.message(error)}"
    seen = f"last seen in {operation.status}" if operation.status else "not seen since it was started"
    return LostSightError(
        f"{why}. The operation goes on in AWS without being watched ({seen})", where=str(place),
        advice=("Log in again, then: " if calls.is_login(error) else "") + place.command("follow"),
    )  # fmt: skip


def settle(
    client: Any, operation: Operation, status: str, before: Mapping[str, Any] | None, clock: Clock
) -> dict[str, Any]:
    """DescribeStacks after an operation's end, once it shows that end; it is eventually consistent.

    It may still show the state before (REVIEW_IN_PROGRESS even): the status must be the event's, and the update's time
    another than in ``before``. Gives the last answer after some seconds, or {} when there is none: an operation that
    has ended well is not reported as failed for it.
    """
    old = before if before and before["StackStatus"] != "REVIEW_IN_PROGRESS" else None
    found: dict[str, Any] = {}
    for attempt in range(_LOOKS):
        try:
            found = calls.find_stack(client, operation.stack_id, clock=clock) or {}
        except calls.TROUBLE:
            return found
        is_new = old is None or found.get("LastUpdatedTime") != old.get("LastUpdatedTime") or attempt > _LOOKS // 2
        if found.get("StackStatus") == status and is_new:
            break
        clock.sleep(min(0.2 * 1.5**attempt, 2.0))
    return found
