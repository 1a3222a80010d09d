"""``make status``."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from eventstacks.cli._options import json_option, where_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eventstacks.cloudformation.status import Status


@click.command()
@where_options
@json_option
def command(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """What is deployed where, in what state, and what to do about it.

    \b
    Example:
      eventstacks status --env local
    """
    from eventstacks.cli import _stacks

    aws, _, refs = _stacks.read(env, stack, region)
    from eventstacks.cloudformation import status

    found = status.read(aws, refs)
    if as_json:
        _stacks.print_json([one.document() for one in found])
        return 0
    for line in lines(found, shutil.get_terminal_size().columns if sys.stdout.isatty() else None):
        print(line)
    return 0


def lines(found: Sequence[Status], width: int | None) -> Iterator[str]:
    """A line for each stack, in columns, with what to do below it; what goes beyond ``width`` has a line of its own."""
    names, regions, states = (
        max(map(len, column))
        for column in zip(
            *((one.ref.stack_name, one.ref.region, one.status) for one in found), strict=True
        )
    )
    for one in found:
        start = (
            f"{one.ref.stack_name:<{names}}  {one.ref.region:<{regions}}  {one.status:<{states}}"
        )
        changed = f"{one.changed:%Y-%m-%d %H:%M:%S}" if one.changed else ""
        more = "  ".join(filter(None, [changed, one.drift, "protected" if one.protected else ""]))
        whole = f"{start}  {more}".rstrip()
        if width is None or len(whole) <= width:
            yield whole
        else:
            yield start.rstrip()
            yield f"    {more}"
        if one.advice:
            yield f"    {one.advice}"
