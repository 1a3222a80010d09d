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
_VALUES = ("BeforeValue", "AfterValue")
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


def _tainted(template: Mapping[str, Any]) -> set[str]:
    """Return the NoEcho parameters and every ``Resource.Property`` made from them.

    An attribute named like such a property (``!GetAtt Parameter.Value``) passes the secret on.
    """
    found, before = parameters(template), -1
    resources = (template.get("Resources") or {}).items()
    texts = {
        f"{name}.{key}": json.dumps(value, default=str)
        for name, one in resources
        if isinstance(one, dict)
        for key, value in (one.get("Properties") or {}).items()
    }
    while found and len(found) != before:
        before = len(found)
        used = [json.dumps(form) for name in found for form in ({"Ref": name}, *_attributes(name))]
        used += [f"${{{name}}}" for name in found]
        found |= {name for name, text in texts.items() if any(one in text for one in used)}
    return found


def _attributes(name: str) -> list[dict[str, Any]]:
    return [{"Fn::GetAtt": form} for form in (name, name.split(".", 1))] if "." in name else []


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
        return {**detail, "Target": target}


def _property(detail: Mapping[str, Any]) -> str:
    """Return the top-level property of a change's detail."""
    target = detail.get("Target") or {}
    path = str(target.get("Path") or "").strip("/").removeprefix("Properties/").split("/")[0]
    return path or str(target.get("Name") or "")
