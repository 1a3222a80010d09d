"""How the way of an event is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.tree import Tree

from eventstacks.cli import output
from eventstacks.flow.payload import compact

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventstacks.flow.trace import Arrival, Delivery

STYLES = {"delivered": "green", "dead letter": "yellow", "lost": "bold red", "unknown": "magenta"}
MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[magenta]?[/]"}


def show(arrivals: Iterable[Arrival]) -> None:
    """Prints the ways of an event, each as a tree: bus → rules → targets."""
    console = output.console(markup=True)
    if not console.is_terminal:
        console.width = 1_000_000  # a tree cuts at the width
    for arrival in arrivals:
        tree = Tree(f"event [dim]{escape(compact(arrival.event))}[/]")
        _add_arrival(tree, arrival)
        console.print(tree)


def _add_arrival(tree: Tree, arrival: Arrival) -> None:
    region = arrival.bus.split(":")[3]
    tree = tree.add(f"bus [bold]{escape(arrival.label)}[/]  [dim]{escape(arrival.bus)}[/]")
    if not arrival.exists:
        tree.add(
            f"{MARKS[False]} {region} has no such bus: PutEvents would take the event, and it would be gone"
        )
        return
    for route in arrival.routes:
        branch = tree.add(f"{MARKS[route.matched]} rule [bold]{escape(route.rule.label)}[/]")
        for why in route.why:
            branch.add(f"[dim]{escape(why)}[/]")
        if not route.deliveries and route.matched:
            branch.add("[red]the rule has no target[/]")
        for one in route.deliveries:
            _add_delivery(branch, one, compact(arrival.event))
    if not arrival.routes:
        tree.add(f"{MARKS[False]} no rule of these stacks is on this bus")
    for archive in arrival.archives:
        tree.add(f"{MARKS[True]} archive [bold]{escape(archive)}[/] keeps it")


def _add_delivery(branch: Tree, one: Delivery, event: str) -> None:
    queue = f" {escape(one.dead_letters)}" if one.dead_letters else ""
    style = STYLES[one.fate]
    leaf = branch.add(
        f"→ {one.target.service} [bold]{escape(one.label)}[/]: [{style}]{one.fate}{queue}[/]"
    )
    if one.problem:
        leaf.add(f"[{style}]{MARKS[False]} {escape(one.problem)}[/]")
    else:
        leaf.add(f"{MARKS[one.permission.allowed]} {escape(one.permission.reason)}")
    taken = "the event" if one.payload.text == event else escape(one.payload.text)
    leaf.add(f"receives {taken if one.fate in ('delivered', 'unknown') else 'nothing'}")
    if one.onward:
        _add_arrival(leaf, one.onward)
