"""Sample events and the routes they must take: ``tests/events/<stack>/<name>.json``.

A sample is ``{"event": {…}, "expect": {"Rule": ["Target", …]}}``, optionally with ``stack``
(default: its folder), ``bus``, ``region`` and ``parameters``. Its event can leave out what
EventBridge fills in, and can contain ``${Bucket}`` or ``${AWS::AccountId}`` as in Fn::Sub. A bare
event, an entry of PutEvents, and a record of a DynamoDB stream are accepted as well.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow.graph import Flow
from eventstacks.flow.payload import envelope
from eventstacks.flow.symbols import Json, as_dict
from eventstacks.flow.trace import STREAM, Arrival, Fate
from eventstacks.patterns.operators import refuse_constant

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


@dataclass(frozen=True)
class Sample:
    """An event as it is written.

    ``expect``: rule → targets that receive it; no other rule may match.

    ``names``: whether ``${…}`` in the event refers to the stack; in an event that was sent it is
    text.
    """

    event: Json
    where: str
    expect: Mapping[str, list[str]] | None = None
    stack: str | None = None
    bus: str | None = None
    region: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    names: bool = False


def _invalid(what: str, where: str, advice: str = "") -> ToolError:
    return ToolError(what, code=ErrorCode.EVENT_INVALID, where=where, advice=advice)


def parse_lines(text: str, where: str) -> list[Sample]:
    """Parse samples or events, one per line. Raises ToolError with the line."""
    lines = enumerate(text.split("\n"), 1)
    return [parse(line, f"{where}:{number}") for number, line in lines if line.strip()]


def parse(text: str, where: str) -> Sample:
    """Parse a sample, an event or an entry of PutEvents. Raises ToolError (EVENT_INVALID)."""
    raw = _parse(text, where, "invalid JSON")
    if not isinstance(raw, dict):
        raise _invalid("an event must be a JSON object", where)
    event = raw.get("event")
    if not isinstance(event, dict):
        return Sample(raw, where, bus=raw.get("EventBusName"))
    wrong = [key for key, value in raw.items() if not isinstance(value, _KEYS.get(key, ()))]
    expect: Json | None = raw.get("expect")
    wrong += [key for key, value in as_dict(expect).items() if not isinstance(value, list)]
    if wrong:
        advice = (
            f"A sample can have: {', '.join(sorted(_KEYS))}. "
            '"expect" is {"Rule": ["Target", …]}, "parameters" is {"Name": "value"}.'
        )
        raise _invalid(f"unknown key, or value of the wrong type: {wrong[0]!r}", where, advice)
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


def _parse(text: str, where: str, problem: str) -> Any:
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except ValueError as error:
        is_more = str(error).startswith("Extra data")
        advice = "To trace one event per line: --ndjson (make: ARGS=--ndjson)." if is_more else ""
        raise _invalid(f"{problem}: {error}", where, advice) from None
    except RecursionError:
        raise _invalid(f"{problem}: nested too deeply", where) from None


def complete(sample: Sample, flow: Flow, region: str, account: str) -> Json:
    """Return the event as a rule sees it.

    Entries converted, the envelope filled, ``${…}`` resolved.

    Raises ToolError (EVENT_INVALID) for an entry whose Detail is not an object or nested too
    deeply.
    """
    event = dict(sample.event)
    if "Source" in event:
        event = {name: event[key] for key, name in _ENTRY.items() if key in event}
    if isinstance(event.get("detail"), str):
        event["detail"] = _parse(event["detail"], sample.where, "Detail is not valid JSON")
    if not isinstance(event.get("detail", {}), dict):
        raise _invalid("Detail is not a JSON object (MalformedDetail)", sample.where)
    # A record of a stream, which a pipe reads, has no envelope.
    defaults = {} if event.get("eventSource") == STREAM else envelope(region, account)
    try:
        text = json.dumps(defaults | event, ensure_ascii=False)
    except RecursionError:
        raise _invalid("nested too deeply", sample.where) from None
    stacks = [one for one in flow.stacks if sample.names and one.region == region]
    texts = [str(stack.resolve({"Fn::Sub": text})) for stack in stacks] or [text]
    # The text of a stack that has all names.
    completed: Json = json.loads(next((one for one in texts if "?⟩" not in one), texts[0]))
    return completed


def deviations(arrivals: list[Arrival], expect: Mapping[str, list[str]] | None) -> list[str]:
    """Return how the route of an event differs from what its sample expects, if it expects any."""
    if expect is None:
        return []
    reached: dict[str, set[str]] = {}
    for route, delivery in (step for arrival in arrivals for step in arrival.walk()):
        if route.matched:
            names = reached.setdefault(route.rule.label, set())
            if delivery and delivery.fate is Fate.DELIVERED:
                names |= {delivery.target.id, delivery.label}
    lines = [f"{rule} matches unexpectedly" for rule in reached if rule not in expect]
    lines += [f"{rule} does not match" for rule in expect if rule not in reached]
    return lines + [
        f"{rule} does not deliver to {target}"
        for rule, targets in expect.items()
        for target in targets
        if rule in reached and target not in reached[rule]
    ]
