"""``make send``."""

from __future__ import annotations

from pathlib import Path

import click

from scripts.commands._options import read_environment, where_options


@click.command()
@where_options
@click.option(
    "--bus", "buses", multiple=True, metavar="NAME", help="This bus instead of the stack's; may be given several times."
)
@click.option("--source", help="Source for records that have none.")
@click.option("--detail-type", help="DetailType for records that have none.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Events a second, at most.")
@click.option("--threads", type=click.IntRange(1, 256), default=32, show_default=True, help="Calls at a time.")
@click.option("--rejected", type=click.Path(path_type=Path), default=Path("rejected.ndjson"), show_default=True)
@click.argument("files", nargs=-1, type=click.File("rb", lazy=False))
def command(env, stack, region, buses, source, detail_type, rate, threads, rejected, files):
    """Send events from files or stdin (-): NDJSON or a JSON array.

    \b
    Examples:
      python -m scripts send --stack custom-event-bus events.ndjson
      generate | python -m scripts send --bus orders --source com.example.shop --detail-type OrderPlaced -
    """
    import sys

    from scripts.aws import Aws
    from scripts.events import buses as event_buses
    from scripts.events import records
    from scripts.events.ledger import Ledger
    from scripts.events.send import Destination, Settings, send

    environment = read_environment(env)
    aws = Aws(environment, connections=threads)
    if environment.account:
        aws.guard()
    pairs = environment.choose(stack, region) if stack or not buses else []
    regions = [region] if region else list(environment.regions)
    wanted = [(one, bus) for one in regions for bus in buses] or [
        (one, event_buses.of_stack(aws, settings.stack_name, one)) for settings, one in pairs
    ]
    destinations = [Destination(aws.client("events", one), bus) for one, bus in wanted]
    for one in destinations:
        event_buses.check(one.client, one.bus)
    summary = send(
        records.read(files or [sys.stdin.buffer]),
        destinations,
        Ledger(rejected),
        Settings(source=source, detail_type=detail_type, threads=threads, rate=rate),
    )
    print(
        f"{summary.acknowledged:,} sent, {summary.rejected:,} refused, {summary.retried:,} retried, {summary.rate:,.0f} events/s"
    )
    return 1 if summary.rejected else 0
