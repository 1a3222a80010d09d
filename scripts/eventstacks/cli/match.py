"""``eventstacks match``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eventstacks.cli import _input
from eventstacks.cli._options import json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.option("--pattern", type=_input.FILE, metavar="FILE", help="The event pattern, as JSON.")
@click.option(
    "--event",
    type=_input.FILE,
    metavar="FILE",
    help="The event as delivered (source, detail-type, detail, …), or a sample of tests/events.",
)
@click.option(
    "--ndjson", is_flag=True, help="Read objects with pattern and event from stdin, one a line."
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, pattern: Path | None, event: Path | None, ndjson: bool, as_json: bool
) -> None:
    """Say whether a pattern matches an event, and if not, why not (exit 1). Without an event: is the pattern valid?

    An event is compared as it is written: nothing is filled in, and ${…} in a sample stays text (`trace` does both).

    With --ndjson each line holds pattern (or pattern_text, raw JSON) and event (or event_text); each gets one line:
    {"match": true}, {"valid": true} if there was no event, or {"error": "…"}.

    \b
    Examples:
      eventstacks match --pattern pattern.json --event tests/events/custom-event-bus/order-placed.json
      eventstacks match --ndjson < cases.ndjson
    """
    import json
    import sys
    from dataclasses import asdict

    from eventstacks.errors import ToolError
    from eventstacks.patterns.grammar import PatternError
    from eventstacks.patterns.matcher import Pattern
    from eventstacks.patterns.verdict import judge

    if ndjson == (pattern is not None) or (ndjson and event):
        raise click.UsageError("Give --pattern FILE [--event FILE], or --ndjson alone.")
    if ndjson:
        for line in sys.stdin.buffer:
            print(json.dumps(judge(line)), flush=True)
        return
    assert pattern is not None  # noqa: S101 - checked above; for the type checker
    try:
        compiled = Pattern(_input.read(pattern))
    except PatternError as error:
        where = f"{pattern}: {error.where}" if error.where else str(pattern)
        raise ToolError(error.what, where=where, advice=error.advice) from error
    if event is None:
        print(json.dumps({"valid": True}) if as_json else "valid")
        return
    misses = compiled.explain(_event(event))
    if as_json:
        print(json.dumps({"match": not misses, "why_not": [asdict(miss) for miss in misses]}))
    else:
        print("false" if misses else "true")
        for miss in misses:
            print(f"  {'either ' if miss.one_of else ''}{miss}")
    if misses:
        ctx.exit(1)


def _event(path: Path) -> dict[str, Any]:
    """The event of a file; of a sample, the one that it holds."""
    from eventstacks.errors import ToolError
    from eventstacks.flow import samples
    from eventstacks.patterns.fields import EventError
    from eventstacks.patterns.verdict import read_event

    text = _input.read(path)
    try:
        content = read_event(text)
    except EventError as error:
        raise ToolError(error.what, where=str(path)) from error
    if not samples.parse(text, str(path)).names:
        return content
    event: dict[str, Any] = content[
        "event"
    ]  # not that of ``parse``, which reads numbers in another way
    return event
