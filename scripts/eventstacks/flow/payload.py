"""What exactly a target receives: the event, or what Input, InputPath or InputTransformer makes of it.

Source: EventBridge User Guide, 'Input transformation'. Its words on quotes: EventBridge adds them around text where a
JSON value is wanted, never escapes a value, and objects inside text lose theirs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.flow.resolve import SYMBOL, as_dict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstacks.flow.graph import Rule, Target

RESERVED = (
    "aws.events.rule-arn",
    "aws.events.rule-name",
    "aws.events.event.ingestion-time",
    "aws.events.event",
    "aws.events.event.json",
)
_PLACEHOLDER = re.compile(r"<([^<>]+)>")
_TEXT_OR_PLACEHOLDER = re.compile(r'"(?:[^"\\]|\\.)*"|<([^<>]+)>')
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\*)\]|\['([^']*)'\]")
_NEEDS_JSON = ("lambda", "states", "logs", "events")


@dataclass(frozen=True)
class Payload:
    """The text that arrives; ``problem`` says why the target cannot take it."""

    text: str
    problem: str = ""


def build(
    rule: Rule, target: Target, event: Mapping[str, Any], ingestion_time: str | None = None
) -> Payload:
    """What ``target`` of ``rule`` receives for an event that matched.

    ``ingestion_time``: when EventBridge received the event (ISO 8601); what nobody knows before it is sent stays the
    text ``<aws.events.event.ingestion-time>``.
    """
    settings = target.settings
    if transformer := as_dict(settings.get("InputTransformer")):
        if target.is_bus:
            return Payload("", "an event bus takes no InputTransformer: PutTargets refuses it")
        envelope = {key: value for key, value in event.items() if key != "detail"}
        reserved = (
            rule.arn,
            rule.name,
            ingestion_time or f"<{RESERVED[2]}>",
            envelope,
            dict(event),
        )
        made = _transform(transformer, event, dict(zip(RESERVED, reserved, strict=True)))
        return made if made.problem else Payload(made.text, _refusal(target, made.text))
    if "Input" in settings:
        text = (
            settings["Input"] if isinstance(settings["Input"], str) else compact(settings["Input"])
        )
        return Payload(
            text, "" if is_json(_filled(text)) else "Input is not JSON: PutTargets refuses it"
        )
    if "InputPath" in settings:
        # A path that leads nowhere gives null: a guess.
        return Payload(compact(find(str(settings["InputPath"]), event)))
    return Payload(compact(event))


def _transform(
    transformer: Mapping[str, Any], event: Mapping[str, Any], given: Mapping[str, Any]
) -> Payload:
    """An InputTransformer's text; ``given`` are the reserved variables, which no path can redefine."""
    template = str(transformer.get("InputTemplate", ""))
    values = {
        name: find(str(path), event)
        for name, path in as_dict(transformer.get("InputPathsMap")).items()
    }
    values |= given
    if unknown := [name for name in _PLACEHOLDER.findall(template) if name not in values]:
        said = f"InputTemplate names <{unknown[0]}>, which InputPathsMap does not define"
        return Payload("", f"{said}: PutTargets refuses it")

    def in_text(found: re.Match[str]) -> str:
        value = values[found[1]]
        if isinstance(value, dict | list):
            return compact(value).replace('"', "")
        return value if isinstance(value, str) else "" if value is None else compact(value)

    def in_json(found: re.Match[str]) -> str:
        if found[0].startswith('"'):
            return _PLACEHOLDER.sub(in_text, found[0])
        value = values[found[1]]
        if isinstance(value, str):
            return f'"{value}"'
        return (
            '""' if value is None else compact(value)
        )  # the guide: a variable that is not there leaves nothing

    if '"' not in template and "{" not in template:
        return Payload(_PLACEHOLDER.sub(in_text, template))
    return Payload(_TEXT_OR_PLACEHOLDER.sub(in_json, template))


def find(path: str, event: Any) -> Any:
    """The value at a JSON path; a list for one with wildcards; None where there is none."""
    values, several, rest = [event], False, path.strip().removeprefix("$")
    for step in _STEP.finditer(rest):
        name, index = step[1] or step[3], step[2]
        several = several or "*" in (name, index)
        values = [inner for value in values for inner in _enter(value, name, index)]
    return values if several else values[0] if values else None


def _enter(value: Any, name: str | None, index: str | None) -> list[Any]:
    if "*" in (name, index):
        return (
            list(value.values())
            if isinstance(value, dict)
            else value
            if isinstance(value, list)
            else []
        )
    if index is not None:
        return value[int(index) : int(index) + 1] if isinstance(value, list) else []
    return [value[name]] if isinstance(value, dict) and name in value else []


def _refusal(target: Target, text: str) -> str:
    text = _filled(text)
    if target.service in _NEEDS_JSON and not is_json(text):
        return f"what the InputTransformer makes is not JSON, and a target of {target.service} needs JSON"
    if target.service == "logs":
        made = json.loads(text)
        if not isinstance(made, dict) or {"timestamp", "message"} - made.keys():
            return 'a log group needs {"timestamp": …, "message": …} from the InputTransformer'
    return ""


def is_json(text: str) -> bool:
    """Whether a text is one JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _filled(text: str) -> str:
    """A text with a number for each symbol: that is JSON inside quotes and without."""
    return SYMBOL.sub("0", text)


def compact(value: Any) -> str:
    """JSON without white space, as events are delivered."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
