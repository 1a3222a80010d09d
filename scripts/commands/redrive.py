"""``make redrive``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from scripts.commands._options import json_option, where_options, yes_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.events.dead_letters import Letter, Mailbox


@click.command()
@where_options
@click.option("--to", "way", type=click.Choice(["target", "bus"]),
              help="Send them again: to the target that failed, or to the bus, and so to all its rules.")  # fmt: skip
@click.option("--only", metavar="TEXT", help="Only those whose rule, target or error code contains it.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Letters a second, at most.")
@click.option("--limit", type=click.IntRange(1), default=10_000, show_default=True, metavar="N",
              help="Look at no more than N letters of a queue.")  # fmt: skip
@yes_option
@json_option
def command(env: str, stack: str | None, region: str | None, yes: bool, as_json: bool, **given: Any) -> int:
    """Show dead letters by rule, target and error code; with --to send them again.

    A letter is deleted once AWS has acknowledged its redelivery; what fails again stays in the queue, or comes back
    to it. A target gets what its rule would have given it now. While the command looks at letters nobody else sees
    them (after a crash, for some minutes more). Exits with 1 if one was not sent.

    \b
    Examples:
      python -m scripts redrive --env prod --stack s3-object-events
      python -m scripts redrive --env prod --to target --only NO_PERMISSIONS --rate 20
    """
    from scripts.commands import _operations, _stacks
    from scripts.events import dead_letters

    aws, stacks = _operations.deployed(env, stack, region)
    way, rate = given["way"], given["rate"]
    boxes = [dead_letters.Mailbox(aws, one.place.region, url) for one in stacks
             if (url := one.outputs.get("DeadLetterQueueUrl"))]  # fmt: skip
    found: dict[int, list[Letter]] = {}
    try:
        for index, box in enumerate(boxes):
            box.fetch(given["limit"], 300 + (2 * min(given["limit"], box.remaining()) / rate if rate else 0))
            wanted = given["only"] or ""
            found[index] = [one for one in box.letters.values() if any(wanted in name for name in one.names())]
        chosen = [one for letters in found.values() for one in letters]
        more = sum(box.remaining() for box in boxes)
        if not (way and as_json):
            _show(chosen, as_json)
        click.echo(f"{len(chosen)} dead letters" + (f", and about {more} more in the queues" if more else ""), err=True)
        if not chosen or not way:
            return 0
        everyone = ", where every rule sees them again" if way == "bus" else ""
        if not _stacks.confirm(f"Send {len(chosen)} events to their {way}{everyone}?", aws.environment, yes=yes):
            return 0
        return _redrive([(box, found[index]) for index, box in enumerate(boxes)], way, rate, as_json)
    finally:
        for box in boxes:
            box.release()


def _redrive(boxes: Sequence[tuple[Mailbox, Sequence[Letter]]], way: str, rate: float | None, as_json: bool) -> int:
    from scripts.cloudformation.calls import Clock
    from scripts.events import dead_letters
    from scripts.events.redelivery import Redelivery

    sent, kept = 0, dict[tuple[str, str, str], list[str]]()
    try:
        for box, letters in boxes:
            for letter, problem in dead_letters.redrive(box, letters, Redelivery(box.aws, way), Clock(), rate=rate):
                sent += not problem
                if problem:
                    kept.setdefault(letter.names(), []).append(problem)
    finally:
        count = sum(map(len, kept.values()))
        if as_json:
            failed = [{"rule": rule, "target": target, "code": code, "letters": len(problems), "problem": problems[0]}
                      for (rule, target, code), problems in kept.items()]  # fmt: skip
            print(
                json.dumps({"to": way, "sent": sent, "kept": count, "problems": failed}, ensure_ascii=False, indent=2)
            )
        else:
            print(f"{sent} sent to their {way} and removed, {count} kept")
        for names, problems in kept.items():
            click.echo(f"Error: {len(problems)} kept of {' → '.join(names)}: {problems[0]}", err=True)
    return 1 if kept else 0


def _show(letters: Sequence[Letter], as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from scripts.commands import _stacks
    from scripts.events import dead_letters

    groups = dead_letters.group(letters)
    if as_json:
        print(json.dumps([{"rule": of[0].rule or None, "target": of[0].target, "code": of[0].code, "letters": len(of),
                           "message": of[0].message, "example": of[0].event} for of in groups.values()],
                         ensure_ascii=False, indent=2))  # fmt: skip
        return
    rows = [(str(len(of)), *names, of[0].message, json.dumps(of[0].event, ensure_ascii=False))
            for names, of in groups.items()]  # fmt: skip
    out = _stacks.console()
    if not out.is_terminal:
        for row in rows:
            print("\t".join(" ".join(cell.split()) for cell in row))
        return
    for count, rule, target, code, message, example in rows:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(justify="right", style="dim")
        table.add_column(overflow="fold")
        shown = example if len(example) < 600 else f"{example[:600]}…"
        cells = (("letters", count, "bold"), ("rule", rule, "cyan"), ("target", target, ""), ("error", code, "red"),
                 ("", message, ""), ("example", shown, "dim"))  # fmt: skip
        for name, cell, style in cells:
            table.add_row(name, Text(cell, style=style))
        out.print(table, "")
