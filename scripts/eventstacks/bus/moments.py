"""Points in time as users give them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from eventstacks.errors import ErrorCode, ToolError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse(text: str, now: datetime | None = None) -> datetime:
    """Return the time of ``90s``, ``15m``, ``2h``, ``1d``, ``2w`` ago, or of an ISO 8601 timestamp.

    Raises ToolError; the timestamp needs a time zone and must be after 1970-01-01.
    """
    moment: datetime | None
    try:
        if match := re.fullmatch(r"([0-9]{1,6})([smhdw])", text.strip()):
            moment = (now or datetime.now(UTC)) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        else:
            moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo:
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):  # also before the year 1, or after 9999
        moment = None
    advice = "Use 90s, 15m, 2h, 1d, or an ISO 8601 timestamp: 2026-05-01T08:00:00Z."
    problem = ""
    if moment is None:
        problem = f"invalid time {text!r}"
    elif moment.tzinfo is None:
        problem, advice = f"time zone missing in {text!r}", "Add Z or +02:00."
    elif moment.timestamp() < 0:
        problem, advice = f"invalid time {text!r}", "It must be after 1970-01-01."
    if moment is None or problem:
        raise ToolError(problem, code=ErrorCode.PARAMETER_INVALID, advice=advice)
    return moment
