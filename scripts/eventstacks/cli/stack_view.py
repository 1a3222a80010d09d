"""Operations on stacks as text: plans, deletions, progress and results."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from eventstacks.cli import output
from eventstacks.cloudformation.change_set import ChangeSet
from eventstacks.cloudformation.operation import Event
from eventstacks.cloudformation.run import Listener, Plan, Preview, Result
from eventstacks.cloudformation.stack import MASK
from eventstacks.environment import Environment, StackRef
from eventstacks.errors import ToolError, command_line

# ResourceChange.Replacement or Action: sign, word, style. An action that AWS adds later shows
# under its own name.
_ACTIONS = {
    "True": ("!", "REPLACE", "bold red"),
    "Conditional": ("!", "REPLACE?", "bold red"),
    "Add": ("+", "add", "green"),
    "Modify": ("~", "change", "yellow"),
    "Remove": ("-", "remove", "red"),
    "Dynamic": ("?", "depends on other changes", "magenta"),
}
_POLICY_ACTIONS = {  # text, style: red where data is lost, yellow where only a snapshot is left
    "Delete": ("is deleted", "red"),
    "Retain": ("is retained", ""),
    "Snapshot": ("is deleted after a snapshot", "yellow"),
    "ReplaceAndDelete": ("the old resource is deleted", "red"),
    "ReplaceAndRetain": ("the old resource is retained", ""),
    "ReplaceAndSnapshot": ("the old resource is deleted after a snapshot", "yellow"),
}
_RECREATION = {"Always": "  requires replacement", "Conditionally": "  may require replacement"}
_IDENTITIES = ("Id", "Sid", "Key", "Name")  # what tells the elements of a list apart
_SIGNS = {"+": "green", "-": "red", "~": "yellow"}
_UNKNOWN = "{{changeSet:KNOWN_AFTER_APPLY}}"  # AWS's text for a value not known yet
_MAX_VALUE = 200  # characters
_MAX_COMMENT = 60_000  # bytes: a comment on GitHub has room for 65,536 characters


def show(plans: Sequence[Plan]) -> Iterator[Text]:
    """Yield the lines for all plans; Regions in which the same happens to a stack share theirs."""
    groups: dict[tuple[str, str], tuple[list[str], list[Text]]] = {}
    for plan in plans:
        lines, region = list(_plan(plan)), plan.ref.region
        shape = "\n".join(line.plain for line in lines).replace(region, "<region>")
        groups.setdefault((plan.ref.stack_name, shape), ([], lines))[0].append(region)
    for (name, _), (regions, lines) in groups.items():
        yield Text.assemble((name, "bold"), " in ", ", ".join(regions), ": ") + lines[0]
        yield from lines[1:]
    changed, failed = sum(plan.changes for plan in plans), sum(bool(plan.problem) for plan in plans)
    failures = f", {failed} cannot be planned" if failed else ""
    total = f"{changed} of {output.counted(len(plans), 'stack')} to change{failures}."
    yield Text(total if changed or failed else "No changes.")


def markdown(environment: str, plans: Sequence[Plan], errors: Sequence[ToolError | None]) -> str:
    """Return a comment for a pull request, at most 60,000 bytes; it says so if it was cut.

    The code fence is longer than any run of backticks in the plan, which therefore cannot end it.
    """
    failed, changed = any(errors), any(plan.changes for plan in plans)
    verdict = "The plan failed." if failed else "There are changes." if changed else "No changes."
    lines = [*(line.plain for line in show(plans)), *output.error_lines(errors)]
    text = output.safe("\n".join(lines), lines=True)
    cut = text.encode()[:_MAX_COMMENT].decode(errors="ignore")
    left = f"\nThe plan was cut after {_MAX_COMMENT:,} bytes; the log of this run has all of it.\n"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", cut)), default=0))
    head = f"<!-- plan of {environment} -->\n### Plan for `{environment}`\n\n{verdict}\n"
    return f"{head}\n{fence}text\n{cut}\n{fence}\n{left if cut != text else ''}"


def deletion(preview: Preview) -> Iterator[Text]:
    """Yield what the deletion of a stack deletes and retains, and who uses what it deletes."""
    number = output.counted(len(preview.deleted), "resource")
    yield Text.assemble((str(preview.ref), "bold"), ": ", (f"deletes {number}", "red"))
    lines = [
        *(f"retained: {name}  {physical_id}" for name, physical_id in preview.retained.items()),
        *(f"deleted after a snapshot: {name}" for name in preview.snapshots),
        *(f"not empty: {bucket}" for bucket in preview.full_buckets),
        *(f"in use: export {name} by {', '.join(by)}" for name, by in preview.importers.items()),
        *(f"in use: output {name} by {', '.join(by)}" for name, by in preview.consumers.items()),
    ]
    yield from (Text(f"  {line}", style="yellow") for line in lines)


def _plan(plan: Plan) -> Iterator[Text]:
    change_set = plan.change_set
    if plan.problem:
        yield Text("cannot be planned", style="red")
        # The problem can be another stack's, for example one whose output is missing.
        where = "" if plan.problem.where == str(plan.ref) else f"{plan.problem.where}: "
        yield Text(f"  ! {where.removeprefix(': ')}{plan.problem.what}", style="red")
    elif plan.waits_for:
        verb = "planned" if plan.stack else "created"
        yield Text(f"{verb} after {', '.join(plan.waits_for)}, whose outputs it uses")
    elif change_set is None:
        yield Text("settings only") if plan.settings else Text("no changes", style="dim")
    else:
        if change_set.kind == "CREATE":
            yield Text("new stack")
        else:
            yield Text("update" if change_set.changes else "update of outputs or tags")
            yield from _stack_values(plan.stack or {}, plan.ref.settings.tags, change_set)
        order = [*_ACTIONS, *(change["Action"] for change in change_set.changes)]
        for change in sorted(change_set.changes, key=lambda one: order.index(one["Action"])):
            yield from _resource(change)
    changed_outputs = plan.outputs if plan.stack else {}  # all outputs of a new stack are new
    for name, how in changed_outputs.items():
        sign = {"added": "+", "removed": "-"}.get(how, "~")
        text = f"{name}: {how}" if sign == "~" else name
        yield Text.assemble((f"  {sign} output   ", _SIGNS[sign]), text)
    yield from (Text.assemble(("  ~ set      ", "yellow"), setting) for setting in plan.settings)


def _stack_values(
    stack: Mapping[str, Any], tags: Mapping[str, str], change_set: ChangeSet
) -> Iterator[Text]:
    """Yield the parameters and tags that change."""
    before = {
        f"parameter {one['ParameterKey']}": one.get("ResolvedValue") or one.get("ParameterValue")
        for one in stack.get("Parameters") or ()
    } | {
        f"tag {one['Key']}": one["Value"]
        for one in stack.get("Tags") or ()
        if not one["Key"].startswith("aws:")
    }
    after = {f"parameter {name}": value for name, value in change_set.parameters.items()} | {
        f"tag {key}": value for key, value in tags.items()
    }
    for name, old, new in _differences("", before, after):
        if MASK not in (old, new):  # else whether it changes is not known
            yield _value("    ", name, old, new)


def _resource(change: Mapping[str, Any]) -> Iterator[Text]:
    action, replacement = change["Action"], change.get("Replacement")
    shown = replacement if replacement in ("True", "Conditional") else action
    sign, word, style = _ACTIONS.get(shown, ("?", shown, "magenta"))
    kind = f"  {change['ResourceType']}", "dim"
    line = Text.assemble((f"  {sign} {word:<9}", style), change["LogicalResourceId"], kind)
    if change.get("PhysicalResourceId") and shown not in ("Add", "Modify"):
        line.append(f"  {change['PhysicalResourceId']}", "dim")
    yield line
    if policy := change.get("PolicyAction"):
        yield Text.assemble("      ", _POLICY_ACTIONS.get(policy, (policy, "")))
    if action not in ("Add", "Remove"):
        yield from _properties(change)


def _properties(change: Mapping[str, Any]) -> Iterator[Text]:
    """Yield a line for each value that changes.

    The values are in the resource's contexts. Without them (the embedded AWS gives policies only,
    and a context with a secret is left out) they are in the details, where AWS names a property
    once per reason.
    """
    before, after, shown = dict[str, Any](), dict[str, Any](), dict[str, str]()
    for target in (detail.get("Target") or {} for detail in change.get("Details") or ()):
        path = (target.get("Path") or "").removeprefix("/Properties/").strip("/").replace("/", ".")
        name = path or target.get("Name") or target.get("Attribute") or ""
        before[name] = before.get(name) or _parse(target.get("BeforeValue"))
        after[name] = after.get(name) or _parse(target.get("AfterValue"))
        shown[name.split(".")[0]] = _RECREATION.get(target.get("RequiresRecreation", ""), "")
    old, new = (_parse(change.get(f"{side}Context")) for side in ("Before", "After"))
    for path, one, other in _differences("", _context(old, before), _context(new, after)):
        requires = shown.pop(re.split(r"[.\[]", path)[0], "")
        yield _value("      ", path, one, other).append(requires, "red")
    yield from (Text(f"      {name}") for name in shown)  # no values, or only the order of a list


def _context(context: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Return the policies and properties of a context; ``values`` where it has no properties."""
    known = context if isinstance(context, dict) else {}
    policies = {name: value for name, value in known.items() if name.endswith("Policy")}
    return {**policies, **known.get("Properties", values)}


def _identity(element: Any) -> str:
    """Return what names an element of a list, or ''."""
    known = element if isinstance(element, dict) else {}
    return next((str(known[key]) for key in _IDENTITIES if isinstance(known.get(key), str)), "")


def _parse(value: str | None) -> Any:
    """Return a value as AWS gives it: documents come as JSON, long ones cut."""
    with contextlib.suppress(ValueError):
        if value and value[0] in "{[":
            return json.loads(value)
    return value


def _differences(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, before and after of what differs: of a long policy only what changes in it."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            step = key if key.startswith("[") else f".{key}"
            name = path if key.startswith("=") else f"{path}{step}".lstrip(".")
            yield from _differences(name, before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _differences(path, _labelled(before), _labelled(after))
    elif before != after:
        yield path, before, after


def _labelled(values: Sequence[Any]) -> dict[str, Any]:
    """Return the elements of a list by ``[Id]``, else by place; a simple value by ``=value``."""
    names = [_identity(value) for value in values]
    is_named = all(names) and len(set(names)) == len(names)
    return {
        f"[{name}]" if is_named else str(place) if isinstance(value, dict) else f"={value}": value
        for place, (name, value) in enumerate(zip(names, values, strict=True))
    }


def _value(indent: str, path: str, before: Any, after: Any) -> Text:
    """Return ``+ path: value``, ``- path: value`` or ``path: before → after``."""
    if before is None or after is None:
        sign, value = ("+", after) if before is None else ("-", before)
        return Text.assemble(indent, (f"{sign} {path}: {_short(value)}", _SIGNS[sign]))
    return Text.assemble(
        indent, f"{path}: ", (_short(before), "red"), " → ", (_short(after), "green")
    )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.replace(_UNKNOWN, "(known after apply)")
    return text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + "…"


class Reporter(Listener):
    """Show progress and ask for confirmation; ``with reporter.progress`` around the run.

    With ``as_json`` everything goes to stderr. With --quiet only failures are shown.
    """

    def __init__(self, environment: Environment, total: int, *, yes: bool, as_json: bool) -> None:
        self._environment, self._yes, self._quiet = environment, yes, output.is_quiet()
        self._console = output.console(err=as_json)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=10),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[current]}", style="cyan", markup=False),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal or self._quiet,
        )
        self._all = self.progress.add_task("all stacks", total=total, current="")
        # Row, and logical id → status of the resources that have begun.
        self._tasks: dict[StackRef, tuple[TaskID, dict[str, str]]] = {}
        self._asking = threading.Lock()  # one question at a time

    def ask(self, lines: Iterable[Text | str], question: str) -> None:
        """Show lines and ask, with the progress hidden. Raises ToolError (DECLINED)."""
        with self._asking:
            self.progress.stop()
            self._console.print(*lines, sep="\n")
            try:
                output.confirm(question, self._environment, yes=self._yes)
            finally:
                self.progress.start()

    def confirm(self, plans: Sequence[Plan]) -> None:
        """Show the plans and ask."""
        number = output.counted(sum(plan.changes for plan in plans), "stack")
        self.ask(show(plans), f"Deploy {number} to {self._environment.name}?")

    def progressed(self, ref: StackRef, total: int, event: Event) -> None:
        """Update the row of an operation; print failures, and without a terminal all events."""
        if ref not in self._tasks:
            self._tasks[ref] = self.progress.add_task(str(ref), total=None, current=""), {}
        row, resources = self._tasks[ref]
        if not event.is_root:
            resources[event.logical_id] = event.status
        current = [name for name, status in resources.items() if status.endswith("_IN_PROGRESS")]
        self.progress.update(
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
        """Remove the row of an operation."""
        self.progress.advance(self._all)
        if result.ref in self._tasks:
            self.progress.remove_task(self._tasks.pop(result.ref)[0])


def summarize(results: Sequence[Result], *, as_json: bool) -> int:
    """Print the results, warnings, and the errors last; return the exit code."""
    is_same = all(one.outcome == "unchanged" for one in results)
    if as_json or not is_same:
        keys = ("stack_name", "region", "outcome", "seconds")
        output.print_rows([one.document() for one in results], keys, as_json=as_json)
    if results and is_same:
        output.echo("No changes.", err=as_json)
    elif not as_json and any(one.outputs for one in results):
        output.echo(f"Outputs: {command_line('outputs', env=results[0].ref.environment)}")
    for one in results:
        for warning in one.warnings:
            output.note(f"Warning: {one.ref}: {warning}")
    # Failures after the stacks that were skipped because of them.
    failures_last = sorted(results, key=lambda one: one.outcome == "failed")
    output.print_errors(one.problem for one in failures_last)
    return 0 if all(one.ok for one in results) else output.EXIT_FAILED
