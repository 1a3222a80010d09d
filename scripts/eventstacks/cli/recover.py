"""``make recover``."""

from __future__ import annotations

import click

from eventstacks.cli._options import json_option, where_options, yes_option


@click.command()
@where_options
@yes_option
@json_option
@click.option(
    "--skip",
    multiple=True,
    metavar="ID",
    help="UPDATE_ROLLBACK_FAILED: a resource to leave as it is.",
)
@click.option("--retain", multiple=True, metavar="ID", help="DELETE_FAILED: a resource to keep.")
@click.option("--force", is_flag=True, help="DELETE_FAILED: keep whatever cannot be deleted.")
@click.option(
    "--cancel",
    is_flag=True,
    help="Stop an update that is under way; delete a stack that is being created.",
)
def command(
    env: str,
    stack: str | None,
    region: str | None,
    yes: bool,
    as_json: bool,
    skip: tuple[str, ...],
    retain: tuple[str, ...],
    force: bool,
    cancel: bool,
) -> int:
    """Lead a stack out of a state in which it is stuck: say how, ask, do it.

    \b
    Example:
      eventstacks recover --env dev --stack custom-event-bus
    """
    from eventstacks.cli import _stacks

    if sum(map(bool, (skip, retain, force, cancel))) > 1:
        raise click.UsageError(
            "--skip, --retain, --force and --cancel exclude each other: each is for another state."
        )
    aws, _, refs = _stacks.read(env, stack, region)
    from eventstacks.aws import Clock
    from eventstacks.cli import _live
    from eventstacks.cloudformation import recovery, schedule, stack_sets

    clock = Clock()
    if aws.environment.stack_set:
        if not cancel:
            raise stack_sets.no_recovery(aws)
        running = stack_sets.under_way(aws, refs, clock)
        for words in running or ["Nothing is under way."]:
            click.echo(words, err=as_json)
        question = "Stop that, in all accounts and regions? Nothing is rolled back."
        if running and not _stacks.confirm(question, aws.environment, yes=yes):
            click.echo("Nothing was changed.", err=True)
            return 1
        with _live.Reporter(aws.environment, len(refs), yes=yes, as_json=as_json) as reporter:
            stopped = stack_sets.follow(aws, refs, reporter, clock, stop=True) if running else []
        return _stacks.summarize(stopped, as_json=as_json)
    steps = [
        recovery.propose(one, skip=skip, retain=retain, force=force, cancel=cancel)
        for one in schedule.remotes(aws, refs, clock)
    ]
    for step in steps:
        click.echo(f"{step.ref} {step.words}", err=as_json)
    wanted = [step for step in steps if step.method]
    if wanted and not _stacks.confirm("Do that?", aws.environment, yes=yes):
        click.echo("Nothing was changed.", err=True)
        return 1
    with _live.Reporter(aws.environment, len(wanted), yes=yes, as_json=as_json) as reporter:
        results = recovery.carry_out(wanted, clock, reporter)
    return _stacks.summarize(results, as_json=as_json)
