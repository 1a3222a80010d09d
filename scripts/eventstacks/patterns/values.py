"""JSON values and IP addresses in the form in which patterns compare them.

Strings are compared by character, numbers by value if a double can hold them, addresses by hexadecimal digits.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, TypeAlias

# A leaf of an event: a string stays a string, a comparable number stays a number, and what is equal only to itself
# (true, false, null, a number that no double can hold) is in a tuple, so that True != 1 != "1".
Scalar: TypeAlias = str | int | float | tuple[Any]

MAX_DEPTH = 500  # of nested objects and arrays; AWS takes 1,000, which Python's JSON parser may not
_EXACT_INTEGERS = 2**53
_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_IPV6 = re.compile(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*")


class Literal(str):
    """A JSON number that no double can hold, such as 9007199254740993: compared by its spelling."""

    __slots__ = ()


class Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object with repeated keys, in order."""

    __slots__ = ()


def read_number(text: str) -> int | float | Literal:
    """Return a JSON number as AWS compares it: by value if its double prints as the same number, else by its spelling.

    Source: aws/event-ruler, ComparableNumber: 300, 300.0 and 3.0e2 are equal, 1e400 equals only itself.
    """
    if len(text) <= 15 and text.lstrip("-").isdigit():
        return int(text)
    double = float(text)
    try:
        exact = math.isfinite(double) and Decimal(repr(double)) == Decimal(text)
    except InvalidOperation:  # an exponent out of Decimal's range
        exact = False
    return double if exact else Literal(text)


def refuse_constant(name: str) -> Any:
    """Raise ValueError for NaN and Infinity, as ``parse_constant`` of json: they are Python's own."""
    raise ValueError(f"{name} is not JSON")


def is_nested_too_deeply(content: Any) -> bool:
    """Return True if a parsed value nests objects and arrays deeper than MAX_DEPTH."""
    level = [content]
    for _ in range(MAX_DEPTH):
        plain = [dict(each) if isinstance(each, Pairs) else each for each in level]
        lists = [each.values() if isinstance(each, dict) else each for each in plain]
        level = [v for each in lists for v in each if isinstance(v, dict | list | Pairs)]
        if not level:
            return False
    return True


def read_json(text: str, *, pairs: bool = False, constants: bool = False) -> Any:
    """Parse JSON; numbers that no double can hold keep their spelling. Raises ValueError.

    ``pairs``: objects become Pairs, and text after the first value is ignored, as in event-ruler. ``constants``: NaN and
    Infinity are accepted.
    """
    decoder = json.JSONDecoder(
        object_pairs_hook=Pairs if pairs else None,
        parse_int=read_number,
        parse_float=read_number,
        parse_constant=None if constants else refuse_constant,
    )
    try:
        return decoder.raw_decode(text.lstrip(" \t\r\n"))[0] if pairs else decoder.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def canonical(value: Any) -> Scalar:
    """Return a leaf of an event or of a pattern in the form that is compared."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is int:
        if -_EXACT_INTEGERS < value < _EXACT_INTEGERS:
            return int(value)
        return canonical(read_number(str(value)))
    if kind is float and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and kind is not Literal:  # a subclass that YAML loaders make
        return str(value)
    return (repr(value) if kind is float else value,)


def original(value: Scalar) -> Any:
    """Return the value from which ``canonical`` made this one."""
    return value[0] if isinstance(value, tuple) else value


def show(value: Any) -> str:
    """Return a value (not canonical) as JSON for messages."""
    is_spelled = isinstance(value, Literal)
    text = str(value) if is_spelled else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be printed


@lru_cache(maxsize=4096)
def find_digits(text: str) -> str | None:
    """Return the 8 (IPv4) or 32 (IPv6) hexadecimal digits of an address; None if ``text`` is not one.

    As in Java, whose parser event-ruler uses: 010.0.0.1 is 10.0.0.1, and ::ffff:10.0.0.1 in hexadecimal is IPv4.
    """
    if _IPV4.fullmatch(text):
        octets = [int(part) for part in text.split(".")] if len(text) <= 15 else [256]
        return bytes(octets).hex() if max(octets) <= 255 else None
    if not _IPV6.fullmatch(text):
        return None
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address).packed.hex()


def parse_cidr(text: str) -> tuple[str, str]:
    """Return the digits of the lowest and the highest address of a block. Raises ValueError with AWS's text."""
    parts = text.split("/")
    while parts and not parts[-1]:  # as Java's split does
        parts.pop()
    if len(parts) != 2:
        raise ValueError("Malformed CIDR, one '/' required")
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", parts[1]):
        raise ValueError("Malformed CIDR, mask bits must be an integer")
    mask = int(parts[1])
    if mask < 0:
        raise ValueError("Malformed CIDR, mask bits must not be negative")
    digits = find_digits(parts[0])
    if digits is None:
        known = _IPV4.fullmatch(parts[0]) or _IPV6.fullmatch(parts[0])
        raise ValueError(f"{'Invalid' if known else 'Nonstandard'} IP address: {parts[0]}")
    bits = len(digits) * 4
    if mask >= bits:
        raise ValueError(f"IPv{4 if bits == 32 else 6} mask bits must be < {bits}")
    free = (1 << bits - mask) - 1
    low = int(digits, 16) & ~free
    return f"{low:0{bits // 4}x}", f"{low | free:0{bits // 4}x}"
