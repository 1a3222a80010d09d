"""Match patterns against events, and explain why one does not match."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeAlias

from eventstacks.errors import ErrorCode, ToolError
from eventstacks.patterns.grammar import Alternative, parse_pattern
from eventstacks.patterns.operators import (
    MAX_DEPTH,
    Accepts,
    Comparison,
    Scalar,
    canonical,
    original,
    read_json,
    show,
)

# The array elements that hold a value: (array, index) pairs, the outermost first. Two values can be
# part of one match unless they are in different elements of the same array.
Place: TypeAlias = tuple[tuple[int, int], ...]


# Values and their places by dotted path.
Fields: TypeAlias = dict[str, list[tuple[Scalar, Place]]]


@dataclass(slots=True)
class Node:
    """A step to named fields: the keys of the next steps, and the field that ends here, if any."""

    edges: dict[str, "Node"] = field(default_factory=dict)
    path: str | None = None


def plan_walk(paths: Iterable[str]) -> Node:
    """Return the first step to the paths.

    A dot joins keys and can be part of one, as in event-ruler: a.b is both b in a and the key
    "a.b".
    """
    start = frozenset((path, 0) for path in paths)
    nodes = {start: Node()}
    todo = [start]
    while todo:
        places = todo.pop()
        moves: dict[str, set[tuple[str, int]]] = {}
        for path, offset in places:
            if offset > len(path):
                nodes[places].path = path
                continue
            for end, character in enumerate(f"{path}."):
                if character == "." and end >= offset:
                    moves.setdefault(path[offset:end], set()).add((path, end + 1))
        for key, reached in moves.items():
            target = frozenset(reached)
            if target not in nodes:
                nodes[target] = Node()
                todo.append(target)
            nodes[places].edges[key] = nodes[target]
    return nodes[start]


def find_fields(start: Node, event: dict[str, Any]) -> Fields:
    """Return the named fields of an event; other fields are not visited. Raises ToolError."""
    fields: Fields = {}
    _visit(start, event, (), fields, count(), 0)
    return fields


def _visit(  # noqa: PLR0913, PLR0917 - the state of the walk
    node: Node, value: Any, place: Place, fields: Fields, arrays: Iterator[int], depth: int
) -> None:
    """Add the values of named fields at and below a node.

    ``arrays``: numbers of the arrays to come.
    """
    if depth > MAX_DEPTH:
        raise ToolError("Event is nested too deeply", code=ErrorCode.EVENT_INVALID)
    if isinstance(value, dict):
        edges = node.edges
        # The shorter of both is iterated: the keys of the event, or those of the paths.
        for key in edges if len(edges) <= len(value) else value:
            if key in value and key in edges:
                _visit(edges[key], value[key], place, fields, arrays, depth + 1)
    elif isinstance(value, list):
        array = next(arrays)
        for index, entry in enumerate(value):
            inner = (*place, (array, index)) if isinstance(entry, dict | list) else place
            _visit(node, entry, inner, fields, arrays, depth + 1)
    elif node.path is not None:
        fields.setdefault(node.path, []).append((canonical(value), place))


class Places:
    """Places of values, grouped by array and index to find those that fit another quickly."""

    def __init__(self, places: Iterable[Place]) -> None:
        self.groups: dict[int, dict[int, set[Place]]] = {}
        for place in places:
            array, index = place[0] if place else (-1, 0)
            self.groups.setdefault(array, {}).setdefault(index, set()).add(place)

    def join(self, place: Place) -> Iterator[Place]:
        """Yield each of these places that is consistent with ``place``, joined with it."""
        known = dict(place)
        for array, by_index in self.groups.items():
            groups = (
                [by_index.get(known[array], set())] if array in known else list(by_index.values())
            )
            for group in groups:
                for other in group:
                    if all(known.get(array, index) == index for array, index in other):
                        yield tuple(sorted({*place, *other}))


@dataclass(frozen=True)
class Miss:
    """A field that keeps a pattern from matching.

    ``found``: its values in the event, none if it is missing. ``wanted``: what would match, in
    words. ``one_of``: the pattern has $or, and satisfying one of its branches is enough. ``hint``:
    why the field is missing, if that is known.
    """

    path: str
    found: tuple[Any, ...]
    wanted: str
    one_of: bool = False
    hint: str = ""

    def __str__(self) -> str:
        found = ", ".join(map(show, self.found)) or "missing"
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.path}: {found}{hint}; would match: {self.wanted}"


class Condition:
    """The tests of one field, of which one must accept."""

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

    def __init__(self, alternative: Alternative) -> None:
        # In the order of the paths, as in event-ruler: it decides what "missing" means in arrays.
        self.conditions = [Condition(path, tests) for path, tests in sorted(alternative.items())]

    def holds(self, fields: Fields) -> bool:
        """Return True if the fields satisfy all conditions within consistent array elements."""
        if any(place for values in fields.values() for _, place in values):
            return self.count_consistent(fields) == len(self.conditions)
        return all(condition.holds(fields) for condition in self.conditions)

    def count_consistent(self, fields: Fields) -> int:
        """Return how many conditions, from the first, hold for values in the same array elements.

        A field counts as missing if none of its values is consistent with what was chosen for the
        fields before it.
        """
        found = [fields.get(condition.path, ()) for condition in self.conditions]
        standing = [Places(place for _, place in values) for values in found]
        later: list[set[int]] = [set()]  # the arrays that matter after each condition
        for values in reversed(found[1:]):
            later.append(later[-1] | {array for _, place in values for array, _ in place})
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
        paths = {one.path for each in self.alternatives for one in each.conditions}
        self._start = plan_walk(paths)

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
        if isinstance(content, list) or (isinstance(content, dict) and key not in content):
            return ""
        if not isinstance(content, dict):
            return f"{'.'.join(keys[:position])} is {show(content)[:60]}, not an object"
        content = content[key]
    kind = "an object" if isinstance(content, dict) else "an array without values"
    return f"{path} is {kind}: patterns compare values"


def judge(line: str | bytes) -> dict[str, Any]:
    """Return the answer to a line ``{"pattern" or "pattern_text": …, "event" or "event_text": …}``.

    ``{"match": bool}``; ``{"valid": True}`` without an event; ``{"error": …, "where": path}`` for a
    refused pattern, ``{"error": …}`` for other errors. Raises nothing.
    """
    try:
        # Programs that write such lines may write Infinity: a pattern then refuses it with AWS's
        # text.
        case = read_json(line if isinstance(line, str) else line.decode(), constants=True)
        if not isinstance(case, dict) or not case.keys() & {"pattern", "pattern_text"}:
            return {"error": "The line is not a JSON object with pattern or pattern_text"}
        pattern = Pattern(case["pattern_text"] if "pattern_text" in case else case["pattern"])
        if not case.keys() & {"event", "event_text"}:
            return {"valid": True}
        event = read_json(str(case["event_text"])) if "event_text" in case else case["event"]
        if not isinstance(event, dict):
            return {"error": "Event must be a JSON object"}
        return {"match": pattern.matches(event)}
    except ToolError as error:
        return {"error": error.what} | ({"where": error.where} if error.where else {})
    except ValueError as error:  # from JSON, or from bytes that are not UTF-8
        return {"error": f"Not valid JSON: {error}"}
