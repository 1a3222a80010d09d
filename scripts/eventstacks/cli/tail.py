"""``make tail``."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eventstacks.cli._options import Moment, where_options

if TYPE_CHECKING:
    from eventstacks.aws import Aws
    from eventstacks.bus.stacks import Deployed

STACK_BUS = "(the stack's)"
REMINDER = 30.0  # seconds
STYLES = (
    "cyan",
    "magenta",
    "green",
    "yellow",
    "blue",
    "bright_red",
    "bright_cyan",
    "bright_magenta",
)  # of sources


@click.command()
@where_options
@click.option(
    "--since",
    type=Moment(),
    default="10m",
    show_default=True,
    metavar="WHEN",
    help="From then on: 90s, 2h, 1d ago, or ISO 8601.",
)
@click.option(
    "--filter",
    "pattern",
    default="",
    metavar="PATTERN",
    help="A filter pattern of CloudWatch Logs; with --bus an event pattern.",
)
@click.option(
    "--bus",
    is_flag=False,
    flag_value=STACK_BUS,
    metavar="[NAME]",
    help="Follow a bus itself through a temporary rule and queue. Default: the stack's bus.",
)
@click.option("--once", is_flag=True, help="Show what the log groups hold, and end.")
@click.option("--pretty", is_flag=True, help="JSON over several lines.")
@click.option("--raw", is_flag=True, help="The messages and nothing else.")
@click.option("--json", is_flag=True, help="One JSON document a line (NDJSON).")
def command(env: str, stack: str | None, region: str | None, since: datetime, **given: Any) -> int:
    """Follow what the stacks receive and log: all their log groups in the order of time, or a bus itself.

    --bus makes a rule and a queue named eventbridge-tap-… and removes them at the end; what a crashed run has left is
    removed by the next one. AWS may take some seconds until the first event comes.

    \b
    Examples:
      eventstacks tail --env dev --stack s3-object-events --since 1h
      eventstacks tail --stack custom-event-bus --bus --filter '{"source": ["com.example.shop"]}'
    """
    from eventstacks.aws import Clock
    from eventstacks.bus import log_groups
    from eventstacks.cli import _operations
    from eventstacks.cli._stacks import counted

    bus, pattern, once = given["bus"], given["pattern"], given["once"]
    if once and bus:
        raise click.UsageError("--once reads log groups; a bus holds nothing to read.")
    forms = [one for one in ("pretty", "raw", "json") if given[one]]
    if len(forms) > 1:
        raise click.UsageError("--pretty, --raw and --json exclude each other.")
    begin = int(since.timestamp() * 1000)
    aws, stacks = _operations.deployed(env, stack, region)
    show = _Printer(*forms)
    if bus is not None:
        return _follow_buses(aws, stacks, bus, pattern, show)
    groups = log_groups.of_stacks(aws, stacks)
    if not groups:
        click.echo("Error: these stacks have no log groups.", err=True)
        return 1
    click.echo(
        f"{counted(len(groups), 'log group')}: {', '.join(one.label for one in groups)}", err=True
    )
    read, clock = log_groups.merge if once else log_groups.follow, Clock(_Silence())
    for one in read(aws, groups, begin, pattern=pattern, clock=clock):
        said = {
            "region": one.group.region,
            "logGroup": one.group.name,
            "logStream": one.stream,
            "id": one.id,
        }
        show(datetime.fromtimestamp(one.timestamp / 1000, UTC), one.group.label, one.message, said)
    return 0


def _follow_buses(aws: Aws, stacks: list[Deployed], bus: str, pattern: str, show: _Printer) -> int:
    import contextlib
    import signal

    from eventstacks.bus import bus_tap, buses
    from eventstacks.patterns import grammar

    if pattern:
        grammar.parse_pattern(pattern)
    if bus == STACK_BUS:  # a stack without a bus of its own hangs on the default one
        chosen = [(one.ref.region, one.outputs.get(buses.OUTPUT, "default")) for one in stacks]
    else:
        name, of_arn = buses.parse(bus)
        chosen = [(of_arn or one.ref.region, name) for one in stacks]
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(*_: Any) -> None:
        for one in signals:  # impatience is no reason to leave something behind
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for one in signals:
        signal.signal(one, end)
    with contextlib.ExitStack() as tapped:
        taps = []
        for region, name in dict.fromkeys(chosen):
            for leftover in bus_tap.sweep(aws, region, name):
                click.echo(
                    f"Removed {leftover} in {region}, which a run that died had left.", err=True
                )
            taps.append(
                tapped.enter_context(bus_tap.Tap(aws, region, name, pattern or bus_tap.EVERYTHING))
            )
            click.echo(
                f"Following the bus {name} in {region} through {taps[-1].name}; Ctrl-C ends it.",
                err=True,
            )
        for seen in bus_tap.follow(taps):
            label = seen.bus if len(taps) == 1 else f"{seen.region} {seen.bus}"
            moment = datetime.fromisoformat(seen.event["time"])
            show(
                moment,
                label,
                json.dumps(seen.event, ensure_ascii=False),
                {"region": seen.region, "bus": seen.bus},
            )
    return 0


class _Silence:
    """Says that AWS does not answer: at once, and now and then as long as that goes on."""

    def __init__(self) -> None:
        self._said = -REMINDER

    def __call__(self, trouble: Exception) -> None:
        if (now := time.monotonic()) - self._said >= REMINDER:
            self._said = now
            click.echo(f"No answer, trying again: {trouble}", err=True)


class _Printer:
    """A line (or several) for each message."""

    def __init__(self, form: str = "") -> None:
        from eventstacks.cli import _stacks

        self._form, self._console, self._styles = form, _stacks.console(), dict[str, str]()

    def __call__(self, moment: datetime, source: str, message: str, said: dict[str, str]) -> None:
        from rich.text import Text

        message = message.rstrip("\n")
        if self._form == "raw":
            click.echo(message)
            return
        parsed = _parse(message)
        if self._form == "json":
            line = {"time": moment.isoformat(timespec="milliseconds"), **said, "message": parsed}
            click.echo(json.dumps(line, ensure_ascii=False))
            return
        if self._form == "pretty" and not isinstance(parsed, str):
            message = "\n" + json.dumps(parsed, indent=2, ensure_ascii=False)
        style = self._styles.setdefault(source, STYLES[len(self._styles) % len(STYLES)])
        text = Text.assemble(
            (f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}", "dim"),
            " ",
            (source, style),
            " ",
            message,
        )
        self._console.print(text, soft_wrap=True)
        self._console.file.flush()


def _parse(message: str) -> Any:
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        return message
    return found if isinstance(found, dict | list) else message
