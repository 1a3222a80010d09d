"""``make new``."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--stack",
    required=True,
    metavar="NAME",
    help="The new stack: lower-case letters, digits and hyphens.",
)
@click.option(
    "--source",
    metavar="TEXT",
    help="What its events name as their source.  [default: com.example.NAME]",
)
@click.option(
    "--default-bus",
    is_flag=True,
    help="A rule on the account's default bus instead of a bus of its own.",
)
def command(stack: str, source: str | None, default_bus: bool) -> int:
    """Start a stack of one's own from the macros: a template, a sample event, a taskcat test, an entry for ENV=local.

    \b
    Examples:
      eventstacks new --stack order-events
      eventstacks new --stack audit --source com.example.audit --default-bus
    """
    from eventstacks import rendering, scaffold

    made = scaffold.files(stack, source, has_bus=not default_bus)
    rendering.render_all()  # first, so that nothing is written where another template is broken
    scaffold.write(made, rendering.render_all)
    for path in made:
        print(path)
    sample = next(path for path in made if path.suffix == ".json")
    click.echo(
        f"\nTry it:\n  make deploy STACK={stack}\n  make send STACK={stack} FILE={sample}\n"
        f"  make tail STACK={stack} ARGS=--once\nThen change the template; make check (make docs writes its page).",
        err=True,
    )
    return 0
