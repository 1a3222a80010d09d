"""How it goes and how it ends, for one stack in one region, and who wants to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scripts.cloudformation import calls, failure, operation
from scripts.cloudformation.calls import Stopped
from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scripts.cloudformation.calls import Clock
    from scripts.cloudformation.events import Event
    from scripts.cloudformation.order import Key
    from scripts.cloudformation.place import Place


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

    def planned(self, plan: Any) -> None:
        """A ``deployment.Plan`` is made."""

    def confirm(self, plans: Sequence[Any]) -> bool:  # noqa: ARG002
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

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__()
        self.places = tuple(places)


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
    place: Place, work: Callable[[], Result], under_way: dict[Key, Place], *, clock: Clock, listener: Listener
) -> Result:
    """``work()``, timed and told; what goes wrong becomes its result.

    ``under_way`` keeps the place when it ended without knowing how the operation did.
    """
    begun = clock.now()
    try:
        result = work()
    except Stopped:
        result = Result(place, "interrupted")
    except operation.LostSightError as error:
        result = Result(place, "unknown", problem=error)
    except (ToolError, operation.StartError, *calls.TROUBLE) as error:
        result = Result(place, "failed", status=getattr(error, "status", ""), problem=failure.wrap(error, place))
    if result.outcome not in ("interrupted", "unknown"):
        under_way.pop(place.key, None)
    result.seconds = clock.now() - begun
    listener.finished(result)
    return result
