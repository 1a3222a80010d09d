"""The verbs ``redrive`` and ``archive-replay``."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eventstacks import aws as connections
from eventstacks.bus import archive as archives
from eventstacks.bus import dead_letters, stacks
from eventstacks.cli import options, output
from eventstacks.cli.events import deployed
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eventstacks.aws import Aws


@click.command()
@options.where_options
@click.option(
    "--to",
    type=click.Choice(["target", "bus"]),
    help="Send the events to the target that failed, or to the bus and so to all its rules.",
)
@click.option(
    "--only", default="", metavar="TEXT", help="Only if rule, target or code contains it."
)
@click.option("--rate", type=options.RATE, metavar="N", help="Maximum messages per second.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Read at most N messages of a queue.",
)
@options.yes_option
@options.json_option
def redrive(
    env: str,
    stack: str | None,
    region: str | None,
    to: str | None,
    only: str,
    rate: float | None,
    limit: int,
    yes: bool,
    as_json: bool,
) -> int:
    """Show dead-letter queue messages by rule, target and error code; with --to redeliver them.

    A message is deleted after AWS has accepted its event again; if that fails, it stays in the
    queue. A target gets what its rule would give it now. Messages are hidden from other readers
    while this command runs (after a crash, for 2 minutes more). Exits with 1 if a message was not
    redelivered.

    \b
    Examples:
      eventstacks redrive --env prod --stack s3-object-events
      eventstacks redrive --env prod --to target --only NO_PERMISSIONS --rate 20
    """
    aws, found = deployed(env, stack, region)
    with contextlib.ExitStack() as hidden:
        queues = [hidden.enter_context(queue) for queue in _queues(aws, found)]
        with output.progress(
            "Reading messages", lambda: f"{sum(len(queue.messages) for queue in queues):,}"
        ):
            for queue in queues:
                queue.fetch(limit)
        chosen = [
            (queue, message)
            for queue in queues
            for message in queue.messages.values()
            if any(only in name for name in message.names())
        ]
        if not (to and as_json):
            groups = dead_letters.group(message for _, message in chosen)
            _show_messages(groups, as_json=as_json)
        output.echo(_queue_summary(len(chosen), queues), err=True)
        if not to:
            return 0
        if not chosen and not as_json:
            return int(any(queue.in_flight for queue in queues))
        events = output.counted(len(chosen), "event")
        where = "bus, where every rule sees them again" if to == "bus" else to
        question = f"Send {events} to their {where}?"
        if chosen and not output.confirm(question, aws.environment, yes=yes):
            output.echo("Nothing was changed.", err=True)
            return 1
        return _redrive(aws, chosen, to, rate, as_json=as_json)


def _queues(aws: Aws, found: Sequence[stacks.Deployed]) -> Iterator[dead_letters.DeadLetterQueue]:
    for stack in found:
        for name, url in stack.outputs.items():
            if name.endswith("DeadLetterQueueUrl"):
                yield dead_letters.DeadLetterQueue(aws, stack.ref.region, url)


def _queue_summary(chosen: int, queues: Sequence[dead_letters.DeadLetterQueue]) -> str:
    text = output.counted(chosen, "dead-letter message")
    if more := sum(queue.count()[0] for queue in queues):
        text += f", and about {more:,} more in the queues"
    if in_flight := sum(queue.in_flight for queue in queues):
        text += (
            f"; about {in_flight:,} in flight: another reader hides them, or a redrive that was"
            f" killed. Those of a redrive return within {dead_letters.VISIBILITY_TIMEOUT} seconds"
        )
    return f"{text}."


def _redrive(
    aws: Aws,
    chosen: Sequence[tuple[dead_letters.DeadLetterQueue, dead_letters.Message]],
    to: str,
    rate: float | None,
    *,
    as_json: bool,
) -> int:
    deliver, sent = dead_letters.Redelivery(aws, to_bus=to == "bus").deliver, 0
    kept: dict[tuple[str, str, str], list[str]] = {}
    try:
        with output.progress("Redelivering", lambda: f"{sent:,} of {len(chosen):,}"):
            for queue in dict.fromkeys(queue for queue, _ in chosen):
                messages = [message for one, message in chosen if one is queue]
                clock = connections.Clock()
                for message, problem in dead_letters.redrive(
                    queue, messages, deliver, clock, rate=rate
                ):
                    sent += not problem
                    if problem:
                        kept.setdefault(message.names(), []).append(problem)
    finally:
        count = sum(map(len, kept.values()))
        if as_json:
            problems = [
                {
                    **dict(zip(("rule", "target", "code"), names, strict=True)),
                    "messages": len(texts),
                    "problem": texts[0],
                }
                for names, texts in kept.items()
            ]
            output.print_json({"to": to, "sent": sent, "kept": count, "problems": problems})
        else:
            output.echo(f"{sent:,} redelivered and deleted, {count:,} left in the queue")
        for names, texts in kept.items():
            text = f"Error: {len(texts):,} left of {' → '.join(names)}: {texts[0]}"
            output.echo(text, err=True)
    return 1 if kept else 0


def _show_messages(
    groups: dict[tuple[str, str, str], list[dead_letters.Message]], *, as_json: bool
) -> None:
    if as_json:
        output.print_json(
            [
                {
                    "rule": first.rule or None,
                    "target": first.target,
                    "code": first.code,
                    "messages": len(messages),
                    "message": first.message,
                    "example": first.event,
                }
                for messages in groups.values()
                for first in messages[:1]
            ]
        )
        return
    is_terminal = output.console().is_terminal
    for names, messages in groups.items():
        example = json.dumps(messages[0].event, ensure_ascii=False)
        cells = [str(len(messages)), *names, messages[0].message, example]
        if not is_terminal:
            click.echo("\t".join(output.safe(" ".join(cell.split())) for cell in cells))
            continue
        cells[-1] = example if len(example) < 600 else f"{example[:600]}…"
        for head, cell in zip(
            ("messages", "rule", "target", "code", "error", "example"), cells, strict=True
        ):
            output.echo(f"{head:>8} {output.safe(cell)}")
        output.echo()


@click.command("archive-replay")
@options.where_options
@click.option(
    "--since",
    type=options.Time(),
    metavar="TIME",
    help="Replay events from this time on: 15m, 2h, 1d, or an ISO 8601 timestamp.",
)
@click.option(
    "--until", type=options.Time(), metavar="TIME", default="0s", help="End time (default: now)."
)
@click.option("--rule", "rules", multiple=True, metavar="NAME", help="Only this rule; repeatable.")
@options.yes_option
@options.json_option
def archive_replay(
    env: str,
    stack: str | None,
    region: str | None,
    since: datetime | None,
    until: datetime,
    rules: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> int:
    """List archives; with --since replay their events of a time window, and follow the replay.

    Events go to all rules of their bus, or to those given with --rule. An event can take ten minutes
    until it is in the archive.

    \b
    Examples:
      eventstacks archive-replay --env dev
      eventstacks archive-replay --env dev --stack custom-event-bus --since 2h --rule CatchAllRule
    """
    if rules and not since:
        raise click.UsageError("--rule is for a replay: give --since, too.")
    if since and since >= until:
        raise click.UsageError("--since is not before --until.")
    aws, found_stacks = deployed(env, stack, region)
    found = archives.find(aws, found_stacks)
    if not since:
        _list_archives(found, as_json=as_json)
        return 0
    arns = [archives.find_rules(aws, one, rules, found_stacks) for one in found]
    if archives.is_recent(until):
        output.note("Events of the last ten minutes may not be in the archive yet.")
    names = ", ".join("{name} ({region})".format(**one) for one in found)
    window = f"{output.time_text(since)} to {output.time_text(until)}"
    question = f"Replay {window} of {names} to {', '.join(rules) or 'all rules of the bus'}?"
    if not output.confirm(question, aws.environment, yes=yes):
        output.echo("Nothing was changed.", err=True)
        return 1
    replays: list[tuple[str, str]] = []
    try:
        for one, rule_arns in zip(found, arns, strict=True):
            replay = archives.start(aws, one, since, until, rule_arns)
            replays.append((one["region"], replay))
            output.echo(f"Started {replay} in {one['region']}.", err=True)
        return _follow_replays(aws, replays, (since, until), as_json=as_json)
    except KeyboardInterrupt:
        lines = [
            f"Cancel it: aws events cancel-replay --region {where} --replay-name {replay}"
            for where, replay in replays
        ]
        raise KeyboardInterrupt("\n".join(["The replays continue in AWS.", *lines])) from None


def _list_archives(found: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            one["name"],
            one["region"],
            stacks.bus_name(one["bus"]),
            one["state"],
            f"{one['events']:,}",
            f"{one['size']:,}",
            one["retention"] or "unlimited",
        )
        for one in found
    ]
    heads = ("ARCHIVE", "REGION", "BUS", "STATE", "EVENTS", "BYTES", "DAYS")
    output.print_table(heads, rows, right=heads[-3:])


def _follow_replays(
    aws: Aws,
    replays: Sequence[tuple[str, str]],
    window: tuple[datetime, datetime],
    *,
    as_json: bool,
) -> int:
    last: dict[str, dict[str, Any]] = {}

    def describe() -> str:
        return " · ".join("{replay} {state} {share:.0%}".format(**one) for one in last.values())

    with output.progress("Replaying", describe):
        for now in archives.follow(aws, replays, window, connections.Clock()):
            if now["state"] != last.get(now["replay"], {}).get("state"):
                text = "{region} {replay} {state}".format(**now)
                output.echo(f"{output.time_text(datetime.now(UTC))} {text}", err=as_json)
            last[now["replay"]] = now
    if as_json:
        output.print_json(list(last.values()))
    return int(
        output.print_errors(
            ToolError(
                "the replay ended as {state}: {reason}".format(**one),
                where="{replay} in {region}".format(**one),
            )
            for one in last.values()
            if one["state"] != "COMPLETED"
        )
    )
