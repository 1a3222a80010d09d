"""``make metrics``."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from eventstacks.cli._options import Moment, json_option, where_options

HEADS = ("MATCHED", "INVOCATIONS", "FAILED", "TO DLQ", "LOST")


@click.command()
@where_options
@click.option(
    "--since",
    type=Moment(),
    default="3h",
    show_default=True,
    metavar="WHEN",
    help="From then on: 15m, 3h, 7d ago, or ISO 8601.",
)
@json_option
def command(env: str, stack: str | None, region: str | None, since: datetime, as_json: bool) -> int:
    """Show what each rule matched, invoked, failed to deliver, sent to its dead-letter queue, and lost.

    The counts are CloudWatch's, which hears of them some minutes late. Exits with 0 whatever they say; alarms are the
    stacks' business.

    \b
    Example:
      eventstacks metrics --env prod --since 1d
    """
    from eventstacks.bus import metrics
    from eventstacks.cli import _operations, _stacks

    begin, end = since, datetime.now(UTC)
    if begin >= end:
        raise click.UsageError("--since is in the future.")
    aws, stacks = _operations.deployed(env, stack, region)
    out = _stacks.console()
    names = [(rule, one.ref.stack, one.ref.region) for one in stacks for rule in one.rules]
    taken = sum(max((len(name[column]) for name in names), default=0) + 2 for column in range(3))
    room = (
        (out.width - taken) // len(HEADS) - len(" 1,234,567  ")
        if out.is_terminal
        else metrics.STEPS
    )
    period = metrics.period_of(begin, end, min(metrics.STEPS, max(4, room)))
    found = metrics.read(aws, stacks, begin, end, period)
    if as_json:
        _stacks.print_json(
            [
                {
                    "region": one.region,
                    "stack": one.stack,
                    "rule": one.rule,
                    "period": period,
                    "metrics": {
                        name: {"sum": sum(values), "values": values} if values is not None else None
                        for name, values in one.series.items()
                    },
                }
                for one in found
            ]
        )
    elif any(one.is_known for one in found):
        cells = [
            [
                f"{metrics.sparkline(values)} {sum(values):,}".strip()
                if values is not None
                else "-"
                for values in one.series.values()
            ]
            for one in found
        ]
        _operations.print_table(
            ("RULE", "STACK", "REGION", *HEADS),
            [
                (one.rule, one.stack, one.region, *row)
                for one, row in zip(found, cells, strict=True)
            ],
            right=HEADS,
        )
    if not any(one.is_known for one in found):
        click.echo(
            f"CloudWatch has no metrics of these rules since {begin:%Y-%m-%d %H:%M} UTC. EventBridge sends none until a"
            " rule matches;\nthe embedded AWS (ENV=local) sends none at all: use make tail there.",
            err=True,
        )
    return 0
