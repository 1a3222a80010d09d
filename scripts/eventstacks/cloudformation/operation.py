"""A stack operation: start it, follow it by its events, notice its end.

DescribeStackEvents alone is polled, once per tick: the stack's own events carry its status.
"""

import contextlib
import itertools
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from botocore.exceptions import ClientError

from eventstacks.aws import AWS_ERRORS, RETRY_LONG, RETRY_SHORT, error_message, is_login_error
from eventstacks.cloudformation.stack import (
    DELETED,
    IN_REVIEW,
    ROLLBACK_STARTS,
    StackClient,
    is_in_progress,
    is_missing,
    state_of,
)
from eventstacks.errors import ErrorCode, ToolError

NESTED_STACK = "AWS::CloudFormation::Stack"
TICK = 0.5  # seconds between two polls, as in the SAM CLI: half of it until the end is noticed
_FIRST_TICKS = (0.05, 0.1, 0.2, 0.4)  # some operations end at once
# Seconds without a new event after which the stack itself is looked at, and after which its state
# counts although no event shows it. Both are assumptions: longer than events and DescribeStacks
# lag.
_LOOK_AFTER, _QUIET = 10.0, 30.0
_VISIBLE_WITHIN = 15.0  # seconds for DescribeStacks to show the end of an operation


class LostSightError(ToolError):
    """AWS cannot be asked any more; the operation continues there."""

    default_code = ErrorCode.OUTCOME_UNKNOWN


@dataclass(frozen=True)
class Event:
    """One stack event."""

    at: datetime
    logical_id: str
    physical_id: str
    type: str
    status: str
    is_root: bool = False  # of the stack itself
    reason: str = ""
    token: str = ""  # ClientRequestToken of the operation
    hook_failure: str = ""  # what a hook reports that failed
    detail: str = ""  # DetailedStatus: VALIDATION_FAILED …

    @classmethod
    def of(cls, raw: Mapping[str, Any], mask: Callable[[str], str] = str) -> Self:
        """Read an entry of DescribeStackEvents; ``mask`` is applied to AWS's reasons."""
        kind, physical_id = raw.get("ResourceType", ""), raw.get("PhysicalResourceId", "")
        reason, failure = raw.get("ResourceStatusReason") or "", ""
        if str(raw.get("HookStatus")).endswith("FAILED"):
            failure = f"hook {raw.get('HookType')} failed: {raw.get('HookStatusReason') or reason}"
        return cls(
            raw["Timestamp"],
            raw.get("LogicalResourceId", ""),
            physical_id,
            kind,
            raw.get("ResourceStatus", ""),
            # The events of a nested stack have its type too, and no physical id if it failed early.
            is_root=kind == NESTED_STACK and physical_id == raw["StackId"],
            reason=mask(reason),
            token=raw.get("ClientRequestToken", ""),
            hook_failure=mask(failure),
            detail=raw.get("DetailedStatus", ""),
        )


def read_events(
    stack: StackClient, stack_id: str, seen: set[str], *, retry_for: float = RETRY_SHORT
) -> list[Event]:
    """Return the events that are not in ``seen``, oldest first, and add them to it.

    Reads pages until one has an event seen before, and that page to its end: the order is not
    certain.
    """
    fresh: dict[str, Event] = {}
    for page in stack.pages("describe_stack_events", StackName=stack_id, retry_for=retry_for):
        raw = page.get("StackEvents") or ()
        new = [one for one in raw if one["EventId"] not in seen]
        fresh |= {one["EventId"]: Event.of(one, stack.mask) for one in new}
        if len(new) < len(raw):
            break
    seen.update(fresh)
    # Events of one moment keep the order in which they were written: AWS lists the newest first.
    return sorted(reversed(fresh.values()), key=lambda one: one.at)  # noqa: C414 - stable


@dataclass
class Operation:
    """Something that CloudFormation does to a stack.

    ``token`` is '' if somebody else started it.
    """

    stack_id: str
    token: str
    seen: set[str]  # EventIds from before
    rollback_disabled: bool = False  # CREATE_FAILED and UPDATE_FAILED are ends
    events: list[Event] = field(default_factory=list)  # its own, in order
    unmatched_events: list[Event] = field(default_factory=list)  # perhaps of an earlier operation

    @property
    def started(self) -> Event | None:
        """Return the stack's event with which the operation began, once it was seen."""
        roots = (one for one in self.events if one.is_root)
        return next(
            (one for one in roots if one.status.endswith("_IN_PROGRESS") or one.token), None
        )

    def take(self, fresh: list[Event]) -> list[Event]:
        """Sort in new events; return those that belong to this operation.

        Its events have its token or none. Those of a rollback or a cancellation can have another
        token, but come after its start. Nothing follows the deletion of a stack.
        """
        pending = sorted([*self.unmatched_events, *fresh], key=lambda one: one.at)
        starts = (
            one
            for one in pending
            if one.is_root
            and one.token in (self.token, "")
            and (state_of(one.status).is_start or one.status in ROLLBACK_STARTS)
        )
        start = self.started or next(starts, None)
        mine: list[Event] = []
        self.unmatched_events = []
        for one in pending:
            is_mine = (
                self.token in ("", one.token)
                or (start and one.at >= start.at)
                or (one.is_root and one.status == DELETED)
            )
            (mine if is_mine else self.unmatched_events).append(one)
        self.events = sorted([*self.events, *mine], key=lambda one: one.at)
        return mine

    @property
    def end(self) -> str:
        """Return the status with which it ended, or '' as long as that is not certain."""
        start, stays = self.started, self.rollback_disabled
        ends = (
            one.status
            for one in self.events
            if one.is_root
            and (one.status == DELETED or (start and one.at >= start.at))
            and (state := state_of(one.status)).is_end
            and (stays or not state.keeps_failure)
        )
        return next(ends, "")


def in_progress(stack: StackClient, description: Mapping[str, Any]) -> Operation:
    """Return the operation that runs on a stack (DescribeStacks), with its events so far.

    It begins with a start, or after the end of the one before it: a continued rollback has none of
    the events with which an update starts. If the last event is an end and the stack is at rest,
    the operation has ended meanwhile.
    """
    stack_id = description["StackId"]
    operation = Operation(stack_id, "", set(), bool(description.get("DisableRollback")))
    events = read_events(stack, stack_id, operation.seen)
    begins = [0]
    for index, one in enumerate(events):
        state = state_of(one.status if one.is_root else "")
        if state.is_start:
            begins.append(index)
        elif state.is_end and not state.keeps_failure:
            begins.append(index + 1)
    if begins[-1] == len(events):
        now = stack.describe(stack_id) or {"StackStatus": DELETED}
        if not is_in_progress(now["StackStatus"]):
            begins.pop()
    operation.events = events[begins[-1] :]
    return operation


def start(
    stack: StackClient,
    method: str,
    stack_id: str,
    *,
    on_start: Callable[[], None],
    is_started: Callable[[ClientError], bool] = lambda _: False,
    **arguments: Any,
) -> Operation:
    """Call a method that starts an operation; the call carries the operation's token.

    ``on_start`` is called just before: from then on the operation can be in progress.
    ``is_started`` recognises the refusal of a retry whose first answer was lost.
    """
    page = stack.call("describe_stack_events", StackName=stack_id)
    before = {one["EventId"] for one in page.get("StackEvents") or ()}
    operation = Operation(stack_id, uuid.uuid4().hex, before)
    on_start()
    try:
        stack.call(method, retry_for=RETRY_LONG, ClientRequestToken=operation.token, **arguments)
    except ClientError as error:
        if not is_started(error):
            raise
    return operation


def follow(
    stack: StackClient, operation: Operation, on_event: Callable[[Event], None] = lambda _: None
) -> str:
    """Wait for the end of an operation; return the stack's status then.

    ``on_event`` gets every event of the operation once. A failed call never counts as a failed
    operation: transient errors are retried for ten minutes. Raises LostSightError if AWS cannot be
    asked any more, and Cancelled after Ctrl-C.
    """
    clock = stack.clock
    last_event = next_look = clock.now()
    next_look += _LOOK_AFTER
    for tick in itertools.chain(_FIRST_TICKS, itertools.repeat(TICK)):
        try:
            fresh = read_events(stack, operation.stack_id, operation.seen, retry_for=RETRY_LONG)
            for event in operation.take(fresh):
                on_event(event)
            if end := operation.end:
                return end
            if fresh:
                last_event, next_look = clock.now(), clock.now() + _LOOK_AFTER
            elif clock.now() >= next_look:
                next_look += _LOOK_AFTER
                if end := _end_without_event(stack, operation, clock.now() - last_event):
                    return end
        except AWS_ERRORS as error:
            if is_missing(error):  # deleted, and its events with it
                return DELETED
            raise _lost_sight(stack, operation, error) from None
        clock.sleep(tick)
    raise AssertionError  # the ticks do not end


def _end_without_event(stack: StackClient, operation: Operation, quiet: float) -> str:
    """Return the stack's status as the end if no event shows it, or ''.

    This one rule covers late, missing and foreign events: after ``_QUIET`` seconds without a new
    event the stack's own state counts, if nothing is in progress. So end operations whose token is
    in no event (a second deletion, a cancellation, a deletion that AWS refuses for an export in
    use) and failures of which it is not known whether they are rolled back.
    """
    now = (stack.describe(operation.stack_id, retry_for=RETRY_LONG) or {}).get("StackStatus", "")
    if now == DELETED:
        return DELETED
    if quiet < _QUIET or not now or is_in_progress(now):
        return ""
    if not operation.started:
        operation.token = ""  # the cause is then looked for in all events since the marker
    return str(now)


def _lost_sight(stack: StackClient, operation: Operation, error: Exception) -> LostSightError:
    login = is_login_error(error)
    why = "the credentials have expired" if login else error_message(error)
    roots = [one.status for one in operation.events if one.is_root]
    seen = f"last seen in {roots[-1]}" if roots else "not seen since its start"
    return LostSightError(
        f"AWS cannot be reached: {why}. The operation continues in AWS ({seen})",
        where=str(stack.ref),
        advice=("Log in again, then: " if login else "") + stack.ref.command("follow"),
    )


def wait_until_visible(
    stack: StackClient, stack_id: str, status: str, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return DescribeStacks once it shows an operation's end; it is eventually consistent.

    The status must be the event's, and the update's time another than in ``before``. Returns the
    last answer after some seconds, or {} without one: a finished operation is not failed for it.
    """
    old, begun, found = before or {}, stack.clock.now(), dict[str, Any]()
    is_update = old.get("StackStatus", IN_REVIEW) != IN_REVIEW
    while stack.clock.now() - begun < _VISIBLE_WITHIN:
        with contextlib.suppress(*AWS_ERRORS):
            found = stack.describe(stack_id) or {}
        is_new = not is_update or found.get("LastUpdatedTime") != old.get("LastUpdatedTime")
        if found.get("StackStatus") == status and is_new:
            break
        stack.clock.sleep(TICK)
    return found
