"""The verbs for a project: init, new, render, lint and local."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from eventstacks import environment, parameter_checks, rendering, scaffold
from eventstacks.cli import output
from eventstacks.cli.options import json_option
from eventstacks.errors import ToolError, command_line
from eventstacks.local import server

# A template is the same in every partition, also if no environment has a Region there.
OTHER_PARTITIONS = frozenset({"cn-north-1", "cn-northwest-1", "us-gov-east-1", "us-gov-west-1"})
# -P with it: a module in the current folder is not imported in place of an installed one.
CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"
# The keys of scaffold.TARGETS, which `new --help` must not load.
TARGETS = (
    *("log-group", "lambda", "sqs", "sns", "stepfunctions"),
    *("bus", "webhook", "pipe", "schedule"),
)


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def init(directory: Path) -> None:
    """Create a project in DIRECTORY with an example stack.

    Writes an environment (parameters/local.yaml), a template that uses the packaged macros, a
    Makefile and a CI workflow. Nothing is overwritten.

    \b
    Example:
      eventstacks init my-events
    """
    _write(scaffold.project(directory))
    stack = scaffold.EXAMPLE
    output.echo(
        f"\nNext:\n  cd {shlex.quote(str(directory))}\n  eventstacks deploy --yes\n"
        f"  eventstacks send --stack {stack} tests/events/{stack}/event.json\n"
        f"  eventstacks tail --stack {stack} --once",
        err=True,
    )


def _write(files: dict[Path, str]) -> None:
    """Write files and their folders, and print their names."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        output.echo(path)


@click.command()
@click.option(
    "--stack",
    required=True,
    metavar="NAME",
    help="Name of the new stack: lower-case letters, digits and hyphens.",
)
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="log-group",
    show_default=True,
    help="What receives its events.",
)
@click.option(
    "--default-bus", is_flag=True, help="Create a rule on the default bus instead of an event bus."
)
@click.option(
    "--bus-of",
    metavar="STACK",
    help="Create a rule on the event bus of another stack of the environment.",
)
def new(stack: str, target: str, default_bus: bool, bus_of: str | None) -> None:
    """Create a new stack from the starter template of a kind of target.

    Writes a template made of macros, a sample event, an entry in parameters/local.yaml, for lambda
    and stepfunctions the code in templates/functions/, and a test in .taskcat.yml if that file
    exists. With --bus-of no test is added: a test creates one stack, which has no bus then.

    \b
    Examples:
      eventstacks new --stack order-events
      eventstacks new --stack order-worker --target lambda --bus-of order-events
      eventstacks new --stack audit --default-bus
    """
    if default_bus and bus_of:
        raise click.UsageError("--default-bus and --bus-of exclude each other")
    files = scaffold.stack(stack, target=target, has_bus=not default_bus, bus_of=bus_of)
    _write(files)
    steps = [command_line("deploy", stack=one) for one in (bus_of, stack) if one]
    steps += [command_line("send", stack=stack, file=f"tests/events/{stack}/event.json")]
    if "LogGroupName'" in files[Path(f"templates/{stack}.yaml.j2")]:
        steps += [command_line("tail", "--once", stack=stack)]
    output.echo("\n  ".join(["\nNext:", *steps]) + "\nThen edit the template.", err=True)


@click.command()
def render() -> None:
    """Render templates/ into build/.

    \b
    Example:
      eventstacks render
    """
    for template in rendering.render_all().values():
        output.echo(f"{template.path}  {len(template.text.encode()):,} bytes")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lint(arguments: tuple[str, ...]) -> int:
    """Lint all templates with cfn-lint, for every Region of every environment.

    Renders the templates and checks all environments first. Regions of aws-cn and aws-us-gov are
    added. Reports errors, warnings and informational findings. ARGUMENTS are passed to cfn-lint.

    \b
    Examples:
      eventstacks lint
      eventstacks lint -- --format json
    """
    templates, regions = rendering.render_all(), set(OTHER_PARTITIONS)
    for name in environment.names():
        one = environment.load(name)
        refs = one.choose()
        parameter_checks.check_parameters(one, templates, refs)
        regions |= {ref.region for ref in refs}
    chosen = ["--regions", *sorted(regions), "--include-checks", "I"]
    rules = ["--append-rules", "eventstacks.lint"]
    paths = [one.path for one in templates.values()]
    done = subprocess.run(
        [sys.executable, "-P", "-c", CFN_LINT, *chosen, *rules, *arguments, "--", *paths],
        check=False,
    )
    if done.returncode:
        return output.EXIT_FAILED
    count = output.counted(len(templates), "template")
    output.echo(f"{count}, {len(regions)} Regions: no findings", err=True)
    return 0


@click.group()
def local() -> None:
    """Start, stop and inspect the embedded AWS.

    --env local starts it when needed. It stops after 30 minutes without a request (LOCAL_AWS_IDLE,
    in seconds).

    \b
    Example: eventstacks local up --port 4567
    """


@local.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Default: LOCAL_AWS_PORT, else 4566. 0: any free port. Ignored if it is running already.",
)
def up(port: int | None) -> None:
    """Start it; if it is running already, print where."""
    output.echo(f"Embedded AWS: {server.start(port=port).url}")
    program = ".venv/bin/eventstacks" if os.environ.get("EVENTSTACKS_MAKE") else "eventstacks"
    output.echo(f'To use it with the AWS CLI: eval "$({program} local env)"')


@local.command("env")
def local_env() -> None:
    """Print shell commands that point the AWS CLI and SDKs to it. Starts it if necessary.

    The access key is random for each start; requests without it are refused.

    \b
    Example: eval "$(eventstacks local env)" && aws cloudformation list-stacks
    """
    endpoint = server.start()
    try:
        region = environment.load("local").regions[0]
    except ToolError:  # outside a project
        region = "us-east-1"
    output.echo("unset AWS_PROFILE AWS_SESSION_TOKEN")
    for name, value in endpoint.variables(region).items():
        output.echo(f"export {name}={shlex.quote(value)}")


@local.command()
def down() -> None:
    """Stop it and discard its data."""
    output.echo("Stopped." if server.stop() else "It was not running.")


@local.command()
@json_option
def status(as_json: bool) -> None:
    """Show status, endpoint and stacks."""
    found = server.status()
    if as_json:
        since = found and datetime.fromtimestamp(found.since, UTC)
        output.print_json(found and {**asdict(found), "since": since})
    elif found is None:
        output.echo("The embedded AWS is not running. The first command that uses it starts it.")
    else:
        minutes = (time.time() - found.since) / 60
        output.echo(f"url     {found.url}\npid     {found.pid}, for {minutes:.0f} min")
        output.echo(f"log     {found.log}")
        output.echo("stacks  " + ("\n        ".join(found.stacks) or "none"))
