"""JSON values as patterns compare them: text by character, numbers by value where a double can hold them."""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

# What a leaf of an event becomes: text stays text, a comparable number stays a number, and everything that is equal
# only to itself (true, false, null, a number that no double can hold) stands in a tuple, so that True != 1 != "1".
Scalar: TypeAlias = str | int | float | tuple[Any]

_EXACT_INTEGERS = 2**53


class Literal(str):
    """A JSON number that no double can hold, such as 9007199254740993: compared by its spelling."""

    __slots__ = ()


class Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object whose repeated keys are kept, in order."""

    __slots__ = ()


def read_number(text: str) -> int | float | Literal:
    """A JSON number as AWS compares it: by value if it is what its double prints as, else by its spelling.

    Source: aws/event-ruler, ComparableNumber: 300, 300.0 and 3.0e2 are equal, 1e400 equals nothing but itself.
    """
    if len(text) <= 15 and text.lstrip("-").isdigit():
        return int(text)
    double = float(text)
    try:
        exact = math.isfinite(double) and Decimal(repr(double)) == Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal counts
        exact = False
    return double if exact else Literal(text)


def refuse_constant(name: str) -> Any:
    """For json's ``parse_constant``: NaN and Infinity are Python's own. Raises ValueError."""
    raise ValueError(f"{name} is not JSON")


def read_json(text: str, *, pairs: bool = False) -> Any:
    """The JSON of ``text``, with the spelling kept of numbers that no double can hold. Raises ValueError.

    With ``pairs``, objects become Pairs, and what follows the first value is ignored, as event-ruler does.
    """
    decoder = json.JSONDecoder(
        object_pairs_hook=Pairs if pairs else None,
        parse_int=read_number,
        parse_float=read_number,
        parse_constant=refuse_constant,
    )
    try:
        return decoder.raw_decode(text.lstrip(" \t\r\n"))[0] if pairs else decoder.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def canonical(value: Any) -> Scalar:
    """A leaf of an event or of a pattern in the form that is compared."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is int:
        if -_EXACT_INTEGERS < value < _EXACT_INTEGERS:
            return int(value)
        return canonical(read_number(str(value)))
    if kind is float and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and kind is not Literal:  # what YAML loaders make of text
        return str(value)
    return (repr(value) if kind is float else value,)


def original(value: Scalar) -> Any:
    """What canonical was given."""
    return value[0] if isinstance(value, tuple) else value


def show(value: Any) -> str:
    """A value (not canonical) as JSON, for people."""
    text = (
        str(value)
        if isinstance(value, Literal)
        else json.dumps(value, ensure_ascii=False, default=str)
    )
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be printed
