"""The parts of the documentation that are written by what they are about: tables of parameters and outputs, helps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def parameters(template: Mapping[str, Any]) -> str:
    """A template's parameters as a Markdown table, in the order of the console's form; what that lacks comes last.

    Source: AWS CloudFormation User Guide, 'AWS::CloudFormation::Interface'.
    """
    declared = template.get("Parameters") or {}
    interface = (template.get("Metadata") or {}).get("AWS::CloudFormation::Interface") or {}
    placed = [name for group in interface.get("ParameterGroups") or () for name in group.get("Parameters") or ()]
    order = dict.fromkeys([one for one in placed if one in declared] + list(declared))
    rows = [(f"`{name}`", _text(declared[name]), _values(declared[name]), _default(declared[name])) for name in order]
    return _table(("parameter", "what it is for", "values", "default"), rows)


def outputs(template: Mapping[str, Any]) -> str:
    """A template's outputs as a Markdown table. Each is exported as ``<stack name>-<output>``."""
    rows = [
        (f"`{name}`", _text(one) + (f" Only if `{one['Condition']}`." if "Condition" in one else ""))
        for name, one in (template.get("Outputs") or {}).items()
    ]
    return _table(("output", "what it is"), rows)


def insert(page: str, name: str, block: str) -> str:
    """The page with ``block`` between its markers for ``name``; they go to the end of a page that lacks them."""
    begin, end = f"<!-- {name}: written by `make docs` -->", f"<!-- end of {name} -->"
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    made = f"{begin}\n{block.strip()}\n{end}"
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: made, page, count=1, flags=re.DOTALL)


def _text(declared: Mapping[str, Any]) -> str:
    return str(declared.get("Description", ""))


def _values(parameter: Mapping[str, Any]) -> str:
    if "AllowedValues" in parameter:
        return ", ".join(f"`{one}`" for one in parameter["AllowedValues"])
    if "MinValue" in parameter and "MaxValue" in parameter:
        return f"{parameter['MinValue']} to {parameter['MaxValue']}"
    return str(parameter.get("ConstraintDescription", "text"))


def _default(parameter: Mapping[str, Any]) -> str:
    if "Default" not in parameter:
        return "none: has to be given"
    return f"`{parameter['Default']}`" if parameter["Default"] != "" else "empty"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").strip() for cell in line) + " |" for line in lines)
