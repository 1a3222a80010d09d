"""What is to be done, how it goes and how it ends, for one stack in one region, and who wants to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eventstacks.aws import AWS_ERRORS, Cancelled
from eventstacks.cloudformation import failure, operation, schedule
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from eventstacks.aws import Clock
    from eventstacks.cloudformation.change_set import ChangeSet
    from eventstacks.cloudformation.events import Event
    from eventstacks.cloudformation.stack import Remote
    from eventstacks.environment import StackRef


@dataclass
class Plan:
    """What a deployment would do to one stack in one region."""

    ref: StackRef
    change_set: ChangeSet | None = None  # None: ``problem``, or ``waits_for``
    stack: Mapping[str, Any] | None = None  # DescribeStacks before the change
    values: Mapping[str, str] = field(default_factory=dict)
    waits_for: tuple[
        str, ...
    ] = ()  # outputs of stacks that this run deploys first; the change set is made then
    resources: Mapping[str, str] = field(
        default_factory=dict
    )  # of a plan that waits: logical id → type, all new
    settings: tuple[
        str, ...
    ] = ()  # what changes beside the change set: termination protection, stack policy
    notes: tuple[str, ...] = ()  # what is to be known, and nothing is done about
    problem: ToolError | None = None

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(
            self.waits_for or self.settings or (self.change_set and not self.change_set.unchanged)
        )

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        made = self.change_set
        return {
            **self.ref.document(),
            "changes": self.changes,
            "type": made.kind if made else None,
            "resources": list(made.changes) if made else [],
            "waitsFor": list(self.waits_for),
            "settings": list(self.settings),
            "notes": list(self.notes),
            "parameters": dict(made.parameters) if made else {},
            "drift": made.drift if made else "",
            "error": str(self.problem) if self.problem else None,
        }


@dataclass
class Result:
    """How it ended for one stack in one region."""

    ref: StackRef
    outcome: str  # created updated unchanged deleted recovered · failed skipped interrupted unknown
    seconds: float = 0.0
    status: str = ""  # the stack's status in CloudFormation
    outputs: dict[str, str] = field(default_factory=dict)
    problem: ToolError | None = None
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether what was asked for is so now."""
        return self.outcome in ("created", "updated", "unchanged", "deleted", "recovered")

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            **self.ref.document(),
            "result": self.outcome,
            "status": self.status,
            "seconds": round(self.seconds, 2),
            "outputs": self.outputs,
            "warnings": list(self.warnings),
            "error": str(self.problem) if self.problem else None,
        }


@dataclass(frozen=True)
class Progress:
    """One event of an operation, and how far it is."""

    ref: StackRef
    event: Event
    done: int
    total: int
    current: tuple[str, ...]  # logical ids in progress


class Listener:
    """What wants to know how it goes. All but ``confirm`` are called from the threads that do the work."""

    def planned(self, plan: Plan) -> None:
        """A plan is made."""

    def confirm(self, plans: Sequence[Plan]) -> bool:  # noqa: ARG002
        """Whether these plans are to be carried out; asked once, and again for what could not be shown before."""
        return True

    def started(self, ref: StackRef, total: int) -> None:
        """An operation with ``total`` resources is under way."""

    def progressed(self, progress: Progress) -> None:
        """An event has come in."""

    def finished(self, result: Result) -> None:
        """It has ended for one stack in one region."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while operations are under way: ``refs`` go on in AWS."""

    def __init__(self, refs: Iterable[StackRef]) -> None:
        super().__init__()
        self.refs = sorted(refs, key=str)


class Run:
    """Work on many stacks that needs time: on one clock, told to one listener, with a result for each."""

    def __init__(
        self, remotes: Iterable[Remote], clock: Clock, listener: Listener | None = None
    ) -> None:
        self.remotes = {one.ref: one for one in remotes}
        self.clock, self.listener = clock, listener or Listener()
        self.results: dict[StackRef, Result] = {}
        self.under_way: set[StackRef] = set()  # started, and no end seen

    def in_order(
        self,
        work: Callable[[Remote], Result],
        before: Mapping[StackRef, set[StackRef]] | None = None,
        why: str = "",
    ) -> list[Result]:
        """``work`` for every stack, after those before it; what goes wrong becomes its result.

        When one of those before it failed it is skipped: ``why`` says it, {} being those. Raises Interrupted.
        """
        before = before or {ref: set() for ref in self.remotes}

        def job(ref: StackRef) -> None:

            def attempt() -> Result:
                if self.clock.stopped:
                    raise Cancelled
                if failed := sorted(str(one) for one in before[ref] if not self.results[one].ok):
                    problem = failure.DeploymentError(why.format(", ".join(failed)), where=str(ref))
                    return Result(ref, "skipped", problem=problem)
                return work(self.remotes[ref])

            (self.results[ref],) = self.attempt([ref], lambda: [attempt()])

        try:
            schedule.run(before, job, self.clock)
        except KeyboardInterrupt:
            raise Interrupted(self.under_way) from None
        return [self.results[ref] for ref in self.remotes]

    def start(self, ref: StackRef) -> None:
        """Counts ``ref`` to what is under way; raises Cancelled when nothing is to be started any more.

        Called last of all before AWS is: Ctrl-C may have come while a question was open, or a bucket was emptied.
        """
        if self.clock.stopped:
            raise Cancelled
        self.under_way.add(ref)

    def attempt(self, refs: Collection[StackRef], work: Callable[[], list[Result]]) -> list[Result]:
        """``work()``, timed and told; what goes wrong becomes a result for each of ``refs``.

        They leave ``under_way`` unless it ended without knowing how the operation did.
        """
        begun = self.clock.now()
        try:
            results = work()
        except Cancelled:
            results = [Result(ref, "interrupted") for ref in refs]
        except operation.LostSightError as error:
            results = [Result(ref, "unknown", problem=error) for ref in refs]
        except (ToolError, *AWS_ERRORS) as error:
            status = getattr(error, "status", "")
            results = []
            for ref in refs:
                remote = self.remotes.get(ref)
                problem = failure.wrap(error, ref, remote.mask if remote else str)
                results.append(Result(ref, "failed", status=status, problem=problem))
        for result in results:
            if result.outcome not in ("interrupted", "unknown"):
                self.under_way.discard(result.ref)
            result.seconds = self.clock.now() - begun
            self.listener.finished(result)
        return results

    def follow(self, remote: Remote, running: operation.Operation, total: int = 0) -> str:
        """``operation.follow``, with the listener told of every event and how many of ``total`` resources are done."""
        ref, states = remote.ref, dict[str, str]()
        self.listener.started(ref, total)

        def heard(event: Event) -> None:
            if not event.is_root:
                states[event.logical_id] = event.status
            current = tuple(
                name for name, status in states.items() if status.endswith("_IN_PROGRESS")
            )
            done, most = len(states) - len(current), max(total, len(states))
            self.listener.progressed(Progress(ref, event, done, most, current))

        return operation.follow(remote, running, heard)
