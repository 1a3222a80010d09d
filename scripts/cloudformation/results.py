"""What is to be done, how it goes and how it ends, for one stack in one region, and who wants to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scripts.cloudformation import calls, failure, operation
from scripts.cloudformation.calls import Stopped
from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from scripts.cloudformation.calls import Clock
    from scripts.cloudformation.change_set import ChangeSet
    from scripts.cloudformation.events import Event
    from scripts.cloudformation.place import Place


@dataclass
class Plan:
    """What a deployment would do to one stack in one region."""

    place: Place
    change_set: ChangeSet | None = None  # None: ``problem``, or ``waits_for``
    stack: Mapping[str, Any] | None = None  # DescribeStacks before the change
    values: Mapping[str, str] = field(default_factory=dict)
    waits_for: tuple[str, ...] = ()  # outputs of stacks that this run deploys first; the change set is made then
    resources: Mapping[str, str] = field(default_factory=dict)  # of a plan that waits: logical id → type, all new
    settings: tuple[str, ...] = ()  # what changes beside the change set: termination protection, stack policy
    problem: ToolError | None = None

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.waits_for or self.settings or (self.change_set and not self.change_set.unchanged))

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        made = self.change_set
        return {
            **self.place.document(), "changes": self.changes, "type": made.kind if made else None,
            "resources": list(made.changes) if made else [], "waitsFor": list(self.waits_for),
            "settings": list(self.settings), "parameters": dict(made.parameters) if made else {},
            "drift": made.drift if made else "", "error": str(self.problem) if self.problem else None,
        }  # fmt: skip


@dataclass
class Result:
    """How it ended for one stack in one region."""

    place: Place
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
            **self.place.document(), "result": self.outcome, "status": self.status, "seconds": round(self.seconds, 2),
            "outputs": self.outputs, "warnings": list(self.warnings),
            "error": str(self.problem) if self.problem else None,
        }  # fmt: skip


@dataclass(frozen=True)
class Progress:
    """One event of an operation, and how far it is."""

    place: Place
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

    def started(self, place: Place, total: int) -> None:
        """An operation with ``total`` resources is under way."""

    def progressed(self, progress: Progress) -> None:
        """An event has come in."""

    def finished(self, result: Result) -> None:
        """It has ended for one stack in one region."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C while operations are under way: ``places`` go on in AWS."""

    def __init__(self, places: Iterable[Place]) -> None:
        super().__init__()
        self.places = sorted(places, key=str)


class Tracker:
    """Counts an operation's resources from its events and tells the listener."""

    def __init__(self, place: Place, total: int, listener: Listener) -> None:
        self.place, self.total, self.listener = place, total, listener
        self._states: dict[str, str] = {}
        listener.started(place, total)

    def __call__(self, event: Event) -> None:
        """Takes one event in."""
        if not event.is_root:
            self._states[event.logical_id] = event.status
        current = tuple(name for name, status in self._states.items() if status.endswith("_IN_PROGRESS"))
        done = len(self._states) - len(current)
        self.listener.progressed(Progress(self.place, event, done, max(self.total, len(self._states)), current))


def attempt(
    place: Place, work: Callable[[], Result], under_way: set[Place], clock: Clock, listener: Listener
) -> Result:
    """``work()``, timed and told; what goes wrong becomes its result.

    The place leaves ``under_way`` unless it ended without knowing how the operation did.
    """
    begun = clock.now()
    try:
        result = work()
    except Stopped:
        result = Result(place, "interrupted")
    except operation.LostSightError as error:
        result = Result(place, "unknown", problem=error)
    except (ToolError, *calls.TROUBLE) as error:
        result = Result(place, "failed", status=getattr(error, "status", ""), problem=failure.wrap(error, place))
    if result.outcome not in ("interrupted", "unknown"):
        under_way.discard(place)
    result.seconds = clock.now() - begun
    listener.finished(result)
    return result
