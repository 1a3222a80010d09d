"""The verbs for a project: init, demo, new, render, lint and local."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from eventstacks import aws, documents, environment, parameter_checks, rendering, scaffold
from eventstacks.bus import send
from eventstacks.cli import output
from eventstacks.cli.options import json_option
from eventstacks.cloudformation import deploy, outputs, run
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
# Of demo: seconds to wait for a delivery, and between two looks; the stacks (see _cause).
DEMO_WAIT, DEMO_POLL = 30.0, 0.05
DEMO_STACKS = ("custom-event-bus", "s3-object-events", "rds-snapshot-events")
DEMO_WIDTH = 72  # characters of a log message: within 80 columns
ORDERS: dict[str, dict[str, Any]] = {
    "OrderPlaced": {"customer": "ana", "total": 42.5},
    "OrderPaid": {"method": "card"},
    "OrderShipped": {"carrier": "post", "parcels": 1},
}
# What is shown of the events of AWS, and of the log of the function.
EVENT_FIELDS = ("eventName", "SourceIdentifier", "Message", "key", "bucket", "requestParameters")


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
    added. Reports errors, warnings and informational findings. ARGUMENTS are options of cfn-lint.

    \b
    Examples:
      eventstacks lint
      eventstacks lint -- --format json
    """
    if arguments and not arguments[0].startswith("-"):
        raise click.UsageError(
            f"'{arguments[0]}' is not an option of cfn-lint. All templates of the project are "
            "linted; for another file: cfn-lint -a eventstacks.lint -- FILE"
        )
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


@click.command()
def demo() -> int:
    """Deploy the packaged stacks to an embedded AWS, cause their events, show where they arrive.

    It works in any folder and needs no account. The embedded AWS is a new one that ends with the
    command. Exits with 0 only if every expected delivery was seen.

    \b
    Example:
      eventstacks demo
    """
    begun = time.monotonic()
    local = environment.load("local", documents.packaged("parameters"))
    chosen = replace(local, stacks={name: local.stacks[name] for name in DEMO_STACKS})
    with tempfile.TemporaryDirectory(prefix="eventstacks-") as folder, ExitStack() as cleanup:
        templates = rendering.Templates(documents.packaged("templates"), Path(folder) / "build")
        endpoint = server.start(Path(folder) / "aws", port=0)
        cleanup.callback(server.stop, Path(folder) / "aws")
        connection, refs = aws.Aws(chosen, lambda: endpoint), chosen.choose()
        with output.progress("Deploying"):
            results = deploy.deploy(run.Scope(connection, refs), templates)
        if output.print_errors(result.problem for result in results):
            return output.EXIT_FAILED
        stacks = output.counted(len(results), "stack")
        output.echo(f"{stacks} deployed in {time.monotonic() - begun:.1f} s")
        seen = [arrived for ref in refs for arrived in _play(connection, ref)]
    if not all(seen):
        raise ToolError(f"{seen.count(False)} of {len(seen)} expected deliveries were not seen")
    output.echo(f"\nAll {len(seen)} expected deliveries were seen.", style="green")
    return 0


def _play(connection: aws.Aws, ref: environment.StackRef) -> list[bool]:
    """Cause the event of a stack and show what arrives; return whether each delivery was seen."""
    mark, begun = uuid.uuid4().hex[:8], time.monotonic()
    text, groups, count = _cause(connection, ref, mark)
    output.echo(f"\n{ref.region}: {text}", style="bold")
    seen = []
    for group in groups:
        messages = _arrived(connection, ref.region, group, mark, count)
        seen.append(len(messages) >= count)
        sign, style = ("✓", "green") if seen[-1] else ("✗", "red")
        result = f"after {time.monotonic() - begun:.2f} s" if seen[-1] else "not seen in time"
        output.echo(f"  {sign} {group:<58} {result}", style=style)
        for line in map(_summarize, messages):
            output.echo(f"      {line[:DEMO_WIDTH]}{'…' if len(line) > DEMO_WIDTH else ''}")
    return seen


def _cause(connection: aws.Aws, ref: environment.StackRef, mark: str) -> tuple[str, list[str], int]:
    """Cause the event of a stack: return what was done, the log groups and the messages in each.

    ``mark`` is in every message.
    """
    stack, region = outputs.read(connection, ref), ref.region
    log_group = stack["EventLogGroupName"]
    match ref.settings.template:
        case "custom-event-bus":
            events = [
                {
                    "Source": "com.example.shop",
                    "DetailType": kind,
                    "Detail": {"order": mark, **detail},
                }
                for kind, detail in ORDERS.items()
            ]
            bus = stack["EventBusName"]
            send.send(events, connection.client("events", region), bus)
            return f"{len(events)} events sent to bus {bus}", [log_group], len(events)
        case "s3-object-events":
            key, s3 = f"demo/{mark}.txt", connection.client("s3", region)
            s3.put_object(Bucket=stack["DataBucketName"], Key=key, Body=b"Hello, EventBridge!\n")
            return f"S3 object {key} created", [log_group, stack["FunctionLogGroupName"]], 1
        case _:  # rds-snapshot-events
            rds, name = connection.client("rds", region), f"demo-{mark}"
            rds.create_db_instance(
                DBInstanceIdentifier=name,
                DBInstanceClass="db.t4g.micro",
                Engine="postgres",
                AllocatedStorage=20,
                ManageMasterUserPassword=True,
                MasterUsername="demo",
            )
            rds.create_db_snapshot(DBInstanceIdentifier=name, DBSnapshotIdentifier=name)
            return f"RDS snapshot {name} created", [log_group], 1


def _arrived(connection: aws.Aws, region: str, group: str, mark: str, count: int) -> list[str]:
    """Return the log messages with a mark, as soon as there are ``count``, or after DEMO_WAIT."""
    deadline = time.monotonic() + DEMO_WAIT
    pages = connection.client("logs", region).get_paginator("filter_log_events")
    while True:
        events = pages.paginate(logGroupName=group).search("events[]")
        messages = [event["message"].strip() for event in events if mark in event["message"]]
        if len(messages) >= count or time.monotonic() > deadline:
            return messages
        time.sleep(DEMO_POLL)


def _summarize(message: str) -> str:
    """Return the essence of a log message: of an event, or of a function's structured log."""
    record = json.loads(message)
    values = record.get("detail", record)
    if "detail" not in record or record["source"].startswith("aws."):
        values = {name: values[name] for name in EVENT_FIELDS if name in values}
    return f"{record.get('detail-type') or record.get('message')} {json.dumps(values)}"
