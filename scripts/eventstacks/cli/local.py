"""The embedded AWS, by hand."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import click

from eventstacks.errors import ToolError


@click.group(name="local")
def command() -> None:
    """Start, stop and look at the embedded AWS.

    ENV=local starts it by itself; it ends after half an hour without a request (LOCAL_AWS_IDLE, in seconds).

    \b
    Example: eventstacks local up --port 4567
    """


@command.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Default: LOCAL_AWS_PORT, else 4566. 0: any free one.",
)
def up(port: int | None) -> None:
    """Start it, unless it runs already: then on the port where it is."""
    from urllib.parse import urlsplit

    from eventstacks.local import server

    was_running = server.status() is not None
    endpoint = server.start(port=port)
    found = urlsplit(endpoint.url).port
    if was_running and port not in (None, 0, found):
        click.echo(
            f"It was running on port {found} and stays there. For port {port} stop it first: make local-down",
            err=True,
        )
    click.echo(f"The embedded AWS answers on {endpoint.url}")
    click.echo('To use it with the AWS CLI: eval "$(eventstacks local env)"')


@command.command()
def env() -> None:
    """Print shell commands that point the AWS CLI and SDKs to it. Starts it if necessary.

    The access key is random for each start; requests without it are refused.

    \b
    Example: eval "$(eventstacks local env)" && aws cloudformation list-stacks
    """
    import shlex

    from eventstacks import environment
    from eventstacks.local import server

    endpoint = server.start()
    try:
        region = environment.load("local").regions[0]
    except ToolError:  # outside a project
        region = "us-east-1"
    click.echo("unset AWS_PROFILE AWS_SESSION_TOKEN")
    for name, value in endpoint.variables(region).items():
        click.echo(f"export {name}={shlex.quote(value)}")


@command.command()
def down() -> None:
    """Stop it; what it held is gone."""
    from eventstacks.local import server

    click.echo("Stopped." if server.stop() else "It was not running.")


@command.command()
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON document (null when it is not running)."
)
def status(as_json: bool) -> None:
    """Say whether it runs, where, and what it holds."""
    from eventstacks.local import server

    found = server.status()
    if as_json:
        click.echo(json.dumps(found and asdict(found), default=str))
    elif found is None:
        click.echo("The embedded AWS is not running. Start it: make local-up")
    else:
        minutes = (time.time() - found.since) / 60
        click.echo(
            f"url     {found.url}\npid     {found.pid}, for {minutes:.0f} min, {found.memory / 1e6:.0f} MB"
        )
        click.echo(f"log     {found.log}\nstacks  " + ("\n        ".join(found.stacks) or "none"))
