"""The verbs ``sample``, ``tail`` and ``metrics``."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eventstacks import aws as connections
from eventstacks.bus import logs, samples, stacks, tap
from eventstacks.bus import metrics as counts
from eventstacks.cli import options, output
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.patterns import grammar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.aws import Aws

STACK_BUS = "(the stack's)"
NOTICE_SECONDS = 30.0  # between two lines about the same problem
STYLES = [
    "cyan",
    "magenta",
    "green",
    "yellow",
    "blue",
    "bright_red",
    "bright_cyan",
    "bright_magenta",
]
METRIC_HEADS = ("MATCHED", "INVOCATIONS", "FAILED", "TO DLQ", "LOST")


def deployed(env: str, stack: str | None, region: str | None) -> tuple[Aws, list[stacks.Deployed]]:
    """Return AWS and the deployed stacks of an environment. A stack that is named must be deployed."""
    aws, _, refs = options.connect(env, stack, region)
    with output.progress("Reading the stacks"):
        return aws, stacks.find(aws, refs, required=stack is not None)


@click.command()
@click.argument("kind", required=False)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change a field; VALUE is JSON or text.",
)
@click.option("--list", "as_list", is_flag=True, help="List the samples.")
@click.option("--line", is_flag=True, help="On one line, as NDJSON.")
def sample(kind: str | None, changes: tuple[str, ...], as_list: bool, line: bool) -> None:
    """Print a sample event, as EventBridge delivers it.

    A changed value is replaced everywhere in the event: account, Region, a bucket's ARN.

    \b
    Examples:
      eventstacks sample --list
      eventstacks sample s3-object-created --set detail.bucket.name=my-bucket
      eventstacks sample order-placed --line | eventstacks send --stack custom-event-bus -
    """
    if as_list:
        known = samples.kinds().items()
        rows = [(name, event["source"], event["detail-type"]) for name, event in known]
        output.print_table(("SAMPLE", "SOURCE", "DETAIL TYPE"), rows)
        return
    if not kind:
        raise click.UsageError("Which sample? See --list.")
    if wrong := [one for one in changes if "=" not in one]:
        raise click.UsageError(f"--set {wrong[0]}: use FIELD=VALUE.")
    pairs = [one.partition("=") for one in changes]
    try:
        event = samples.make(kind, {field: _json_or_text(text) for field, _, text in pairs})
        click.echo(json.dumps(event, indent=None if line else 2, ensure_ascii=False))
    except RecursionError:
        raise click.UsageError("--set: the value is nested too deeply.") from None


def _json_or_text(text: str) -> object:
    """Return the value of JSON, else the text. An account id is text in every event."""
    if text.isdigit() and len(text) == 12:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


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
@click.option("--pretty", is_flag=True, help="JSON over several lines.")
@click.option("--raw", is_flag=True, help="Only the messages.")
@click.option("--json", "ndjson", is_flag=True, help="One JSON document per line (NDJSON).")
def tail(
    env: str,
    stack: str | None,
    region: str | None,
    since: datetime,
    pattern: str,
    bus: str | None,
    once: bool,
    **forms: bool,
) -> int:
    """Follow the events that stacks receive and log: all their log groups in time order, or a bus.

    --bus creates a rule and a queue named eventbridge-tap-… and removes them at the end; those of a
    run that was killed are removed by the next run. The first event can take some seconds.

    \b
    Examples:
      eventstacks tail --env dev --stack s3-object-events --since 1h
      eventstacks tail --stack custom-event-bus --bus --filter '{"source": ["com.example.shop"]}'
    """
    if once and bus:
        raise click.UsageError("--once reads log groups; a bus keeps no events.")
    chosen = [name for name, is_set in forms.items() if is_set]
    if len(chosen) > 1:
        raise click.UsageError("--pretty, --raw and --json exclude each other.")
    if bus and pattern:
        grammar.parse_pattern(pattern)
    aws, found = deployed(env, stack, region)
    show = _Printer(*chosen)
    if bus:
        return _tail_buses(aws, found, bus, pattern or tap.ALL_EVENTS, show)
    groups = logs.find(aws, found)
    if not groups:
        raise ToolError("these stacks have no log groups", code=ErrorCode.NOT_FOUND)
    names = ", ".join(one.label for one in groups)
    output.echo(f"{output.counted(len(groups), 'log group')}: {names}", err=True)
    read, clock = logs.merge if once else logs.follow, connections.Clock(_RetryNotice())
    for entry in read(aws, groups, int(since.timestamp() * 1000), pattern=pattern, clock=clock):
        group = entry.group
        source = {"region": group.region, "log_group": group.name, "log_stream": entry.stream}
        moment = datetime.fromtimestamp(entry.timestamp / 1000, UTC)
        show(moment, group.label, entry.message, {**source, "id": entry.id})
    return 0


def _tail_buses(
    aws: Aws, found: Sequence[stacks.Deployed], bus: str, pattern: str, show: _Printer
) -> int:
    if bus == STACK_BUS:  # the rules of a stack without a bus are on the default bus
        pairs = [(one.ref.region, one.outputs.get(stacks.BUS_OUTPUT, "default")) for one in found]
    else:
        name, of_arn = stacks.parse_bus(bus)
        pairs = [(of_arn or one.ref.region, name) for one in found]
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(*_: Any) -> None:
        for number in signals:  # a second signal must not leave the rule behind
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, end)
    with contextlib.ExitStack() as stack:
        taps = []
        for region, name in dict.fromkeys(pairs):
            for stale in tap.remove_stale(aws, region, name):
                output.echo(
                    f"Removed {stale} in {region}, left by a run that was killed.", err=True
                )
            taps.append(stack.enter_context(tap.Tap(aws, region, name, pattern)))
            output.echo(
                f"Following bus {name} in {region} through {taps[-1].name}; end with Ctrl-C.",
                err=True,
            )
        for seen in tap.follow(taps):
            label = seen.bus if len(taps) == 1 else f"{seen.region} {seen.bus}"
            message = json.dumps(seen.event, ensure_ascii=False)
            source = {"region": seen.region, "bus": seen.bus}
            show(datetime.fromisoformat(seen.event["time"]), label, message, source)
    return 0


class _RetryNotice:
    """Print that a call is retried: the first time, and then every NOTICE_SECONDS."""

    def __init__(self) -> None:
        self._last = -NOTICE_SECONDS

    def __call__(self, error: Exception) -> None:
        if (now := time.monotonic()) - self._last >= NOTICE_SECONDS:
            self._last = now
            output.echo(f"No answer, trying again: {error}", err=True)


class _Printer:
    """Print messages in one of the forms of tail."""

    def __init__(self, form: str = "") -> None:
        self._form, self._console, self._styles = form, output.console(), dict[str, str]()

    def __call__(self, moment: datetime, label: str, message: str, source: dict[str, str]) -> None:
        from rich.text import Text  # noqa: PLC0415 - slow, and not needed for --help

        message = message.rstrip("\n")
        if self._form == "raw":
            click.echo(output.safe(message) if self._console.is_terminal else message)
            return
        parsed = _json_or_message(message)
        if self._form == "ndjson":
            time_text = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            click.echo(json.dumps({"time": time_text, **source, "message": parsed}))
            return
        if self._form == "pretty" and not isinstance(parsed, str):
            message = "\n" + json.dumps(parsed, indent=2, ensure_ascii=False)
        style = self._styles.setdefault(label, STYLES[len(self._styles) % len(STYLES)])
        stamp = f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}Z"
        pretty = self._form == "pretty"
        text = Text.assemble(
            (stamp, "dim"), " ", (label, style), " ", output.safe(message, lines=pretty)
        )
        self._console.print(text, soft_wrap=True)
        self._console.file.flush()


def _json_or_message(message: str) -> Any:
    try:
        parsed = json.loads(message)
    except (ValueError, RecursionError):
        return message
    return parsed if isinstance(parsed, dict | list) else message


@click.command("metrics")
@options.where_options
@click.option(
    "--since",
    type=options.Time(),
    default="3h",
    show_default=True,
    metavar="TIME",
    help="Start time: 15m, 3h, 7d, or an ISO 8601 timestamp.",
)
@options.json_option
def metrics(env: str, stack: str | None, region: str | None, since: datetime, as_json: bool) -> int:
    """Show what each rule matched, invoked, failed to deliver, sent to its DLQ, and lost.

    Counts come from CloudWatch and lag by a few minutes. Always exits with 0; use the stacks'
    alarms for alerting.

    \b
    Example:
      eventstacks metrics --env prod --since 1d
    """
    until = datetime.now(UTC)
    if since >= until:
        raise click.UsageError("--since is in the future.")
    aws, found = deployed(env, stack, region)
    period = counts.period_of(since, until, _periods(found))
    with output.progress("Reading metrics"):
        rules = counts.read(aws, found, since, until, period)
    is_known = any(one.is_known for one in rules)
    if as_json:
        output.print_json([_metrics_document(one, period) for one in rules])
    elif is_known:
        rows = [
            (one.rule, one.stack, one.region, *map(_sparkline, one.series.values()))
            for one in rules
        ]
        output.print_table(("RULE", "STACK", "REGION", *METRIC_HEADS), rows, right=METRIC_HEADS)
    if not is_known:
        output.echo(
            f"CloudWatch has no metrics of these rules since {output.time_text(since)}. EventBridge"
            " sends none until a rule matches;\nthe embedded AWS (ENV=local) sends none at all:"
            " use tail there.",
            err=True,
        )
    return 0


def _periods(found: Sequence[stacks.Deployed]) -> int:
    """Return how many bars of a sparkline fit on the terminal."""
    out = output.console()
    if not out.is_terminal:
        return counts.MAX_PERIODS
    names = [(rule, one.ref.stack, one.ref.region) for one in found for rule in one.rules]
    taken = sum(max((len(row[column]) for row in names), default=0) + 2 for column in range(3))
    room = (out.width - taken) // len(METRIC_HEADS) - len(" 1,234,567  ")
    return min(counts.MAX_PERIODS, max(4, room))


def _sparkline(values: list[int] | None) -> str:
    return "-" if values is None else f"{counts.sparkline(values)} {sum(values):,}".strip()


def _metrics_document(rule: counts.Counts, period: int) -> dict[str, Any]:
    series = {
        name: None if values is None else {"sum": sum(values), "values": values}
        for name, values in rule.series.items()
    }
    names = {"region": rule.region, "stack": rule.stack, "rule": rule.rule}
    return {**names, "period": period, "metrics": series}
