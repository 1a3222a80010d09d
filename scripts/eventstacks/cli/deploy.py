"""``make deploy``."""

from __future__ import annotations

from typing import Any

import click

from eventstacks.cli._options import json_option, where_options, yes_option


def deployment_options(function: Any) -> Any:
    """What ``plan`` and ``deploy`` take alike."""
    for option in (
        click.option(
            "--import-existing",
            is_flag=True,
            help="Take in resources that exist already under their names.",
        ),
        click.option(
            "--revert-drift",
            is_flag=True,
            help="Bring what was changed by hand back to the template.",
        ),
        click.option(
            "--express", is_flag=True, help="Do not wait for resources to be ready to serve."
        ),
        click.option(
            "--on-failure",
            type=click.Choice(["ROLLBACK", "DO_NOTHING", "DELETE"], case_sensitive=False),
            help="For new stacks that fail.",
        ),
        click.option(
            "--disable-rollback",
            is_flag=True,
            help="Leave a stack that fails as it is, to look at it.",
        ),
        click.option(
            "--nested/--no-nested",
            default=True,
            show_default=True,
            help="Look into nested stacks; AWS cannot where one takes what another will put out.",
        ),
        click.option(
            "--allow-replace",
            multiple=True,
            metavar="ID",
            help="A resource that a protected environment may lose.",
        ),
    ):
        function = option(function)
    return function


def build_options(allow_replace: tuple[str, ...], **given: Any) -> Any:
    """``cloudformation.options.Options``. Raises UsageError for what AWS would refuse."""
    from eventstacks.cloudformation.options import Options, OptionsError

    try:
        return Options(allow_replace=frozenset(allow_replace), **given)
    except OptionsError as error:
        raise click.UsageError(str(error)) from None


@click.command()
@where_options
@yes_option
@json_option
@deployment_options
def command(
    env: str, stack: str | None, region: str | None, yes: bool, as_json: bool, **given: Any
) -> int:
    """Create or update stacks: show the changes, ask, execute what was shown, follow it to the end.

    \b
    Examples:
      eventstacks deploy --env local
      eventstacks deploy --env prod --stack custom-event-bus --region us-east-1 --on-failure DELETE
    """
    options = build_options(**given)
    from eventstacks.cli import _stacks

    aws, templates, refs = _stacks.read(env, stack, region)
    from eventstacks.cli import _live
    from eventstacks.cloudformation import deployment

    with _live.Reporter(aws.environment, len(refs), yes=yes, as_json=as_json) as reporter:
        results = deployment.deploy(aws, templates, refs, options=options, listener=reporter)
    if not results:
        click.echo("Nothing was changed.", err=True)
        return 1
    return _stacks.summarize(results, as_json=as_json)
