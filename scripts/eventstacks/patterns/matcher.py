"""Match one pattern against events, and explain why it does not match."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eventstacks.patterns.fields import Fields, Place, Places, find_fields, plan_walk
from eventstacks.patterns.grammar import Alternative, parse_pattern
from eventstacks.patterns.values import original, show

if TYPE_CHECKING:
    from eventstacks.patterns.operators import Accepts, Comparison


@dataclass(frozen=True)
class Miss:
    """A field that keeps a pattern from matching.

    ``found``: its values in the event, none if it is missing. ``wanted``: what would match, in words. ``one_of``: the
    pattern has $or, and satisfying one of its branches is enough. ``hint``: why the field is missing, if that is known.
    """

    path: str
    found: tuple[Any, ...]
    wanted: str
    one_of: bool = False
    hint: str = ""

    def __str__(self) -> str:
        found = ", ".join(map(show, self.found)) or "missing"
        return f"{self.path}: {found}{f' ({self.hint})' if self.hint else ''}; would match: {self.wanted}"


class Condition:
    """The tests of one field, of which one must accept."""

    __slots__ = ("absent", "accepts", "path", "tests")

    def __init__(self, path: str, tests: tuple[Comparison, ...]) -> None:
        self.path = path
        self.tests = tests
        self.absent = any(test.kind == "absent" for test in tests)
        accepts = [test.accepts for test in tests if test.kind != "absent"]
        self.accepts: Accepts = (
            accepts[0]
            if len(accepts) == 1
            else lambda value: any(accept(value) for accept in accepts)
        )

    def holds(self, fields: Fields) -> bool:
        """Return True if the field alone would match, whatever array elements hold its values."""
        found = fields.get(self.path)
        if found is None:
            return self.absent
        return any(self.accepts(value) or (self.absent and place) for value, place in found)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.tests))


class Conjunction:
    """One alternative of a pattern: all its conditions must hold, and hold together."""

    __slots__ = ("conditions", "required")

    def __init__(self, alternative: Alternative) -> None:
        # In the order of the paths, as in event-ruler: it decides what "missing" means in arrays.
        self.conditions = [Condition(path, tests) for path, tests in sorted(alternative.items())]
        self.required = frozenset(
            condition.path for condition in self.conditions if not condition.absent
        )

    def holds(self, fields: Fields) -> bool:
        """Return True if the fields satisfy all conditions within consistent array elements."""
        if fields.nested:
            return self.count_consistent(fields) == len(self.conditions)
        return all(condition.holds(fields) for condition in self.conditions)

    def count_consistent(self, fields: Fields) -> int:
        """Return how many of the conditions, from the first, hold for values in the same elements of arrays.

        A field counts as missing if none of its values is consistent with what was chosen for the fields before it.
        """
        found = [fields.get(condition.path, ()) for condition in self.conditions]
        standing = [Places(place for _, place in values) for values in found]
        later: list[set[int]] = [set()]  # the arrays that matter after each condition
        for places in reversed(standing[1:]):
            later.append(later[-1] | places.arrays)
        reached: set[Place] = {()}
        for position, condition in enumerate(self.conditions):
            kept = later[-1 - position]
            fitting = Places(place for value, place in found[position] if condition.accepts(value))
            joined: set[Place] = set()
            for place in reached:
                joined.update(fitting.join(place))
                if condition.absent and next(standing[position].join(place), None) is None:
                    joined.add(place)
            reached = {tuple(pair for pair in place if pair[0] in kept) for place in joined}
            if not reached:
                return position
        return len(self.conditions)


class Pattern:
    """A compiled event pattern, from JSON text or parsed JSON. Raises PatternError."""

    def __init__(self, pattern: str | dict[str, Any]) -> None:
        self.alternatives = [Conjunction(alternative) for alternative in parse_pattern(pattern)]
        self.paths = frozenset(
            c.path for conjunction in self.alternatives for c in conjunction.conditions
        )
        self._start = plan_walk(self.paths)

    def matches(self, event: dict[str, Any]) -> bool:
        """Return True if AWS would match the event (as json.loads or read_json return it)."""
        fields = find_fields(self._start, event)
        return any(conjunction.holds(fields) for conjunction in self.alternatives)

    def explain(self, event: dict[str, Any]) -> list[Miss]:
        """Return why the event does not match, by field; an empty list if it does.

        With $or: what fails in each alternative and, as ``one_of``, what fails only in some.
        """
        fields = find_fields(self._start, event)
        if any(conjunction.holds(fields) for conjunction in self.alternatives):
            return []
        found = [
            self._explain_conjunction(conjunction, fields, event)
            for conjunction in self.alternatives
        ]
        everywhere = set(found[0]).intersection(*found[1:])
        misses = dict.fromkeys(
            replace(one, one_of=one not in everywhere) for missed in found for one in missed
        )
        return sorted(misses, key=lambda miss: miss.one_of)

    @staticmethod
    def _explain_conjunction(
        conjunction: Conjunction, fields: Fields, event: dict[str, Any]
    ) -> list[Miss]:
        failing = [condition for condition in conjunction.conditions if not condition.holds(fields)]
        wanted = [str(condition) for condition in failing]
        if not failing:  # each condition alone would hold, but not together
            position = conjunction.count_consistent(fields)
            failing = [conjunction.conditions[position]]
            before = ", ".join(condition.path for condition in conjunction.conditions[:position])
            wanted = [f"{failing[0]}, in the same array element as {before}"]
        return [
            Miss(
                condition.path,
                tuple(original(value) for value, _ in fields.get(condition.path, ())),
                words,
                hint="" if condition.path in fields else _explain_absence(condition.path, event),
            )
            for condition, words in zip(failing, wanted, strict=True)
        ]


def _explain_absence(path: str, event: dict[str, Any]) -> str:
    """Return what is in place of a missing field's parent, if that explains it."""
    content: Any = event
    keys = path.split(".")
    for position, key in enumerate(keys):
        if isinstance(content, dict):
            if key not in content:
                return ""
            content = content[key]
        elif isinstance(content, list):
            return ""
        else:
            return f"{'.'.join(keys[:position])} is {show(content)[:60]}, not an object"
    return f"{path} is {'an object' if isinstance(content, dict) else 'an array without values'}: patterns compare values"
