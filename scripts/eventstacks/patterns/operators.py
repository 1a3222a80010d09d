"""What a pattern may ask of one value: a kind of comparison, its operands, and whether it is turned round."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from eventstacks.patterns.address import find_digits
from eventstacks.patterns.values import Scalar, original, show
from eventstacks.patterns.wildcard import parse, to_regex

Accepts: TypeAlias = Callable[[Scalar], bool]


class Span(NamedTuple):
    """A range of numbers."""

    low: float
    low_open: bool
    high: float
    high_open: bool

    def holds(self, number: float) -> bool:
        """Whether the number lies in the range."""
        above = number > self.low or (number == self.low and not self.low_open)
        return above and (number < self.high or (number == self.high and not self.high_open))

    def __str__(self) -> str:
        if self.low == self.high:
            return f"= {self.low!r}"
        low = "" if self.low == float("-inf") else f"{'>' if self.low_open else '>='} {self.low!r}"
        high = (
            "" if self.high == float("inf") else f"{'<' if self.high_open else '<='} {self.high!r}"
        )
        return " and ".join(filter(None, (low, high)))


class Block(NamedTuple):
    """A block of IP addresses by the digits of its ends, with the text that the pattern gave."""

    low: str
    high: str
    text: str

    def holds(self, text: str) -> bool:
        """Whether ``text`` is an address of the block.

        An IPv6 address whose first 32 bits lie in an IPv4 block counts: event-ruler compares digits from the left.
        """
        digits = find_digits(text)
        return (
            digits is not None
            and len(digits) >= len(self.low)
            and self.low <= digits[: len(self.low)] <= self.high
        )


def _fold(text: str) -> str:
    """A regular expression for text in any case, as event-ruler has it: character by character, each in its own lower
    or upper form (so straße is STRASSE, but strasse is not straße), and two ? for what UTF-16 writes as a pair.
    """
    forms: list[str] = []
    for character in text:
        if ord(character) > 0xFFFF:
            forms.append(r"\?\?")
        elif character.lower() == character.upper():
            forms.append(re.escape(character.lower()))
        else:
            forms.append(f"(?:{re.escape(character.lower())}|{re.escape(character.upper())})")
    return "".join(forms)


def _regex_of(kind: str, operand: str) -> str:
    if kind == "wildcard":
        return to_regex(parse(operand))
    folded = _fold(operand)
    return {"prefix-ignore-case": f"{folded}.*", "suffix-ignore-case": f".*{folded}"}.get(
        kind, folded
    )


def _accept(kind: str, operands: tuple[Any, ...]) -> Accepts:  # noqa: PLR0911 - one return for each kind
    match kind:
        case "equals":
            return frozenset(operands).__contains__
        case "exists" | "absent":
            return (lambda _: True) if kind == "exists" else (lambda _: False)
        case "prefix":
            return lambda value: isinstance(value, str) and value.startswith(operands)
        case "suffix":
            return lambda value: isinstance(value, str) and value.endswith(operands)
        case "numeric":
            return lambda value: (
                isinstance(value, int | float) and any(span.holds(value) for span in operands)
            )
        case "cidr":
            return lambda value: (
                isinstance(value, str) and any(block.holds(value) for block in operands)
            )
        case _:
            matches = re.compile(
                "|".join(_regex_of(kind, text) for text in operands), re.DOTALL
            ).fullmatch
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
    "exists": "any value",
    "absent": "no such field",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison: it accepts a value if any operand does, or, negated, if none does.

    ``kind`` is a key of _WORDS. Operands are text, but canonical values for equals, Span for numeric, Block for cidr.
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
        """In words: what would be accepted."""
        match self.kind:
            case "numeric":
                shown = [str(operand) for operand in self.operands]
            case "cidr":
                shown = [operand.text for operand in self.operands]
                if all(operand.low == operand.high for operand in self.operands):
                    return " or ".join(map(show, shown))  # an address, given as text
            case _:
                shown = [show(original(operand)) for operand in self.operands]
        words = _WORDS[self.kind].format(" or ".join(shown))
        return f"anything but {words}" if self.negated else words
