"""The verbs for the flow of events: trace, match, backtest."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from eventstacks import documents
from eventstacks.bus import stacks as bus_stacks
from eventstacks.cli import output, route_view
from eventstacks.cli.options import (
    connect,
    env_option,
    json_option,
    load,
    quiet_option,
    where_options,
)
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import backtest as comparison
from eventstacks.flow import diagram as drawing
from eventstacks.flow import graph, payload, samples, symbols
from eventstacks.flow import live as account_flow
from eventstacks.flow import trace as tracing
from eventstacks.patterns import grammar, matcher, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eventstacks.flow.graph import Flow
    from eventstacks.flow.samples import Sample
    from eventstacks.flow.trace import Matcher

    # For a sample: the flow that its parameters make, and the Region and account of its event.
    Source = Callable[[Sample], tuple[Flow, str, str]]

FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
ACCOUNT = "123456789012"  # of --template


def _read(path: Path) -> str:
    """Return the text of a file, or of stdin for ``-``. Raises ToolError."""
    try:
        with click.open_file(str(path), encoding="utf-8") as file:
            return str(file.read())
    except (OSError, ValueError) as error:
        what = f"cannot read this as UTF-8 text: {error}"
        raise ToolError(what, code=ErrorCode.FILE_UNREADABLE, where=str(path)) from None


@click.command()
@click.argument("event", type=FILE)
@where_options
@click.option("--bus", metavar="NAME", help="The bus the event is put on. Default: by its source.")
@click.option("--template", type=FILE, help="Trace through this template, in no environment.")
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of a parameter of --template or --stack; repeatable.",
)
@click.option("--live", is_flag=True, help="Read rules, targets and policies from the account.")
@click.option(
    "--diagram",
    type=click.File("w", encoding="utf-8", lazy=True),
    metavar="FILE",
    help="Write a diagram of the route (Mermaid, .mmd).",
)
@click.option("--show-event", is_flag=True, help="Print the completed event after the route.")
@click.option(
    "--ndjson", is_flag=True, help="Read one event per line, print one JSON document per line."
)
@json_option
def trace(
    event: Path,
    env: str,
    stack: str | None,
    region: str | None,
    bus: str | None,
    template: Path | None,
    parameters: tuple[str, ...],
    live: bool,
    diagram: IO[str] | None,
    show_event: bool,
    ndjson: bool,
    as_json: bool,
) -> int:
    """Show which rules an event matches, why others do not match, and what reaches which target.

    EVENT is an event, an entry of PutEvents, or a sample of tests/events. Exit code 1 if no rule is
    known to match, an event is not delivered, or a sample takes another route than it expects. With
    --ndjson the reasons of rules that do not match are left out.

    \b
    Examples:
      eventstacks trace tests/events/custom-event-bus/order-placed.json
      eventstacks trace event.json --env dev --stack s3-object-events --live
    """
    _check_usage(template, live, parameters, stack, ndjson, diagram)
    if bus is not None:
        bus_stacks.parse_bus(bus)
    text, where = _read(event), str(event)
    read = samples.parse_lines(text, where) if ndjson else [_one_sample(text, where)]
    given = dict(map(_pair, parameters))
    read = [replace(sample, parameters={**sample.parameters, **given}) for sample in read]
    if template:
        find = _of_template(template, region)
    elif live:
        find = _of_account(env, stack, region)
    else:
        find = _of_environment(env, stack, region)
    failed = False
    for sample in read:
        flow, *place = find(sample)
        complete = samples.complete(sample, flow, *place)
        entrances = tracing.entrances(flow, complete, bus or sample.bus)
        match_all = _indexed(flow) if ndjson else tracing.match
        arrivals = [tracing.trace(flow, complete, one, match_all) for one in entrances]
        deviations = [] if sample.expect is None else samples.deviations(arrivals, sample.expect)
        is_lost = not any(one.is_matched for one in arrivals) or any(
            one.is_lost for one in arrivals
        )
        failed = failed or bool(deviations) or (is_lost and sample.expect is None)
        document = {
            "event": complete,
            "buses": [tracing.as_data(one) for one in arrivals],
            "deviations": deviations,
        }
        if ndjson:
            click.echo(json.dumps(document))
        elif as_json:
            output.print_json(document)
        else:
            route_view.show(arrivals, complete if show_event else None)
        for deviation in deviations:
            output.echo(f"{sample.where}: {deviation}", err=True)
        if diagram:
            diagram.write(drawing.mermaid(drawing.picture(flow, arrivals)))
    return int(failed)


@cache
def _indexed(flow: Flow) -> Matcher:
    """Return the index of a flow, built once."""
    return tracing.IndexedMatcher(flow)


def _check_usage(
    template: Path | None,
    live: bool,
    parameters: tuple[str, ...],
    stack: str | None,
    ndjson: bool,
    diagram: IO[str] | None,
) -> None:
    if (template and live) or (ndjson and diagram) or (parameters and not (template or stack)):
        raise click.UsageError(
            "--template excludes --live, --ndjson excludes --diagram, and --parameter needs "
            "--template or --stack."
        )
    if diagram and not diagram.name.endswith(".mmd"):
        raise click.UsageError(f"--diagram writes a .mmd (Mermaid) file, not {diagram.name}.")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--parameter {text}: expected NAME=VALUE")
    return name, value


def _one_sample(text: str, where: str) -> Sample:
    """Return the one event of a file; the error for several, one per line, names --ndjson."""
    try:
        return samples.parse(text, where)
    except ToolError as error:
        try:
            is_ndjson = len(samples.parse_lines(text, where)) > 1
        except ToolError:
            is_ndjson = False
        advice = "One event per line? Pass --ndjson (make: ARGS=--ndjson)." if is_ndjson else ""
        raise ToolError(
            error.what, code=error.code, where=error.where, advice=advice or error.advice
        ) from None


def _check_parameters(given: Mapping[str, str], template: Mapping[str, Any], where: str) -> None:
    declared = template.get("Parameters") or {}
    if unknown := sorted(given.keys() - declared.keys()):
        raise ToolError(
            f"the template has no parameter {unknown[0]!r}",
            code=ErrorCode.PARAMETER_INVALID,
            where=where,
            advice=f"Parameters: {', '.join(declared) or 'none'}.",
        )


def _of_template(path: Path, region: str | None) -> Source:
    """Return the flow of one template, in an invented account."""
    template = documents.parse_template(_read(path), str(path))

    @cache
    def flow_of(region: str, parameters: tuple[tuple[str, str], ...]) -> Flow:
        where = {"name": path.stem, "region": region, "account": ACCOUNT}
        return graph.of_template(template, dict(parameters), **where)

    def find(sample: Sample) -> tuple[Flow, str, str]:
        where = region or sample.region or "us-east-1"
        _check_parameters(sample.parameters, template, str(path))
        return flow_of(where, tuple(sorted(sample.parameters.items()))), where, ACCOUNT

    return find


def _of_environment(env: str, stack: str | None, region: str | None) -> Source:
    """Return the flow of the templates of an environment."""
    settings, templates, _ = load(env, stack, region)

    @cache
    def flow_of(name: str | None, parameters: tuple[tuple[str, str], ...]) -> Flow:
        overrides = {name: dict(parameters)} if name else None
        return graph.of_environment(settings, templates, name, overrides)

    def find(sample: Sample) -> tuple[Flow, str, str]:
        name = stack or sample.stack
        refs = settings.choose(name)
        where = region or sample.region or refs[0].region
        if name:
            document = templates[refs[0].settings.template].document
            _check_parameters(sample.parameters, document, f"stack {name}")
        found = flow_of(name, tuple(sorted(sample.parameters.items())))
        return found, where, settings.account or symbols.symbol_of("AWS::AccountId")

    return find


def _of_account(env: str, stack: str | None, region: str | None) -> Source:
    """Return the deployed flow; print its differences from the templates on stderr."""
    aws, templates, refs = connect(env, stack, region)
    stacks, account = graph.stacks_of(aws.environment, templates), aws.guard()
    planned = account_flow.locate(aws, [stacks[ref] for ref in refs], account)
    found = account_flow.read(aws, planned)
    for difference in account_flow.differences(planned, found):
        output.echo(f"differs: {difference}", err=True)

    @cache
    def flow_of(name: str | None) -> Flow:
        """Return the flow in which events arrive on the buses of a stack."""
        chosen = aws.environment.choose(name, region)
        return replace(found, stacks=[stacks[ref] for ref in chosen])

    def find(sample: Sample) -> tuple[Flow, str, str]:
        own = flow_of(stack or sample.stack)
        return own, region or sample.region or own.stacks[0].region, account

    return find


@click.command()
@click.option("--pattern", type=FILE, metavar="FILE", help="The event pattern, as JSON.")
@click.option(
    "--event",
    type=FILE,
    metavar="FILE",
    help="The event as delivered (source, detail-type, detail …), or a sample of tests/events.",
)
@click.option(
    "--ndjson", is_flag=True, help="Read objects with pattern and event from stdin, one per line."
)
@json_option
def match(pattern: Path | None, event: Path | None, ndjson: bool, as_json: bool) -> int:
    """Test whether a pattern matches an event, and print why not (exit code 1).

    Without an event: check that the pattern is valid. The event is compared as it is written: nothing
    is filled in, and ${…} in a sample stays text (`trace` does both).

    With --ndjson each line holds pattern (or pattern_text, raw JSON) and event (or event_text); each
    gets one line: {"match": true}, {"valid": true} if there was no event, or {"error": "…"}.

    \b
    Examples:
      eventstacks match --pattern pattern.json --event tests/events/custom-event-bus/order-placed.json
      eventstacks match --ndjson < cases.ndjson
    """
    if ndjson == (pattern is not None) or (ndjson and event):
        raise click.UsageError("Give --pattern FILE [--event FILE], or --ndjson alone.")
    if pattern is None:
        for line in sys.stdin.buffer:
            click.echo(json.dumps(verdict.judge(line)))
            sys.stdout.flush()
        return 0
    try:
        compiled = matcher.Pattern(_read(pattern))
    except grammar.PatternError as error:
        where = f"{pattern}: {error.where}" if error.where else str(pattern)
        raise ToolError(error.what, code=error.code, where=where, advice=error.advice) from error
    if event is None:
        click.echo(json.dumps({"valid": True}) if as_json else "valid")
        return 0
    misses = compiled.explain(_event_of(event))
    if as_json:
        output.print_json({"match": not misses, "why_not": [asdict(miss) for miss in misses]})
        return int(bool(misses))
    output.echo("false" if misses else "true")
    for miss in misses:
        output.echo(f"  {'either ' if miss.one_of else ''}{miss}")
    return int(bool(misses))


def _event_of(path: Path) -> dict[str, Any]:
    """Return the event of a file or of the sample in it, numbers as patterns compare them."""
    text = _read(path)
    try:
        content = verdict.read_event(text)
    except ToolError as error:
        raise ToolError(error.what, code=error.code, where=str(path)) from error
    is_sample = samples.parse(text, str(path)).names
    event: dict[str, Any] = content["event"] if is_sample else content
    return event


@click.command()
@env_option
@click.option("--stack", required=True, metavar="NAME", help="The stack with a changed template.")
@click.option("--region", metavar="NAME", help="Region of the deployed stack. Default: its first.")
@click.option(
    "--examples",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Events to print that are newly or no longer matched.",
)
@quiet_option
@json_option
@click.argument("file", type=FILE)
def backtest(
    env: str, stack: str, region: str | None, examples: int, as_json: bool, file: Path
) -> None:
    """Compare which recorded events match the local template and the deployed stack.

    FILE holds one event per line (- is stdin), as rules receive them: from a log group or an archive.

    \b
    Example:
      eventstacks backtest --env dev --stack s3-object-events events.ndjson
    """
    events = [one.event for one in samples.parse_lines(_read(file), str(file))]
    aws, templates, [ref, *_] = connect(env, stack, region)
    stacks = graph.stacks_of(aws.environment, templates)
    planned = account_flow.locate(aws, [stacks[ref]], aws.guard())
    found = comparison.compare(planned, account_flow.read(aws, planned), events)
    if as_json:
        output.print_json([one.as_data(examples) for one in found])
        return
    for one in found:
        output.echo(f"{one.rule}: {one.before} of {one.events} events before, {one.after} after")
        for change, changed in (("no longer", one.lost), ("newly", one.gained)):
            if changed:
                output.echo(f"  {change} matched: {len(changed)}, such as")
            for event in changed[:examples]:
                output.echo(f"    {payload.compact(event)}")
