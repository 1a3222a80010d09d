"""Fields of an event that patterns name, and the array elements that hold their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from eventstacks.errors import ToolError
from eventstacks.patterns.values import MAX_DEPTH, Scalar, canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# The array elements that hold a value: (array, index) pairs, the outermost first. Two values can be part of one match
# unless they are in different elements of the same array.
Place: TypeAlias = tuple[tuple[int, int], ...]


class EventError(ToolError):
    """A value is not an event, or is nested too deeply."""


class Node:
    """A step to named fields: the keys of the next steps, and the field that ends here, if any."""

    __slots__ = ("edges", "path")

    def __init__(self) -> None:
        self.edges: dict[str, Node] = {}
        self.path: str | None = None


class Fields(dict[str, list[tuple[Scalar, Place]]]):
    """Values by dotted path; ``nested`` is set if some may be in elements of arrays."""

    __slots__ = ("arrays", "nested")

    def __init__(self) -> None:
        super().__init__()
        self.arrays = 0
        self.nested = False


def plan_walk(paths: Iterable[str]) -> Node:
    """Return the first step to the paths.

    A dot joins keys and can be part of one, as in event-ruler: a.b is both b in a and the key "a.b".
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
            end = offset - 1
            while end < len(path):
                end = path.find(".", end + 1)
                end = len(path) if end < 0 else end
                moves.setdefault(path[offset:end], set()).add((path, end + 1))
        for key, reached in moves.items():
            target = frozenset(reached)
            if target not in nodes:
                nodes[target] = Node()
                todo.append(target)
            nodes[places].edges[key] = nodes[target]
    return nodes[start]


def find_fields(start: Node, event: dict[str, Any]) -> Fields:
    """Return the named fields of an event; other fields are not visited. Raises EventError."""
    fields = Fields()
    _visit_object(start, event, (), fields, 0)
    return fields


def _visit_object(
    node: Node, content: dict[str, Any], place: Place, fields: Fields, depth: int
) -> None:
    if depth > MAX_DEPTH:
        raise EventError("Event is nested too deeply")
    edges = node.edges
    # The shorter of both is iterated: the keys of the event, or those of the paths.
    for key in edges if len(edges) <= len(content) else content:
        if key not in content or key not in edges:
            continue
        child, value = edges[key], content[key]
        kind = type(value)
        if kind is str and child.path is not None:
            fields.setdefault(child.path, []).append((value, place))
        elif isinstance(value, dict):
            _visit_object(child, value, place, fields, depth + 1)
        elif isinstance(value, list):
            _visit_array(child, value, place, fields, depth + 1)
        elif child.path is not None:
            fields.setdefault(child.path, []).append((canonical(value), place))


def _visit_array(node: Node, content: list[Any], place: Place, fields: Fields, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise EventError("Event is nested too deeply")
    array = fields.arrays
    fields.arrays += 1
    for index, value in enumerate(content):
        if isinstance(value, dict):
            fields.nested = True
            _visit_object(node, value, (*place, (array, index)), fields, depth + 1)
        elif isinstance(value, list):
            fields.nested = True
            _visit_array(node, value, (*place, (array, index)), fields, depth + 1)
        elif node.path is not None:
            fields.setdefault(node.path, []).append((canonical(value), place))


class Places:
    """Places of values, grouped by array and index to find those consistent with another place quickly."""

    __slots__ = ("groups",)

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

    @property
    def arrays(self) -> set[int]:
        """The arrays of these places."""
        groups = (group for by_index in self.groups.values() for group in by_index.values())
        return {array for group in groups for place in group for array, _ in place}
