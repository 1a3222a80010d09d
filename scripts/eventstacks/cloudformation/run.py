"""Work on many stacks at once: threads, order, results, and who is told about progress."""

from __future__ import annotations

import graphlib
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from eventstacks.aws import AWS_ERRORS, Aws, Cancelled, Clock
from eventstacks.cloudformation import failure, operation
from eventstacks.cloudformation.stack import StackClient
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from eventstacks.cloudformation.change_set import ChangeSet
    from eventstacks.environment import StackRef

Found = TypeVar("Found")
Item = TypeVar("Item")
THREADS = 16
# A Ctrl-C in the moment before a wait is noticed after this time.
INTERRUPT_POLL_SECONDS = 0.5
OK_OUTCOMES = ("created", "updated", "unchanged", "deleted", "recovered")


@dataclass
class Plan:
    """What a deployment would do to one stack."""

    ref: StackRef
    change_set: ChangeSet | None = None  # None with ``problem`` or ``waits_for``
    stack: Mapping[str, Any] | None = None  # DescribeStacks before the change
    values: Mapping[str, str] = field(default_factory=dict)
    waits_for: tuple[str, ...] = ()  # stacks of this run whose outputs it needs first
    resources: Mapping[str, str] = field(default_factory=dict)  # without change set: id → type
    settings: tuple[str, ...] = ()  # other changes: termination protection, stack policy
    policy_first: bool = False  # the new stack policy allows what the deployed one denies
    outputs: Mapping[str, str] = field(default_factory=dict)  # output → added, removed
    notes: tuple[str, ...] = ()  # worth knowing; nothing is done about it
    problem: ToolError | None = None

    @property
    def changes(self) -> bool:
        """Return True if there is anything to do."""
        has_change_set = self.change_set is not None and not self.change_set.unchanged
        return bool(self.waits_for or self.settings or has_change_set)

    def document(self) -> dict[str, Any]:
        """Return the plan for ``--json``."""
        made = self.change_set
        return {
            **self.ref.document(),
            "changes": self.changes,
            "type": made.kind if made else None,
            "resources": list(made.changes) if made else [],
            "waits_for": list(self.waits_for),
            "settings": list(self.settings),
            "outputs": dict(self.outputs),
            "notes": list(self.notes),
            "parameters": dict(made.parameters) if made else {},
            "error": self.problem.document() if self.problem else None,
        }


@dataclass
class Result:
    """How the work on one stack ended."""

    ref: StackRef
    outcome: str  # one of OK_OUTCOMES, or failed, skipped, interrupted, unknown
    seconds: float = 0.0
    status: str = ""  # the stack's status in CloudFormation
    outputs: dict[str, str] = field(default_factory=dict)
    problem: ToolError | None = None
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return True if what was asked for is done."""
        return self.outcome in OK_OUTCOMES

    def document(self) -> dict[str, Any]:
        """Return the result for ``--json``."""
        return {
            **self.ref.document(),
            "result": self.outcome,
            "status": self.status,
            "seconds": round(self.seconds, 2),
            "outputs": self.outputs,
            "warnings": list(self.warnings),
            "error": self.problem.document() if self.problem else None,
        }


@dataclass(frozen=True)
class Progress:
    """One event of an operation, and how far it is."""

    ref: StackRef
    event: operation.Event
    done: int
    total: int
    current: tuple[str, ...]  # logical ids in progress


class Listener:
    """Callbacks of a run. All but ``confirm`` are called from the threads that do the work."""

    def planned(self, plan: Plan) -> None:
        """Handle a finished plan."""

    def confirm(self, plans: Sequence[Plan]) -> bool:  # noqa: ARG002
        """Return True to execute these plans.

        Asked once, and again for what could not be shown before.
        """
        return True

    def started(self, ref: StackRef, total: int) -> None:
        """Handle the start of an operation with ``total`` resources."""

    def progressed(self, progress: Progress) -> None:
        """Handle an event."""

    def finished(self, result: Result) -> None:
        """Handle the end of the work on one stack."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the operations of ``refs`` continue in AWS."""

    def __init__(self, refs: Iterable[StackRef]) -> None:
        super().__init__()
        self.refs = sorted(refs, key=str)


def in_order(
    before: Mapping[Item, set[Item]], job: Callable[[Item], Found], clock: Clock
) -> dict[Item, Found]:
    """Run ``job(item)`` for every item after those before it, at most ``THREADS`` at a time.

    On Ctrl-C stops the clock, so that jobs end where they wait, lets them end, starts no more and
    raises KeyboardInterrupt. It is the job that reacts to the failure of one before it.
    """
    sorter = graphlib.TopologicalSorter(before)
    sorter.prepare()
    running: dict[Future[Found], Item] = {}
    done: dict[Item, Found] = {}
    with ThreadPoolExecutor(max_workers=max(1, min(THREADS, len(before)))) as pool:
        try:
            while sorter.is_active():
                running.update({pool.submit(job, item): item for item in sorter.get_ready()})
                finished, _ = wait(
                    running, timeout=INTERRUPT_POLL_SECONDS, return_when=FIRST_COMPLETED
                )
                for future in finished:
                    item = running.pop(future)
                    done[item] = future.result()
                    sorter.done(item)
        except BaseException:
            clock.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return done


def at_once(items: Collection[Item], job: Callable[[Item], Found], clock: Clock) -> list[Found]:
    """Run ``job`` for independent items; return the results in their order."""
    done = in_order({item: set() for item in items}, job, clock)
    return [done[item] for item in items]


@dataclass(frozen=True)
class Scope:
    """What a verb works on: stacks and their AWS, who is told about progress, and a clock."""

    aws: Aws
    refs: Sequence[StackRef]
    listener: Listener = field(default_factory=Listener)
    clock: Clock = field(default_factory=Clock)

    def clients(self, refs: Collection[StackRef] | None = None) -> list[StackClient]:
        """Return a client per stack. Raises ToolError for the wrong account."""
        self.aws.guard()
        return [
            StackClient(ref, self.aws.client("cloudformation", ref.region), self.clock)
            for ref in (self.refs if refs is None else refs)
        ]

    def for_each(
        self,
        job: Callable[[StackClient], Found],
        on_error: Callable[[StackRef, ToolError], Found],
        refs: Collection[StackRef] | None = None,
    ) -> list[Found]:
        """Run ``job`` for every stack at once; ``on_error`` makes a result of an error."""

        def attempt(stack: StackClient) -> Found:
            try:
                return job(stack)
            except (ToolError, *AWS_ERRORS) as error:
                return on_error(stack.ref, failure.wrap(error, stack.ref, stack.mask))

        return at_once(self.clients(refs), attempt, self.clock)


class Run:
    """Operations on many stacks: on one clock, with one listener and a result for each."""

    def __init__(self, scope: Scope, refs: Collection[StackRef] | None = None) -> None:
        self.stacks = {one.ref: one for one in scope.clients(refs)}
        self.clock, self.listener = scope.clock, scope.listener
        self.results: dict[StackRef, Result] = {}
        self.in_progress: set[StackRef] = set()  # started, and no end seen

    def work(
        self,
        job: Callable[[StackClient], Result],
        before: Mapping[StackRef, set[StackRef]] | None = None,
        skip_reason: str = "",
    ) -> list[Result]:
        """Run ``job`` for every stack after those before it; errors become results.

        If one before it failed, a stack is skipped for ``skip_reason``, in which {} stands for
        those. Raises Interrupted.
        """
        before = before or {ref: set() for ref in self.stacks}

        def attempt(ref: StackRef) -> Result:
            if self.clock.stopped:
                raise Cancelled
            if failed := sorted(str(one) for one in before[ref] if not self.results[one].ok):
                what, code = skip_reason.format(", ".join(failed)), ErrorCode.STACK_SKIPPED
                problem = failure.DeploymentError(what, code=code, where=str(ref))
                return Result(ref, "skipped", problem=problem)
            return job(self.stacks[ref])

        def run_one(ref: StackRef) -> None:
            (self.results[ref],) = self.attempt([ref], lambda: [attempt(ref)])

        try:
            in_order(before, run_one, self.clock)
        except KeyboardInterrupt:
            raise Interrupted(self.in_progress) from None
        return [self.results[ref] for ref in self.stacks]

    def start(self, ref: StackRef) -> None:
        """Count a stack as in progress; raise Cancelled if nothing may start any more.

        Called right before the call to AWS: Ctrl-C can come while a question is open.
        """
        if self.clock.stopped:
            raise Cancelled
        self.in_progress.add(ref)

    def attempt(self, refs: Collection[StackRef], job: Callable[[], list[Result]]) -> list[Result]:
        """Run ``job``, timed and reported; an error becomes a result for each of ``refs``.

        A stack stays in progress if its operation was left without knowing its end.
        """
        begun = self.clock.now()
        try:
            results = job()
        except Cancelled:
            results = [Result(ref, "interrupted") for ref in refs]
        except operation.LostSightError as error:
            results = [Result(ref, "unknown", problem=error) for ref in refs]
        except (ToolError, *AWS_ERRORS) as error:
            results, status = [], getattr(error, "status", "")
            for ref in refs:
                stack = self.stacks.get(ref)
                problem = failure.wrap(error, ref, stack.mask if stack else str)
                results.append(Result(ref, "failed", status=status, problem=problem))
        for result in results:
            if result.outcome not in ("interrupted", "unknown"):
                self.in_progress.discard(result.ref)
            result.seconds = self.clock.now() - begun
            self.listener.finished(result)
        return results

    def follow(self, stack: StackClient, running: operation.Operation, total: int = 0) -> str:
        """Follow an operation and report every event with the number of finished resources."""
        resources = dict[str, str]()  # logical id → status
        self.listener.started(stack.ref, total)

        def on_event(event: operation.Event) -> None:
            if not event.is_root:
                resources[event.logical_id] = event.status
            current = tuple(
                name for name, status in resources.items() if status.endswith("_IN_PROGRESS")
            )
            done, most = len(resources) - len(current), max(total, len(resources))
            self.listener.progressed(Progress(stack.ref, event, done, most, current))

        return operation.follow(stack, running, on_event)
