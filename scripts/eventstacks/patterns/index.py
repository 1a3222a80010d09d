"""An index over many patterns: an event is looked up field by field instead of rule by rule.

Each alternative of each rule is a bit of an int. A table per field gives the bits whose condition a value meets; the
bits that remain after all fields of the event are the rules that match.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

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


class _Affixes(dict[str, list[tuple[Accepts, int]]]):
    """Comparisons by the start or the end of a text, so that most are never run."""

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
        """Return the bits of the comparisons that accept a text."""
        bits = 0
        for cut in self.cuts:
            for accepts, bit in self.get(text[cut], ()):
                if bits & bit != bit and accepts(text):
                    bits |= bit
        return bits


class _Table:
    """The bits of comparisons by value."""

    def __init__(self, tests: list[tuple[Comparison, int]]) -> None:
        self.always = 0
        self.equal: dict[Scalar, int] = defaultdict(int)
        self.spans: list[tuple[Span, int]] = []
        heads: list[tuple[str, Comparison, int]] = []
        tails: list[tuple[str, Comparison, int]] = []
        for whole, bit in tests:
            self.always |= bit if whole.kind == "exists" else 0
            for operand in whole.operands:
                test = Comparison(whole.kind, (operand,))
                match test.kind:
                    case "equals":
                        self.equal[operand] |= bit
                    case "numeric":
                        self.spans.append((operand, bit))
                    case "suffix":
                        tails.append((operand, test, bit))
                    case "wildcard" if operand[:1] == "*" and "\\" not in operand:
                        tails.append((operand.rpartition("*")[2], test, bit))
                    case "prefix":
                        heads.append((operand, test, bit))
                    case "wildcard":
                        head = operand.partition("*")[0].partition("\\")[0]
                        heads.append((head, test, bit))
                    case _:  # addresses, and text in any case
                        heads.append(("", test, bit))
        self.affixes = (_Affixes(heads), _Affixes(tails, at_end=True))

    def find(self, value: Scalar) -> int:
        """Return the bits of the comparisons that accept a value."""
        bits = self.always | self.equal.get(value, 0)
        if isinstance(value, str):
            for affixes in self.affixes:
                bits |= affixes.find(value)
        elif not isinstance(value, tuple):
            bits |= _unite(bit for span, bit in self.spans if span.holds(value))
        return bits


class _Field:
    """All conditions on one field."""

    def __init__(self, conditions: list[tuple[Condition, int]]) -> None:
        self.all = _unite(bit for _, bit in conditions)
        # Those that a missing field satisfies.
        self.absent = _unite(bit for condition, bit in conditions if condition.absent)
        self.keyed = 0  # those that are considered only if an event has this field
        wanted: list[tuple[Comparison, int]] = []
        excluded: list[tuple[Comparison, int]] = []
        self.awkward: list[tuple[Accepts, int]] = []
        for condition, bit in conditions:
            negated = [test for test in condition.tests if test.negated]
            wanted += [(test, bit) for test in condition.tests if not test.negated]
            # Of several negated comparisons one is enough, which a table of excluded values cannot express.
            if len(negated) == 1:
                excluded.append((Comparison(negated[0].kind, negated[0].operands), bit))
            else:
                self.awkward += [(test.accepts, bit) for test in negated]
        self.negated = _unite(bit for _, bit in excluded)
        self.wanted, self.excluded = _Table(wanted), _Table(excluded)
        self.find = lru_cache(maxsize=1_000)(self._look_up)  # most fields of events have few values

    def _look_up(self, value: Scalar) -> int:
        bits = self.wanted.find(value)
        if self.negated:
            bits |= self.negated & ~self.excluded.find(value)
        return bits | _unite(bit for accepts, bit in self.awkward if accepts(value))


class RuleSet:
    """An index over named patterns; the cost of an event hardly grows with their number."""

    def __init__(self, patterns: Mapping[str, Pattern]) -> None:
        self._alternatives = [
            (name, one) for name, pattern in patterns.items() for one in pattern.alternatives
        ]
        conditions: dict[str, list[tuple[Condition, int]]] = {}
        for position, (_, conjunction) in enumerate(self._alternatives):
            for condition in conjunction.conditions:
                conditions.setdefault(condition.path, []).append((condition, 1 << position))
        self._fields = {path: _Field(named) for path, named in conditions.items()}
        self._unkeyed = 0  # those that require no field, only the absence of some
        for position, (_, conjunction) in enumerate(self._alternatives):
            if conjunction.required:
                # Any required field would do; the deepest is the least common, so the fewest are considered in vain.
                self._fields[max(conjunction.required, key=lambda path: path.count("."))].keyed |= (
                    1 << position
                )
            else:
                self._unkeyed |= 1 << position
        self._start = plan_walk(self._fields)

    def matching(self, event: dict[str, Any]) -> list[str]:
        """Return the names of the rules that match the event, in the order of ``patterns``."""
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
