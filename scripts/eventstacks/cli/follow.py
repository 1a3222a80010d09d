"""``make follow``."""

from __future__ import annotations

import click

from eventstacks.cli._options import json_option, where_options


@click.command()
@where_options
@json_option
def command(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """Follow what is under way, whoever has started it, until it ends.

    \b
    Example:
      eventstacks follow --env dev
    """
    from eventstacks.cli import _stacks

    aws, _, refs = _stacks.read(env, stack, region)
    from eventstacks.aws import Clock
    from eventstacks.cli import _live
    from eventstacks.cloudformation import recovery, stack_sets

    with _live.Reporter(aws.environment, len(refs), yes=True, as_json=as_json) as reporter:
        if aws.environment.stack_set:
            results = stack_sets.follow(aws, refs, reporter, Clock())
        else:
            results = recovery.follow(aws, refs, listener=reporter)
    if not results:
        click.echo("Nothing is under way.", err=True)
    return _stacks.summarize(results, as_json=as_json)
