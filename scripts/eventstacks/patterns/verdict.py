"""A verdict on one line of NDJSON that holds a pattern and, maybe, an event."""

from __future__ import annotations

import json
from typing import Any

from eventstacks.errors import ToolError
from eventstacks.patterns.fields import EventError
from eventstacks.patterns.matcher import Pattern
from eventstacks.patterns.values import read_json, read_number


def read_event(text: str) -> dict[str, Any]:
    """The event of a JSON text, its numbers as patterns compare them. Raises EventError."""
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
    """The answer to a line ``{"pattern" or "pattern_text": …, "event" or "event_text": …}``.

    ``{"match": bool}``; ``{"valid": True}`` without an event; ``{"error": …, "where": path}`` for a refused pattern,
    ``{"error": …}`` for anything else that is wrong. Raises nothing.
    """
    try:
        # Not read_json: what writes such lines may write Infinity, which a pattern then refuses in AWS's words.
        case = json.loads(line, parse_int=read_number, parse_float=read_number)
        if not isinstance(case, dict) or not case.keys() & {"pattern", "pattern_text"}:
            return {"error": "The line is not a JSON object with pattern or pattern_text"}
        pattern = Pattern(case["pattern_text"] if "pattern_text" in case else case["pattern"])
        if "event_text" in case:
            return {"match": pattern.matches(read_event(str(case["event_text"])))}
        return (
            {"match": pattern.matches(_check_event(case["event"]))}
            if "event" in case
            else {"valid": True}
        )
    except ToolError as error:
        return {"error": error.what} | ({"where": error.where} if error.where else {})
    except ValueError as error:  # of JSON, or of bytes that are not UTF-8
        return {"error": f"The line is not valid JSON: {error}"}
    except RecursionError:
        return {"error": "Nested too deeply"}
