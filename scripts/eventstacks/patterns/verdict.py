"""Verdicts on lines of NDJSON that hold a pattern and optionally an event."""

from __future__ import annotations

from typing import Any

from eventstacks.errors import ToolError
from eventstacks.patterns.fields import EventError
from eventstacks.patterns.matcher import Pattern
from eventstacks.patterns.values import read_json


def read_event(text: str) -> dict[str, Any]:
    """Parse an event; its numbers are as patterns compare them. Raises EventError."""
    try:
        event = read_json(text)
    except ValueError as error:
        raise EventError(f"Event is not valid JSON: {error}") from error
    return _check_event(event)


def _check_event(event: Any) -> dict[str, Any]:
    if not isinstance(event, dict):
        raise EventError("Event must be a JSON object")
    return event


def judge(line: str | bytes) -> dict[str, Any]:
    """Return the answer to a line ``{"pattern" or "pattern_text": …, "event" or "event_text": …}``.

    ``{"match": bool}``; ``{"valid": True}`` without an event; ``{"error": …, "where": path}`` for a refused pattern,
    ``{"error": …}`` for other errors. Raises nothing.
    """
    try:
        # Programs that write such lines may write Infinity: a pattern then refuses it with AWS's text.
        case = read_json(line if isinstance(line, str) else line.decode(), constants=True)
        if not isinstance(case, dict) or not case.keys() & {"pattern", "pattern_text"}:
            return {"error": "The line is not a JSON object with pattern or pattern_text"}
        pattern = Pattern(case["pattern_text"] if "pattern_text" in case else case["pattern"])
        if "event_text" in case:
            return {"match": pattern.matches(read_event(str(case["event_text"])))}
        if "event" in case:
            return {"match": pattern.matches(_check_event(case["event"]))}
    except ToolError as error:
        return {"error": error.what} | ({"where": error.where} if error.where else {})
    except ValueError as error:  # from JSON, or from bytes that are not UTF-8
        return {"error": f"The line is not valid JSON: {error}"}
    return {"valid": True}
