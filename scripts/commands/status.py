"""``make status``."""

from __future__ import annotations

import click

from scripts.commands._options import json_option, where_options


@click.command()
@where_options
@json_option
def command(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """What is deployed where, in what state, and what to do about it.

    \b
    Example:
      python -m scripts status --env local
    """
    from scripts.commands import _stacks

    aws, _, pairs = _stacks.read(env, stack, region)
    from scripts.cloudformation import status

    found = status.read(aws, pairs)
    if as_json:
        _stacks.print_json([one.document() for one in found])
        return 0
    for one in found:
        changed = f"{one.changed:%Y-%m-%d %H:%M:%S}" if one.changed else ""
        protected = "protected" if one.protected else ""
        start = f"{one.place.stack_name:<32}  {one.place.region:<14}  {one.status:<20}"
        print("  ".join([start, *filter(None, [changed, one.drift, protected])]).rstrip())
        if one.advice:
            print(f"    {one.advice}")
    return 0
