"""``make parameters``."""

from __future__ import annotations

import click

from eventstacks.cli._options import env_option, region_option


@click.command()
@env_option
@click.option("--stack", required=True, metavar="NAME", help="The stack of the environment.")
@region_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["cli", "codepipeline"]),
    default="cli",
    show_default=True,
    help="For aws cloudformation --parameters, or a CodePipeline template configuration.",
)
def command(env: str, stack: str, region: str | None, form: str) -> int:
    """Print a stack's parameters as JSON for other tools, outputs of other stacks filled in.

    \b
    Example:
      eventstacks parameters --env local --stack custom-event-bus --format codepipeline
    """
    from eventstacks.cli import _stacks

    aws, _, refs = _stacks.read(env, stack, region)
    from eventstacks.cloudformation import parameters

    _stacks.print_json(parameters.document(refs[0], parameters.Values(aws).resolve(refs[0]), form))
    return 0
