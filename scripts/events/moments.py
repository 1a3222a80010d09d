"""Points in time as people give them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from scripts.errors import ToolError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse(text: str, now: datetime | None = None) -> datetime:
    """``90s``, ``15m``, ``2h``, ``1d``, ``2w`` ago, or a date and time in ISO 8601 with its zone. Raises ToolError."""
    if found := re.fullmatch(r"(\d{1,6})([smhdw])", text.strip()):
        return (now or datetime.now(UTC)) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ToolError(
            f"{text!r} is no point in time" if moment is None else f"{text!r} has no zone",
            advice="Write how long ago (90s, 15m, 2h, 1d), or 2026-05-01T08:00:00Z.",
        )
    return moment.astimezone(UTC)
