"""Read policy documents and event patterns, which templates and AWS also give as JSON text."""

from __future__ import annotations

import json
from typing import Any

from eventstacks.documents import MAX_DEPTH, is_deeper
from eventstacks.flow.symbols import as_dict, as_list

Json = dict[str, Any]


def documents_of(raw: Any) -> tuple[Json, ...]:
    """Return the statements of a policy document or its JSON text; none if it cannot be read."""
    raw = _parsed(raw) if isinstance(raw, str) else raw
    statements = as_list(as_dict(raw).get("Statement"))
    return tuple(statement for statement in statements if isinstance(statement, dict))


def pattern_of(raw: Any) -> Json | str | None:
    """Return an event pattern given as an object or as JSON text.

    Text stays text if it is not an object, or nested too deeply for a template.
    """
    if isinstance(raw, str):
        parsed = _parsed(raw)
        return raw if parsed is None else parsed
    return raw if isinstance(raw, dict) else None


def _parsed(text: str) -> Json | None:
    """Return the object of a JSON text; None if there is none, or one nested deeper than a template.

    Python 3.13 reads 10,000 levels, more than this package can walk.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not is_deeper(value, MAX_DEPTH) else None
