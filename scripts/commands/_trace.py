"""How the way of an event is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.tree import Tree

    from scripts.flow.graph import Flow
    from scripts.flow.trace import Arrival, Delivery

STYLES = {"delivered": "green", "dead letter": "yellow", "lost": "bold red", "unknown": "magenta"}
MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: "[magenta]?[/]"}


def draw(arrival: Arrival, run: Callable[[Delivery], list[str]], tree: Tree | None = None) -> Tree:
    """The way of an event as a tree: bus → rules → targets. ``run``: lines about running a target."""
    from rich.markup import escape
    from rich.tree import Tree

    from scripts.flow.inputs import compact

    region = arrival.bus.split(":")[3]
    title = f"bus [bold]{escape(arrival.label)}[/]  [dim]{escape(arrival.bus)}[/]"
    root = tree or Tree(f"event [dim]{escape(compact(arrival.event))}[/]")
    tree = root.add(title)
    if not arrival.exists:
        tree.add(f"{MARKS[False]} {region} has no such bus: PutEvents would take the event, and it would be gone")
        return root
    for route in arrival.routes:
        branch = tree.add(f"{MARKS[route.matched]} rule [bold]{escape(route.rule.label)}[/]")
        for why in route.why:
            branch.add(f"[dim]{escape(why)}[/]")
        if not route.deliveries and route.matched:
            branch.add("[red]the rule has no target[/]")
        for one in route.deliveries:
            _add_delivery(branch, one, run, compact(arrival.event))
    if not arrival.routes:
        tree.add(f"{MARKS[False]} no rule of these stacks is on this bus")
    for archive in arrival.archives:
        tree.add(f"[green]✓[/] archive [bold]{escape(archive)}[/] keeps it")
    return root


def _add_delivery(branch: Any, one: Delivery, run: Callable[[Delivery], list[str]], event: str) -> None:
    from rich.markup import escape

    queue = f" {escape(one.dead_letters)}" if one.dead_letters else ""
    style = STYLES[one.fate]
    leaf = branch.add(f"→ {one.target.service} [bold]{escape(one.label)}[/]: [{style}]{one.fate}{queue}[/]")
    if one.why_lost:
        leaf.add(f"[{style}]{MARKS[False]} {escape(one.why_lost)}[/]")
    else:
        leaf.add(f"{MARKS[one.permission.allowed]} {escape(one.permission.reason)}")
    taken = "the event" if one.payload.text == event else escape(one.payload.text)
    leaf.add(f"receives {taken if one.fate in ('delivered', 'unknown') else 'nothing'}")
    for line in run(one) if one.fate == "delivered" else ():
        leaf.add(escape(line))
    if one.onward:
        draw(one.onward, run, leaf)


def runner(flow: Flow) -> Callable[[Delivery], list[str]]:
    """Runs inline Lambda targets; gives what they answered and wrote."""
    from scripts.flow import running

    def run(delivery: Delivery) -> list[str]:
        function = flow.resources.get(delivery.target.arn)
        if delivery.target.service != "lambda" or function is None:
            return []
        if (done := running.run(function, delivery.payload.text)) is None:
            return ["its code is not inline Python: not run"]
        return [f"ran: {done.result}" if done.ok else "ran, and failed", *done.log.splitlines()]

    return run
