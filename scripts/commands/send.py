"""``make send``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scripts.commands._options import json_option, read_environment, where_options

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from scripts.environment import Environment
    from scripts.events.ledger import Ledger, Summary

EXIT_INTERRUPTED = 130
REJECTED = Path("rejected.ndjson")


@click.command()
@where_options
@click.option(
    "--bus",
    "buses",
    multiple=True,
    metavar="NAME",
    help="This bus (name or ARN), not the stack's.",
)
@click.option("--source", metavar="TEXT", help="Source of records that have none.")
@click.option("--detail-type", metavar="TEXT", help="DetailType of records that have none.")
@click.option("--trace-header", metavar="TEXT", help="X-Ray trace header of entries that have none.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="Entries a second, at most.")
@click.option(
    "--threads", type=click.IntRange(1, 256), default=32, show_default=True, help="Calls at a time, per process."
)
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that send.")
@click.option(
    "--attempts", type=click.IntRange(1, 100), default=10, show_default=True, help="Tries for an entry that fails."
)
@click.option("--rejected", type=click.Path(path_type=Path, dir_okay=False), default=REJECTED, show_default=True, metavar="FILE",
              help="Where refused entries go.")  # fmt: skip
@click.option("--progress", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where progress is kept for --resume (default: in .send/).")  # fmt: skip
@click.option("--resume", is_flag=True, help="Send the rest of what was interrupted; give the same input.")
@click.option("--restart", is_flag=True, help="Forget what was interrupted, and send everything.")
@click.option("--dry-run", is_flag=True, help="Check the input, and say what would be sent.")
@json_option
@click.argument("files", nargs=-1, type=click.File("rb", lazy=False))
def command(env: str, stack: str | None, region: str | None, as_json: bool, **given: Any) -> int:
    """Send events to a bus: NDJSON, a JSON array or a document, from files or stdin (-), however long.

    A record is an entry as PutEvents takes it (Detail as text or as an object), an event as a bus delivers it, or
    with --source and --detail-type just a detail. Without --bus it goes to the stack's bus in each of its regions; an
    entry that names a bus (EventBusName) goes there. What is refused for good ends in rejected.ndjson, with the
    reason, and can be sent again. Exits with 1 if anything was refused, with 130 when interrupted.

    \b
    Examples:
      python -m scripts send --env dev --stack custom-event-bus events.ndjson
      generate | python -m scripts send --bus orders --source com.example.shop --detail-type OrderPlaced -
      python -m scripts send --stack custom-event-bus --resume events.ndjson
    """
    import threading

    from scripts.events.ledger import Ledger
    from scripts.events.send import Settings

    if given["resume"] and given["restart"]:
        raise click.UsageError("--resume and --restart exclude each other.")
    pairs, environment = _destinations(env, stack, region, given["buses"], given["threads"])
    settings = Settings(
        **{name: given[name] for name in ("source", "detail_type", "trace_header", "threads", "rate", "attempts")}
    )
    files = given["files"] or (click.get_binary_stream("stdin"),)
    if given["dry_run"]:
        return _plan(files, pairs, environment, settings, as_json)
    progress = given["progress"] or _progress_file(files, pairs, settings)
    ledger = Ledger(
        pairs, _rejected_file(given["rejected"], files), progress, resume=given["resume"], restart=given["restart"]
    )
    stop = threading.Event()
    try:
        with _stopping(stop), _shown(ledger, quiet=as_json):
            summary = _send(files, ledger, environment, settings, given["processes"], stop)
    finally:
        ledger.close()
    return _report(summary, ledger, as_json, interrupted=stop.is_set())


def make_client(environment: Environment, threads: int, region: str) -> Any:
    """The client of one region, in whichever process; nothing is repeated by boto3, the sender does that."""
    from scripts.aws import Aws

    return Aws(environment, connections=threads).client("events", region)


def _destinations(
    env: str, stack: str | None, region: str | None, names: tuple[str, ...], threads: int
) -> tuple[list[tuple[str, str]], Environment]:
    from scripts.aws import Aws
    from scripts.events import buses

    environment = read_environment(env)
    aws = Aws(environment, connections=threads)
    aws.guard()
    if names:
        regions = list(dict.fromkeys(one for _, one in environment.choose(stack, region)))
        pairs = [(name.split(":")[3] if name.startswith("arn:") else one, name) for name in names for one in regions]
    elif stack or len(environment.stacks) == 1:
        pairs = [
            (one, buses.of_stack(aws, settings.stack_name, one)) for settings, one in environment.choose(stack, region)
        ]
    else:
        raise click.UsageError(f"Which bus? Give --stack ({', '.join(environment.stacks)}) or --bus.")
    pairs = list(dict.fromkeys(pairs))
    for one, bus in pairs:
        buses.check(aws.client("events", one), bus)
    return pairs, environment


def _sources(files: tuple[Any, ...]) -> list[Any]:
    """The files without their buffers: what is there is read at once, and no lock is held when it all ends."""
    return [getattr(file, "raw", file) for file in files]


def _send(
    files: tuple[Any, ...],
    ledger: Ledger,
    environment: Environment,
    settings: Any,
    processes: int,
    stop: threading.Event,
) -> Summary:
    from scripts.events import records
    from scripts.events.processes import send_in_processes
    from scripts.events.send import Destination, send_chunks

    client = functools.partial(make_client, environment, settings.threads)
    chunks = records.read(_sources(files))
    if processes > 1:
        return send_in_processes(processes, chunks, client, ledger, settings, stop)
    clients = {region: client(region) for region, _ in ledger.destinations}
    return send_chunks(
        chunks, [Destination(clients[region], bus) for region, bus in ledger.destinations], ledger, settings, stop
    )


def _plan(
    files: tuple[Any, ...], pairs: list[tuple[str, str]], environment: Environment, settings: Any, as_json: bool
) -> int:
    import json
    from dataclasses import asdict

    from scripts.events import records
    from scripts.events.ledger import Ledger
    from scripts.events.send import Destination, plan

    ledger = Ledger(pairs)
    clients = {region: make_client(environment, settings.threads, region) for region, _ in pairs}
    plans = plan(
        records.read(_sources(files)), [Destination(clients[region], bus) for region, bus in pairs], ledger, settings
    )
    found = [{"region": region, "bus": bus, **asdict(one)} for (region, bus), one in zip(pairs, plans, strict=True)]
    if as_json:
        print(json.dumps({"records": ledger.summary.records, "destinations": found, "refused": ledger.refusals}))
    else:
        for one in found:
            print(
                f"{one['region']} {one['bus']}: {one['entries']:,} entries in {one['batches']:,} batches, {one['bytes']:,} bytes"
            )
    for refused in ledger.refusals[:20]:
        note = refused["Rejected"]
        click.echo(f"record {note['Record']}: {note['Code']}: {note['Message']}", err=True)
    if ledger.summary.rejected:
        click.echo(
            f"Error: {ledger.summary.rejected:,} of {ledger.summary.records:,} records would be refused", err=True
        )
    return 1 if ledger.summary.rejected else 0


def _progress_file(files: tuple[Any, ...], pairs: list[tuple[str, str]], settings: Any) -> Path:
    """One file per input and destinations, so that sendings side by side do not meet."""
    import hashlib

    names = [_name(file) for file in files]
    told = repr((names, pairs, settings.source, settings.detail_type))
    return Path(".send") / f"{hashlib.sha256(told.encode()).hexdigest()[:12]}.progress"


def _name(file: Any) -> str:
    name = getattr(file, "name", "-")
    return str(Path(name).resolve()) if isinstance(name, str) and not name.startswith("<") else "-"


def _rejected_file(path: Path, files: tuple[Any, ...]) -> Path:
    """The file of rejects; when it is just being sent itself, the next one."""
    number = 2
    chosen = path
    while str(chosen.resolve()) in [_name(file) for file in files]:
        chosen = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return chosen


def _stopping(stop: threading.Event) -> Any:
    """Ctrl-C and SIGTERM stop the reading, and what was read is sent; a second one ends at once."""
    import contextlib
    import signal

    def ask(*_: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    @contextlib.contextmanager
    def handled() -> Iterator[None]:
        before = {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    return handled()


def _shown(ledger: Ledger, *, quiet: bool) -> Any:
    """Progress on a terminal; nothing in a pipe."""
    import contextlib
    import sys

    if quiet or not sys.stderr.isatty():
        return contextlib.nullcontext()
    from rich.console import Console
    from rich.live import Live

    class Line:
        def __rich__(self) -> str:
            total = ledger.summary
            return f"{total.records:,} read · {total.acknowledged:,} sent · {total.rejected:,} refused · {total.retried:,} retried"

    return Live(Line(), console=Console(stderr=True), refresh_per_second=4, transient=True)


def _report(summary: Summary, ledger: Ledger, as_json: bool, *, interrupted: bool) -> int:
    import json
    from dataclasses import asdict

    gaps = [(first + 1, last + 1) for first, last in ledger.open_records()]
    if as_json:
        told = {**asdict(summary), "rate": round(summary.rate, 1), "open": gaps, "interrupted": interrupted}
        print(json.dumps({**told, "rejected_file": str(ledger.rejected) if summary.rejected else None}))
    else:
        earlier = f" ({summary.earlier:,} of them earlier)" if summary.earlier else ""
        print(f"{summary.records:,} records: {summary.acknowledged:,} sent{earlier}, {summary.rejected:,} refused, "
              f"{summary.retried:,} retried; {summary.rate:,.0f} events/s in {summary.seconds:.1f} s")  # fmt: skip
    if summary.rejected:
        codes = ", ".join(f"{code} {count:,}" for code, count in sorted(summary.by_code.items()))
        click.echo(f"Error: {summary.rejected:,} refused ({codes}); they are in {ledger.rejected}, to be sent again when mended",
                   err=True)  # fmt: skip
    if not interrupted:
        return 1 if summary.rejected else 0
    rest = ", ".join(f"{first}-{last}" for first, last in gaps[:10]) + (", …" if gaps[10:] else "")
    click.echo(f"Interrupted: of records 1-{summary.records} {summary.acknowledged:,} entries are acknowledged, {summary.rejected:,} "
               f"refused, {'open: ' + rest if gaps else 'none open'}. Send the rest: --resume, with the same input.", err=True)  # fmt: skip
    return EXIT_INTERRUPTED
