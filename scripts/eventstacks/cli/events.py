"""The verbs ``sample`` and ``tail``."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from eventstacks import aws as connections
from eventstacks import bus as bus_package
from eventstacks.bus import stacks
from eventstacks.bus import tail as sources
from eventstacks.cli import options, output
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.patterns import grammar

STACK_BUS = "(the stack's)"
# Shapes: S3 User Guide, 'EventBridge event message structure'; CloudTrail User Guide, record
# contents; RDS User Guide, 'Amazon RDS events'. Assumed, because AWS's pages do not show them:
# SourceType CLUSTER_SNAPSHOT, and the wording of Message.
SAMPLES = Path(str(bus_package.__file__)).with_name("samples")
LONG_POLL = 5  # seconds


def deployed(
    env: str, stack: str | None, region: str | None
) -> tuple[connections.Aws, list[stacks.Deployed]]:
    """Return AWS and the deployed stacks of an environment.

    A stack that is named must be deployed.
    """
    aws, refs = options.connect(env, stack, region)
    with output.progress("Reading the stacks"):
        return aws, stacks.find(aws, refs, required=stack is not None)


@click.command()
@click.argument("kind", required=False)
@click.option("--list", "as_list", is_flag=True, help="List the samples.")
def sample(kind: str | None, as_list: bool) -> None:
    """Print a sample event, as EventBridge delivers it.

    \b
    Examples:
      eventstacks sample --list
      eventstacks sample order-placed | eventstacks send --stack custom-event-bus -
    """
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(SAMPLES.glob("*.json"))}
    if as_list:
        rows = [{"sample": name, **json.loads(text)} for name, text in texts.items()]
        output.print_rows(rows, ("sample", "source", "detail-type"))
    elif kind not in texts:
        raise click.UsageError(f"Which sample? {', '.join(texts)}.")
    else:
        click.echo(texts[kind].strip())


@click.command()
@options.where_options
@click.option(
    "--since",
    type=options.Time(),
    default="10m",
    show_default=True,
    metavar="TIME",
    help="Start time: 90s, 2h, 1d, or an ISO 8601 timestamp.",
)
@click.option(
    "--filter",
    "pattern",
    default="",
    metavar="PATTERN",
    help="Filter pattern of CloudWatch Logs; with --bus an event pattern.",
)
@click.option(
    "--bus",
    is_flag=False,
    flag_value=STACK_BUS,
    metavar="[NAME]",
    help="Follow a bus through a temporary rule and queue (default: the stack's bus).",
)
@click.option("--once", is_flag=True, help="Print what the log groups contain, then end.")
@click.option("--raw", is_flag=True, help="Only the messages.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per line (NDJSON).")
def tail(
    env: str,
    stack: str | None,
    region: str | None,
    since: datetime,
    pattern: str,
    bus: str | None,
    once: bool,
    raw: bool,
    as_json: bool,
) -> int:
    """Follow the events that stacks receive and log: all their log groups in time order, or a bus.

    --bus creates a rule and a queue named eventbridge-tap-… and removes them at the end; those of a
    run that was killed are removed by a later run. The first event can take some seconds.

    \b
    Examples:
      eventstacks tail --env dev --stack s3-object-events --since 1h
      eventstacks tail --stack custom-event-bus --bus --filter '{"source": ["com.example.shop"]}'
    """
    has_since = click.get_current_context().get_parameter_source("since") != ParameterSource.DEFAULT
    if bus and (once or has_since):
        raise click.UsageError("--once and --since read log groups; a bus keeps no events.")
    if raw and as_json:
        raise click.UsageError("--raw and --json exclude each other.")
    if bus and pattern:
        grammar.parse_pattern(pattern)
    aws, found = deployed(env, stack, region)
    events = (
        _bus_events(aws, found, bus, pattern or sources.ALL_EVENTS)
        if bus
        else _log_events(aws, found, int(since.timestamp() * 1000), pattern, once=once)
    )
    with contextlib.closing(events):
        for event in events:
            _print(event, raw=raw, as_json=as_json)
    return 0


def _log_events(
    aws: connections.Aws, found: Sequence[stacks.Deployed], since: int, pattern: str, *, once: bool
) -> Generator[sources.Event]:
    groups = sources.find_groups(aws, found)
    if not groups:
        raise ToolError(
            "no log groups",
            code=ErrorCode.NOT_FOUND,
            where=", ".join(str(one.ref) for one in found),
            advice="To follow the events of a bus: --bus.",
        )
    output.echo(
        f"{output.counted(len(groups), 'log group')}: "
        + ", ".join(f"{name} in {region}" for region, name in groups),
        err=True,
    )
    clock = connections.Clock(lambda error: output.note(f"No answer, trying again: {error}"))
    read = sources.merge if once else sources.follow
    yield from read(aws, groups, since, pattern, clock)


def _bus_events(
    aws: connections.Aws, found: Sequence[stacks.Deployed], bus: str, pattern: str
) -> Generator[sources.Event]:
    if bus == STACK_BUS:  # the rules of a stack without a bus are on the default bus
        pairs = [(one.ref.region, one.outputs.get(stacks.BUS_OUTPUT, "default")) for one in found]
    else:
        pairs = [stacks.parse_bus(bus, one.ref.region) for one in found]
    signals, ended = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP), threading.Event()

    def end(*_: Any) -> None:
        ended.set()
        for number in signals:  # a second signal must not leave the rule behind
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, end)
    taps = [sources.Tap(aws, *pair, pattern) for pair in dict.fromkeys(pairs)]
    with contextlib.ExitStack() as cleanup:
        for tap in taps:
            for stale in sources.remove_stale(aws, tap.region):
                output.echo(
                    f"Removed {stale} in {tap.region}, left by a run that was killed.", err=True
                )
            cleanup.callback(tap.remove)
            tap.create()
            output.echo(
                f"Following bus {tap.bus} in {tap.region} through {tap.name}; end with Ctrl-C.",
                err=True,
            )
        while not ended.is_set():
            for tap in taps:  # a short wait for each, if there are several
                yield from tap.receive(LONG_POLL if len(taps) == 1 else 1)
    raise KeyboardInterrupt  # that of ``end`` was lost: Python ignores it in a finalizer


def _print(event: sources.Event, *, raw: bool, as_json: bool) -> None:
    """Print an event in one of the forms of tail, at once."""
    from rich.text import Text  # noqa: PLC0415 - slow, and not needed for --help

    console, message = output.console(), event.message.rstrip("\n")
    moment = datetime.fromtimestamp(event.timestamp / 1000, UTC)
    time = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if raw:
        click.echo(output.safe(message) if console.is_terminal else message)
    elif as_json:
        document = {"time": time, **event.source, "message": _json_or_message(message)}
        click.echo(json.dumps(document))
    else:
        console.print(
            Text.assemble((time, "dim"), " ", (event.label, "cyan"), " ", output.safe(message)),
            soft_wrap=True,
        )
        console.file.flush()


def _json_or_message(message: str) -> Any:
    parsed = None
    with contextlib.suppress(ValueError, RecursionError):
        parsed = json.loads(message)
    return parsed if isinstance(parsed, dict | list) else message
