"""Symbols: values of a template that only AWS knows.

The name of an unnamed bucket, or an account that is not given, becomes text such as ``⟨Bucket⟩``,
or ``⟨stack.Bucket⟩`` in a named stack. A symbol is equal to itself only. One that ends with a
question mark, such as ``⟨Parameter?⟩``, can have any value; the others are names that AWS
generates, and no two of them are equal.
"""

import json
import re
from typing import Any

from eventstacks.documents import is_too_large

Json = dict[str, Any]

SYMBOL = re.compile("⟨[^⟩]*⟩")


def symbol_of(text: str) -> str:
    """Return ``⟨text⟩``, without characters that would split an ARN."""
    return f"⟨{re.sub('[:/|⟨⟩]+', '.', text)}⟩"


def is_known(value: Any) -> bool:
    """Return True if a resolved value contains no symbol."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return not SYMBOL.search(text)


def is_open(value: Any) -> bool:
    """Return True if a value is one symbol that can stand for anything: a parameter, an import."""
    return isinstance(value, str) and bool(SYMBOL.fullmatch(value)) and value.endswith("?⟩")


def like(pattern: str, value: str, *, literal: bool = False) -> bool | None:
    """Return whether a pattern with ``*`` and ``?`` matches.

    None if that depends on a symbol in either.

    ``literal``: the pattern has no wildcards.
    """
    if pattern == value or (not literal and _covers(pattern, value)):
        return True
    # No name that AWS generates contains a star.
    if is_known([pattern, value]) or (literal and "*" in pattern):
        return False
    possible = _covers(pattern, value, open_=True) or _covers(value, pattern, open_=True)
    return None if possible else False


def _covers(pattern: str, value: str, *, open_: bool = False) -> bool:
    """Return whether a pattern matches a value.

    ``open_``: a symbol matches what it can stand for: anything, or any name but another symbol.
    """
    expression = ""
    for part in re.split("(⟨[^⟩]*⟩|[*?])", pattern):
        if open_ and part.startswith("⟨"):
            closed = f"(?:{re.escape(part)}|(?:[^⟨]|⟨[^⟩]*[?]⟩)*)"
            expression += ".*" if part.endswith("?⟩") else closed
        else:
            expression += {"*": ".*", "?": "."}.get(part) or re.escape(part)
    return re.fullmatch(expression, value, re.DOTALL) is not None


def as_dict(value: Any) -> dict[str, Any]:
    """Return a mapping unchanged, and an empty one for any other value of a template."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list unchanged, None as an empty list, and any other value as a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def at(value: Any, path: str) -> Any:
    """Return what a resolved value has at a dotted path of keys, None if it has nothing there."""
    for key in path.split("."):
        value = as_dict(value).get(key)
    return value


def documents_of(raw: Any) -> tuple[Json, ...]:
    """Return the statements of a policy document or its JSON text; none if it cannot be read."""
    return tuple(filter(None, map(as_dict, as_list(_parsed(raw).get("Statement")))))


def pattern_of(raw: Any) -> Json | str | None:
    """Return an event pattern given as an object or as JSON text.

    Text stays text if it is not an object, or nested too deeply for a template.
    """
    pattern = _parsed(raw)
    if pattern or isinstance(raw, dict):
        return pattern
    return raw if isinstance(raw, str) else None


def _parsed(raw: Any) -> Json:
    """Return a mapping, or that of a JSON text, if it is nested no deeper than a template.

    Python 3.13 reads 10,000 levels, more than this package can walk.
    """
    try:
        value = json.loads(raw) if isinstance(raw, str) else raw
    except (ValueError, RecursionError):
        return {}
    return {} if is_too_large(value) else as_dict(value)
