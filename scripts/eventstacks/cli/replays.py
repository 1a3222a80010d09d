"""The verbs ``redrive`` and ``archive-replay``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from eventstacks import aws as connections
from eventstacks.bus import dead_letters, stacks
from eventstacks.cli import options, output
from eventstacks.cli.events import deployed
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import graph

QUEUE_OUTPUT = "DeadLetterQueueUrl"  # how the names of outputs end


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
            _show_messages([message for _, message in chosen], as_json=as_json)
        output.echo(_queue_summary(len(chosen), queues), err=True)
        if not to:
            return 0
        where = "bus, where every rule sees them again" if to == "bus" else to
        question = f"Send {output.counted(len(chosen), 'event')} to their {where}?"
        if chosen:
            output.confirm(question, aws.environment, yes=yes)
        code = _redrive(aws, chosen, to, rate, as_json=as_json)
        return code or int(not chosen and any(queue.in_flight for queue in queues))


def _queues(
    aws: connections.Aws, found: Sequence[stacks.Deployed]
) -> list[dead_letters.DeadLetterQueue]:
    """Return the dead-letter queues of stacks. Raises ToolError if there are none."""
    queues = [
        dead_letters.DeadLetterQueue(aws, stack.ref.region, url)
        for stack in found
        for name, url in stack.outputs.items()
        if name.endswith(QUEUE_OUTPUT)
    ]
    if not queues:
        raise ToolError(
            f"no stack has an output that ends in {QUEUE_OUTPUT}",
            code=ErrorCode.NOT_FOUND,
            where=", ".join(str(stack.ref) for stack in found),
            advice="Output the URLs of dead-letter queues under such names.",
        )
    return queues


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
    aws: connections.Aws,
    chosen: Sequence[tuple[dead_letters.DeadLetterQueue, dead_letters.Message]],
    to: str,
    rate: float | None,
    *,
    as_json: bool,
) -> int:
    deliver, clock = dead_letters.Redelivery(aws, to_bus=to == "bus").deliver, connections.Clock()
    results: list[tuple[dead_letters.Message, str]] = []
    try:
        with output.progress("Redelivering", lambda: f"{len(results):,} of {len(chosen):,}"):
            results.extend(dead_letters.redrive(chosen, deliver, clock, rate=rate))
    finally:
        problems = {message.handle: problem for message, problem in results if problem}
        kept = dead_letters.group(message for message, problem in results if problem)
        rows = [
            {"rule": rule, "target": target, "code": code, "messages": len(messages)}
            | {"problem": problems[messages[0].handle]}
            for (rule, target, code), messages in kept.items()
        ]
        counts = {"to": to, "sent": len(results) - len(problems), "kept": len(problems)}
        if as_json:
            output.print_json({**counts, "problems": rows})
        else:
            output.echo(
                "{sent:,} redelivered and deleted, {kept:,} left in the queue".format(**counts)
            )
        for row in rows:
            text = "Error: {messages:,} left of {rule} → {target} → {code}: {problem}".format(**row)
            output.echo("; ".join(text.splitlines()), err=True)  # a message cannot add a line
    return int(bool(problems))


def _show_messages(messages: Sequence[dead_letters.Message], *, as_json: bool) -> None:
    """Print one row for each rule, target and error code, the one with most messages first."""
    keys = ("messages", "rule", "target", "code", "message", "example")
    rows: list[dict[str, Any]] = []
    for names, group in dead_letters.group(messages).items():
        one = group[0]
        values = (
            (one.rule or None, one.target, one.code, one.message, one.event)
            if as_json
            else (*names, one.message, json.dumps(one.event, ensure_ascii=False)[:600])
        )
        rows.append(dict(zip(keys, (len(group), *values), strict=True)))
    if rows or as_json:
        output.print_rows(rows, keys, as_json=as_json)


@click.command("archive-replay")
@options.where_options
@click.option(
    "--since",
    type=options.Time(),
    metavar="TIME",
    help="Replay events from this time on: 15m, 2h, 1d, or an ISO 8601 timestamp.",
)
@click.option("--until", type=options.Time(), metavar="TIME", help="End time (default: now).")
@click.option("--rule", "rules", multiple=True, metavar="NAME", help="Only this rule; repeatable.")
@options.yes_option
@options.json_option
def archive_replay(
    env: str,
    stack: str | None,
    region: str | None,
    since: datetime | None,
    until: datetime | None,
    rules: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> int:
    """List archives; with --since replay their events of a time window, and follow the replay.

    Events go to all rules of their bus, or to those given with --rule. An event can take ten
    minutes until it is in the archive. Ctrl-C ends the following, not the replay.

    \b
    Examples:
      eventstacks archive-replay --env dev
      eventstacks archive-replay --env dev --stack custom-event-bus --since 2h --rule CatchAllRule
    """
    if (rules or until) and not since:
        raise click.UsageError("--rule and --until are for a replay: give --since, too.")
    until = until or datetime.now(UTC)
    if since and since >= until:
        raise click.UsageError("--since is not before --until.")
    aws, found_stacks = deployed(env, stack, region)
    found = stacks.find_archives(aws, found_stacks)
    if not since:
        _list_archives(found, as_json=as_json)
        return 0
    arns = [stacks.find_rules(aws, one, rules, found_stacks) for one in found]
    names = ", ".join("{name} ({region})".format(**one) for one in found)
    question = (
        f"Replay {output.time_text(since)} to {output.time_text(until)} of {names} to "
        f"{', '.join(rules) or 'all rules of the bus'}?"
    )
    output.confirm(question, aws.environment, yes=yes)
    replays: list[tuple[str, str]] = []
    try:
        for one, rule_arns in zip(found, arns, strict=True):
            replay = stacks.start_replay(aws, one, since, until, rule_arns)
            replays.append((one["region"], replay))
            output.echo(f"Started {replay} in {one['region']}.", err=True)
        with output.progress("Replaying"):
            ends = [stacks.wait_for_replay(aws, *replay, connections.Clock()) for replay in replays]
    except KeyboardInterrupt:
        lines = [
            f"Cancel it: aws events cancel-replay --region {where} --replay-name {replay}"
            for where, replay in replays
        ]
        raise KeyboardInterrupt("\n".join(["The replays continue in AWS.", *lines])) from None
    output.print_rows(ends, ("replay", "region", "state"), as_json=as_json)
    return int(
        output.print_errors(
            ToolError(
                "the replay ended as {state}: {reason}".format(**end),
                where="{replay} in {region}".format(**end),
            )
            for end in ends
            if end["state"] != "COMPLETED"
        )
    )


def _list_archives(found: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    rows = [
        {**one, "archive": one["name"], "bus": graph.bus_name(one["bus"]), "bytes": one["size"]}
        | {"days": one["retention"] or "unlimited"}
        for one in found
    ]
    output.print_rows(
        found if as_json else rows,
        ("archive", "region", "bus", "state", "events", "bytes", "days"),
        as_json=as_json,
    )
