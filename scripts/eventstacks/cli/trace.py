"""``make trace``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import IO, TYPE_CHECKING

import click

from eventstacks.cli import _input
from eventstacks.cli._options import json_option, where_options
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from pathlib import Path

    from eventstacks.flow.graph import Flow
    from eventstacks.flow.samples import Sample
    from eventstacks.flow.trace import Matcher

# For a sample: the flow, whose parameters may differ, and the region and account that its event is from.
Find = Callable[["Sample"], tuple["Flow", str, str]]


@click.command()
@click.argument("event", type=_input.FILE)
@where_options
@click.option(
    "--bus", metavar="NAME", help="The bus that the event is put on. Default: as its source says."
)
@click.option(
    "--template", type=_input.FILE, help="Trace through this template alone, in no environment."
)
@click.option("--live", is_flag=True, help="Read rules, targets and policies from the account.")
@click.option(
    "--diagram",
    type=click.File("w", encoding="utf-8", lazy=True),
    metavar="FILE",
    help="Write a diagram of the route (Mermaid, .mmd).",
)
@click.option(
    "--ndjson",
    is_flag=True,
    help="EVENT holds one event a line; one JSON document a line comes out.",
)
@json_option
def command(
    *,
    event: Path,
    env: str,
    stack: str | None,
    region: str | None,
    bus: str | None,
    template: Path | None,
    live: bool,
    diagram: IO[str] | None,
    ndjson: bool,
    as_json: bool,
) -> int:
    """Show what an event would do: which rules match, why others do not, and what reaches which target.

    EVENT is an event, an entry of PutEvents, or a sample of tests/events. Exit 1 if nothing matches, something could
    not be delivered, or a sample takes another way than it must.

    \b
    Examples:
      eventstacks trace tests/events/custom-event-bus/order-placed.json
      eventstacks trace event.json --env dev --stack s3-object-events --live
    """
    import json

    from eventstacks.cli import _trace
    from eventstacks.flow import diagram as drawing
    from eventstacks.flow import samples
    from eventstacks.flow import trace as tracing

    if (template and live) or (ndjson and diagram):
        raise click.UsageError("Give --template or --live; --ndjson or --diagram.")
    if diagram and not diagram.name.endswith(".mmd"):
        raise click.UsageError(f"--diagram writes a .mmd (Mermaid) file, not {diagram.name}.")
    if bus is not None:
        from eventstacks.bus import buses as names

        names.parse(bus)
    text = _input.read(event)
    read = samples.parse_lines(text, str(event)) if ndjson else [_read(text, str(event))]
    if template:
        find, matcher = _of_template(template, region)
    else:
        find, matcher = (_of_account if live else _of_environment)(env, stack, region)
    failed = False
    for sample in read:
        flow, *place = find(sample)
        complete = samples.complete(sample, flow, *place)
        buses = tracing.entrances(flow, complete, bus or sample.bus)
        arrivals = [tracing.trace(flow, complete, one, matcher) for one in buses]
        deviations = [] if sample.expect is None else samples.deviations(arrivals, sample.expect)
        is_lost = not any(one.is_matched for one in arrivals) or any(
            one.is_lost for one in arrivals
        )
        failed = failed or bool(deviations) or (is_lost and sample.expect is None)
        if ndjson or as_json:
            data = {
                "event": complete,
                "buses": [tracing.as_data(one) for one in arrivals],
                "deviations": deviations,
            }
            print(json.dumps(data, ensure_ascii=False, indent=None if ndjson else 2), flush=ndjson)
        else:
            _trace.show(arrivals)
        for deviation in deviations:
            click.echo(f"{sample.where}: {deviation}", err=True)
        if diagram:
            drawn = drawing.picture(flow, arrivals)
            diagram.write(drawing.mermaid(drawn))
    return int(failed)


def _read(text: str, where: str) -> Sample:
    """The one event of a file; of a file with one a line, an error that says how it is read."""
    from eventstacks.flow import samples

    try:
        return samples.parse(text, where)
    except ToolError as error:
        try:
            several = len(samples.parse_lines(text, where)) > 1
        except ToolError:
            several = False
        if not several:
            raise
        advice = "One event a line? Say --ndjson (make: ARGS=--ndjson)."
        raise ToolError(error.what, where=error.where, advice=advice) from None


def _of_template(path: Path, region: str | None) -> tuple[Find, Matcher]:
    """The flow of one template, in a made-up account."""
    from eventstacks import documents
    from eventstacks.flow import graph, trace

    template, account = documents.parse_template(_input.read(path), str(path)), "123456789012"

    def find(sample: Sample) -> tuple[Flow, str, str]:
        where = region or sample.region or "us-east-1"
        flow = graph.of_template(
            template, sample.parameters, name=path.stem, region=where, account=account
        )
        return flow, where, account

    return find, trace.match


def _of_environment(env: str, stack: str | None, region: str | None) -> tuple[Find, Matcher]:
    """The flow of the environment's templates."""
    from eventstacks.cli import options
    from eventstacks.flow import graph, trace
    from eventstacks.flow.resolve import symbol_of

    settings, templates, _ = options.load(env, stack, region)

    @cache  # many events may go one way
    def flow(name: str | None, parameters: tuple[tuple[str, str], ...]) -> Flow:
        return graph.of_environment(
            settings, templates, name, {name: dict(parameters)} if name else None
        )

    def find(sample: Sample) -> tuple[Flow, str, str]:
        name = stack or sample.stack
        where = region or sample.region or settings.choose(name)[0].region
        found = flow(name, tuple(sorted(sample.parameters.items())))
        return found, where, settings.account or symbol_of("AWS::AccountId")

    return find, trace.match


def _of_account(env: str, stack: str | None, region: str | None) -> tuple[Find, Matcher]:
    """The flow as it is deployed; where it differs from the templates is said on stderr."""
    from dataclasses import replace

    from eventstacks.cli import _stacks
    from eventstacks.flow import graph, live

    aws, templates, refs = _stacks.read(env, stack, region)
    stacks, account = graph.stacks_of(aws.environment, templates), aws.guard()
    planned = live.locate(aws, [stacks[ref] for ref in refs], account)
    found = live.read(aws, planned)
    for difference in live.differences(planned, found):
        click.echo(f"differs: {difference}", err=True)

    def find(sample: Sample) -> tuple[Flow, str, str]:
        meant = aws.environment.choose(
            stack or sample.stack, region
        )  # they make the buses that the event arrives on
        own = replace(found, stacks=[stacks[ref] for ref in meant])
        return own, region or sample.region or meant[0].region, account

    return find, live.matcher(aws)
