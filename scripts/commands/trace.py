"""``make trace``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.commands._options import json_option, where_options

if TYPE_CHECKING:
    from scripts.flow.graph import Flow
    from scripts.flow.samples import Sample
    from scripts.flow.trace import Arrival

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("event", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@where_options
@click.option("--bus", metavar="NAME", help="The bus that the event is put on. Default: as its source says.")
@click.option("--template", type=FILE, help="Trace through this template alone, in no environment.")
@click.option("--run", is_flag=True, help="Run the code of inline Lambda targets, without credentials.")
@click.option("--live", is_flag=True, help="Read rules, targets and policies from the account.")
@click.option(
    "--diagram", type=click.Path(dir_okay=False, path_type=Path), help="Draw the way into a .svg or .mmd file."
)
@click.option("--ndjson", is_flag=True, help="EVENT holds one event a line; one JSON document a line comes out.")
@json_option
def command(
    *, event: Path, env: str, stack: str | None, region: str | None, bus: str | None, template: Path | None, run: bool,
    live: bool, diagram: Path | None, ndjson: bool, as_json: bool,
) -> int:  # fmt: skip
    """Show what an event would do: which rules match, why others do not, and what reaches which target.

    EVENT is an event, an entry of PutEvents, or a sample of tests/events. Exit 1 if nothing matches, something could
    not be delivered, or a sample takes another way than it must.

    \b
    Examples:
      python -m scripts trace tests/events/custom-event-bus/order-placed.json
      python -m scripts trace event.json --env dev --stack s3-object-events --live
    """
    import json

    from scripts.flow import samples
    from scripts.flow import trace as tracing

    if event.name == "-" or ndjson:
        with click.open_file(str(event), encoding="utf-8") as file:
            lines = [one for one in file if one.strip()] if ndjson else [file.read()]
        read = [samples.parse(line, f"{event}:{number}") for number, line in enumerate(lines, 1)]
    else:
        read = [samples.read(event)]
    source = _Source(env, template, stack=stack, region=region, live=live)
    failed = False
    for sample in read:
        flow, complete = source.flow(sample)
        buses = tracing.entrances(flow, complete, bus or sample.bus)
        arrivals = [tracing.trace(flow, complete, one, source.matcher) for one in buses]
        found = [] if sample.expect is None else samples.deviations(arrivals, sample.expect)
        if sample.expect is None:
            failed = failed or not any(one.is_matched for one in arrivals) or any(one.is_lost for one in arrivals)
        failed = failed or bool(found)
        if ndjson or as_json:
            data = {"event": complete, "buses": [tracing.as_data(one) for one in arrivals], "deviations": found}
            print(json.dumps(data, ensure_ascii=False, indent=None if ndjson else 2), flush=ndjson)
        else:
            _print(flow, arrivals, run=run)
        for deviation in found:
            click.echo(f"{sample.where}: {deviation}", err=True)
        if diagram:
            from scripts.flow import diagram as drawing

            drawn = drawing.picture(flow, arrivals)
            diagram.write_text(drawing.draw(drawn, diagram.suffix, f"The way of {event.stem}"), encoding="utf-8")
    return int(failed)


class _Source:
    """Where the flow comes from: the environment's templates, one template, or the account."""

    def __init__(
        self, env: str, template: Path | None, *, stack: str | None, region: str | None, live: bool
    ) -> None:  # fmt: skip
        from scripts import documents, environment, rendering
        from scripts.flow import trace as tracing

        self.template = documents.read_template(template) if template else None
        self.name, self.stack, self.region = template.stem if template else env, stack, region
        self.matcher: Any = tracing.match
        self.known: dict[str, Flow] = {}
        if not template:
            self.settings, self.templates = environment.load(env), rendering.render_all()
            environment.check_parameters(self.settings, self.templates)
        self.live = self._read_account() if live and not template else None

    def flow(self, sample: Sample) -> tuple[Flow, dict[str, Any]]:
        """The flow for a sample, whose parameters may differ, and the sample's event as a rule would see it."""
        from scripts.flow import graph, samples
        from scripts.flow.resolution import symbol_of

        region, account = self.region or sample.region, "123456789012"
        if self.template:
            region = region or "us-east-1"
            found = graph.of_template(self.template, sample.parameters, name=self.name, region=region, account=account)
        elif self.live:
            region, found, account = region or self.settings.regions[0], self.live, self.live.stacks[0].account
        else:
            stack, account = self.stack or sample.stack, self.settings.account or symbol_of("AWS::AccountId")
            region = region or self.settings.choose(stack)[0][1]
            key = f"{stack} {sorted(sample.parameters.items())}"  # many events may go one way
            if key not in self.known:
                overrides = {stack: sample.parameters} if stack else None
                self.known[key] = graph.of_environment(self.settings, self.templates, stack, overrides)
            found = self.known[key]
        return found, samples.complete(sample, found, region, account)

    def _read_account(self) -> Flow:
        from scripts.aws import Aws
        from scripts.flow import graph, live

        aws = Aws(self.settings)
        stacks = graph.stacks_of(self.settings, self.templates)
        chosen = {(one.name, region) for one, region in self.settings.choose(self.stack, self.region)}
        planned = live.locate(aws, [one for key, one in stacks.items() if key in chosen], aws.guard())
        found = live.read(aws, planned)
        for difference in live.differences(planned, found):
            click.echo(f"differs: {difference}", err=True)
        self.matcher = live.matcher(aws)
        return found


def _print(flow: Flow, arrivals: list[Arrival], *, run: bool) -> None:
    from rich.console import Console

    from scripts.commands import _trace

    # A tree wraps at the width: in a pipe nothing is to be cut or broken.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 1_000_000)
    for arrival in arrivals:
        console.print(_trace.draw(arrival, _trace.runner(flow) if run else lambda _: []))
