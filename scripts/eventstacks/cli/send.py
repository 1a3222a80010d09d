"""``make send``."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventstacks.cli import _stacks
from eventstacks.cli._options import RATE, json_option, where_options

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from eventstacks.aws import Aws
    from eventstacks.bus.ledger import Ledger
    from eventstacks.bus.records import Chunk
    from eventstacks.bus.send import Destination, Settings
    from eventstacks.environment import Environment, StackRef

EXIT_INTERRUPTED = 130
SHOWN = 100  # refusals that a dry run tells of
# Only AWS's own events have such a source (EventBridge User Guide, 'Event structure reference'); PutEvents answers
# NotAuthorizedForSourceException (API reference, PutEventsResultEntry). In a detail, which is text, quotes are escaped.
RESERVED = b'"Source":"aws.'
CALLS = 512  # calls at a time, in all processes together: each is a file that is open
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@where_options
@click.option(
    "--bus", "buses", multiple=True, metavar="NAME", help="This bus (name or ARN), not the stack's."
)
@click.option("--source", metavar="TEXT", help="Source of records that have none.")
@click.option("--detail-type", metavar="TEXT", help="DetailType of records that have none.")
@click.option(
    "--trace-header", metavar="TEXT", help="X-Ray trace header of entries that have none."
)
@click.option("--rate", type=RATE, metavar="N", help="Entries a second, at most.")
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    help="Calls at a time, per process.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that send.",
)
@click.option(
    "--attempts",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="Tries for each entry.",
)
@click.option(
    "--rejected",
    type=FILE,
    default="rejected.ndjson",
    show_default=True,
    help="Where refused entries go.",
)
@click.option(
    "--progress", type=FILE, help="Where progress is kept for --resume.  [default: in .send/]"
)
@click.option(
    "--resume", is_flag=True, help="Send the rest of what was interrupted; give the same input."
)
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

    Each record ends as acknowledged or refused, exactly one of them. What AWS took in the moment of a SIGKILL is not
    known here: with --resume at most the calls that were under way (threads x 10 entries) are sent once more.

    \b
    Examples:
      eventstacks send --env dev --stack custom-event-bus events.ndjson
      generate | eventstacks send --bus orders --source com.example.shop --detail-type OrderPlaced -
      eventstacks send --stack custom-event-bus --resume events.ndjson
    """
    import threading

    from eventstacks.bus import processes
    from eventstacks.bus.ledger import Ledger
    from eventstacks.bus.send import Settings, send_chunks

    if given["resume"] and given["restart"]:
        raise click.UsageError("--resume and --restart exclude each other.")
    if given["threads"] * given["processes"] > CALLS:
        raise click.UsageError(f"--threads x --processes is more than {CALLS}.")
    aws, _, refs = _stacks.read(env, stack, region, connections=given["threads"])
    destinations = _destinations(aws, refs, given["buses"], named=bool(stack))
    pairs = [(one.region, one.bus) for one in destinations]
    names = ("source", "detail_type", "trace_header", "threads", "rate", "attempts")
    settings = Settings(**{name: given[name] for name in names})
    files = given["files"] or (sys.stdin.buffer,)
    if any(file.isatty() for file in files):
        click.echo("Reading from the terminal; Ctrl-D ends.", err=True)
    if given["dry_run"]:
        return _plan(files, destinations, Ledger(pairs, keep=SHOWN), settings, as_json=as_json)
    progress = given["progress"] or _progress_file(files, pairs, settings)
    rejected = _rejected_file(given["rejected"], files)
    ledger = Ledger(pairs, rejected, progress, resume=given["resume"], restart=given["restart"])
    stop = threading.Event()
    with contextlib.closing(ledger), _stopping(stop), _shown(ledger, quiet=as_json):
        started: contextlib.AbstractContextManager[Sequence[Any]] = contextlib.nullcontext(())
        if given["processes"] > 1:
            make = functools.partial(make_client, aws.environment, settings.threads)
            started = processes.start(given["processes"], settings.threads, pairs, make)
        with started as puts:
            send_chunks(_read(files), destinations, ledger, settings, stop, puts)
    return _report(ledger, as_json=as_json, interrupted=stop.is_set())


def make_client(environment: Environment, threads: int, region: str) -> Any:
    """The client of one region in another process."""
    from eventstacks.aws import Aws
    from eventstacks.local import server

    return Aws(environment, server.start, connections=threads).client("events", region)


def _destinations(
    aws: Aws, refs: Sequence[StackRef], names: Sequence[str], *, named: bool
) -> list[Destination]:
    """The buses of ``names`` in the regions of ``refs``; else of the stack that is ``named``, or the only one."""
    from eventstacks.bus import buses
    from eventstacks.bus.send import Destination

    aws.guard()
    if names:
        pairs = [
            (of_arn or ref.region, name) for name, of_arn in map(buses.parse, names) for ref in refs
        ]
    elif named or len(aws.environment.stacks) == 1:
        pairs = [(ref.region, buses.of_stack(aws, ref)) for ref in refs]
    else:
        raise click.UsageError(
            f"Which bus? Give --stack ({', '.join(aws.environment.stacks)}) or --bus."
        )
    destinations = [
        Destination(aws.client("events", one), bus) for one, bus in dict.fromkeys(pairs)
    ]
    for one in destinations:
        buses.check(one.client, one.bus)
    return destinations


def _read(files: Sequence[Any]) -> Iterator[Chunk]:
    """The files without their buffers: what is there is read at once, and no lock is held when it all ends."""
    from eventstacks.bus import records

    return records.read(getattr(file, "raw", file) for file in files)


def _plan(
    files: Sequence[Any],
    destinations: Sequence[Destination],
    ledger: Ledger,
    settings: Settings,
    *,
    as_json: bool,
) -> int:
    from eventstacks.bus.calls import Failure
    from eventstacks.bus.ledger import Outcome
    from eventstacks.bus.send import batches

    no = Failure(
        "NotAuthorizedForSourceException",
        "only AWS may send events whose source begins with aws.",
        passing=False,
    )
    told = set[int]()  # with several buses a record is several entries, and one record all the same
    totals: list[dict[str, Any]] = [
        {"region": one.region, "bus": one.bus, "entries": 0, "batches": 0, "bytes": 0}
        for one in destinations
    ]
    for batch in batches(_read(files), destinations, ledger, settings):
        size, total = sum(item.size for item in batch), totals[batch[0].lane]
        for name, more in (("entries", len(batch)), ("batches", 1), ("bytes", size)):
            total[name] += more
        for item in batch:
            if RESERVED in item.body and item.number not in told:
                told.add(item.number)
                ledger.settle(Outcome((item.lane,), rejected=[(item.number, item.body, no)]))
        if not as_json:
            held = _stacks.counted(len(batch), "entry", "entries")
            print("{region} {bus}: batch {batches:,}: ".format(**total) + f"{held}, {size:,} bytes")
    if as_json:
        _stacks.print_json(
            {"records": ledger.summary.records, "destinations": totals, "refused": ledger.refusals}
        )
    else:
        for total in totals:
            print(
                "{region} {bus}: {entries:,} entries in {batches:,} batches, {bytes:,} bytes".format(
                    **total
                )
            )
    for note in (one["Rejected"] for one in ledger.refusals):
        click.echo(f"record {note['Record']}: {note['Code']}: {note['Message']}", err=True)
    if rejected := ledger.summary.rejected:
        click.echo(
            f"Error: {rejected:,} of {ledger.summary.records:,} records would be refused", err=True
        )
    return 1 if ledger.summary.rejected else 0


def _name(file: Any) -> str:
    name = getattr(file, "name", "-")
    return str(Path(name).resolve()) if isinstance(name, str) and not name.startswith("<") else "-"


def _progress_file(files: Sequence[Any], pairs: list[tuple[str, str]], settings: Settings) -> Path:
    """One file per input and destinations, so that sendings side by side do not meet."""
    import hashlib

    told = repr(([_name(file) for file in files], pairs, settings.source, settings.detail_type))
    return Path(".send") / f"{hashlib.sha256(told.encode()).hexdigest()[:12]}.progress"


def _rejected_file(path: Path, files: Sequence[Any]) -> Path:
    """The file of rejects; when it is just being sent itself, the next one."""
    names, chosen, number = [_name(file) for file in files], path, 1
    while str(chosen.resolve()) in names:
        number += 1
        chosen = path.with_stem(f"{path.stem}-{number}")
    return chosen


@contextlib.contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the reading, and what was read is sent; a second one ends at once."""

    def ask(*_: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _shown(ledger: Ledger, *, quiet: bool) -> contextlib.AbstractContextManager[Any]:
    """Progress on a terminal; nothing in a pipe."""
    console = _stacks.console(err=True)
    if quiet or not console.is_terminal:
        return contextlib.nullcontext()
    from rich.live import Live

    def line() -> str:
        total = ledger.summary  # others write to it meanwhile
        return (
            f"{total.records:,} read · {total.acknowledged:,} sent · {total.rejected:,} refused · "
            f"{total.retried:,} retried"
        )

    return Live(console=console, get_renderable=line, refresh_per_second=4, transient=True)


def _report(ledger: Ledger, *, as_json: bool, interrupted: bool) -> int:
    total, gaps = ledger.summary, [(first + 1, last + 1) for first, last in ledger.open_records()]
    if as_json:
        told = {
            **asdict(total),
            "rate": round(total.rate, 1),
            "open": gaps,
            "interrupted": interrupted,
        }
        _stacks.print_json(
            {**told, "rejected_file": str(ledger.rejected) if total.rejected else None}
        )
    else:
        earlier = f" ({total.earlier:,} of them earlier)" if total.earlier else ""
        records = _stacks.counted(total.records, "record")
        print(
            f"{records}: {total.acknowledged:,} sent{earlier}, {total.rejected:,} refused, {total.retried:,} retried;"
            f" {total.rate:,.0f} events/s in {total.seconds:.1f} s"
        )
    if total.rejected:
        codes = ", ".join(f"{code} {count:,}" for code, count in sorted(total.by_code.items()))
        click.echo(
            f"Error: {total.rejected:,} refused ({codes}); they are in {ledger.rejected}, "
            "to be sent again when mended",
            err=True,
        )
    if not interrupted:
        return 1 if total.rejected else 0
    if not total.records:
        click.echo("Interrupted before a record was read: nothing was sent.", err=True)
        return EXIT_INTERRUPTED
    rest = ", ".join(f"{first}-{last}" for first, last in gaps[:10]) + (", …" if gaps[10:] else "")
    click.echo(
        f"Interrupted: of records 1-{total.records} {total.acknowledged:,} entries are acknowledged, "
        f"{total.rejected:,} refused, {'open: ' + rest if gaps else 'none open'}. "
        "The rest: --resume, with the same input.",
        err=True,
    )
    return EXIT_INTERRUPTED
