"""Points in time as people give them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from eventstacks.errors import ToolError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse(text: str, now: datetime | None = None) -> datetime:
    """``90s``, ``15m``, ``2h``, ``1d``, ``2w`` ago, or a date and time in ISO 8601 with its zone. Raises ToolError."""
    moment: datetime | None
    try:
        if found := re.fullmatch(r"([0-9]{1,6})([smhdw])", text.strip()):
            moment = (now or datetime.now(UTC)) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        else:
            moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo:
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):  # before the year 1, or after 9999
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ToolError(
            f"{text!r} is no point in time" if moment is None else f"{text!r} has no zone",
            advice="Write how long ago (90s, 15m, 2h, 1d), or 2026-05-01T08:00:00Z.",
        )
    if moment.timestamp() < 0:
        raise ToolError(f"{text!r} is before 1970", advice="Nothing of AWS's is as old as that.")
    return moment
