"""What the verbs for stacks share: reading the environment, and how a run starts, asks, reports and ends."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from eventstacks.aws import Aws
    from eventstacks.cloudformation.order import Pair
    from eventstacks.cloudformation.results import Result
    from eventstacks.environment import Environment
    from eventstacks.errors import ToolError


def read(
    env: str, stack: str | None, region: str | None, *, connections: int = 32
) -> tuple[Aws, dict[str, Any], list[Pair]]:
    """AWS for the environment, its templates (rendered now), and the (stack, region) pairs that are meant.

    Every verb that talks to AWS starts here, so that a fault in a file is found before the first call.
    """
    from eventstacks import environment, rendering
    from eventstacks.aws import Aws

    found = environment.load(env)
    pairs = found.choose(stack, region)
    templates = rendering.render_all()
    environment.check_parameters(found, templates)
    return Aws(found, connections=connections), templates, pairs


def colour() -> bool | None:
    """As click takes it: False for plain lines, with NO_COLOR and on a dumb terminal; None for what the stream is."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def console(*, err: bool = False) -> Console:
    """Colour on a terminal, plain lines elsewhere and with NO_COLOR; long lines are not broken in a pipe."""
    from rich.console import Console

    found = Console(stderr=err, highlight=False, emoji=False, force_terminal=colour())
    found.soft_wrap = not found.is_terminal
    return found


def counted(number: int, one: str, several: str = "") -> str:
    """``1 record``, ``1,234 records``; ``several`` where an s at the end does not do."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, indent=2, default=str))


def confirm(question: str, environment: Environment, *, yes: bool) -> bool:
    """Asks on a terminal; a protected environment wants its name typed. Raises UsageError where nobody can answer."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can answer here: say YES=1 (--yes). Nothing was changed.")
    if environment.protect:
        answer = click.prompt(
            f"{question} Type the name of the environment, {environment.name}, to go on",
            default="",
            show_default=False,
            err=True,
        )
        return bool(answer == environment.name)
    return click.confirm(question, err=True)


def complain(problems: Iterable[ToolError | None]) -> bool:
    """Says what went wrong on stderr; gives whether anything did."""
    found = [one for one in problems if one]
    for one in found:
        click.secho(f"Error: {one}", err=True, fg="red")
    return bool(found)


def summarize(results: Sequence[Result], *, as_json: bool) -> int:
    """The summary at the end, the reasons of failures last on stderr; gives the exit code."""
    if as_json:
        print_json([one.document() for one in results])
    elif results:
        _print_table(results)
    if results and all(one.outcome == "unchanged" for one in results):
        click.echo("No changes.", err=as_json)
    for one in results:
        for warning in one.warnings:
            click.secho(f"Warning: {one.place}: {warning}", err=True, fg="yellow")
    complain(
        one.problem for one in sorted(results, key=lambda one: one.outcome == "failed")
    )  # the reasons last
    return 0 if all(one.ok for one in results) else 1


_LISTED = 16  # lines of outputs that still leave the summary readable
_STYLES = {
    "created": "green",
    "updated": "green",
    "deleted": "green",
    "failed": "bold red",
    "skipped": "yellow",
}


def _print_table(results: Sequence[Result]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    if not out.is_terminal:
        for one in results:
            print(f"{one.place.stack_name}\t{one.place.region}\t{one.outcome}\t{one.seconds:.1f} s")
            for name, value in one.outputs.items():
                print(f"  {name}={value}")
        return
    listed = sum(len(one.outputs) for one in results) <= _LISTED
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "STACK",
        "REGION",
        "RESULT",
        "SECONDS",
        "OUTPUTS",
    ):  # only the outputs give way on a narrow terminal
        justify: Any = "right" if name == "SECONDS" else "left"
        table.add_column(name, justify=justify, no_wrap=name != "OUTPUTS")
    for one in results:
        lines = (
            [f"{name}={value}" for name, value in one.outputs.items()]
            if listed
            else [str(len(one.outputs))]
        )
        table.add_row(
            one.place.stack_name,
            one.place.region,
            Text(one.outcome, style=_STYLES.get(one.outcome, "")),
            f"{one.seconds:.1f}",
            Text("\n".join(lines), style="dim", no_wrap=True, overflow="ellipsis"),
        )
    out.print()
    out.print(table)
    if not listed:
        out.print(f"The outputs: make outputs ENV={results[0].place.environment}", style="dim")
