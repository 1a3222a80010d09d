"""A stack operation: started, and followed until it ends by one call per stack and tick."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks.aws import AWS_ERRORS, RETRY_LONG, error_code, error_message, is_login_error
from eventstacks.cloudformation import events
from eventstacks.cloudformation.stack import is_missing
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eventstacks.cloudformation.change_set import ChangeSet
    from eventstacks.cloudformation.events import Event
    from eventstacks.cloudformation.stack import Remote

TICK = 0.6  # seconds between two looks: the end is noticed after half of it on average
_FIRST_TICKS = (0.05, 0.1, 0.2, 0.4)  # some operations are over at once
_LOOKS = 18  # at a stack after its end, until DescribeStacks shows it: half a minute
_SILENCE = 20  # looks without any event of its own, after which the stack itself is looked at
_AT_REST = 2  # times that it was found in an end state then, one after the other, until that is taken for the end
_DOUBTS = 10  # times that DescribeStacks may contradict the events at the end
_BEGINNINGS = events.STARTS | {"UPDATE_ROLLBACK_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"}


class LostSightError(ToolError):
    """AWS could not be asked any more; what was started goes on there."""


@dataclass
class Operation:
    """Something that CloudFormation does to a stack. ``token`` is '' when somebody else has started it."""

    stack_id: str
    token: str
    seen: set[str]  # EventIds from before
    events: list[Event] = field(default_factory=list)  # its own, in order
    late: list[Event] = field(default_factory=list)  # not known yet whether they belong to it
    doubts: int = 0  # times that the stack contradicted the events at the end
    silent: int = 0  # looks since the last event of its own
    at_rest: int = 0  # times, one after the other, that the stack was found in an end state after a long silence
    stays: bool = False  # a failure is not rolled back: CREATE_FAILED and UPDATE_FAILED are ends
    deletes: bool = False  # a failure ends in deletion

    @property
    def started(self) -> Event | None:
        """The root event with which it begins, when that has been seen. An empty stack's deletion has but its end."""
        return next(
            (
                one
                for one in self.events
                if one.is_root and (one.status.endswith("_IN_PROGRESS") or one.token)
            ),
            None,
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
        first = (
            one
            for one in pending
            if one.is_root and one.token in (self.token, "") and one.status in _BEGINNINGS
        )
        begun = self.started or next(first, None)
        mine: list[Event] = []
        self.late = []
        for one in pending:
            belongs = not self.token or one.token == self.token or (begun and one.at >= begun.at)
            (mine if belongs else self.late).append(one)
        self.events = sorted([*self.events, *mine], key=lambda one: one.at)
        return mine

    @property
    def end(self) -> str:
        """The status with which it ended, or ''. A good one is sure; ``follow`` asks about the others."""
        begun, last = self.started, ""
        for one in self.events:
            if begun and one.is_root and one.at >= begun.at:
                stayed = self.stays and last in events.MAYBE_ENDS and one.status in events.STARTS
                if (last in events.ENDS or stayed) and one.token != self.token:
                    break  # somebody has started the next operation since
                last = one.status
        return last if last in events.ENDS | events.MAYBE_ENDS else ""


def is_under_way(stack: Mapping[str, Any] | None) -> bool:
    """Whether something is being done to a stack (DescribeStacks); one in review only waits."""
    status = stack["StackStatus"] if stack else ""
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def under_way(remote: Remote, stack_id: str) -> Operation:
    """The operation that runs on a stack, whoever has started it, with its events so far.

    It begins after the end of the one before it, with whatever it begins: a rollback that is continued has none of the
    events with which an update starts. What failed and stayed is such an end when something else is started next. When
    the last event is an end and the stack is at rest, it has ended meanwhile.
    """
    operation = Operation(stack_id, "", set())
    found = events.read(remote, stack_id, operation.seen)
    roots = [at for at, one in enumerate(found) if one.is_root]
    ends = [
        at
        for at, following in zip(roots, [*roots[1:], None], strict=True)
        if found[at].status in events.ENDS
        or (
            found[at].status in events.MAYBE_ENDS
            and following is not None
            and found[following].status in events.STARTS
            and found[following].token != found[at].token
        )
    ]
    if ends and ends[-1] == roots[-1] and not is_under_way(remote.stack(stack_id)):
        ends.pop()
    operation.events = found[ends[-1] + 1 :] if ends else found
    return operation


def mark(remote: Remote, stack_id: str) -> Operation:
    """An operation that is about to be started: the events from before it are known, and not taken for its own."""
    page = remote.call("describe_stack_events", StackName=stack_id)
    return Operation(
        stack_id, uuid.uuid4().hex, {one["EventId"] for one in page.get("StackEvents") or ()}
    )


def start(
    remote: Remote,
    method: str,
    stack_id: str,
    *,
    begin: Callable[[], None],
    is_started: Callable[[ClientError], bool] = lambda _: False,
    **arguments: Any,
) -> Operation:
    """Calls what starts an operation: the marker is taken first, and the call carries the operation's token.

    ``begin`` is called between the two, from when on the operation may be under way whatever happens.
    ``is_started`` tells the refusal of a call whose first answer was lost; any other is raised.
    """
    operation = mark(remote, stack_id)
    begin()
    try:
        remote.call(method, retry_for=RETRY_LONG, ClientRequestToken=operation.token, **arguments)
    except ClientError as error:
        if not is_started(error):
            raise
    return operation


def execute(
    remote: Remote, change_set: ChangeSet, arguments: Mapping[str, Any], begin: Callable[[], None]
) -> Operation:
    """Executes a change set, as ``start`` does. Raises ClientError with AWS's refusal."""

    def is_started(error: ClientError) -> bool:
        # The change set is known to this run alone: when it is being executed, this run's first call did it.
        return error_code(error) == "InvalidChangeSetStatus" and str(
            remote.call("describe_change_set", ChangeSetName=change_set.arn).get("ExecutionStatus")
        ).startswith("EXECUTE_")

    return start(
        remote,
        "execute_change_set",
        change_set.stack_id,
        begin=begin,
        is_started=is_started,
        ChangeSetName=change_set.arn,
        **arguments,
    )


def follow(
    remote: Remote, operation: Operation, heard: Callable[[Event], None] = lambda _: None
) -> str:
    """Waits for the end of an operation and gives the stack's status then.

    ``heard`` gets every event of the operation once. One DescribeStackEvents per tick: the stack's own event carries
    its status. A failed call is never the operation's failure: what passes is waited out for ten minutes.
    Raises LostSightError when AWS cannot be asked any more, Cancelled after Ctrl-C.
    """
    ticks = itertools.chain(_FIRST_TICKS, itertools.repeat(TICK))
    while True:
        try:
            mine = operation.take(
                events.read(remote, operation.stack_id, operation.seen, retry_for=RETRY_LONG)
            )
            operation.silent = 0 if mine else operation.silent + 1
            for one in mine:
                heard(one)
            if end := _ended(remote, operation):
                return end
        except AWS_ERRORS as error:
            if is_missing(error):  # deleted, and forgotten already
                return "DELETE_COMPLETE"
            raise _lost(remote, operation, error) from None
        remote.clock.sleep(next(ticks))


def _ended(remote: Remote, operation: Operation) -> str:
    """The end of an operation, or ''. When it seems to have ended badly, the stack is asked, too."""
    end = operation.end
    if end in events.GOOD_ENDS | {"DELETE_COMPLETE"}:
        return end
    if not end and (operation.started or not operation.silent or operation.silent % _SILENCE):
        return ""
    stack = remote.stack(operation.stack_id, retry_for=RETRY_LONG) or {
        "StackStatus": "DELETE_COMPLETE"
    }
    now = stack["StackStatus"]
    if not end:
        return _rested(operation, now)
    operation.doubts += (
        now != "DELETE_IN_PROGRESS"
    )  # else it may be an answer from before: not for ever
    sure = now == end and (end in events.ENDS or operation.stays or stack.get("DisableRollback"))
    if operation.deletes and not end.startswith("DELETE"):
        sure = False  # between the rollback and the deletion
    return end if sure or operation.doubts > _DOUBTS else ""


def _rested(operation: Operation, now: str) -> str:
    """The stack's status ``now`` as the end of an operation whose beginning no event has told, or ''.

    The deletion of an empty stack may go without an event. A call that adds nothing to what somebody else has started
    (a second deletion, a cancellation) is accepted, and its token is in no event; nor, it may be, in the one that says
    that an export is in use.
    """
    if now == "DELETE_COMPLETE":
        return now
    operation.at_rest = 0 if now.endswith("_IN_PROGRESS") else operation.at_rest + 1
    if operation.at_rest < _AT_REST:
        return ""
    operation.token = ""  # whoever asks why now takes whatever has come since the marker
    return now


def _lost(remote: Remote, operation: Operation, error: Exception) -> LostSightError:
    login = is_login_error(error)
    why = (
        "the credentials have expired" if login else f"AWS cannot be asked: {error_message(error)}"
    )
    seen = (
        f"last seen in {operation.status}" if operation.status else "not seen since it was started"
    )
    return LostSightError(
        f"{why}. The operation goes on in AWS without being watched ({seen})",
        where=str(remote.ref),
        advice=("Log in again, then: " if login else "") + remote.ref.command("follow"),
    )


def unseen(remote: Remote, status: str) -> LostSightError:
    """The error for an operation that AWS has accepted, and of which nothing was seen: the end may be another's."""
    return LostSightError(
        f"AWS has accepted it, and no event tells of it; the stack is in {status}",
        where=str(remote.ref),
        advice=f"Whether it was done: {remote.ref.command('plan')}",
    )


def settle(
    remote: Remote, stack_id: str, status: str, before: Mapping[str, Any] | None = None
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
            found = remote.stack(stack_id) or {}
        except AWS_ERRORS:
            break
        is_new = (
            old is None
            or found.get("LastUpdatedTime") != old.get("LastUpdatedTime")
            or attempt > _LOOKS // 2
        )
        if found.get("StackStatus") == status and is_new:
            break
        remote.clock.sleep(min(0.2 * 1.5**attempt, 2.0))
    return found
