"""A plan as a person reads it: per resource what happens, per property before → after."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eventstacks.cloudformation.deployment import Plan

# What each ResourceChange.Action looks like: sign, word, style. An action that AWS adds later shows under its own name.
_ACTIONS = {
    "Add": ("+", "add", "green"),
    "Modify": ("~", "change", "yellow"),
    "Remove": ("-", "remove", "red"),
    "Import": (">", "import", "cyan"),
    "Dynamic": ("?", "depends on what the others become", "magenta"),
    "SyncWithActual": ("=", "take over the actual state", "cyan"),
}
_POLICIES = {
    "Delete": "is deleted",
    "Retain": "is kept",
    "Snapshot": "is deleted, a snapshot stays",
    "ReplaceAndDelete": "the old one is deleted",
    "ReplaceAndRetain": "the old one is kept",
    "ReplaceAndSnapshot": "the old one is deleted, a snapshot stays",
}
_LONGEST = 200  # characters of a value


def show(plans: Sequence[Plan]) -> Iterator[Text]:
    """The lines for all plans; regions in which the same happens to a stack share theirs."""
    groups: dict[tuple[str, tuple[str, ...]], tuple[list[str], list[Text]]] = {}
    for plan in plans:
        lines = list(_lines(plan))
        key = (
            plan.ref.stack_name,
            tuple(line.plain.replace(plan.ref.region, "<region>") for line in lines),
        )
        groups.setdefault(key, ([], lines))[0].append(plan.ref.region)
    for (name, _), (regions, lines) in groups.items():
        yield Text.assemble((name, "bold"), " in ", ", ".join(regions), ": ") + lines[0]
        yield from lines[1:]
    waiting = sum(plan.changes for plan in plans)
    failed = sum(plan.problem is not None for plan in plans)
    found = f"{waiting} of {len(plans)} stacks to change{f', {failed} cannot be planned' if failed else ''}."
    yield Text(found if waiting or failed else "No changes.")


def _lines(plan: Plan) -> Iterator[Text]:
    made = plan.change_set
    if plan.problem:
        yield Text("cannot be planned", style="red")
        elsewhere = (
            plan.problem.where if plan.problem.where != str(plan.ref) else ""
        )  # the giver of an output, say
        yield Text(f"  ! {elsewhere}{': ' if elsewhere else ''}{plan.problem.what}", style="red")
    elif plan.waits_for:
        new = plan.stack is None
        yield Text(
            f"{'created' if new else 'planned'} after {', '.join(plan.waits_for)}, whose outputs it takes"
        )
        for name, kind in plan.resources.items():
            yield Text.assemble(("  + add      ", "green"), name, (f"  {kind}", "dim"))
    elif made is None or made.unchanged:
        yield Text(
            "no changes" if not plan.settings else "settings only",
            style="dim" if not plan.settings else "",
        )
    else:
        yield Text(
            "new stack"
            if made.kind == "CREATE"
            else "update"
            if made.changes
            else "update of outputs or tags"
        )
        if made.drift == "DRIFTED":
            yield Text("  ! has drifted from its template", style="yellow")
        if made.kind == "UPDATE":
            yield from _parameters(plan)
        for change in sorted(
            made.changes, key=lambda one: [*_ACTIONS, one["Action"]].index(one["Action"])
        ):
            yield from _resource(change)
    for setting in plan.settings:
        yield Text.assemble(("  ~ set      ", "yellow"), setting)
    for note in plan.notes:
        yield Text(f"  · {note}")


def _parameters(plan: Plan) -> Iterator[Text]:
    before = {
        one["ParameterKey"]: one.get("ResolvedValue") or one.get("ParameterValue", "")
        for one in (plan.stack or {}).get("Parameters") or ()
    }
    after = plan.change_set.parameters if plan.change_set else {}
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name) and "****" not in (
            before.get(name),
            after.get(name),
        ):
            yield Text.assemble(
                "    parameter ", name, ": ", _values(before.get(name), after.get(name))
            )


def _resource(change: Mapping[str, Any]) -> Iterator[Text]:
    action = change["Action"]
    sign, word, style = _ACTIONS.get(action, ("?", action, "magenta"))
    replaces = change.get("Replacement") in ("True", "Conditional")
    if replaces:
        sign, word, style = (
            "!",
            "REPLACE" if change["Replacement"] == "True" else "REPLACE?",
            "bold red",
        )
    kind = f"  {change['ResourceType']}", "dim"
    line = Text.assemble((f"  {sign} {word:<9}", style), change["LogicalResourceId"], kind)
    if change.get("PhysicalResourceId") and (replaces or action not in ("Add", "Modify")):
        line.append(f"  {change['PhysicalResourceId']}", "dim")
    yield line
    if policy := change.get("PolicyAction"):
        keeps = "Delete" not in policy and "Snapshot" not in policy
        yield Text(f"      {_POLICIES.get(policy, policy)}", style="" if keeps else "red")
    if (drift := change.get("ResourceDriftStatus")) in ("MODIFIED", "DELETED"):
        how = "changed" if drift == "MODIFIED" else "deleted"
        yield Text(f"      drifted: {how} outside of CloudFormation", style="yellow")
    seen = set()
    for detail in change.get("Details") or ():
        for line in _detail(detail):
            if line.plain not in seen:  # AWS names a property once per reason
                seen.add(line.plain)
                yield line


def _detail(detail: Mapping[str, Any]) -> Iterator[Text]:
    target = detail.get("Target") or {}
    path = (target.get("Path") or "").strip("/").replace("/", ".").removeprefix("Properties.")
    notes = Text()
    if actual := (target.get("Drift") or {}).get("ActualValue"):
        notes.append(f"  is now {_short(actual)}", "yellow")
    if target.get("RequiresRecreation") in ("Always", "Conditionally"):
        notes.append(
            "  replaces it" if target["RequiresRecreation"] == "Always" else "  may replace it",
            "red",
        )
    before, after = _parse(target.get("BeforeValue")), _parse(target.get("AfterValue"))
    name = str(path or target.get("Name") or target.get("Attribute") or "")
    for where, old, new in _differences(name, before, after):
        yield Text.assemble("      ", where, ": ", _values(old, new), notes)
        notes = Text()  # once is enough
    if before == after and name:
        cause = f" (from {detail['CausingEntity']})" if detail.get("CausingEntity") else ""
        yield Text.assemble("      ", name, (cause, "dim"), notes)


def _parse(value: str | None) -> Any:
    """A value as AWS gives it: documents come as JSON."""
    if value is None or value[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _differences(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """Path, before and after of every leaf that differs: of a long policy only what changes in it."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _differences(f"{path}.{key}", before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _differences(f"{path}.{index}", old, new)
    elif before != after:
        yield path, before, after


def _values(before: Any, after: Any) -> Text:
    return Text.assemble((_short(before), "red"), " → ", (_short(after), "green"))


def _short(value: Any) -> str:
    text = "(none)" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
