"""How a deployment goes, while it goes: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from eventstacks.cli import _plan_view, _stacks
from eventstacks.cloudformation.results import Interrupted, Listener

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.cloudformation.deployment import Plan
    from eventstacks.cloudformation.results import Progress, Result
    from eventstacks.environment import Environment, StackRef


class Reporter(Listener):
    """Tells a person how it goes; ``with`` it around the run. Everything goes to stderr when ``as_json``.

    After Ctrl-C says what goes on in AWS and how to follow or cancel it, and ends the command with 130.
    """

    def __init__(self, environment: Environment, total: int, *, yes: bool, as_json: bool) -> None:
        self._environment, self._total, self._yes = environment, total, yes
        self._console = _stacks.console(err=as_json)
        # Held for moments and while nothing is printed: printing redraws the table, which needs it.
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._rows: dict[
            StackRef, tuple[float, int, int, tuple[str, ...]]
        ] = {}  # begun, done, total, current
        self._planned = self._ended = 0
        self._live = Live(
            get_renderable=self._table, console=self._console, refresh_per_second=8, transient=True
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._live.stop()
        if not isinstance(error, KeyboardInterrupt):
            return
        refs = error.refs if isinstance(error, Interrupted) else None
        nothing = " Nothing goes on in AWS; no change set is left." if refs == [] else ""
        click.echo(f"\nInterrupted.{nothing}", err=True)
        for ref in refs or ():
            click.echo(
                f"{ref} goes on in AWS.\n  follow: {ref.command('follow')}\n"
                f"  cancel: {ref.command('recover', '--cancel')}",
                err=True,
            )
        raise click.exceptions.Exit(130) from None

    def planned(self, plan: Plan) -> None:  # noqa: ARG002
        with self._lock:
            self._planned += 1

    def confirm(self, plans: Sequence[Plan]) -> bool:
        with self._asking:
            self._live.stop()
            for line in _plan_view.show(plans):
                self._console.print(line)
            count = sum(plan.changes for plan in plans)
            answer = _stacks.confirm(
                f"Change {count} stack{'s' * (count != 1)} of {self._environment.name}?",
                self._environment,
                yes=self._yes,
            )
            if self._console.is_terminal and (answer or self._rows):
                self._live.start()
            return answer

    def started(self, ref: StackRef, total: int) -> None:
        with self._lock:
            self._rows[ref] = (time.monotonic(), 0, total, ())
        if (
            self._console.is_terminal and not self._asking.locked()
        ):  # else it begins with the answer
            self._live.start()

    def progressed(self, progress: Progress) -> None:
        with self._lock:
            begun = self._rows[progress.ref][0]
            self._rows[progress.ref] = (begun, progress.done, progress.total, progress.current)
        event = progress.event
        if not self._console.is_terminal or event.status.endswith("_FAILED"):
            reason = f"  {event.reason}" if event.reason else ""
            style = "red" if "FAILED" in event.status or "ROLLBACK" in event.status else ""
            where = f"{event.at:%H:%M:%S} {progress.ref.region} {progress.ref.stack_name}"
            self._console.print(
                Text(f"{where} {event.logical_id} {event.status}{reason}", style=style)
            )

    def finished(self, result: Result) -> None:
        with self._lock:
            self._rows.pop(result.ref, None)
            self._ended += 1
        if result.outcome != "unchanged":
            self._console.print(
                Text.assemble(
                    f"{result.ref.region} {result.ref.stack_name} ",
                    (result.outcome, "green" if result.ok else "bold red"),
                    f" ({result.seconds:.1f} s)",
                )
            )

    def _table(self) -> Any:
        table = Table(box=None, pad_edge=False, show_header=False)
        for width in (None, None, None, 9, None):
            table.add_column(no_wrap=True, overflow="ellipsis", width=width)
        with self._lock:
            rows = list(self._rows.items())
        for ref, (begun, done, total, current) in rows[: max(3, self._console.height - 4)]:
            minutes, seconds = divmod(int(time.monotonic() - begun), 60)
            bar = "━" * (10 * done // max(total, 1))
            table.add_row(
                ref.region,
                Text(ref.stack_name, style="bold"),
                Text.assemble((f"{bar:<10}", "green"), f" {done}/{total}"),
                f"{minutes}:{seconds:02}",
                Text(", ".join(current), style="cyan"),
            )
        counted, word = (self._ended, "done") if self._ended or rows else (self._planned, "planned")
        table.add_row(Text(f"{counted}/{self._total} {word}", style="dim"))
        return table
