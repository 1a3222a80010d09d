"""Whole numbers that come nearly in order, kept as ranges."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Ranges:
    """A set of them whose size depends on the gaps only."""

    def __init__(self) -> None:
        self._last_of: dict[int, int] = {}
        self._first_of: dict[int, int] = {}

    def add(self, first: int, last: int) -> None:
        """Adds first…last, none of which is in yet."""
        if first - 1 in self._first_of:
            first = self._first_of.pop(first - 1)
        if last + 1 in self._last_of:
            last = self._last_of.pop(last + 1)
            del self._first_of[last]
        self._last_of[first], self._first_of[last] = last, first

    def extend(self, ranges: Iterable[Sequence[int]]) -> None:
        """Adds several."""
        for first, last in ranges:
            self.add(first, last)

    def begin(self) -> int:
        """The first number, from 0 on, that is not in."""
        return self._last_of.get(0, -1) + 1

    def all(self) -> list[tuple[int, int]]:
        """The ranges in order."""
        return sorted(self._last_of.items())


def ranges_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """3, 1, 2, 7 → (1, 3), (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def is_in(ranges: Sequence[tuple[int, int]], number: int) -> bool:
    """Whether a number is in one of the ranges, which are in order."""
    at = bisect.bisect_right(ranges, (number, 1 << 62)) - 1
    return at >= 0 and number <= ranges[at][1]
