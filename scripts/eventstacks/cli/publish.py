"""``make publish``."""

from __future__ import annotations

import click

from eventstacks.cli._options import json_option, where_options


@click.command()
@where_options
@json_option
def command(env: str, stack: str | None, region: str | None, as_json: bool) -> int:
    """Upload build/ to the environment's bucket; print a link per stack and region that opens the console's form.

    The form comes with the values of the environment's file. Whoever follows a link must be allowed to read the bucket.

    \b
    Examples:
      eventstacks publish --env dev
      eventstacks publish --env dev --stack custom-event-bus --region eu-west-1
    """
    from dataclasses import asdict

    from eventstacks import publishing
    from eventstacks.cli import _stacks

    aws, templates, refs = _stacks.read(env, stack, region)
    aws.guard()
    found = publishing.links(aws, refs, templates)
    if as_json:
        _stacks.print_json([asdict(one) for one in found])
        return 0
    if aws.environment.endpoint:
        click.secho(
            "These open the console of AWS, which does not see this environment's own endpoint.",
            err=True,
            fg="yellow",
        )
    for one in found:
        print(f"{one.stack_name} in {one.region}\n  {one.url}")
        for name, why in one.left_out.items():
            click.secho(f"  fill in {name} by hand: {why}", err=True, fg="yellow")
    return 0
