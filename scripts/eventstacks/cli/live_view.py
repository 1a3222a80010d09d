"""How operations progress and end: a live table on a terminal, lines elsewhere; the results."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from eventstacks.cli import output, plan_view
from eventstacks.cloudformation.run import Interrupted, Listener
from eventstacks.errors import command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.cloudformation.run import Plan, Progress, Result
    from eventstacks.environment import Environment, StackRef


MAX_OUTPUT_LINES = 16  # lines of outputs that still leave the summary of a deployment readable


class Reporter(Listener):
    """Show progress and ask for confirmation; ``with`` it around the run.

    With ``as_json`` everything goes to stderr. With --quiet only failures are shown. After Ctrl-C
    the error that leaves the block names the operations that continue in AWS.
    """

    def __init__(self, environment: Environment, total: int, *, yes: bool, as_json: bool) -> None:
        self._environment, self._total, self._yes = environment, total, yes
        self._console, self._quiet = output.console(err=as_json), output.is_quiet()
        self._is_live = self._console.is_terminal and not self._quiet
        # Held only briefly and never while printing: printing redraws the table, which needs it.
        self._lock, self._asking = threading.Lock(), threading.Lock()
        # Stack: start time, resources done, resources in all, logical ids in progress.
        self._rows: dict[StackRef, tuple[float, int, int, tuple[str, ...]]] = {}
        self._planned = self._ended = 0
        self._live = Live(
            get_renderable=self._table, console=self._console, refresh_per_second=8, transient=True
        )

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._live.stop()
        if isinstance(error, Interrupted):
            lines = [
                f"{ref} continues in AWS.\n  follow: {ref.command('follow')}\n"
                f"  cancel: {ref.command('recover', '--cancel')}"
                for ref in error.refs
            ]
            nothing = ["No operation continues in AWS; no change set is left."]
            raise KeyboardInterrupt("\n".join(lines or nothing)) from None

    def planned(self, plan: Plan) -> None:  # noqa: ARG002
        """Count a plan."""
        with self._lock:
            self._planned += 1

    def confirm(self, plans: Sequence[Plan]) -> bool:
        """Show the plans and ask."""
        with self._asking:
            self._live.stop()
            for line in plan_view.show(plans):
                self._console.print(line)
            question = plan_view.question(plans, self._environment.name)
            answer = output.confirm(question, self._environment, yes=self._yes)
            if answer or self._rows:
                self._start()
            return answer

    def started(self, ref: StackRef, total: int) -> None:
        """Add a row for an operation with ``total`` resources."""
        with self._lock:
            self._rows[ref] = (time.monotonic(), 0, total, ())
        if not self._asking.locked():  # else it starts with the answer
            self._start()

    def progressed(self, progress: Progress) -> None:
        """Update the row of an operation; print failures, and without a terminal all events."""
        with self._lock:
            begun = self._rows[progress.ref][0]
            self._rows[progress.ref] = (begun, progress.done, progress.total, progress.current)
        event, failed = progress.event, progress.event.status.endswith("_FAILED")
        if failed or not (self._console.is_terminal or self._quiet):
            reason = f"  {output.safe(event.reason)}" if event.reason else ""
            where = f"{event.at:%H:%M:%SZ} {progress.ref.region} {progress.ref.stack_name}"
            style = output.state_style(event.status)
            text = f"{where} {event.logical_id} {event.status}{reason}"
            self._console.print(Text(text, style=style if failed else ""))

    def finished(self, result: Result) -> None:
        """Remove the row of an operation and print its result."""
        with self._lock:
            self._rows.pop(result.ref, None)
            self._ended += 1
        if result.outcome != "unchanged" and not (self._quiet and result.ok):
            outcome = (result.outcome, "green" if result.ok else "bold red")
            where = f"{result.ref.region} {result.ref.stack_name} "
            self._console.print(Text.assemble(where, outcome, f" ({result.seconds:.1f} s)"))

    def _start(self) -> None:
        if self._is_live:
            self._live.start()

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for width in (None, None, None, 9, None):
            table.add_column(no_wrap=True, overflow="ellipsis", width=width)
        with self._lock:
            rows: list[Any] = list(self._rows.items())
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
        number, word = (self._ended, "done") if self._ended or rows else (self._planned, "planned")
        table.add_row(Text(f"{number}/{self._total} {word}", style="dim"))
        return table


def summarize(results: Sequence[Result], *, as_json: bool) -> int:
    """Print the results, warnings, and the errors last; return the exit code."""
    if as_json:
        output.print_json([one.document() for one in results])
    elif results:
        _print_results(results)
    if results and all(one.outcome == "unchanged" for one in results):
        output.echo("No changes.", err=as_json)
    for one in results:
        for warning in one.warnings:
            output.note(f"Warning: {one.ref}: {warning}")
    # Failures after the stacks that were skipped because of them.
    ordered = sorted(results, key=lambda one: one.outcome == "failed")
    output.print_errors(one.problem for one in ordered)
    return 0 if all(one.ok for one in results) else output.EXIT_FAILED


def _print_results(results: Sequence[Result]) -> None:
    listed = sum(len(one.outputs) for one in results) <= MAX_OUTPUT_LINES
    heads = ("STACK", "REGION", "RESULT", "SECONDS", "OUTPUTS")
    rows = [
        (
            one.ref.stack_name,
            one.ref.region,
            one.outcome,
            f"{one.seconds:.1f}",
            len(one.outputs) or "",
        )
        for one in results
    ]
    notes = {
        number: "\n".join(f"{name}={value}" for name, value in one.outputs.items())
        for number, one in enumerate(results)
    }
    output.print_table(heads, rows, right=("SECONDS", "OUTPUTS"), notes=notes if listed else {})
    if not listed:
        output.echo(f"Outputs: {command_line('outputs', env=results[0].ref.environment)}")
