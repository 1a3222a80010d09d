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
    from collections.abc import Sequence

    from rich.progress import TaskID

    from eventstacks.cloudformation.run import Plan, Result
    from eventstacks.cloudformation.run import Progress as Step
    from eventstacks.environment import Environment, StackRef

MAX_OUTPUT_LINES = 16  # lines of outputs that still leave the summary of a deployment readable


class Reporter(Listener):
    """Show progress and ask for confirmation; ``with`` it around the run.

    With ``as_json`` everything goes to stderr. With --quiet only failures are shown. After Ctrl-C
    the error that leaves the block names the operations that continue in AWS.
    """

    def __init__(self, environment: Environment, total: int, *, yes: bool, as_json: bool) -> None:
        self._environment, self._yes, self._quiet = environment, yes, output.is_quiet()
        self._console = output.console(err=as_json)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[current]}", style="cyan", markup=False),
        )
        is_live = self._console.is_terminal and not self._quiet
        self._progress = Progress(
            *columns, console=self._console, transient=True, disable=not is_live
        )
        self._all = self._progress.add_task("planned", total=total, current="")
        self._tasks: dict[StackRef, TaskID] = {}
        self._asking = threading.Lock()

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

    def planned(self, plan: Plan) -> None:  # noqa: ARG002
        """Count a plan."""
        self._progress.advance(self._all)

    def confirm(self, plans: Sequence[Plan]) -> bool:
        """Show the plans and ask."""
        with self._asking:
            self._progress.stop()
            for line in plan_view.show(plans):
                self._console.print(line)
            number = output.counted(sum(plan.changes for plan in plans), "stack")
            question = f"Deploy {number} to {self._environment.name}?"
            answer = output.confirm(question, self._environment, yes=self._yes)
            if not self._tasks:
                self._progress.reset(self._all)
            if answer or self._tasks:
                self._progress.start()
            return answer

    def started(self, ref: StackRef, total: int) -> None:
        """Add a row for an operation with ``total`` resources."""
        self._progress.update(self._all, description="done")
        self._tasks[ref] = self._progress.add_task(str(ref), total=total or None, current="")
        if not self._asking.locked():  # else it starts with the answer
            self._progress.start()

    def progressed(self, progress: Step) -> None:
        """Update the row of an operation; print failures, and without a terminal all events."""
        self._progress.update(
            self._tasks[progress.ref],
            completed=progress.done,
            total=progress.total,
            current=", ".join(progress.current),
        )
        event, failed = progress.event, progress.event.status.endswith("_FAILED")
        if failed or not (self._console.is_terminal or self._quiet):
            where = f"{event.at:%H:%M:%SZ} {progress.ref.region} {progress.ref.stack_name}"
            text = (
                f"{where} {event.logical_id} {event.status}  {output.safe(event.reason)}".rstrip()
            )
            style = output.state_style(event.status) if failed else ""
            self._console.print(Text(text, style=style))

    def finished(self, result: Result) -> None:
        """Remove the row of an operation and print its result."""
        self._progress.advance(self._all)
        if result.ref in self._tasks:
            self._progress.remove_task(self._tasks.pop(result.ref))
        if result.outcome != "unchanged" and not (self._quiet and result.ok):
            outcome = (result.outcome, output.state_style(result.outcome))
            where = f"{result.ref.region} {result.ref.stack_name} "
            self._console.print(Text.assemble(where, outcome, f" ({result.seconds:.1f} s)"))


def summarize(results: Sequence[Result], *, as_json: bool) -> int:
    """Print the results, warnings, and the errors last; return the exit code."""
    listed = sum(len(one.outputs) for one in results) <= MAX_OUTPUT_LINES
    if as_json:
        output.print_json([one.document() for one in results])
    elif results:
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
        notes = [[f"{name}={value}" for name, value in one.outputs.items()] for one in results]
        heads = ("STACK", "REGION", "RESULT", "SECONDS", "OUTPUTS")
        output.print_table(heads, rows, right=heads[3:], notes=notes if listed else ())
    if not as_json and not listed:
        output.echo(f"Outputs: {command_line('outputs', env=results[0].ref.environment)}")
    if results and all(one.outcome == "unchanged" for one in results):
        output.echo("No changes.", err=as_json)
    for one in results:
        for warning in one.warnings:
            output.note(f"Warning: {one.ref}: {warning}")
    # Failures after the stacks that were skipped because of them.
    output.print_errors(
        one.problem for one in sorted(results, key=lambda one: one.outcome == "failed")
    )
    return 0 if all(one.ok for one in results) else output.EXIT_FAILED
