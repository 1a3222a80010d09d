"""Old names; use ``cli.output`` and ``cli.options``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eventstacks import aws
from eventstacks.cli import options
from eventstacks.cli.output import (
    confirm,
    console,
    counted,
    print_json,
)
from eventstacks.cli.output import (
    print_errors as complain,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.cloudformation.results import Result
    from eventstacks.environment import StackRef

__all__ = ["complain", "confirm", "console", "counted", "print_json", "read", "summarize"]


def read(
    env: str, stack: str | None, region: str | None, *, connections: int = 32
) -> tuple[aws.Aws, dict[str, Any], list[StackRef]]:
    """Do as ``options.connect``, without the header line."""
    chosen, templates, stacks = options.load(env, stack, region)
    return aws.Aws(chosen, connections=connections), templates, stacks


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
            click.secho(f"Warning: {one.ref}: {warning}", err=True, fg="yellow")
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
            print(f"{one.ref.stack_name}\t{one.ref.region}\t{one.outcome}\t{one.seconds:.1f} s")
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
            one.ref.stack_name,
            one.ref.region,
            Text(one.outcome, style=_STYLES.get(one.outcome, "")),
            f"{one.seconds:.1f}",
            Text("\n".join(lines), style="dim", no_wrap=True, overflow="ellipsis"),
        )
    out.print()
    out.print(table)
    if not listed:
        out.print(f"The outputs: make outputs ENV={results[0].ref.environment}", style="dim")
