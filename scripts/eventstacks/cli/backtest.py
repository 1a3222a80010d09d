"""``make backtest``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eventstacks.cli import _input
from eventstacks.cli._options import env_option, json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@env_option
@click.option(
    "--stack", required=True, metavar="NAME", help="The stack whose template has changed."
)
@click.option(
    "--region", metavar="NAME", help="The region of the deployed stack. Default: its first."
)
@click.option(
    "--examples",
    default=3,
    show_default=True,
    metavar="N",
    help="How many events to show on either side.",
)
@json_option
@click.argument("file", type=_input.FILE)
def command(
    *, env: str, stack: str, region: str | None, examples: int, as_json: bool, file: Path
) -> None:
    """Hold recorded events against a changed template: what it would match that the deployed stack does not, and back.

    FILE holds one event a line (- is stdin), as rules see them: from a log group or an archive.

    \b
    Example:
      eventstacks backtest --env dev --stack s3-object-events events.ndjson
    """
    import json

    from eventstacks.cli import _stacks
    from eventstacks.flow import backtest, graph, live, samples

    events = [one.event for one in samples.parse_lines(_input.read(file), str(file))]
    aws, templates, [ref, *_] = _stacks.read(env, stack, region)
    planned = live.locate(aws, [graph.stacks_of(aws.environment, templates)[ref]], aws.guard())
    found = backtest.compare(planned, live.read(aws, planned), events)
    if as_json:
        print(json.dumps([one.as_data(examples) for one in found], ensure_ascii=False, indent=2))
        return
    for one in found:
        print(f"{one.rule}: {one.before} of {one.events} events before, {one.after} after")
        for says, changed in (("no longer", one.lost), ("newly", one.gained)):
            if changed:
                print(f"  {says} matched: {len(changed)}, such as")
            for event in changed[:examples]:
                print(f"    {json.dumps(event, ensure_ascii=False)}")
