"""``make archive-replay``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eventstacks.cli._options import Moment, json_option, where_options, yes_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.aws import Aws
    from eventstacks.bus.archives import Archive, Preview, Progress


@click.command()
@where_options
@click.option("--archive", metavar="NAME", help="Only this archive of the stacks.")
@click.option(
    "--since",
    type=Moment(),
    metavar="WHEN",
    help="Replay what happened from then on: 15m, 2h, 1d ago, or ISO 8601.",
)
@click.option(
    "--until", type=Moment(), metavar="WHEN", default="0s", help="… and before then. Default: now."
)
@click.option(
    "--rule", "rules", multiple=True, metavar="NAME", help="To this rule only (again for more)."
)
@click.option(
    "--dry-run", is_flag=True, help="Say how many events it would be, and who would receive them."
)
@click.option("--cancel", metavar="REPLAY", help="Cancel this replay.")
@yes_option
@json_option
def command(
    env: str, stack: str | None, region: str | None, yes: bool, as_json: bool, **given: Any
) -> int:
    """List archives; with --since replay what they kept of a window of time, and follow that to its end.

    Events go to all rules of their bus, or to those given with --rule. Events may reach an archive ten minutes late.

    \b
    Examples:
      eventstacks archive-replay --env dev
      eventstacks archive-replay --env dev --stack custom-event-bus --since 2h --rule CatchAllRule --dry-run
    """
    from eventstacks.bus import archives
    from eventstacks.cli import _operations, _stacks

    since, until = given["since"], given["until"]
    if given["cancel"] and (since or given["rules"] or given["dry_run"]):
        raise click.UsageError(
            "--cancel ends a replay: it goes with neither --since, --rule nor --dry-run."
        )
    if not (given["cancel"] or since) and (given["rules"] or given["dry_run"]):
        raise click.UsageError("--rule and --dry-run are for a replay: give --since, too.")
    if since and since >= until:
        raise click.UsageError("--since is not before --until.")
    aws, stacks = _operations.deployed(env, stack, region)
    found = archives.of_stacks(aws, stacks, given["archive"])
    if given["cancel"]:
        print(f"{given['cancel']}: {archives.cancel(aws, found, given['cancel'])}")
        return 0
    if not since:
        _list(found, as_json)
        return 0
    rules = {one.arn: archives.choose_rules(aws, one, given["rules"], stacks) for one in found}
    if given["dry_run"]:
        flow = _operations.flow(aws, stacks)
        previews = [
            archives.preview(aws, one, flow, (since, until), rules[one.arn]) for one in found
        ]
        _preview(previews, as_json)
        return 0
    if archives.is_fresh(until):
        click.echo("Of the last ten minutes, some events may not be in the archive yet.", err=True)
    names = ", ".join(f"{one.name} ({one.region})" for one in found)
    to = ", ".join(given["rules"]) or "all rules of the bus"
    question = (
        f"Replay {since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S} UTC of {names} to {to}?"
    )
    if not _stacks.confirm(question, aws.environment, yes=yes):
        click.echo("Nothing was changed.", err=True)
        return 1
    return _replay(aws, found, since, until, rules, as_json)


def _replay(
    aws: Aws,
    found: Sequence[Archive],
    since: datetime,
    until: datetime,
    rules: dict[str, list[str]],
    as_json: bool,
) -> int:
    from rich.progress import Progress as Bars

    from eventstacks.aws import Clock
    from eventstacks.bus import archives
    from eventstacks.cli import _stacks

    console, replays = _stacks.console(err=as_json), list[tuple[Any, str]]()
    ends: dict[str, Progress] = {}
    try:
        for archive in found:
            replays.append(
                (archive, archives.start(aws, archive, since, until, rules[archive.arn]))
            )
            click.echo(f"Started {replays[-1][1]} in {archive.region}.", err=True)
        with Bars(console=console, disable=not console.is_terminal) as bars:
            tasks = {name: bars.add_task(name, total=1.0) for _, name in replays}
            for now in archives.follow(aws, replays, (since, until), Clock()):
                said = f"{now.archive.region} {now.replay} {now.state}"
                bars.update(tasks[now.replay], completed=now.share, description=said)
                if not console.is_terminal and (
                    now.replay not in ends or ends[now.replay].state != now.state
                ):
                    console.print(f"{datetime.now(UTC):%H:%M:%S} {said}")
                ends[now.replay] = now
    except KeyboardInterrupt:
        for archive, name in replays:
            click.echo(
                f"{name} in {archive.region} goes on in AWS. Cancel it: --cancel {name}", err=True
            )
        raise
    if as_json:
        _stacks.print_json(
            [
                {
                    "replay": one.replay,
                    "archive": one.archive.name,
                    "region": one.archive.region,
                    "state": one.state,
                    "reason": one.reason or None,
                }
                for one in ends.values()
            ]
        )
    failed = [one for one in ends.values() if one.state != "COMPLETED"]
    for one in failed:
        click.echo(
            f"Error: {one.replay} in {one.archive.region} ended as {one.state}: {one.reason}",
            err=True,
        )
    return 1 if failed else 0


def _list(found: Sequence[Archive], as_json: bool) -> None:
    from dataclasses import asdict

    from eventstacks.bus import buses
    from eventstacks.cli import _operations, _stacks

    if as_json:
        _stacks.print_json([asdict(one) for one in found])
        return
    _operations.print_table(
        ("ARCHIVE", "REGION", "BUS", "STATE", "EVENTS", "BYTES", "DAYS"),
        [
            (
                one.name,
                one.region,
                buses.name_of(one.bus),
                one.state,
                f"{one.events:,}",
                f"{one.size:,}",
                str(one.retention or "all"),
            )
            for one in found
        ],
        right=("EVENTS", "BYTES", "DAYS"),
    )


def _preview(previews: Sequence[Preview], as_json: bool) -> None:
    from eventstacks.cli._stacks import counted, print_json

    if as_json:
        print_json(
            [
                {
                    "archive": one.archive.name,
                    "region": one.archive.region,
                    "archived": one.archive.events,
                    "events": one.events,
                    "logGroups": one.groups,
                    "rules": [
                        {"rule": rule, "events": count, "targets": targets}
                        for rule, count, targets in one.rules
                    ],
                }
                for one in previews
            ]
        )
        return
    for one in previews:
        print(
            f"{one.archive.name} in {one.archive.region}, which holds {counted(one.archive.events, 'event')} in all "
            "(AWS counts up to a day late)"
        )
        if one.events is not None:
            print(
                f"  {counted(one.events, 'event')} in the window, at least: as many are in {', '.join(one.groups)}"
            )
        else:
            print(
                "  How many are in the window is not known: no rule of the bus writes whole events to a log group."
            )
        for rule, count, targets in one.rules:
            print(
                f"  rule {rule}: "
                + (counted(count, "event") if one.events is not None else "how many is not known")
            )
            for target, fate in targets.items():
                print(f"    → {target}: {fate}")
