"""``make drift``."""

from __future__ import annotations

import click

from eventstacks.cli._options import json_option, where_options

EXIT_DRIFTED = 3


@click.command()
@where_options
@json_option
def command(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """Show what was changed outside of CloudFormation, property by property.

    Exit 3: something was. make turns it into 2, as any failure; a pipeline that asks calls eventstacks drift.

    \b
    Example:
      eventstacks drift --env local
    """
    from eventstacks.cli import _stacks

    aws, _, refs = _stacks.read(env, stack, region)
    from eventstacks.cloudformation import drift

    found = drift.detect(aws, refs)
    if as_json:
        _stacks.print_json([one.document() for one in found])
    for one in found if not as_json else ():
        print(f"{one.ref}: {one.status}")
        for resource in one.resources:
            print(f"  {resource.logical_id}  {resource.type}  {resource.status}")
            for each in resource.differences:
                path = each.path.strip("/").replace("/", ".")
                print(f"      {path}: {each.expected or '(none)'} → {each.actual or '(none)'}")
    failed = _stacks.complain(one.problem for one in found)
    return 1 if failed else EXIT_DRIFTED if any(one.status == "DRIFTED" for one in found) else 0
