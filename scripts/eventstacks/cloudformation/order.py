"""The order of stacks: each after those whose outputs it takes, and its ``depends_on``."""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventstacks.environment import Environment, StackRef


class OrderError(ToolError):
    """Stacks that depend on each other."""

    default_code = ErrorCode.CIRCULAR_DEPENDENCY


def predecessors(
    environment: Environment, refs: Iterable[StackRef]
) -> dict[StackRef, set[StackRef]]:
    """Return for each stack those of ``refs`` to be done before it.

    A dependency through a stack that is not among ``refs`` counts, too. Raises OrderError for a circular dependency.
    """
    dependencies = {ref: environment.dependencies(ref) for ref in environment.choose()}
    before: dict[StackRef, set[StackRef]] = {}
    try:
        for ref in graphlib.TopologicalSorter(dependencies).static_order():
            sources = dependencies.get(ref, set())
            before[ref] = sources.union(*(before.get(source, set()) for source in sources))
    except graphlib.CycleError as error:
        circle = " → ".join(f"{ref.stack} ({ref.region})" for ref in reversed(error.args[1]))
        raise OrderError(
            f"circular dependency: {circle}", where=f"{environment.path}: stacks"
        ) from None
    wanted = set(refs)
    return {ref: before[ref] & wanted for ref in before if ref in wanted}
