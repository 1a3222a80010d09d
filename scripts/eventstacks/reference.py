"""The parts of the documentation that are written by what they are about: tables of parameters and outputs, helps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from eventstacks import documents
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def parameters(template: Mapping[str, Any]) -> str:
    """A template's parameters as a Markdown table, in the order of the console's form; what that lacks comes last.

    Source: AWS CloudFormation User Guide, 'AWS::CloudFormation::Interface'.
    """
    declared = template.get("Parameters") or {}
    interface = (template.get("Metadata") or {}).get("AWS::CloudFormation::Interface") or {}
    placed = [
        name
        for group in interface.get("ParameterGroups") or ()
        for name in group.get("Parameters") or ()
    ]
    order = dict.fromkeys([one for one in placed if one in declared] + list(declared))
    rows = [
        (f"`{name}`", _text(declared[name]), _values(declared[name]), _default(declared[name]))
        for name in order
    ]
    return _table(("parameter", "what it is for", "values", "default"), rows)


def outputs(template: Mapping[str, Any]) -> str:
    """A template's outputs as a Markdown table. Those that are exported are so as ``<stack name>-<output>``."""
    rows = [
        (
            f"`{name}`",
            _text(one) + (f" Only if `{one['Condition']}`." if "Condition" in one else ""),
        )
        for name, one in (template.get("Outputs") or {}).items()
    ]
    return _table(("output", "what it is"), rows)


def insert(page: str, name: str, block: str) -> str:
    """The page with ``block`` between its markers for ``name``; they go to the end of a page that lacks them.

    Raises ToolError for a page that has lost the second one.
    """
    begin, end = f"<!-- {name}: written by `make docs` -->", f"<!-- end of {name} -->"
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    made = f"{begin}\n{block.strip()}\n{end}"
    found, count = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: made, page, count=1, flags=re.DOTALL
    )
    if not count:
        raise ToolError(
            f"{end} does not stand below {begin}",
            where=f"the page {page.splitlines()[0]!r}",
            advice="Put that line where what is written by itself ends.",
        )
    return found


def _text(declared: Mapping[str, Any]) -> str:
    return str(declared.get("Description", ""))


def _values(parameter: Mapping[str, Any]) -> str:
    if "AllowedValues" in parameter:
        return ", ".join(f"`{documents.text_of(one)}`" for one in parameter["AllowedValues"])
    if "MinValue" in parameter and "MaxValue" in parameter:
        return f"{parameter['MinValue']} to {parameter['MaxValue']}"
    if "ConstraintDescription" in parameter:
        return str(parameter["ConstraintDescription"])
    if "MinValue" in parameter:
        return f"at least {parameter['MinValue']}"
    if "MaxValue" in parameter:
        return f"at most {parameter['MaxValue']}"
    return {"Number": "a number", "List<Number>": "numbers"}.get(str(parameter.get("Type")), "text")


def _default(parameter: Mapping[str, Any]) -> str:
    if "Default" not in parameter:
        return "none: has to be given"
    return f"`{documents.text_of(parameter['Default'])}`" if parameter["Default"] != "" else "empty"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").strip() for cell in line) + " |"
        for line in lines
    )
