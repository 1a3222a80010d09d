"""How operations progress and end: a live table on a terminal, lines elsewhere; the results."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from eventstacks.cli import output, plan_view
from eventstacks.cloudformation.run import Interrupted, Listener
from eventstacks.errors import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.progress import TaskID

    from eventstacks.cloudformation.operation import Event
    from eventstacks.cloudformation.run import Plan, Result
    from eventstacks.environment import Environment, StackRef


class Reporter(Listener):
    """Show progress and ask for confirmation; ``with`` it around the run.

    With ``as_json`` everything goes to stderr. With --quiet only failures are shown. After Ctrl-C
    the error that leaves the block names the operations that continue in AWS.
    """

    def __init__(self, environment: Environment, total: int, *, yes: bool, as_json: bool) -> None:
        self._environment, self._yes, self._quiet = environment, yes, output.is_quiet()
        self._console = output.console(err=as_json)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[current]}", style="cyan", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal or self._quiet,
        )
        self._all = self._progress.add_task("all stacks", total=total, current="")
        self._tasks: dict[StackRef, tuple[TaskID, int]] = {}
        self._asking = threading.Lock()  # one question at a time

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._progress.stop()
        if isinstance(error, Interrupted):
            lines = [
                f"{ref} continues in AWS.\n  follow: {ref.command('follow')}\n"
                f"  cancel: {ref.command('recover', '--cancel')}"
                for ref in error.refs
            ]
            nothing = ["No operation continues in AWS; no change set is left."]
            raise KeyboardInterrupt("\n".join(lines or nothing)) from None

    def ask(self, lines: Iterable[Text | str], question: str = "") -> bool:
        """Show lines and ask, with the progress hidden; return True for yes or without question."""
        with self._asking:
            self._progress.stop()
            for line in lines:
                self._console.print(line)
            answer = not question or output.confirm(question, self._environment, yes=self._yes)
            self._progress.start()
            return answer

    def confirm(self, plans: Sequence[Plan]) -> bool:
        """Show the plans and ask."""
        number = output.counted(sum(plan.changes for plan in plans), "stack")
        return self.ask(plan_view.show(plans), f"Deploy {number} to {self._environment.name}?")

    def started(self, ref: StackRef, total: int) -> None:
        """Add a row for an operation with ``total`` resources."""
        row = self._progress.add_task(str(ref), total=total or None, current="")
        self._tasks[ref] = row, total

    def progressed(self, ref: StackRef, event: Event, resources: Mapping[str, str]) -> None:
        """Update the row of an operation; print failures, and without a terminal all events."""
        row, total = self._tasks[ref]
        current = [name for name, status in resources.items() if status.endswith("_IN_PROGRESS")]
        self._progress.update(
            row,
            completed=len(resources) - len(current),
            total=max(total, len(resources)),
            current=", ".join(current),
        )
        failed = event.status.endswith("_FAILED")
        if failed or not (self._console.is_terminal or self._quiet):
            where = f"{event.at:%H:%M:%SZ} {ref.region} {ref.stack_name}"
            text = f"{where} {event.logical_id} {event.status}  {output.safe(event.reason)}"
            style = output.state_style(event.status) if failed else ""
            self._console.print(Text(text.rstrip(), style=style))

    def finished(self, result: Result) -> None:
        """Remove the row of an operation and print its result."""
        self._progress.advance(self._all)
        if result.ref in self._tasks:
            self._progress.remove_task(self._tasks.pop(result.ref)[0])
        if result.outcome != "unchanged" and not (self._quiet and result.ok):
            outcome = (result.outcome, output.state_style(result.outcome))
            where = f"{result.ref.region} {result.ref.stack_name} "
            self._console.print(Text.assemble(where, outcome, f" ({result.seconds:.1f} s)"))


def summarize(results: Sequence[Result], *, as_json: bool) -> int:
    """Print the results, warnings, and the errors last; return the exit code."""
    if as_json:
        output.print_json([one.document() for one in results])
    elif results:
        heads = ("STACK", "REGION", "RESULT", "SECONDS")
        rows = [
            (one.ref.stack_name, one.ref.region, one.outcome, f"{one.seconds:.1f}")
            for one in results
        ]
        output.print_table(heads, rows, right=heads[3:])
        if any(one.outputs for one in results):
            output.echo(f"Outputs: {command_line('outputs', env=results[0].ref.environment)}")
    if results and all(one.outcome == "unchanged" for one in results):
        output.echo("No changes.", err=as_json)
    for one in results:
        for warning in one.warnings:
            output.note(f"Warning: {one.ref}: {warning}")
    # Failures after the stacks that were skipped because of them.
    last = sorted(results, key=lambda one: one.outcome == "failed")
    output.print_errors(one.problem for one in last)
    return 0 if all(one.ok for one in results) else output.EXIT_FAILED
