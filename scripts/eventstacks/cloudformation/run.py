"""Work on many stacks at once: threads, order, results, and callbacks for progress."""

import functools
import graphlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from eventstacks.aws import AWS_ERRORS, Aws, Cancelled, Clock
from eventstacks.cloudformation import failure, operation
from eventstacks.cloudformation.change_set import ChangeSet
from eventstacks.cloudformation.stack import StackClient
from eventstacks.environment import StackRef
from eventstacks.errors import ErrorCode, ToolError

Item = TypeVar("Item")
THREADS = 16
# A Ctrl-C in the moment before a wait is noticed after this time.
INTERRUPT_POLL_SECONDS = 0.5
OK_OUTCOMES = ("created", "updated", "unchanged", "deleted", "recovered")


@dataclass
class Report:
    """What was found, planned or done about one stack, or the problem that prevented it."""

    ref: StackRef
    problem: ToolError | None = field(default=None, kw_only=True)

    def document(self) -> dict[str, Any]:
        """Return the report for ``--json``."""
        own = {name: value for name, value in vars(self).items() if name not in ("ref", "problem")}
        error = self.problem.document() if self.problem else None
        return {**self.ref.document(), **own, "error": error}


AnyReport = TypeVar("AnyReport", bound=Report)
Task = TypeVar("Task", bound=Report)


@dataclass
class Plan(Report):
    """What a deployment would do to one stack."""

    change_set: ChangeSet | None = None  # None if nothing changes, with ``problem``, ``waits_for``
    stack: Mapping[str, Any] | None = None  # DescribeStacks before the change
    values: Mapping[str, str | None] = field(default_factory=dict)
    waits_for: tuple[str, ...] = ()  # stacks of this run whose outputs it needs first
    settings: tuple[str, ...] = ()  # of the stack that would be set
    outputs: Mapping[str, str] = field(default_factory=dict)  # output → added, removed
    losses: tuple[tuple[str, str, str], ...] = ()  # name, type, what would be lost

    @property
    def changes(self) -> bool:
        """Return True if there is anything to do."""
        return bool(self.waits_for or self.settings or self.change_set)

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
            "parameters": dict(made.parameters) if made else {},
            "error": self.problem.document() if self.problem else None,
        }


@dataclass
class Result(Report):
    """How the work on one stack ended."""

    outcome: str  # one of OK_OUTCOMES, or failed, skipped, interrupted, unknown
    seconds: float = 0.0
    status: str = ""  # the stack's status in CloudFormation
    outputs: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Return True if what was asked for is done."""
        return self.outcome in OK_OUTCOMES


@dataclass
class Preview(Report):
    """What deleting one stack would do; ``stack`` is None if it does not exist."""

    stack: Mapping[str, Any] | None = None
    deleted: Mapping[str, str] = field(default_factory=dict)  # logical id → type
    retained: Mapping[str, str] = field(default_factory=dict)  # logical id → physical id
    snapshots: tuple[str, ...] = ()  # logical ids of which a snapshot is kept
    full_buckets: tuple[str, ...] = ()
    importers: Mapping[str, Sequence[str]] = field(default_factory=dict)  # export → stacks
    # output → deployed stacks of the environment that use it (!Output) and are not deleted too
    consumers: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass
class Status(Report):
    """What is deployed of one stack."""

    status: str = "UNKNOWN"  # CloudFormation's, or NOT_DEPLOYED
    changed: datetime | None = None
    drift: str = ""  # DRIFTED, IN_SYNC, or '' if it was not looked for
    protected: bool = False
    advice: str = ""  # '' if all is well
    outputs: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Drift(Report):
    """What drift detection found for one stack: IN_SYNC, DRIFTED, UNKNOWN or NOT_DEPLOYED."""

    status: str = "UNKNOWN"
    resources: tuple[dict[str, Any], ...] = ()  # MODIFIED or DELETED: StackResourceDrift


@dataclass
class Step(Report):
    """What leads one stack out of its state.

    A method of the API, or '' if there is nothing to do.
    """

    method: str = ""
    description: str = ""  # continues the sentence that begins with the stack
    stack_id: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    status: str = ""  # the state that it is for


class Listener:
    """Callbacks of a run. All but ``confirm`` are called from the threads that do the work."""

    def confirm(self, plans: Sequence[Plan]) -> None:
        """Raise ToolError (DECLINED) to not execute these plans.

        Called once, and again for what could not be shown before.
        """

    def progressed(self, ref: StackRef, total: int, event: operation.Event) -> None:
        """Handle an event of an operation with ``total`` resources; 0 if that is not known."""

    def finished(self, result: Result) -> None:
        """Handle the end of the work on one stack."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the operations of ``refs`` continue in AWS. The text names commands."""

    def __init__(self, refs: Iterable[StackRef] = ()) -> None:
        self.refs = sorted(refs, key=str)
        lines = [
            f"{ref} continues in AWS.\n  follow: {ref.command('follow')}\n"
            "  cancel an update: aws cloudformation cancel-update-stack "
            f"--region {ref.region} --stack-name {ref.stack_name}"
            for ref in self.refs
        ]
        super().__init__("\n".join(lines) or "No operation continues in AWS.")


def in_order(
    before: Mapping[Item, Collection[Item]], job: Callable[[Item], None], clock: Clock
) -> None:
    """Run ``job(item)`` for every item after those before it, at most ``THREADS`` at a time.

    On Ctrl-C stops the clock, so that jobs end where they wait, lets them end, starts no more and
    raises KeyboardInterrupt. It is the job that reacts to the failure of one before it.
    """
    sorter = graphlib.TopologicalSorter(before)
    sorter.prepare()
    running: dict[Future[None], Item] = {}
    with ThreadPoolExecutor(max_workers=max(1, min(THREADS, len(before)))) as pool:
        try:
            while sorter.is_active():
                running.update({pool.submit(job, item): item for item in sorter.get_ready()})
                finished, _ = wait(
                    running, timeout=INTERRUPT_POLL_SECONDS, return_when=FIRST_COMPLETED
                )
                for future in finished:
                    future.result()
                    sorter.done(running.pop(future))
        except BaseException:
            clock.stop()
            pool.shutdown(cancel_futures=True)
            raise


@dataclass(frozen=True, eq=False)
class Scope:
    """What a verb works on: stacks and their AWS, callbacks for progress, and a clock."""

    aws: Aws
    refs: Sequence[StackRef]
    listener: Listener = field(default_factory=Listener)
    clock: Clock = field(default_factory=Clock)
    in_progress: set[StackRef] = field(default_factory=set)  # started, and no end seen

    @functools.cache  # noqa: B019 - a process runs one verb
    def stack(self, ref: StackRef) -> StackClient:
        """Return the client of a stack, always the same. Raises ToolError for the wrong account."""
        self.aws.guard()
        return StackClient(ref, self.aws.client("cloudformation", ref.region), self.clock)

    def for_each(
        self, job: Callable[[StackClient], AnyReport], kind: type[AnyReport]
    ) -> list[AnyReport]:
        """Run ``job`` for every stack at once; an error becomes the problem of a report."""
        reports: dict[StackClient, AnyReport] = {}

        def attempt(stack: StackClient) -> None:
            try:
                reports[stack] = job(stack)
            except (ToolError, *AWS_ERRORS) as error:
                problem = failure.wrap(error, stack.ref, stack.mask)
                reports[stack] = kind(stack.ref, problem=problem)

        stacks = [self.stack(ref) for ref in self.refs]
        in_order(dict.fromkeys(stacks, ()), attempt, self.clock)
        return [reports[stack] for stack in stacks]

    def work(
        self,
        tasks: Iterable[Task],
        job: Callable[[StackClient, Task], Result],
        before: Mapping[StackRef, set[StackRef]] | None = None,
        skip_reason: str = "",
    ) -> list[Result]:
        """Run ``job(stack, task)`` for every task after those before it; errors become results.

        If one before it failed, a stack is skipped for ``skip_reason``, in which {} stands for
        those. Raises Interrupted.
        """
        by_ref = {task.ref: task for task in tasks}
        stacks = {ref: self.stack(ref) for ref in by_ref}
        results: dict[StackRef, Result] = {}

        def attempt(ref: StackRef) -> Result:
            if self.clock.stopped:
                raise Cancelled
            needed = before[ref] if before else ()
            if failed := sorted(str(one) for one in needed if not results[one].ok):
                what, code = skip_reason.format(", ".join(failed)), ErrorCode.STACK_SKIPPED
                skipped = failure.DeploymentError(what, code=code, where=str(ref))
                return Result(ref, "skipped", problem=skipped)
            if problem := by_ref[ref].problem:
                raise problem
            return job(stacks[ref], by_ref[ref])

        def run_one(ref: StackRef) -> None:
            begun = self.clock.now()
            results[ref] = result = _result(stacks[ref], attempt)
            result.seconds = round(self.clock.now() - begun, 2)
            if result.outcome not in ("interrupted", "unknown"):
                self.in_progress.discard(ref)
            self.listener.finished(result)

        try:
            in_order(before or dict.fromkeys(by_ref, ()), run_one, self.clock)
        except KeyboardInterrupt:
            raise Interrupted(self.in_progress) from None
        return [results[ref] for ref in by_ref]

    def start(self, ref: StackRef) -> None:
        """Count a stack as in progress; raise Cancelled if nothing may start any more.

        Called right before the call to AWS: Ctrl-C can come while a question is open.
        """
        if self.clock.stopped:
            raise Cancelled
        self.in_progress.add(ref)

    def follow_operation(
        self, stack: StackClient, running: operation.Operation, total: int = 0
    ) -> str:
        """Follow an operation of ``total`` resources and report every event."""
        return operation.follow(
            stack, running, functools.partial(self.listener.progressed, stack.ref, total)
        )


def _result(stack: StackClient, attempt: Callable[[StackRef], Result]) -> Result:
    """Return what ``attempt`` returns; an error becomes a result."""
    try:
        return attempt(stack.ref)
    except Cancelled:
        return Result(stack.ref, "interrupted")
    except operation.LostSightError as error:
        return Result(stack.ref, "unknown", problem=error)
    except (ToolError, *AWS_ERRORS) as error:
        problem = failure.wrap(error, stack.ref, stack.mask)
        return Result(stack.ref, "failed", status=getattr(error, "status", ""), problem=problem)
