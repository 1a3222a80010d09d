"""Which stack waits for which: the order follows from the outputs that parameters take."""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

from eventstacks.environment import OutputReference
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventstacks.environment import Environment, StackSettings

Pair = tuple["StackSettings", str]
Key = tuple[str, str]  # the stack's key in the environment's file, and the region


class OrderError(ToolError):
    """Stacks that wait for each other."""


def key(pair: Pair) -> Key:
    """What a pair is known by."""
    return pair[0].name, pair[1]


def references(pair: Pair) -> dict[str, tuple[Key, str]]:
    """Parameter → (whose output, which output) for one stack in one region."""
    stack, region = pair
    return {
        parameter: ((value.stack, value.region or region), value.output)
        for parameter, value in stack.values(region).items()
        if isinstance(value, OutputReference)
    }


def predecessors(environment: Environment, pairs: Iterable[Pair]) -> dict[Key, set[Key]]:
    """For each pair those of ``pairs`` that must be done before it, also by way of a stack that is not among them.

    Raises OrderError for a circle, with its stacks.
    """
    everything = {
        (stack.name, region): {source for source, _ in references((stack, region)).values()}
        for stack in environment.stacks.values()
        for region in stack.regions
    }
    wanted = {key(pair) for pair in pairs}
    before: dict[Key, set[Key]] = {}
    try:
        for one in graphlib.TopologicalSorter(everything).static_order():
            sources = everything.get(one, set())
            before[one] = sources.union(*(before.get(source, set()) for source in sources))
    except graphlib.CycleError as error:
        circle = " → ".join(f"{stack} ({region})" for stack, region in reversed(error.args[1]))
        raise OrderError(
            f"these stacks wait for each other: {circle}", where=f"{environment.path}: stacks"
        ) from None
    return {one: before[one] & wanted for one in before if one in wanted}
