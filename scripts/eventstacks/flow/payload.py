"""Build what a target receives.

The event, or what Input, InputPath or InputTransformer makes of it.

Source: EventBridge User Guide, 'Input transformation'. On quotes it says: EventBridge adds them to
strings where a JSON value is expected, escapes no value, and objects inside a string lose theirs.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventstacks.flow.graph import Rule
from eventstacks.flow.symbols import SYMBOL, as_dict
from eventstacks.flow.targets import Form, Reason, Target, Verdict, kind_of

RESERVED = (
    "aws.events.rule-arn",
    "aws.events.rule-name",
    "aws.events.event.ingestion-time",
    "aws.events.event",
    "aws.events.event.json",
)
ENTRY_LIMITS = {"Source": 256, "DetailType": 128, "Detail": 1024 * 1024}  # characters
SYMBOL_SUBSTITUTES = ("x", "0", '"x"', "{}")  # what a symbol in JSON text can stand for
_VARIABLE = re.compile(r"<([^<>]+)>")
_STRING_OR_VARIABLE = re.compile(r'"(?:[^"\\]|\\.)*"|<([^<>]+)>')
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\*)\]|\['([^']*)'\]")


@dataclass(frozen=True)
class Payload:
    """The text that a target receives.

    ``refusal``: why the target or PutTargets does not take it. ``missing``: paths to which the
    event has nothing, or null: what is written for them is a guess.
    """

    text: str
    refusal: Verdict | None = None
    missing: tuple[str, ...] = ()


def build(
    rule: Rule, target: Target, event: Mapping[str, Any], ingestion_time: str | None = None
) -> Payload:
    """Return what ``target`` of ``rule`` receives for an event that matched.

    ``ingestion_time``: when EventBridge received the event (ISO 8601); before it is sent that is
    not known, and the variable stays as ``<aws.events.event.ingestion-time>``.
    """
    settings = target.settings
    if refusal := refusal_of(target):
        return Payload("", refusal)
    transformer = as_dict(settings.get("InputTransformer")) or settings
    if "InputTemplate" in transformer:
        template = str(transformer["InputTemplate"])
        values = _predefined(rule, target, event, ingestion_time)
        variables = [one for one in _VARIABLE.findall(template) if one not in values]
        # Other variables of a pipe are paths themselves.
        paths = as_dict(transformer.get("InputPathsMap")) or {name: name for name in variables}
        values |= {name: find(str(paths[name]), event) for name in variables}
        missing = tuple(str(paths[name]) for name in variables if values[name] is None)
        text = _fill(template, values)
        is_taken = kind_of(target.arn).form is Form.ANY or _can_be_json(text)
        problem = "the target takes JSON, and the filled InputTemplate is not valid JSON"
        return Payload(text, None if is_taken else Verdict(Reason.PAYLOAD, problem), missing)
    if "Input" in settings:
        given = settings["Input"]
        return Payload(given if isinstance(given, str) else compact(given))
    if "InputPath" in settings:
        path = str(settings["InputPath"])
        value = find(path, event)
        return Payload(compact(value), missing=(path,) if value is None else ())
    return Payload(compact(event))


def _predefined(
    rule: Rule, target: Target, event: Mapping[str, Any], time: str | None
) -> dict[str, Any]:
    """Return the variables that EventBridge defines itself; enrichments are not looked into."""
    if rule.sender:
        return {
            "aws.pipes.pipe-arn": rule.arn,
            "aws.pipes.pipe-name": rule.name,
            "aws.pipes.source-arn": rule.bus,
            "aws.pipes.target-arn": target.arn,
            "aws.pipes.event.ingestion-time": time or "<aws.pipes.event.ingestion-time>",
            "aws.pipes.event": dict(event),
            "aws.pipes.event.json": dict(event),
        }
    rest = {key: value for key, value in event.items() if key != "detail"}
    time = time or f"<{RESERVED[2]}>"
    return dict(zip(RESERVED, (rule.arn, rule.name, time, rest, dict(event)), strict=True))


def event_of(pipe: Rule, target: Target, record: Mapping[str, Any], detail: Any) -> dict[str, Any]:
    """Return the event that a pipe puts on a bus for a record of its source.

    What a pipe without Source and DetailType writes is a guess. A path that is not in the record
    gives none, which PutEvents refuses.
    """
    given = as_dict(target.settings.get("EventBridgeEventBusParameters"))
    texts = (
        str(given.get("Source") or f"Pipe {pipe.name}"),
        str(given.get("DetailType") or f"Event from {record.get('eventSource')}"),
    )
    source, kind = (
        _fill(f"<{one}>", {one: find(one, record)}) if one.startswith("$") else one for one in texts
    )
    _, _, _, region, account, *_ = pipe.arn.split(":")
    return envelope(region, account) | {
        "source": source,
        "detail-type": kind,
        "detail": detail,
    }


def refusal_of_entry(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the error code and message with which PutEvents refuses an entry, or None."""
    for key, limit in ENTRY_LIMITS.items():
        if not 0 < len(entry.get(key) or "") <= limit:
            text = f"Parameter {key} is not valid. Reason: it must have 1 to {limit} characters."
            return "InvalidArgument", text
    if entry["Source"].startswith("aws."):
        return "NotAuthorizedForSourceException", "Not authorized for the source."
    if is_json(entry["Detail"]) and entry["Detail"].lstrip().startswith("{"):
        return None
    return "MalformedDetail", "Detail is malformed."


def envelope(region: str, account: str) -> dict[str, Any]:
    """Return an event with what EventBridge fills in, made up as far as that is not known."""
    return {
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


def refusal_of(target: Target) -> Verdict | None:
    """Return what is wrong with the input of a target whatever the event is; None if nothing is.

    Each variable of an InputTemplate is tried as a string, each symbol as what it can stand for.
    """
    given = target.settings.get("Input")
    transformer = as_dict(target.settings.get("InputTransformer"))
    form = kind_of(target.arn).form
    if isinstance(given, str) and not _can_be_json(given):
        return Verdict(Reason.REFUSED_INPUT, "Input is not valid JSON")
    if transformer and form is Form.EVENT:
        return Verdict(Reason.REFUSED_INPUT, "an event bus does not support InputTransformer")
    template, paths = transformer.get("InputTemplate"), transformer.get("InputPathsMap", {})
    if not isinstance(template, str) or not isinstance(paths, dict):
        return None
    values = dict.fromkeys((*paths, *RESERVED), "x")
    if undefined := [name for name in _VARIABLE.findall(template) if name not in values]:
        text = f"InputPathsMap does not define <{undefined[0]}> of InputTemplate"
        return Verdict(Reason.REFUSED_INPUT, text)
    problems = [_problem_of(text, form) for text in substituted(_fill(template, values))]
    return problems[0] if all(problems) else None


def _problem_of(text: str, form: Form) -> Verdict | None:
    """Return what is wrong with a filled InputTemplate."""
    is_valid = is_json(text)
    keys = as_dict(json.loads(text)).keys() if is_valid else set()
    checks = (
        (
            not is_valid and text.lstrip().startswith(("{", "[")),
            Reason.REFUSED_INPUT,
            "InputTemplate is not valid JSON once its variables are filled",
        ),
        (
            form is Form.LOG_EVENT and not keys >= {"timestamp", "message"},
            Reason.REFUSED_INPUT,
            'a log group takes {"timestamp": …, "message": …} only',
        ),
        (
            form is not Form.ANY and not is_valid,
            Reason.PAYLOAD,
            "the target takes JSON, and the InputTemplate makes text",
        ),
    )
    return next((Verdict(code, problem) for is_so, code, problem in checks if is_so), None)


def _fill(template: str, values: Mapping[str, Any]) -> str:
    """Replace the variables of an InputTemplate, which are all among ``values``."""

    def in_string(match: re.Match[str]) -> str:
        value = values[match[1]]
        if value is None or isinstance(value, str):
            return value or ""
        return compact(value).replace('"', "")  # of an object or a list

    def in_json(match: re.Match[str]) -> str:
        if match[0].startswith('"'):
            return _VARIABLE.sub(in_string, match[0])
        value = values[match[1]]
        if isinstance(value, str):
            return f'"{value}"'
        return '""' if value is None else compact(value)  # the guide: a missing variable is empty

    if '"' not in template and "{" not in template:
        return _VARIABLE.sub(in_string, template)
    return _STRING_OR_VARIABLE.sub(in_json, template)


def find(path: str, event: Any) -> Any:
    """Return the value at a JSON path; a list for a path with wildcards; None if there is none."""
    values, has_wildcard, rest = [event], False, path.strip().removeprefix("$")
    for step in _STEP.finditer(rest):
        name, index = step[1] or step[3], step[2]
        has_wildcard = has_wildcard or "*" in {name, index}
        values = [inner for value in values for inner in _enter(value, name, index)]
    if has_wildcard:
        return values
    return values[0] if values else None


def _enter(value: Any, name: str | None, index: str | None) -> list[Any]:
    if "*" in {name, index}:
        entries = value.values() if isinstance(value, dict) else value
        return list(entries) if isinstance(value, dict | list) else []
    if index is not None:
        return value[int(index) : int(index) + 1] if isinstance(value, list) else []
    return [value[name]] if isinstance(value, dict) and name in value else []


def is_json(text: str) -> bool:
    """Return True if a text is one JSON value."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def substituted(text: str) -> list[str]:
    """Return a text with each symbol replaced by what it can stand for, in several ways."""
    return list(dict.fromkeys(SYMBOL.sub(one, text) for one in SYMBOL_SUBSTITUTES))


def _can_be_json(text: str) -> bool:
    return any(map(is_json, substituted(text)))


def compact(value: Any) -> str:
    """Return JSON without white space, as events are delivered."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
