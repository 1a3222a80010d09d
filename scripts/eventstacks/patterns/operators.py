"""Values as patterns compare them, and the comparisons.

Their operands, words, and complexity limit.

Strings are compared by character, numbers by value if a double can hold them, addresses by
hexadecimal digits.
"""

import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

# A leaf of an event: a string stays a string, a comparable number stays a number, and what is equal
# only to itself (true, false, null, a number that no double can hold) is in a tuple, so that True
# != 1 != "1".
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
    """Return a JSON number as AWS compares it.

    By value if its double prints as the same number, else by its spelling.

    Source: aws/event-ruler, ComparableNumber: 300, 300.0 and 3.0e2 are equal, 1e400 equals only
    itself.
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
    """Raise ValueError for NaN and Infinity, as ``parse_constant`` of json.

    They are Python's own.
    """
    raise ValueError(f"{name} is not JSON")


def read_json(text: str, *, pairs: bool = False, constants: bool = False) -> Any:
    """Parse JSON; numbers that no double can hold keep their spelling. Raises ValueError.

    ``pairs``: objects become Pairs, and text after the first value is ignored, as in event-ruler.
    ``constants``: NaN and Infinity are accepted.
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
    if isinstance(value, str) and kind is not Literal:  # or a subclass that YAML loaders make
        return str(value)
    if kind is int:
        if -_EXACT_INTEGERS < value < _EXACT_INTEGERS:
            return int(value)
        return canonical(read_number(str(value)))
    if kind is float and math.isfinite(value):
        return float(value)
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
    """Return the 8 (IPv4) or 32 (IPv6) hexadecimal digits of an address.

    None if ``text`` is not one.

    As in Java, whose parser event-ruler uses: 010.0.0.1 is 10.0.0.1, and ::ffff:10.0.0.1 in
    hexadecimal is IPv4.
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
    """Return the digits of the lowest and the highest address of a block.

    Raises ValueError with AWS's text.
    """
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


# --- comparisons ------------------------------------------------------------------------------

Accepts: TypeAlias = Callable[[Scalar], bool]

STAR = ""  # a wildcard between the characters that ``parse_wildcard`` returns
# AWS refuses *:*:*:*:*:event-bus/* (eleven prefixes match one text at once) and accepts
# /Users/*/dir/dir/dir/dir/dir/doc.txt (seven); both are recorded verdicts. The limit is not
# published, nor whether the wildcards of a field are added up. This is a lenient guess: each alone,
# and what is known to be refused.
_COMPLEX = 11
_EFFORT = 2_000  # sets of positions to examine before a wildcard is accepted
TOO_COMPLEX = (
    "Rule is too complex - try using fewer wildcard characters or "
    "fewer repeating character sequences after a wildcard character"
)


class Span(NamedTuple):
    """A range of numbers."""

    low: float
    low_open: bool
    high: float
    high_open: bool

    def holds(self, number: Scalar) -> bool:
        """Return True for a number in the range."""
        if not isinstance(number, int | float):
            return False
        above = number > self.low or (number == self.low and not self.low_open)
        return above and (number < self.high or (number == self.high and not self.high_open))

    def __str__(self) -> str:
        if self.low == self.high:
            return f"= {self.low!r}"
        ends = ((">", self.low, self.low_open), ("<", self.high, self.high_open))
        return " and ".join(
            f"{sign if is_open else sign + '='} {end!r}"
            for sign, end, is_open in ends
            if end not in {float("-inf"), float("inf")}
        )


class Block(NamedTuple):
    """A block of IP addresses: the digits of its ends, and its text in the pattern."""

    low: str
    high: str
    text: str

    def holds(self, text: Scalar) -> bool:
        """Return True for an address of the block.

        An IPv6 address whose first 32 bits are in an IPv4 block counts: event-ruler compares digits
        from the left.
        """
        digits = find_digits(text) if isinstance(text, str) else None
        return (
            digits is not None
            and len(digits) >= len(self.low)
            and self.low <= digits[: len(self.low)] <= self.high
        )

    def __str__(self) -> str:
        return self.text


def parse_wildcard(text: str) -> tuple[str, ...]:
    r"""Return the characters of a wildcard, STAR for each ``*``; ``\*`` and ``\\`` are literal.

    Raises ValueError with AWS's text; its positions count the UTF-8 bytes of the quoted text.
    """
    parts: list[str] = []
    refused = {"\\": "Invalid escape character", "**": "Consecutive wildcard characters"}
    for token in re.finditer(r"\\[*\\]|\*\*|.", text, re.DOTALL):
        if token[0] in refused:
            position = 1 + len(text[: token.start()].encode("utf-8", "surrogatepass"))
            raise ValueError(f"{refused[token[0]]} at pos {position}")
        parts.append(STAR if token[0] == "*" else token[0][-1])
    return tuple(parts)


def _to_regex(parts: Iterable[str]) -> str:
    """Return a regular expression for the whole text, linear for each star.

    The first place that fits is enough.
    """
    runs: list[list[str]] = [[]]
    for part in parts:
        if part == STAR:
            runs.append([])
        else:
            runs[-1].append(re.escape(part))
    first, *middle = ["".join(run) for run in runs]
    if not middle:
        return first
    last = middle.pop()
    return first + "".join(f"(?>.*?{run})" for run in middle) + f".*{last}"


def is_complex(parts: tuple[str, ...]) -> bool:
    """Return True if some text would match too many prefixes of a wildcard at once.

    Counts as event-ruler's MachineComplexityEvaluator does; the limit is guessed (see above).
    """
    text = ('"', *parts, '"')
    characters = set(text) - {STAR}

    def skip_star(read: int) -> set[int]:  # the number of parts read; a star can stand for nothing
        return {read, read + 1} if text[read : read + 1] == (STAR,) else {read}

    todo = [frozenset({0})]
    seen = set(todo)
    while STAR in parts and todo and len(seen) < _EFFORT:
        states = todo.pop()
        for character in characters:
            reached: set[int] = set()
            for read in states:
                if read and text[read - 1] == STAR:
                    reached |= skip_star(read)
                if text[read : read + 1] == (character,):
                    reached |= skip_star(read + 1)
            if len(reached) >= _COMPLEX:
                return True
            if (frozen := frozenset(reached)) not in seen:
                seen.add(frozen)
                todo.append(frozen)
    return False


def _fold(text: str) -> str:
    """Return a regular expression for text in any case.

    As in event-ruler, each character is compared in its own lower or upper form (so straße is
    STRASSE, but strasse is not straße), and ?? for a character that UTF-16 writes as a surrogate
    pair.
    """
    forms = {c: {re.escape(c.lower()), re.escape(c.upper())} for c in text}
    return "".join(
        r"\?\?" if ord(c) > 0xFFFF else f"(?:{'|'.join(sorted(forms[c]))})" for c in text
    )


def _regex_of(kind: str, operand: str) -> str:
    if kind == "wildcard":
        return _to_regex(parse_wildcard(operand))
    before, after = ("", ".*") if kind.startswith("prefix") else (".*", "")
    return f"{before}{_fold(operand)}{after}" if "fix" in kind else _fold(operand)


def _accept(kind: str, operands: tuple[Any, ...]) -> Accepts:
    match kind:
        case "equals":
            return frozenset(operands).__contains__
        case "exists" | "absent":
            return lambda _: kind == "exists"
        case "prefix":
            return lambda value: isinstance(value, str) and value.startswith(operands)
        case "suffix":
            return lambda value: isinstance(value, str) and value.endswith(operands)
        case "numeric" | "cidr" | "address":
            return lambda value: any(operand.holds(value) for operand in operands)
    matches = re.compile("|".join(_regex_of(kind, text) for text in operands), re.DOTALL).fullmatch
    return lambda value: isinstance(value, str) and matches(value) is not None


_WORDS: dict[str, str] = {
    "equals": "{}",
    "prefix": "something that starts with {}",
    "suffix": "something that ends with {}",
    "equals-ignore-case": "{} in any case",
    "prefix-ignore-case": "something that starts with {} in any case",
    "suffix-ignore-case": "something that ends with {} in any case",
    "wildcard": "something like {}",
    "numeric": "a number {}",
    "cidr": "an IP address in {}",
    "address": "{}",
    "exists": "any value",
    "absent": "no such field",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison: it accepts a value if any operand does or, negated, if none does.

    ``kind`` is a key of _WORDS. Operands are strings, but canonical values for equals, Span for
    numeric, Block for cidr and address.
    """

    kind: str
    operands: tuple[Any, ...] = ()
    negated: bool = False
    accepts: Accepts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        accepts = _accept(self.kind, self.operands)
        object.__setattr__(
            self, "accepts", (lambda value: not accepts(value)) if self.negated else accepts
        )

    def __str__(self) -> str:
        """Return in words what would be accepted."""
        shown = [
            str(operand) if isinstance(operand, Span | Block) else show(original(operand))
            for operand in self.operands
        ]
        words = _WORDS[self.kind].format(" or ".join(shown))
        return f"anything but {words}" if self.negated else words
