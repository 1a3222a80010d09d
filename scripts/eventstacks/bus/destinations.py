"""The destinations of a delivery: buses, and the pause of their calls in an outage."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.bus import entries
from eventstacks.bus.put_events import Failure, PutEvents
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# After this many failed calls in a row, a destination gets one call every PROBE_SECONDS.
FAILURES_TO_PAUSE, PROBE_SECONDS = 10, 2.0


class OutageError(ToolError):
    """No call succeeded for too long. Nothing was rejected because of it; resume sends the rest."""

    default_code = ErrorCode.ENDPOINT_UNREACHABLE


@dataclass(frozen=True)
class Destination:
    """A bus and the boto3 ``events`` client of its Region.

    Make the client with ``Config(max_pool_connections=...)`` of at least ``Settings.threads``.
    """

    client: Any
    bus: str

    @property
    def region(self) -> str:
        """Return the client's Region."""
        return str(self.client.meta.region_name)


@dataclass(slots=True)
class Item:
    """One entry for one destination.

    ``number``: of its record, from 0. ``body``: JSON. ``size``: bytes by AWS's rule. ``bus``: the
    bus that the record names itself. ``is_alone``: it shares no call, because a call with it was
    refused.
    """

    number: int
    destination: int
    body: bytes
    size: int
    bus: str | None = None
    attempts: int = 0
    is_alone: bool = False


class Link:
    """The calls to one destination, and their pause while all of them fail."""

    def __init__(self, destination: Destination, notify: Callable[[str], None]) -> None:
        self.caller = PutEvents(destination.client)
        self.caller.check_bus(destination.bus)
        self.bus, self.region, self._notify = destination.bus, destination.region, notify
        self.name = f"{self.bus} in {self.region}"
        self.suffix = b',"EventBusName":' + entries.to_json(self.bus) + b"}"
        self.batch: list[Item] = []  # incomplete
        self.size = 0
        self._failures, self._failing_since, self._paused_until = 0, 0.0, 0.0
        self._last: Failure | None = None

    def seconds_to_wait(self) -> float:
        """Return 0 if a call may be made now. While all calls fail, that call is the probe."""
        now = time.monotonic()
        if now < self._paused_until:
            return self._paused_until - now
        if self._failures >= FAILURES_TO_PAUSE:
            self._paused_until = now + PROBE_SECONDS
        return 0.0

    def record(self, failures: Sequence[Failure | None]) -> None:
        """Note the result of a call. It failed if every entry failed and can be retried."""
        retryable = [one for one in failures if one and one.retryable]
        if len(retryable) < len(failures):
            if self._failures >= FAILURES_TO_PAUSE:
                self._notify(f"Sending to {self.name} again.")
            self._failures, self._paused_until, self._last = 0, 0.0, None
            return
        now, self._last = time.monotonic(), retryable[0]
        self._failing_since = self._failing_since if self._failures else now
        self._failures += 1
        if self._failures == FAILURES_TO_PAUSE:
            self._notify(
                f"Paused: all calls to {self.name} fail ({self._last.code}: {self._last.message}). "
                f"Trying again every {PROBE_SECONDS:.0f} s."
            )
        pause = PROBE_SECONDS if self._failures >= FAILURES_TO_PAUSE else 0.0
        self._paused_until = max(self._paused_until, now + max(pause, self._last.retry_after))

    def check(self, limit: float) -> None:
        """Raise OutageError if no call has succeeded for ``limit`` seconds."""
        if self._last and time.monotonic() - self._failing_since > limit:
            raise OutageError(
                f"no call succeeded for {limit:.0f} s: {self._last.code}: {self._last.message}",
                where=self.name,
                advice="No record was rejected because of it. --resume sends the rest.",
            )
