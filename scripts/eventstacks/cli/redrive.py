"""``make redrive``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from eventstacks.cli._options import RATE, json_option, where_options, yes_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.bus.dead_letters import Letter, Mailbox

LINES: dict[str, dict[str, Any]] = {
    "letters": {"bold": True},
    "rule": {"fg": "cyan"},
    "target": {},
    "error": {"fg": "red"},
    "": {},
    "example": {"dim": True},
}


@click.command()
@where_options
@click.option(
    "--to",
    "way",
    type=click.Choice(["target", "bus"]),
    help="Send them again: to the target that failed, or to the bus, and so to all its rules.",
)
@click.option(
    "--only", metavar="TEXT", help="Only those whose rule, target or error code contains it."
)
@click.option("--rate", type=RATE, metavar="N", help="Letters a second, at most.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Look at no more than N letters of a queue.",
)
@yes_option
@json_option
def command(
    env: str, stack: str | None, region: str | None, yes: bool, as_json: bool, **given: Any
) -> int:
    """Show dead letters by rule, target and error code; with --to send them again.

    A letter is deleted once AWS has acknowledged its redelivery; what fails again stays in the queue, or comes back
    to it. A target gets what its rule would have given it now. While the command looks at letters nobody else sees
    them (after a crash, for some minutes more). Exits with 1 if one was not sent, or the answer was no.

    \b
    Examples:
      eventstacks redrive --env prod --stack s3-object-events
      eventstacks redrive --env prod --to target --only NO_PERMISSIONS --rate 20
    """
    from eventstacks.bus import dead_letters
    from eventstacks.cli import _operations, _stacks

    aws, stacks = _operations.deployed(env, stack, region)
    way, rate, limit, wanted = given["way"], given["rate"], given["limit"], given["only"] or ""
    boxes = [
        dead_letters.Mailbox(aws, one.ref.region, url)
        for one in stacks
        for name, url in one.outputs.items()
        if name.endswith("DeadLetterQueueUrl")
    ]
    try:
        for box in boxes:
            box.fetch(limit, 300 + (2 * min(limit, box.remaining()) / rate if rate else 0))
        found = [
            (
                box,
                [
                    one
                    for one in box.letters.values()
                    if any(wanted in name for name in one.names())
                ],
            )
            for box in boxes
        ]
        chosen = [one for _, letters in found for one in letters]
        more = sum(box.remaining() for box in boxes)
        if not (way and as_json):
            _show(chosen, as_json)
        rest = f", and about {more} more in the queues" if more else ""
        click.echo(_stacks.counted(len(chosen), "dead letter") + rest, err=True)
        if not way:
            return 0
        if not chosen:  # nothing to ask, and a document all the same
            return _redrive((), way, rate, as_json) if as_json else 0
        everyone = ", where every rule sees them again" if way == "bus" else ""
        events = _stacks.counted(len(chosen), "event")
        if not _stacks.confirm(
            f"Send {events} to their {way}{everyone}?", aws.environment, yes=yes
        ):
            click.echo("Nothing was changed.", err=True)
            return 1
        return _redrive(found, way, rate, as_json)
    finally:
        for box in boxes:
            box.release()


def _redrive(
    boxes: Sequence[tuple[Mailbox, Sequence[Letter]]], way: str, rate: float | None, as_json: bool
) -> int:
    from eventstacks.aws import Clock
    from eventstacks.bus import dead_letters
    from eventstacks.bus.redelivery import Redelivery
    from eventstacks.cli import _stacks

    sent, kept = 0, dict[tuple[str, str, str], list[str]]()
    try:
        for box, letters in boxes:
            for letter, problem in dead_letters.redrive(
                box, letters, Redelivery(box.aws, way), Clock(), rate=rate
            ):
                sent += not problem
                if problem:
                    kept.setdefault(letter.names(), []).append(problem)
    finally:
        count = sum(map(len, kept.values()))
        if as_json:
            failed = [
                {
                    "rule": rule,
                    "target": target,
                    "code": code,
                    "letters": len(problems),
                    "problem": problems[0],
                }
                for (rule, target, code), problems in kept.items()
            ]
            _stacks.print_json({"to": way, "sent": sent, "kept": count, "problems": failed})
        else:
            print(f"{sent} sent to their {way} and removed, {count} kept")
        for names, problems in kept.items():
            click.echo(
                f"Error: {len(problems)} kept of {' → '.join(names)}: {problems[0]}", err=True
            )
    return 1 if kept else 0


def _show(letters: Sequence[Letter], as_json: bool) -> None:
    from eventstacks.bus import dead_letters
    from eventstacks.cli import _stacks

    groups = dead_letters.group(letters)
    if as_json:
        _stacks.print_json(
            [
                {
                    "rule": of[0].rule or None,
                    "target": of[0].target,
                    "code": of[0].code,
                    "letters": len(of),
                    "message": of[0].message,
                    "example": of[0].event,
                }
                for of in groups.values()
            ]
        )
        return
    plain = not _stacks.console().is_terminal
    for names, of in groups.items():
        example = json.dumps(of[0].event, ensure_ascii=False)
        cells = (
            str(len(of)),
            *names,
            of[0].message,
            example if plain or len(example) < 600 else f"{example[:600]}…",
        )
        if plain:
            print("\t".join(" ".join(cell.split()) for cell in cells))
            continue
        for (name, style), cell in zip(LINES.items(), cells, strict=True):
            click.echo(click.style(f"{name:>7} ", dim=True) + click.style(cell, **style))
        click.echo()
