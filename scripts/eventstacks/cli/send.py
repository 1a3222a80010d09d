"""``eventstacks send``."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from eventstacks import __version__
from eventstacks import aws as connections
from eventstacks import environment as environments
from eventstacks.bus import entries, put_events, stacks
from eventstacks.bus import send as sender
from eventstacks.bus.journal import Journal
from eventstacks.cli import options, output
from eventstacks.errors import ToolError


@click.command()
@options.read_options
@click.option("--bus", metavar="NAME", help="This bus (name or ARN), not the stack's.")
@click.option("--source", metavar="TEXT", help="Default Source of records.")
@click.option("--detail-type", metavar="TEXT", help="Default DetailType of records.")
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
    type=click.Path(path_type=Path, dir_okay=False),
    default="rejected.ndjson",
    show_default=True,
    help="File for permanently rejected entries.",
)
@click.option("--resume", is_flag=True, help="Send the rest of an interrupted input.")
@click.argument("files", nargs=-1, type=click.File("rb", lazy=False))
def send(
    env: str,
    stack: str | None,
    region: str | None,
    bus: str | None,
    files: Sequence[Any],
    rejected: Path,
    resume: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Send events to a bus: NDJSON, a JSON array or a JSON document, from files or stdin (-).

    A record is an entry as PutEvents takes it (Detail as text or as an object), an event as a bus
    delivers it, or with --source and --detail-type just a detail. Without --bus it goes to the
    stack's bus; an entry with EventBusName goes to that bus. A bus of the new kind is given by its
    ARN (…:event-busv2/…); it takes 100 entries in a call. One run sends to one Region: the
    first of the environment, or --region.

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
    environment = environments.load(env)
    refs = environment.choose(stack, region)
    # The sender checks entries itself, and retries only those that failed. botocore builds its own
    # User-Agent again for each request, which takes a tenth of the time of a call. PutEvents
    # answers within a second: after ten the connection is lost, and another one helps.
    client_options = {
        "read_timeout": 10,
        "parameter_validation": False,
        "user_agent": f"eventstacks/{__version__}",
        "max_pool_connections": given["threads"],
        "retries": {"total_max_attempts": 1},
    }
    aws = options.open_aws(environment, refs[:1], **client_options)
    region, bus = _destination(aws, refs[0], bus, is_named=bool(stack))
    client: Any = aws.client("events", region)
    if ":event-busv2/" in bus:
        client = put_events.NewBus(aws.client("eventbridgev2", region), bus)
    inputs = list(files) or [sys.stdin.buffer]
    if any(file.isatty() for file in inputs):
        output.echo("Reading from the terminal; end with Ctrl-D.", err=True)
    # Unbuffered: what is available is read at once, and no lock is held at the end.
    lists = entries.read_records([getattr(file, "raw", file) for file in inputs])
    journal = Journal(_journal_path(inputs, region, bus, given), rejected, resume=resume)
    stop, error = threading.Event(), None
    _stop_on_signals(stop, journal)
    with contextlib.closing(journal):
        try:
            text = "{records:,} read · {acknowledged:,} acknowledged · {rejected:,} rejected"
            with output.progress("Sending", lambda: text.format(**vars(journal.summary))):
                sender.Sender(
                    client, bus, journal, sender.Settings(**given), stop, output.note
                ).run(lists)
        except sender.OutageError as outage:
            error = outage
        unsent = [(first + 1, last + 1) for first, last in journal.open_records()]
    return _report(journal, unsent, error, as_json=as_json, is_interrupted=stop.is_set())


def _destination(
    aws: connections.Aws, ref: environments.StackRef, bus: str | None, *, is_named: bool
) -> tuple[str, str]:
    """Return the Region and name of the given bus, else of the bus of the stack."""
    if bus is not None:
        return stacks.parse_bus(bus, ref.region)
    if not is_named and len(aws.environment.stacks) > 1:
        raise click.UsageError(
            f"Which bus? Give --stack ({', '.join(aws.environment.stacks)}) or --bus."
        )
    return ref.region, stacks.bus_of_stack(aws, ref)


def _journal_path(inputs: Sequence[Any], region: str, bus: str, given: dict[str, Any]) -> Path:
    """Return a file for these inputs and this bus."""
    names = [str(Path(str(getattr(file, "name", "-"))).resolve()) for file in inputs]
    text = repr((names, region, bus, given["source"], given["detail_type"]))
    return Path(".send") / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.sqlite"


def _stop_on_signals(stop: threading.Event, journal: Journal) -> None:
    """Stop reading at the first signal, and send what was read; end at once at the second."""

    def handle(*_: Any) -> None:
        if stop.is_set() or not journal.summary.records:
            raise KeyboardInterrupt("" if journal.summary.records else "Nothing was sent.")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


def _report(
    journal: Journal,
    unsent: Sequence[tuple[int, int]],
    error: ToolError | None,
    *,
    as_json: bool,
    is_interrupted: bool,
) -> int:
    total = journal.summary
    if as_json:
        document = {
            **asdict(total),
            "seconds": round(total.seconds, 2),
            "rate": round(total.rate, 1),
            "open": unsent,
            "interrupted": is_interrupted,
            "rejected_file": str(journal.rejected) if total.rejected else None,
        }
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
        output.echo(
            f"Error: {total.rejected:,} rejected ({codes}); fix and send {journal.rejected}",
            err=True,
        )
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
