"""The order of stacks: after those whose outputs or exports they use, and those of ``depends_on``."""

from __future__ import annotations

import contextlib
import graphlib
from typing import TYPE_CHECKING, Any

from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow.resolve import Stack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from eventstacks.environment import Environment, StackRef
    from eventstacks.rendering import RenderedTemplate


class OrderError(ToolError):
    """Stacks that depend on each other."""

    default_code = ErrorCode.CIRCULAR_DEPENDENCY


Uses = dict["StackRef", set[tuple["StackRef", str]]]  # stack → (stack, output) that it needs


def uses(environment: Environment, templates: Mapping[str, RenderedTemplate] | None) -> Uses:
    """Return the outputs that each stack uses, by ``!Output`` or, with ``templates``, by import.

    Fn::ImportValue counts as far as the names of exports can be resolved.
    """
    found = {ref: set(environment.references(ref).values()) for ref in environment.choose()}
    if not templates:
        return found
    stacks = {}
    for ref in found:
        with contextlib.suppress(ToolError):  # a broken template matters only if it is deployed
            stacks[ref] = Stack(
                templates[ref.settings.template].document,
                {key: one for key, one in ref.values().items() if isinstance(one, str)},
                name=ref.stack_name,
                region=ref.region,
            )
    exporters = {
        (ref.region, str(stack.resolve(output["Export"].get("Name")))): (ref, name)
        for ref, stack in stacks.items()
        for name, output in (stack.template.get("Outputs") or {}).items()
        if isinstance(output, dict) and isinstance(output.get("Export"), dict)
    }
    for ref, stack in stacks.items():
        for argument in _imported(stack.template):
            exporter = exporters.get((ref.region, str(stack.resolve(argument))))
            if exporter and exporter[0] != ref:
                found[ref].add(exporter)
    return found


def _imported(node: Any) -> Iterator[Any]:
    """Yield the arguments of Fn::ImportValue in a template."""
    if isinstance(node, dict):
        if "Fn::ImportValue" in node:
            yield node["Fn::ImportValue"]
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from _imported(one)


def predecessors(
    environment: Environment,
    refs: Iterable[StackRef],
    templates: Mapping[str, RenderedTemplate] | None = None,
) -> dict[StackRef, set[StackRef]]:
    """Return for each stack those of ``refs`` that come before it.

    A dependency through a stack that is not among ``refs`` counts, too. Raises OrderError for a
    circular dependency.
    """
    direct = {
        ref: environment.dependencies(ref) | {used for used, _ in outputs}
        for ref, outputs in uses(environment, templates).items()
    }
    before: dict[StackRef, set[StackRef]] = {}
    try:
        for ref in graphlib.TopologicalSorter(direct).static_order():
            used = direct.get(ref, set())
            before[ref] = used.union(*(before.get(one, set()) for one in used))
    except graphlib.CycleError as error:
        circle = " → ".join(f"{ref.stack} ({ref.region})" for ref in reversed(error.args[1]))
        raise OrderError(
            f"circular dependency: {circle}", where=f"{environment.path}: stacks"
        ) from None
    wanted = list(refs)  # one that has left the file depends on nothing
    return {ref: before.get(ref, set()).intersection(wanted) for ref in wanted}
