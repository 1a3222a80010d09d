"""Many patterns at once: an event is looked up field by field, not compared rule by rule.

Each alternative of each rule is a bit. A field's value gives, from tables, the bits whose condition it meets; what is
left after all fields of the event are the rules that match. Python's integers are the sets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from eventstacks.patterns.address import find_digits
from eventstacks.patterns.fields import find_fields, plan_walk
from eventstacks.patterns.operators import Accepts, Comparison, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventstacks.patterns.matcher import Condition, Pattern
    from eventstacks.patterns.values import Scalar


def _unite(bits: Iterable[int]) -> int:
    union = 0
    for bit in bits:
        union |= bit
    return union


class _Spans:
    """Bits by number. Between two neighbouring ends of ranges all numbers meet the same ranges: one is looked at."""

    def __init__(self, spans: list[tuple[Span, int]]) -> None:
        self.spans = spans
        self.ends = sorted({end for span, _ in spans for end in (span.low, span.high)})
        self.pieces: dict[tuple[int, bool], int] = {}

    def find(self, number: float) -> int:
        position = bisect_left(self.ends, number)
        piece = position, number in self.ends[position : position + 1]
        if piece not in self.pieces:
            self.pieces[piece] = _unite(bit for span, bit in self.spans if span.holds(number))
        return self.pieces[piece]


class _Affixes(dict[str, list[tuple[Accepts, int]]]):
    """What to compare with text by how the text begins, or ends: most is never looked at."""

    def __init__(
        self, tests: Iterable[tuple[str, Comparison, int]], *, at_end: bool = False
    ) -> None:
        merged: dict[tuple[str, Comparison], int] = defaultdict(int)
        for affix, test, bit in tests:
            merged[affix, test] |= bit
        for (affix, test), bit in merged.items():
            self.setdefault(affix, []).append((test.accepts, bit))
        lengths = sorted({len(affix) for affix in self})
        self.cuts = [
            slice(-length, None) if at_end and length else slice(length) for length in lengths
        ]

    def find(self, text: str) -> int:
        found = 0
        for cut in self.cuts:
            for accepts, bit in self.get(text[cut], ()):
                if found & bit != bit and accepts(text):
                    found |= bit
        return found


class _Table:
    """The bits of comparisons by value."""

    def __init__(self, tests: list[tuple[Comparison, int]]) -> None:
        self.always = 0
        self.equal: dict[Scalar, int] = defaultdict(int)
        self.folded: dict[str, int] = defaultdict(int)
        self.addresses: dict[str, int] = defaultdict(int)  # by their digits
        heads: list[tuple[str, Comparison, int]] = []
        tails: list[tuple[str, Comparison, int]] = []
        spans: list[tuple[Span, int]] = []
        for whole, bit in tests:
            self.always |= bit if whole.kind == "exists" else 0
            for operand in whole.operands:
                test = Comparison(whole.kind, (operand,))
                match test.kind:
                    case "equals":
                        self.equal[operand] |= bit
                    case "equals-ignore-case" if operand.isascii():
                        self.folded[operand.lower()] |= bit
                    case "numeric":
                        spans.append((operand, bit))
                    case "cidr" if operand.low == operand.high:
                        self.addresses[operand.low] |= bit
                    case "suffix":
                        tails.append((operand, test, bit))
                    case "wildcard" if operand[:1] == "*" and "\\" not in operand:
                        tails.append((operand.rpartition("*")[2], test, bit))
                    case "prefix" | "wildcard":
                        head = (
                            operand
                            if test.kind == "prefix"
                            else operand.partition("*")[0].partition("\\")[0]
                        )
                        heads.append((head, test, bit))
                    case _:  # blocks of addresses, and affixes in any case
                        heads.append(("", test, bit))
        self.heads, self.tails, self.spans = (
            _Affixes(heads),
            _Affixes(tails, at_end=True),
            _Spans(spans),
        )

    def find(self, value: Scalar) -> int:
        found = self.always | self.equal.get(value, 0)
        if isinstance(value, str):
            if self.heads:
                found |= self.heads.find(value)
            if self.tails:
                found |= self.tails.find(value)
            if self.folded and value.isascii():
                found |= self.folded.get(value.lower(), 0)
            if self.addresses and (digits := find_digits(value)):
                found |= self.addresses.get(digits, 0) | self.addresses.get(
                    digits[:8], 0
                )  # as Block.holds has it
        elif self.spans.spans and not isinstance(value, tuple):
            found |= self.spans.find(value)
        return found


class _Field:
    """All conditions on one field: the bits of all, and of those that absence satisfies."""

    def __init__(self, conditions: list[tuple[Condition, int]]) -> None:
        self.all = _unite(bit for _, bit in conditions)
        self.absent = _unite(bit for condition, bit in conditions if condition.absent)
        self.keyed = 0  # those for which an event is looked at only if it has this field
        wanted: list[tuple[Comparison, int]] = []
        excluded: list[tuple[Comparison, int]] = []
        self.awkward: list[tuple[Accepts, int]] = []
        for condition, bit in conditions:
            negated = [test for test in condition.tests if test.negated]
            wanted += [(test, bit) for test in condition.tests if not test.negated]
            # Of several negated comparisons one is enough, which a table of what is excluded cannot say.
            if len(negated) == 1:
                excluded.append((Comparison(negated[0].kind, negated[0].operands), bit))
            else:
                self.awkward += [(test.accepts, bit) for test in negated]
        self.negated = _unite(bit for _, bit in excluded)
        self.wanted, self.excluded = _Table(wanted), _Table(excluded)
        self.find = lru_cache(maxsize=1_000)(self._look_up)  # most fields of events have few values

    def _look_up(self, value: Scalar) -> int:
        found = self.wanted.find(value)
        if self.negated:
            found |= self.negated & ~self.excluded.find(value)
        for accepts, bit in self.awkward:
            if accepts(value):
                found |= bit
        return found


class RuleSet:
    """An index over named patterns: the cost for an event hardly grows with their number."""

    def __init__(self, patterns: Mapping[str, Pattern]) -> None:
        self._alternatives = [
            (name, one) for name, pattern in patterns.items() for one in pattern.alternatives
        ]
        conditions: dict[str, list[tuple[Condition, int]]] = {}
        for position, (_, conjunction) in enumerate(self._alternatives):
            for condition in conjunction.conditions:
                conditions.setdefault(condition.path, []).append((condition, 1 << position))
        self._fields = {path: _Field(named) for path, named in conditions.items()}
        self._unkeyed = 0  # those that need no field at all, only the absence of some
        for position, (_, conjunction) in enumerate(self._alternatives):
            if conjunction.required:
                # Any required field will do; the deepest is the least common, so fewest are looked at in vain.
                self._fields[max(conjunction.required, key=lambda path: path.count("."))].keyed |= (
                    1 << position
                )
            else:
                self._unkeyed |= 1 << position
        self._start = plan_walk(self._fields)

    def matching(self, event: dict[str, Any]) -> list[str]:
        """The names of the rules that match the event, in the order in which they were given."""
        fields = find_fields(self._start, event)
        live = self._unkeyed
        for path in fields:
            live |= self._fields[path].keyed
        for path, values in fields.items():
            field = self._fields[path]
            met = 0
            for value, place in values:
                met |= field.find(value)
                if place:  # in another element of the array the field may be absent
                    met |= field.absent
            live &= met | ~field.all
            if not live:
                return []
        names: dict[str, None] = {}
        while live:
            lowest = live & -live
            live ^= lowest
            name, conjunction = self._alternatives[lowest.bit_length() - 1]
            if conjunction.required <= fields.keys() and (
                not fields.nested or conjunction.holds(fields)
            ):
                names[name] = None
        return list(names)
