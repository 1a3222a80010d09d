"""``eventstacks send``."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventstacks.bus import journal as journals
from eventstacks.bus import put_events, records, stacks
from eventstacks.bus import send as sender
from eventstacks.cli import options, output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef
    from eventstacks.errors import ToolError

FILE = click.Path(path_type=Path, dir_okay=False)
MAX_SHOWN = 100  # rejected records that a dry run lists
# Only AWS's own events have such a source (EventBridge User Guide, 'Event structure reference');
# PutEvents answers NotAuthorizedForSourceException. Quotes are escaped in a detail, which is text.
RESERVED_SOURCE = b'"Source":"aws.'


@click.command()
@options.where_options
@click.option(
    "--bus", "buses", multiple=True, metavar="NAME", help="This bus (name or ARN), not the stack's."
)
@click.option("--source", metavar="TEXT", help="Default Source of records.")
@click.option("--detail-type", metavar="TEXT", help="Default DetailType of records.")
@click.option("--trace-header", metavar="TEXT", help="Default X-Ray trace header.")
@click.option("--rate", type=options.RATE, metavar="N", help="Maximum entries per second.")
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    default=32,
    show_default=True,
    help="Calls at a time.",
)
@click.option(
    "--give-up-after",
    type=options.FiniteRange(min=1),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="Stop when no call has succeeded for so long.",
)
@click.option(
    "--rejected",
    "rejected_file",
    type=FILE,
    default="rejected.ndjson",
    show_default=True,
    help="File for permanently rejected entries.",
)
@click.option(
    "--journal",
    "journal_file",
    type=FILE,
    help="File for the progress, for --resume.  [default: in .send/]",
)
@click.option("--resume", is_flag=True, help="Send the rest of an interrupted input.")
@click.option("--restart", is_flag=True, help="Discard the journal and send everything again.")
@click.option("--dry-run", is_flag=True, help="Check the input and print the batches.")
@options.json_option
@click.argument("files", nargs=-1, type=click.File("rb", lazy=False))
def send(
    env: str,
    stack: str | None,
    region: str | None,
    buses: Sequence[str],
    files: Sequence[Any],
    rejected_file: Path,
    journal_file: Path | None,
    resume: bool,
    restart: bool,
    dry_run: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Send events to a bus: NDJSON, a JSON array or JSON documents, from files or stdin (-).

    A record is an entry as PutEvents takes it (Detail as text or as an object), an event as a bus
    delivers it, or with --source and --detail-type just a detail. Without --bus it goes to the
    stack's bus in each of its Regions; an entry with EventBusName goes to that bus.

    Retryable failures are retried; permanently rejected entries are written to rejected.ndjson with
    the reason, and can be sent again. While all calls fail, it pauses and tries again every 2
    seconds. Exits with 1 if anything was rejected or left unsent, with 130 when interrupted.

    After SIGKILL, --resume sends the rest: at most the calls in flight (threads x 10 entries) are
    sent a second time.

    \b
    Examples:
      eventstacks send --env dev --stack custom-event-bus events.ndjson
      generate | eventstacks send --bus orders --source com.example.shop --detail-type OrderPlaced -
      eventstacks send --stack custom-event-bus --resume events.ndjson
    """
    if resume and restart:
        raise click.UsageError("--resume and --restart exclude each other.")
    aws, refs = options.connect(env, stack, region, connections=given["threads"])
    destinations = _destinations(aws, refs, buses, is_named=bool(stack))
    pairs = [(one.region, one.bus) for one in destinations]
    settings, inputs = sender.Settings(**given), list(files) or [sys.stdin.buffer]
    if any(file.isatty() for file in inputs):
        output.echo("Reading from the terminal; end with Ctrl-D.", err=True)
    # Unbuffered: what is available is read at once, and no lock is held at the end.
    chunks = records.read([getattr(file, "raw", file) for file in inputs])
    if dry_run:
        return _dry_run(chunks, destinations, settings, as_json=as_json)
    names = [_name(file) for file in inputs]
    path = journal_file or _journal_path(names, pairs, settings)
    rejected_file = _free_path(rejected_file, names)
    journal = journals.Journal(pairs, path, rejected_file, resume=resume, restart=restart)
    stop, error = threading.Event(), None
    with contextlib.closing(journal), _stop_on_signals(stop, journal):
        with output.progress("Sending", lambda: _counts(journal)):
            try:
                notify: Callable[[str], None] = output.note
                sender.send_chunks(chunks, destinations, journal, settings, stop, notify)
            except sender.OutageError as outage:
                error = outage
        return _report(journal, error, as_json=as_json, is_interrupted=stop.is_set())


def _destinations(
    aws: Aws, refs: Sequence[StackRef], buses: Sequence[str], *, is_named: bool
) -> list[sender.Destination]:
    """Return the given buses in the Regions of the stacks; else the bus of the stack."""
    if buses:
        pairs = [
            (of_arn or ref.region, name)
            for name, of_arn in map(stacks.parse_bus, buses)
            for ref in refs
        ]
    elif is_named or len(aws.environment.stacks) == 1:
        pairs = [(ref.region, stacks.bus_of_stack(aws, ref)) for ref in refs]
    else:
        known = ", ".join(aws.environment.stacks)
        raise click.UsageError(f"Which bus? Give --stack ({known}) or --bus.")
    destinations = [
        sender.Destination(aws.client("events", region), bus)
        for region, bus in dict.fromkeys(pairs)
    ]
    for one in destinations:
        stacks.check_bus(one.client, one.bus)
    return destinations


def _dry_run(
    chunks: Iterator[records.Chunk],
    destinations: Sequence[sender.Destination],
    settings: sender.Settings,
    *,
    as_json: bool,
) -> int:
    journal = journals.Journal([(one.region, one.bus) for one in destinations])
    totals: list[dict[str, Any]] = [
        {"region": one.region, "bus": one.bus, "entries": 0, "batches": 0, "bytes": 0}
        for one in destinations
    ]
    reserved = put_events.Failure(
        "NotAuthorizedForSource", "only AWS may use a source that begins with aws."
    )

    def answer(batch: list[sender.Item]) -> list[put_events.Failure | None]:
        size, total = sum(item.size for item in batch), totals[batch[0].destination]
        for name, more in (("entries", len(batch)), ("batches", 1), ("bytes", size)):
            total[name] += more
        if not as_json:
            entries = output.counted(len(batch), "entry", "entries")
            batch_name = "{region} {bus}: batch {batches:,}".format(**total)
            output.echo(f"{batch_name}: {entries}, {size:,} bytes")
        return [reserved if RESERVED_SOURCE in item.body else None for item in batch]

    settings = replace(settings, threads=1, rate=None)
    sender.send_chunks(chunks, destinations, journal, settings, answer=answer)
    rejects, summary = list(journal.rejects())[:MAX_SHOWN], journal.summary
    if as_json:
        output.print_json({"records": summary.records, "destinations": totals, "rejected": rejects})
    for total in () if as_json else totals:
        text = "{region} {bus}: {entries:,} entries in {batches:,} batches, {bytes:,} bytes"
        output.echo(text.format(**total))
    for note in (one["Rejected"] for one in rejects):
        output.echo(f"record {note['Record']}: {note['Code']}: {note['Message']}", err=True)
    if summary.rejected:
        every = summary.rejected + summary.acknowledged
        output.echo(f"Error: {summary.rejected:,} of {every:,} entries would be rejected", err=True)
    return 1 if summary.rejected else 0


def _name(file: Any) -> str:
    name = getattr(file, "name", "-")
    return str(Path(name).resolve()) if isinstance(name, str) and not name.startswith("<") else "-"


def _journal_path(
    names: Sequence[str], pairs: Sequence[tuple[str, str]], settings: sender.Settings
) -> Path:
    """Return a file for these inputs and destinations."""
    text = repr((names, pairs, settings.source, settings.detail_type))
    return Path(".send") / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.sqlite"


def _free_path(path: Path, names: Sequence[str]) -> Path:
    """Return the path, or one with a number if it is an input itself."""
    free, number = path, 1
    while str(free.resolve()) in names:
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free


@contextlib.contextmanager
def _stop_on_signals(stop: threading.Event, journal: journals.Journal) -> Iterator[None]:
    """Stop reading at the first signal, and send what was read; end at once at the second."""

    def handle(*_: Any) -> None:
        if not journal.summary.records:
            raise KeyboardInterrupt("No record was read, nothing was sent.")
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for one, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(one, handle)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _counts(journal: journals.Journal) -> str:
    total = journal.summary
    return (
        f"{total.records:,} read · {total.acknowledged:,} acknowledged · "
        f"{total.rejected:,} rejected · {total.retried:,} retried"
    )


def _report(
    journal: journals.Journal, error: ToolError | None, *, as_json: bool, is_interrupted: bool
) -> int:
    total = journal.summary
    unsent = [(first + 1, last + 1) for first, last in journal.open_records()]
    if as_json:
        document = {**asdict(total), "rate": round(total.rate, 1), "open": unsent}
        rejected_file = str(journal.rejected) if total.rejected else None
        document |= {"interrupted": is_interrupted, "rejected_file": rejected_file}
        output.print_json(document | ({"error": error.document()} if error else {}))
    else:
        earlier = f" ({total.acknowledged_earlier:,} earlier)" if total.acknowledged_earlier else ""
        output.echo(
            f"{output.counted(total.records, 'record')}: {total.acknowledged:,} acknowledged"
            f"{earlier}, {total.rejected:,} rejected, {total.retried:,} retried; "
            f"{total.rate:,.0f} events/s in {total.seconds:.1f} s"
        )
    if total.rejected:
        codes = ", ".join(f"{code} {count:,}" for code, count in sorted(total.by_code.items()))
        text = f"Error: {total.rejected:,} rejected ({codes}); fix and send {journal.rejected}"
        output.echo(text, err=True)
    if error or is_interrupted:
        ranges = ", ".join(f"{first}-{last}" for first, last in unsent[:10])
        more = ", …" if unsent[10:] else ""
        output.echo(
            f"{'Interrupted' if is_interrupted else 'Stopped'}: records not sent: "
            f"{ranges + more or 'none of those that were read'}. "
            "Send the rest with --resume and the same input.",
            err=True,
        )
    output.print_errors([error])
    return output.EXIT_INTERRUPTED if is_interrupted else int(bool(error or total.rejected))
