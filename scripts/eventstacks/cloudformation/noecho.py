"""Keep the values of NoEcho parameters out of plans, events and errors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks import documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK = "****"  # as AWS masks them
_VALUES = ("BeforeValue", "AfterValue", "PreviousValue", "ActualValue")
_SHORT = 4  # characters; a shorter value is masked only where it is a word of its own


def parameters(template: Mapping[str, Any]) -> set[str]:
    """Return the names of a template's NoEcho parameters."""
    declared = (template.get("Parameters") or {}).items()
    return {
        name for name, one in declared if documents.text_of(one.get("NoEcho")).lower() == "true"
    }


def mask_text(text: str, values: Iterable[str]) -> str:
    """Replace secret values in a text, in plain form and as they are in JSON."""
    for value in sorted(filter(None, values), key=len, reverse=True):
        for form in dict.fromkeys((value, json.dumps(value)[1:-1])):
            pattern = re.escape(form)
            text = re.sub(pattern if len(form) >= _SHORT else rf"\b{pattern}\b", MASK, text)
    return text


def _mentions(node: Any, names: set[str]) -> bool:
    """Return True if a value of a template uses a parameter or an attribute of ``names``."""
    if isinstance(node, list):
        return any(_mentions(one, names) for one in node)
    if not isinstance(node, dict):
        return False
    return any(
        names.intersection(_used(key, value)) or _mentions(value, names)
        for key, value in node.items()
    )


def _used(function: str, argument: Any) -> list[str]:
    """Return the parameters and attributes that an intrinsic function names itself."""
    if function == "Ref":
        return [str(argument)]
    if function == "Fn::GetAtt":
        return [".".join(map(str, argument)) if isinstance(argument, list) else str(argument)]
    if function == "Fn::Sub":
        text = argument[0] if isinstance(argument, list) and argument else argument
        return re.findall(r"\$\{([^!}][^}]*)\}", str(text))
    return []


def _tainted(template: Mapping[str, Any]) -> set[str]:
    """Return the NoEcho parameters and every ``Resource.Property`` made from them.

    An attribute named like such a property (``!GetAtt Parameter.Value``) passes the secret on.
    """
    found = parameters(template)
    resources = {
        name: one
        for name, one in (template.get("Resources") or {}).items()
        if isinstance(one, dict)
    }
    before = -1
    while found and len(found) != before:
        before = len(found)
        for name, one in resources.items():
            properties = (one.get("Properties") or {}).items()
            found |= {f"{name}.{key}" for key, value in properties if _mentions(value, found)}
    return found


@dataclass(frozen=True)
class Secrets:
    """What must not be shown of a change set: made from the templates before and after it."""

    parameters: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    properties: frozenset[str] = frozenset()  # Resource.Property

    @classmethod
    def of(cls, values: Mapping[str, str], *templates: Mapping[str, Any]) -> Secrets:
        """``values``: parameter → value as sent. ``templates``: the new one, and the deployed one."""
        names = set[str]().union(*map(parameters, templates))
        found = set[str]().union(*map(_tainted, templates)) - names
        sent = frozenset(values[one] for one in names & values.keys())
        return cls(frozenset(names), sent, frozenset(found))

    def text(self, text: str) -> str:
        """Mask the values in a text."""
        return mask_text(text, self.values)

    def change(self, change: Mapping[str, Any]) -> dict[str, Any]:
        """Mask a ResourceChange whose LogicalResourceId is the path through nested stacks.

        A property made from a secret is masked as a whole, before and after: the value before is
        not known here. In a nested stack that gets a secret, all values are masked.
        """
        outer, _, inner = change["LogicalResourceId"].partition("/")
        owned = {one.split(".")[1] for one in self.properties if one.startswith(f"{outer}.")}
        found = dict(change)
        for key in found.keys() & {"BeforeContext", "AfterContext", "PhysicalResourceId"}:
            hidden = bool(owned) and key != "PhysicalResourceId"
            found[key] = MASK if hidden else self.text(found[key])
        if details := change.get("Details"):
            found["Details"] = [
                self._detail(one, hidden=bool(inner and owned) or _property(one) in owned)
                for one in details
            ]
        return found

    def _detail(self, detail: Mapping[str, Any], *, hidden: bool) -> dict[str, Any]:
        def masked(values: Mapping[str, Any]) -> dict[str, Any]:
            shown = {key: values[key] for key in _VALUES if key in values}
            return {
                **values,
                **{key: MASK if hidden else self.text(str(one)) for key, one in shown.items()},
            }

        target = masked(detail.get("Target") or {})
        if "Drift" in target:
            target["Drift"] = masked(target["Drift"])
        return {**detail, "Target": target}


def _property(detail: Mapping[str, Any]) -> str:
    """Return the top-level property of a change's detail."""
    target = detail.get("Target") or {}
    path = str(target.get("Path") or "").strip("/").removeprefix("Properties/").split("/")[0]
    return path or str(target.get("Name") or "")
