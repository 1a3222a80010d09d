"""The verbs for the flow of events: trace, match."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from eventstacks import documents, environment, parameter_checks, rendering
from eventstacks.bus import stacks as bus_stacks
from eventstacks.cli import output
from eventstacks.cli.options import json_option, where_options
from eventstacks.flow import graph, payload, samples, symbols, targets
from eventstacks.flow import trace as tracing
from eventstacks.patterns import grammar, matcher

Find = Callable[["samples.Sample"], "graph.Flow"]

FILE = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
ACCOUNT = "123456789012"  # of --template
FATES = {"refused": "refused at deployment", "dead letter": "sent to dead-letter queue {}"}
FATE_STYLES = {"delivered": "green", "dead letter": "yellow", "unknown": "magenta"}
MARKS = {True: "✓", False: "✗", None: "?"}
MARK_STYLES = {True: "green", False: "red", None: "magenta"}


def _read(path: Path) -> str:
    """Return the text of a file, or of stdin for ``-``. Raises ToolError."""
    return documents.read_text(Path("/dev/stdin") if str(path) == "-" else path)


@click.command()
@click.argument("event", type=FILE)
@where_options
@click.option("--bus", metavar="NAME", help="The bus the event is put on. Default: by its source.")
@click.option("--template", type=FILE, help="Trace through this template, in no environment.")
@click.option(
    "--parameter",
    "parameters",
    multiple=True,
    type=(str, str),
    metavar="NAME VALUE",
    help="Value of a parameter of --template or --stack; repeatable.",
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
    parameters: tuple[tuple[str, str], ...],
    show_event: bool,
    ndjson: bool,
    as_json: bool,
) -> int:
    """Show which rules an event matches, why others do not match, and what reaches which target.

    EVENT is an event, an entry of PutEvents, a record of a DynamoDB stream that a pipe reads, or a
    sample of tests/events. Exit code 1 if no rule is known to match, an event is not delivered, or
    a sample takes another route than it expects.

    \b
    Examples:
      eventstacks trace tests/events/custom-event-bus/order-placed.json
      eventstacks trace event.json --env dev --stack s3-object-events
    """
    if (template and stack) or (parameters and not (template or stack)):
        raise click.UsageError("Give one of --template and --stack; --parameter needs one.")
    if bus is not None:
        bus_stacks.parse_bus(bus)
    text, where = _read(event), str(event)
    read = samples.parse_lines(text, where) if ndjson else [samples.parse(text, where)]
    if template:
        document = documents.parse_template(_read(template), str(template))
        find: Find = partial(_template_flow, document, template)
    else:
        find = _environment_flow(env, stack, region)
    flows: dict[tuple[Any, ...], graph.Flow] = {}
    failed = False
    for written in read:
        sample = replace(
            written,
            stack=stack or written.stack,
            bus=bus or written.bus,
            region=region or written.region,
            parameters={**written.parameters, **dict(parameters)},
        )
        key = (sample.stack, sample.region, *sorted(sample.parameters.items()))
        flow = flows[key] = flows.get(key) or find(sample)
        failed = _trace_one(sample, flow, ndjson, as_json, show_event) or failed
    return int(failed)


def _trace_one(
    sample: samples.Sample,
    flow: graph.Flow,
    ndjson: bool,
    as_json: bool,
    show_event: bool,
) -> bool:
    """Trace and print one event. Return True if it is not delivered as it should be."""
    own = flow.stacks[0]
    account = own.account or symbols.symbol_of("AWS::AccountId")
    event = samples.complete(sample, flow, sample.region or own.region, account)
    arrivals = [
        tracing.trace(flow, event, one) for one in tracing.entrances(flow, event, sample.bus)
    ]
    deviations = samples.deviations(arrivals, sample.expect)
    text = payload.compact(event)
    if ndjson or as_json:
        routes = [tracing.as_data(one) for one in arrivals]
        document = {"event": event, "buses": routes, "deviations": deviations}
        click.echo(json.dumps(document, indent=None if ndjson else 2))
    else:
        for arrival in arrivals:
            _show_arrival(arrival, text, 0)
        if show_event:
            output.echo(f"event {text}")
    for deviation in deviations:
        output.echo(f"{sample.where}: {deviation}", err=True)
    if sample.expect is not None:
        return bool(deviations)
    is_matched = any(one.is_matched for one in arrivals)
    return not is_matched or any(one.is_lost for one in arrivals)


def _template_flow(template: Mapping[str, Any], path: Path, sample: samples.Sample) -> graph.Flow:
    """Return the flow of one template, in an invented account."""
    parameter_checks.check_declared(sample.parameters, template, str(path))
    where = {"region": sample.region or "us-east-1", "account": ACCOUNT}
    return graph.of_template(template, sample.parameters, name=path.stem, **where)


def _environment_flow(env: str, stack: str | None, region: str | None) -> Find:
    """Read an environment.

    Return a function: the flow of all its templates, or of a sample's stack.
    """
    chosen, templates = environment.load(env), rendering.Templates()
    parameter_checks.check_parameters(chosen, templates, chosen.choose(stack, region))

    def find(sample: samples.Sample) -> graph.Flow:
        name = sample.stack
        if name:
            template = chosen.choose(name)[0].settings.template
            parameter_checks.check_declared(
                sample.parameters, templates[template].document, f"stack {name}"
            )
        return graph.of_environment(chosen, templates, name, sample.parameters)

    return find


# --- the route as text: bus, rules, targets, later buses ---------------------------------------


def _say(depth: int, text: str, style: str = "") -> None:
    output.echo(f"{'  ' * depth}{text}", style=style)


def _show_arrival(arrival: tracing.Arrival, event: str, depth: int) -> None:
    is_bus = ":event-bus/" in arrival.bus
    _say(depth, f"{'bus' if is_bus else 'source'} {arrival.label}  {arrival.bus}", "bold")
    if not arrival.exists and is_bus:
        dropped = "PutEvents would succeed and the event would be dropped"
        _say(depth + 1, f"✗ bus not found in {arrival.bus.split(':')[3]}: {dropped}", "red")
    elif not arrival.exists:
        _say(depth + 1, "✗ no pipe of these stacks is known to read it", "red")
    labels = [route.rule.label for route in arrival.routes]
    for route in arrival.routes:
        kind = route.rule.sender.title if route.rule.sender else "rule"
        is_shared = labels.count(route.rule.label) > 1  # by rules of several stacks
        name = f"{route.rule.label} ({route.rule.name})" if is_shared else route.rule.label
        _say(depth + 1, f"{MARKS[route.matched]} {kind} {name}", MARK_STYLES[route.matched])
        for why in route.why:
            _say(depth + 3, why, "dim")
        if not route.deliveries and route.matched:
            _say(depth + 3, "the rule has no target", "red")
        for delivery in route.deliveries:
            _show_delivery(delivery, event, depth + 2)
    if arrival.unexamined and not arrival.is_matched:
        names = ", ".join(arrival.unexamined)
        _say(depth + 1, f"? not expanded, can contain more rules: {names}", "magenta")
    elif arrival.exists and not arrival.routes:
        _say(depth + 1, "✗ no rule of these stacks is on this bus", "red")
    for archive in arrival.archives:
        _say(depth + 1, f"✓ archive {archive} keeps it", "green")


def _show_delivery(one: tracing.Delivery, event: str, depth: int) -> None:
    style, fate = FATE_STYLES.get(one.fate, "bold red"), FATES.get(one.fate, one.fate)
    service = targets.service_of(one.target.arn) or "target"
    _say(depth, f"→ {service} {one.label}: {fate.format(one.dead_letters)}", style)
    _say(depth + 1, f"{MARKS[one.verdict.allowed]} {one.verdict.reason}", style)
    if one.queue is None and one.fate == "lost":
        _say(depth + 1, "✗ no dead-letter queue", style)
    elif one.queue and not one.queue.allowed:
        text = f"dead-letter queue {one.dead_letters}: {one.queue.reason}"
        _say(depth + 1, f"{MARKS[one.queue.allowed]} {text}", "yellow")
    received = "the event" if one.payload.text == event else one.payload.text
    is_received = one.verdict.allowed is not False
    _say(depth + 1, f"receives {received if is_received else 'nothing'}")
    if is_received:
        for path in one.payload.missing:
            text = f"the event has no value at {path}: what AWS sends for it is a guess"
            _say(depth + 1, text, "dim")
    if one.onward:
        _show_arrival(one.onward, event, depth + 1)


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

    Without an event: check that the pattern is valid. The event is compared as it is written:
    nothing is filled in, and ${…} in a sample stays text (`trace` does both).

    With --ndjson each line holds pattern (or pattern_text, raw JSON) and event (or event_text);
    each gets one line: {"match": true}, {"valid": true} if there was no event, or {"error": "…"}.

    \b
    Examples:
      eventstacks match --pattern p.json --event tests/events/custom-event-bus/order-placed.json
      eventstacks match --ndjson < cases.ndjson
    """
    if ndjson == (pattern is not None) or (ndjson and event):
        raise click.UsageError("Give --pattern FILE [--event FILE], or --ndjson alone.")
    if pattern is None:
        for line in sys.stdin.buffer:
            click.echo(json.dumps(matcher.judge(line)))
        return 0
    try:
        compiled = matcher.Pattern(_read(pattern))
    except grammar.PatternError as error:
        error.where = f"{pattern}: {error.where}".removesuffix(": ")
        raise
    if event is None:
        click.echo(json.dumps({"valid": True}) if as_json else "valid")
        return 0
    misses = compiled.explain(samples.parse(_read(event), str(event)).event)
    if as_json:
        output.print_json({"match": not misses, "why_not": [asdict(miss) for miss in misses]})
    else:
        lines = [f"  {'either ' if miss.one_of else ''}{miss}" for miss in misses]
        output.echo("\n".join(["false" if misses else "true", *lines]))
    return int(bool(misses))
