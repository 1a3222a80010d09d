"""The verbs for a project: init, new, render, lint, demo and local."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from eventstacks import aws, environment, packaged, parameter_checks, rendering, scaffold
from eventstacks.cli import demo as acts
from eventstacks.cli import options, output
from eventstacks.cli.options import FiniteRange, env_option, json_option, yes_option
from eventstacks.cloudformation import deployer
from eventstacks.errors import ToolError, command_line
from eventstacks.local import server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from eventstacks.environment import Environment, StackRef

# A template is the same in every partition, also if no environment has a Region there.
OTHER_PARTITIONS = frozenset({"cn-north-1", "cn-northwest-1", "us-gov-east-1", "us-gov-west-1"})
# -P with it: a module in the current folder is not imported in place of an installed one.
CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"
WAIT_LOCAL, WAIT_AWS = 30.0, 1200.0  # seconds; CloudTrail can take 15 minutes


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
    files = scaffold.project(directory)
    scaffold.write(files)
    for path in files:
        output.echo(path)
    stack = scaffold.EXAMPLE
    output.echo(
        f"\nNext:\n  cd {shlex.quote(str(directory))}\n  eventstacks deploy --yes\n"
        f"  eventstacks send --stack {stack} tests/events/{stack}/event.json\n"
        f"  eventstacks tail --stack {stack} --once",
        err=True,
    )


@click.command()
@click.option(
    "--stack",
    required=True,
    metavar="NAME",
    help="Name of the new stack: lower-case letters, digits and hyphens.",
)
@click.option("--source", metavar="TEXT", help="Source of its events.  [default: com.example.NAME]")
@click.option(
    "--default-bus", is_flag=True, help="Create a rule on the default bus instead of an event bus."
)
def new(stack: str, source: str | None, default_bus: bool) -> None:
    """Create a new stack from the starter template.

    Writes a template made of macros, a sample event, an entry in parameters/local.yaml, and a test
    in .taskcat.yml if that file exists.

    \b
    Examples:
      eventstacks new --stack order-events
      eventstacks new --stack audit --source com.example.audit --default-bus
    """
    files = scaffold.stack(stack, source, has_bus=not default_bus)
    rendering.render_all()  # nothing is written if another template is broken
    scaffold.write(files, rendering.render_all)
    for path in files:
        output.echo(path)
    sample = next(path for path in files if path.suffix == ".json")
    send = command_line("send", str(sample), stack=stack)
    if os.environ.get("EVENTSTACKS_MAKE"):
        send = f"make send STACK={stack} FILE={sample}"
    output.echo(
        f"\nNext:\n  {command_line('deploy', stack=stack)}\n  {send}\n"
        f"  {command_line('tail', '--once', stack=stack)}\nThen edit the template.",
        err=True,
    )


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
    templates = rendering.render_all()
    environments = [environment.load(name) for name in environment.names()]
    for one in environments:
        parameter_checks.check_parameters(one, templates)
    used = _regions(ref for one in environments for ref in one.choose())
    regions = {*used, *OTHER_PARTITIONS}
    paths = [one.path for one in templates.values()]
    chosen = ["--regions", *sorted(regions), "--include-checks", "I"]
    rules = ["--append-rules", "eventstacks.lint"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", CFN_LINT, *chosen, *rules, *arguments, "--", *paths],
        check=False,
    )
    if done.returncode:
        return output.EXIT_FAILED
    count = output.counted(len(templates), "template")
    output.echo(f"{count}, {len(regions)} Regions: no findings", err=True)
    return 0


def _regions(refs: Iterable[StackRef]) -> list[str]:
    return list(dict.fromkeys(ref.region for ref in refs))


@click.command()
@env_option
@yes_option
@click.option("--keep", is_flag=True, help="Leave the stacks (and the embedded AWS) running.")
@click.option(
    "--wait",
    type=FiniteRange(min=0),
    help="Seconds to wait for a delivery.  [default: 30; on AWS 1200]",
)
def demo(env: str, yes: bool, keep: bool, wait: float | None) -> int:
    """Deploy a second copy of the stacks, cause their events, and show where they arrive.

    Everything is named demo-… and is deleted at the end, also after Ctrl-C. Exits with 0 only if
    every expected delivery was seen. With --env local, the default, it deploys the packaged stacks
    to the embedded AWS, in any folder. On an account it asks first.

    \b
    Examples:
      eventstacks demo
      eventstacks demo --keep
      eventstacks demo --env dev
    """
    chosen, templates = _demo_stacks(env)
    refs, run = chosen.choose(), acts.new_run()
    question = (
        f"This deploys {output.counted(len(refs), 'stack')} in {', '.join(_regions(refs))} of "
        f"account {chosen.account},\nand creates a small PostgreSQL database per Region to take a "
        "snapshot of (minutes, and a few cents).\nEverything is deleted at the end. Continue?"
    )
    if not chosen.endpoint and not output.confirm(question, chosen, yes=yes):
        output.echo("Nothing was changed.", err=True)
        return output.EXIT_FAILED
    stops = chosen.endpoint == environment.EMBEDDED and not keep and server.status() is None
    try:
        with _step("Connected") as describe:
            connection = options.open_aws(chosen, refs)
            describe(f"to account {chosen.account or 'of the credentials'}")
        try:
            wait = wait if wait is not None else WAIT_LOCAL if chosen.endpoint else WAIT_AWS
            return _demonstrate(connection, templates, refs, run, wait)
        except KeyboardInterrupt:
            output.echo("\nInterrupted. Ctrl-C again ends the deletion, too.", err=True)
            raise
        finally:
            output.echo()
            if keep:
                output.echo(f"Not deleted: {acts.describe(run)}")
            else:
                output.echo(f"Deleting {acts.describe(run)}")
                with _step("Deleted") as describe:
                    describe(output.counted(acts.remove(connection, refs, run), "stack"))
    finally:
        if stops:
            server.stop()


def _demo_stacks(env: str) -> tuple[Environment, rendering.Templates]:
    """Return an environment with the prefix demo-, and its templates; for local the packaged ones."""
    with _step("Rendered") as describe:
        if env == "local":
            chosen = environment.load(env, packaged.packaged("parameters"))
            temporary = tempfile.TemporaryDirectory(prefix="eventstacks-")
            build = Path(click.get_current_context().with_resource(temporary))
            templates = rendering.render_all(packaged.packaged("templates"), build)
        else:
            chosen, templates = environment.load(env), rendering.render_all()
        parameter_checks.check_parameters(chosen, templates)
        describe(output.counted(len(templates), "template"))
    return chosen.prefixed(acts.PREFIX), templates


def _demonstrate(
    connection: aws.Aws,
    templates: rendering.Templates,
    refs: Sequence[StackRef],
    run: str,
    wait: float,
) -> int:
    """Deploy, play and show; return the exit code."""
    regions = _regions(refs)
    with _step("Deployed") as describe:
        results = deployer.create(connection, refs).deploy(templates)
        describe(f"{len(results)} stacks in {', '.join(regions)}")
    if output.print_errors(result.problem for result in results):
        return output.EXIT_FAILED
    done = acts.play(connection, regions, run, wait)
    acts.show(done)
    seconds = [delivery.seconds for act in done for delivery in act.deliveries]
    if not seconds or None in seconds:
        text = f"{seconds.count(None)} of {len(seconds)} expected deliveries were not seen"
        output.print_errors([ToolError(text)])
        return output.EXIT_FAILED
    output.echo(f"\nAll {len(seconds)} expected deliveries were seen.", style="green")
    return 0


@contextmanager
def _step(name: str) -> Iterator[Callable[[str], None]]:
    """Print one line when the block ends: the step, what the block described, and its time."""
    begun, texts = time.monotonic(), list[str]()
    yield texts.append
    output.echo(f"{name:<13} {' '.join(texts):<57} {time.monotonic() - begun:5.1f} s")  # 79 columns


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
    help="Default: LOCAL_AWS_PORT, else 4566. 0: any free port.",
)
def up(port: int | None) -> None:
    """Start it; if it is running already, print where."""
    was_running = server.status() is not None
    endpoint = server.start(port=port)
    actual = urlsplit(endpoint.url).port
    if was_running and port not in (None, 0, actual):
        advice = _local_command("down")
        output.echo(
            f"Already running on port {actual}. To use port {port}, first: {advice}", err=True
        )
    output.echo(f"Embedded AWS: {endpoint.url}")
    output.echo('To use it with the AWS CLI: eval "$(eventstacks local env)"')


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
        output.print_json(found and asdict(found))
    elif found is None:
        output.echo(f"The embedded AWS is not running. Start it: {_local_command('up')}")
    else:
        minutes, megabytes = (time.time() - found.since) / 60, found.memory / 1e6
        output.echo(f"url     {found.url}")
        output.echo(f"pid     {found.pid}, for {minutes:.0f} min, {megabytes:.0f} MB")
        output.echo(f"log     {found.log}")
        output.echo("stacks  " + ("\n        ".join(found.stacks) or "none"))


def _local_command(verb: str) -> str:
    under_make = os.environ.get("EVENTSTACKS_MAKE")
    return f"make local-{verb}" if under_make else f"eventstacks local {verb}"
