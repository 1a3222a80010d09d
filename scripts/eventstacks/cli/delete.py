"""``make delete``."""

from __future__ import annotations

import click

from eventstacks.cli._options import json_option, where_options, yes_option


@click.command()
@where_options
@yes_option
@json_option
@click.option("--empty-buckets", is_flag=True, help="Delete what is in the buckets, too.")
@click.option(
    "--retain",
    multiple=True,
    metavar="ID",
    help="For a stack in DELETE_FAILED: a resource to keep.",
)
@click.option(
    "--force", is_flag=True, help="For a stack in DELETE_FAILED: keep whatever cannot be deleted."
)
def command(
    env: str,
    stack: str | None,
    region: str | None,
    yes: bool,
    as_json: bool,
    empty_buckets: bool,
    retain: tuple[str, ...],
    force: bool,
) -> int:
    """Delete stacks, those first that need the others; says before what goes and what stays.

    \b
    Example:
      eventstacks delete --env local --stack custom-event-bus
    """
    from eventstacks.cli import _stacks

    aws, _, refs = _stacks.read(env, stack, region)
    from eventstacks.cli import _live
    from eventstacks.cloudformation import deletion

    surveys = deletion.survey(aws, refs)
    there = [one for one in surveys if one.stack and not one.problem]
    for one in there:
        counted = _stacks.counted(len(one.deleted), "resource")
        what = "the stacks in every account" if aws.environment.stack_set else counted
        click.echo(f"{one.ref}: {what} would be deleted", err=as_json)
        for name, physical in one.retained.items():
            click.echo(f"  stays: {name}  {physical}", err=as_json)
        for name in one.snapshots:
            click.echo(f"  a snapshot stays: {name}", err=as_json)
        for bucket in one.full_buckets:
            click.echo(f"  not empty: {bucket}", err=as_json)
        for export, stacks in one.importers.items():
            click.echo(f"  in use: {export} by {', '.join(stacks)}", err=as_json)
        for output, stacks in one.consumers.items():
            click.echo(f"  in use: output {output} by {', '.join(stacks)}", err=as_json)
    if there and not _stacks.confirm(
        f"Delete {_stacks.counted(len(there), 'stack')} of {aws.environment.name}?",
        aws.environment,
        yes=yes,
    ):
        click.echo("Nothing was changed.", err=True)
        return 1
    with _live.Reporter(aws.environment, len(there), yes=yes, as_json=as_json) as reporter:
        results = deletion.delete(
            aws,
            surveys,
            refs=refs,
            empty_buckets=empty_buckets,
            retain=retain,
            force=force,
            listener=reporter,
        )
    return _stacks.summarize(results, as_json=as_json)
