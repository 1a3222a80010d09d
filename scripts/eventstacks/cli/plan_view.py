"""Plans and deletions as text: what happens to each resource, and before → after of each value."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

from rich.text import Text

from eventstacks.cli import output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eventstacks.cloudformation.change_set import ChangeSet
    from eventstacks.cloudformation.run import Plan, Preview
    from eventstacks.errors import ToolError

# ResourceChange.Action: sign, word, style. An action that AWS adds later shows under its own name.
_ACTIONS = {
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
_MASK = "****"  # a NoEcho value: whether it changes is not known
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
    users = {f"export {name}": stacks for name, stacks in preview.importers.items()}
    users |= {f"output {name}": stacks for name, stacks in preview.consumers.items()}
    lines = [f"retained: {name}  {physical_id}" for name, physical_id in preview.retained.items()]
    lines += [f"deleted after a snapshot: {name}" for name in preview.snapshots]
    lines += [f"not empty: {bucket}" for bucket in preview.full_buckets]
    lines += [f"in use: {name} by {', '.join(stacks)}" for name, stacks in users.items()]
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
    elif change_set is None or change_set.unchanged:
        yield Text("settings only") if plan.settings else Text("no changes", style="dim")
    elif change_set.kind == "CREATE":
        yield Text("new stack")
        yield from _resources(change_set)
    else:
        yield Text("update" if change_set.changes else "update of outputs or tags")
        yield from _stack_values(plan.stack or {}, plan.ref.settings.tags, change_set)
        yield from _resources(change_set)
    for name, how in plan.outputs.items() if plan.stack else ():
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
    after = {f"parameter {name}": value for name, value in change_set.parameters.items()}
    after |= {f"tag {key}": value for key, value in tags.items()}
    for name, old, new in _differences("", before, after):
        if _MASK not in (old, new):
            yield _value("    ", name, old, new)


def _resources(change_set: ChangeSet) -> Iterator[Text]:
    order = [*_ACTIONS, *(change["Action"] for change in change_set.changes)]
    for change in sorted(change_set.changes, key=lambda change: order.index(change["Action"])):
        yield from _resource(change)


def _resource(change: Mapping[str, Any]) -> Iterator[Text]:
    action, replacement = change["Action"], change.get("Replacement")
    sign, word, style = _ACTIONS.get(action, ("?", action, "magenta"))
    replaces = replacement in ("True", "Conditional")
    if replaces:
        sign, word, style = "!", "REPLACE" if replacement == "True" else "REPLACE?", "bold red"
    kind = f"  {change['ResourceType']}", "dim"
    line = Text.assemble((f"  {sign} {word:<9}", style), change["LogicalResourceId"], kind)
    if change.get("PhysicalResourceId") and (replaces or action not in ("Add", "Modify")):
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
            step = "" if key.startswith("=") else key if key.startswith("[") else f".{key}"
            name = f"{path}{step}".lstrip(".")
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
