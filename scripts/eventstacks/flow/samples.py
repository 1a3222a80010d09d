"""Sample events, and the routes that they must take: ``tests/events/<stack>/<name>.json``.

A sample is ``{"event": {…}, "expect": {"Rule": ["Target", …]}}``, and may say ``stack`` (default: its folder), ``bus``,
``region`` and ``parameters``. The event may leave out what EventBridge fills in, and may say ``${Bucket}`` or
``${AWS::AccountId}`` as Fn::Sub does. A bare event, and an entry of PutEvents, will do as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstacks import documents
from eventstacks.errors import ToolError
from eventstacks.patterns.values import refuse_constant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstacks.flow.graph import Flow, Json
    from eventstacks.flow.trace import Arrival

_KEYS = {
    "event": dict,
    "expect": dict,
    "stack": str,
    "bus": str,
    "region": str,
    "parameters": dict,
    "description": str,
}
_ENTRY = {
    "Source": "source",
    "DetailType": "detail-type",
    "Detail": "detail",
    "Resources": "resources",
    "Time": "time",
}


class SampleError(ToolError):
    """A file that holds no event."""


@dataclass(frozen=True)
class Sample:
    """An event as it was written; ``expect``: rule → targets that must receive it (and no other rule may match)."""

    event: Json
    where: str
    expect: Mapping[str, list[str]] | None = None
    stack: str | None = None
    bus: str | None = None
    region: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    names: bool = False  # whether ${…} in the event names something of the stack: in one that was sent it is text


def read(path: Path) -> Sample:
    """The sample of a file. Raises SampleError or DocumentError, with the file."""
    return parse(documents.read_text(path), str(path))


def parse_lines(text: str, where: str) -> list[Sample]:
    """Samples or events, one a line. Raises SampleError with the line."""
    lines = enumerate(text.split("\n"), 1)
    return [parse(line, f"{where}:{number}") for number, line in lines if line.strip()]


def parse(text: str, where: str) -> Sample:
    """A sample, an event or an entry of PutEvents. Raises SampleError."""
    raw = _parse(text, where, "not valid JSON")
    if not isinstance(raw, dict):
        raise SampleError("an event is a JSON object", where=where)
    event = raw.get("event")
    if not isinstance(event, dict):
        return Sample(raw, where, bus=raw.get("EventBusName"))
    if unknown := raw.keys() - _KEYS:
        known = ", ".join(sorted(_KEYS))
        raise SampleError(
            f"unknown key {min(unknown)!r}", where=where, advice=f"A sample may have: {known}."
        )
    wrong = [key for key, value in raw.items() if not isinstance(value, _KEYS[key])]
    expect: Json | None = raw.get("expect")
    if wrong or not all(isinstance(one, list) for one in (expect or {}).values()):
        said = (
            f"{wrong[0]} is {json.dumps(raw[wrong[0]])}"
            if wrong
            else "what is expected of a rule is no list"
        )
        raise SampleError(
            said,
            where=where,
            advice='"expect" is {"Rule": ["Target", …]}, "parameters" {"Name": "value"}.',
        )
    folder = Path(where).parent.name if expect is not None else ""
    return Sample(
        event,
        where,
        expect,
        raw.get("stack", folder) or None,
        raw.get("bus", event.get("EventBusName")),
        raw.get("region"),
        {str(key): str(value) for key, value in raw.get("parameters", {}).items()},
        names=True,
    )


def _parse(text: str, where: str, refusal: str) -> Any:
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except ValueError as error:
        raise SampleError(f"{refusal}: {error}", where=where) from None
    except RecursionError:
        raise SampleError(f"{refusal}: nested too deeply", where=where) from None


def complete(sample: Sample, flow: Flow, region: str, account: str) -> Json:
    """The event as a rule would see it: an entry turned into an event, the envelope filled, ``${…}`` resolved.

    Raises SampleError for an entry whose Detail is no object, or goes too deep.
    """
    event = dict(sample.event)
    if "Source" in event:
        event = {name: event[key] for key, name in _ENTRY.items() if key in event}
    if isinstance(event.get("detail"), str):
        event["detail"] = _parse(event["detail"], sample.where, "Detail is not JSON")
    if not isinstance(event.get("detail", {}), dict):
        raise SampleError("Detail is not a JSON object: MalformedDetail", where=sample.where)
    filled = {
        "version": "0",
        "id": "00000000-0000-0000-0000-000000000000",
        "detail-type": "",
        "source": "",
        "account": account,
        "time": "1970-01-01T00:00:00Z",
        "region": region,
        "resources": [],
        "detail": {},
    }
    stacks = [one for one in flow.stacks if sample.names and one.region == region]

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: resolve(one) for key, one in value.items()}
        if isinstance(value, list):
            return [resolve(one) for one in value]
        if not isinstance(value, str) or "${" not in value or not stacks:
            return value
        said = [str(stack.resolve({"Fn::Sub": value})) for stack in stacks]
        return next(
            (one for one in said if "?⟩" not in one), said[0]
        )  # the stack that knows all the names

    try:
        found: Json = resolve(filled | event)
    except RecursionError:
        raise SampleError("nested too deeply", where=sample.where) from None
    return found


def deviations(arrivals: list[Arrival], expect: Mapping[str, list[str]]) -> list[str]:
    """Where the way of an event is not what the sample expects, in words."""
    taken: dict[str, set[str]] = {}
    for arrival in arrivals:
        for route, delivery in arrival.walk():
            if route.matched:
                reached = (
                    {delivery.target.id, delivery.label}
                    if delivery and delivery.fate == "delivered"
                    else set()
                )
                taken.setdefault(route.rule.label, set()).update(reached)
    found = [f"{rule} matches, which is not expected" for rule in taken if rule not in expect]
    for rule, targets in expect.items():
        if rule not in taken:
            found.append(f"{rule} does not match")
        else:
            found += [
                f"{rule} does not deliver to {target}"
                for target in targets
                if target not in taken[rule]
            ]
    return found
