"""``make plan``."""

from __future__ import annotations

from typing import Any

import click

from eventstacks.cli._options import json_option, where_options
from eventstacks.cli.deploy import build_options, deployment_options

EXIT_CHANGES = 3


@click.command()
@where_options
@json_option
@deployment_options
def command(env: str, stack: str | None, region: str | None, as_json: bool, **given: Any) -> int:
    """Show what a deployment would change; nothing is executed or left behind.

    Exit 3: there are changes. make turns it into 2, as any failure; a pipeline that asks calls eventstacks plan.

    \b
    Example:
      eventstacks plan --env local
    """
    options = build_options(**given)
    from eventstacks.cli import _stacks

    aws, templates, refs = _stacks.read(env, stack, region)
    from eventstacks.cli import _live
    from eventstacks.cloudformation import deployment

    with _live.Reporter(aws.environment, len(refs), yes=True, as_json=as_json) as reporter:
        plans = deployment.plan(aws, templates, refs, options=options, listener=reporter)
    if as_json:
        _stacks.print_json([one.document() for one in plans])
    else:
        from eventstacks.cli import _plan_view

        out = _stacks.console()
        for line in _plan_view.show(plans):
            out.print(line)
    failed = _stacks.complain(one.problem for one in plans)
    return 1 if failed else EXIT_CHANGES if any(one.changes for one in plans) else 0
