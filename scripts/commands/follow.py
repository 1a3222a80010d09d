"""``make follow``."""

from __future__ import annotations

import click

from scripts.commands._options import json_option, where_options


@click.command()
@where_options
@json_option
def command(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """Follow what is under way, whoever has started it, until it ends.

    \b
    Example:
      python -m scripts follow --env dev
    """
    from scripts.commands import _stacks

    aws, _, pairs = _stacks.read(env, stack, region)
    from scripts.cloudformation import recovery, stack_sets
    from scripts.cloudformation.calls import Clock
    from scripts.commands import _live

    with _live.Reporter(aws.environment, len(pairs), yes=True, as_json=as_json) as reporter:
        if aws.environment.stack_set:
            results = stack_sets.follow(aws, pairs, reporter, Clock())
        else:
            results = recovery.follow(aws, pairs, listener=reporter)
    if not results:
        click.echo("Nothing is under way.", err=True)
    return _stacks.summarize(results, as_json=as_json)
