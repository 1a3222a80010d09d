"""Turn records of the input into entries of PutEvents, or reject them with a code.

A record is an entry as PutEvents takes it (``Detail`` may also be an object), an event as a bus
delivers it (``source``, ``detail-type``, ``detail``), a sample of tests/events, a line of a file of
rejected records, or just a detail. A detail is passed on as the text it is in the record, so that
no number is rounded and no key is reordered.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from eventstacks.bus.records import DECODER

if TYPE_CHECKING:
    from collections.abc import Mapping

# PutEvents, API reference and user guide: 1-10 entries a call; "total entry size must be less than
# 1 MB" (256 KB before January 2026).
SIZE_LIMIT = 1024 * 1024
COUNT_LIMIT = 10
FIELDS = frozenset(
    "Source DetailType Detail TraceHeader EventBusName Time Resources".split()  # noqa: SIM905
)
# Fields of the entry, by the fields of an event on a bus. EventBridge sets id, account and region.
EVENT_FIELDS = {
    "source": "Source",
    "detail-type": "DetailType",
    "resources": "Resources",
    "time": "Time",
}
_EVENT = frozenset({"source", "detail-type", "detail"})
# A line of a file of rejected records is an entry with the key REJECTED, or RAW and REJECTED if
# the record was not an entry.
REJECTED, RAW = "Rejected", "Raw"
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_SPACE = re.compile(r"[ \t\r\n]*")


class EntryError(Exception):
    """A record that is not sent: code (PutEvents' own where one fits) and message."""


@dataclass(slots=True)
class Entry:
    """One entry of PutEvents.

    ``body``: JSON, with Time in seconds since 1970 and Detail as a string. ``size``: bytes by AWS's
    rule. ``bus``: the bus that the record names. ``region``: set for rejected entries, which return
    to their Region.
    """

    body: bytes
    size: int
    bus: str | None
    region: str | None = None


def to_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8."""
    return _ENCODER.encode(value).encode()


def record_of(event: bytes | str | Mapping[str, Any]) -> bytes:
    """Return an event of a Python program as a record. Detail may be a dict, Time a datetime."""
    if isinstance(event, bytes):
        return event
    text = event if isinstance(event, str) else json.dumps(dict(event), default=_to_text)
    return text.encode("utf-8", "surrogatepass")


def _to_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} is not JSON serializable")


def read(
    record: bytes,
    source: str | None = None,
    detail_type: str | None = None,
    trace_header: str | None = None,
) -> Entry:
    """Return the entry of a record. The other arguments are defaults for records without them.

    Raises EntryError.
    """
    try:
        text = record.decode()
    except UnicodeDecodeError as error:
        raise EntryError(
            "InvalidUtf8", f"not UTF-8: {error.reason} at byte {error.start}"
        ) from None
    value = _parse(text, "InvalidJson")
    if not isinstance(value, dict):
        raise EntryError("MalformedDetail", "the record is not a JSON object")
    defaults = (source, detail_type, trace_header)
    if (
        "expect" in value
        and isinstance(event := value.get("event"), dict)
        and event.keys() >= _EVENT
    ):
        return read(_text_of(text, "event").encode(), *defaults)
    region, is_object = None, True
    if value.keys() <= FIELDS | {REJECTED} and _is_note(value.get(REJECTED)):
        region = value.pop(REJECTED).get("Region")
    if value.keys() >= _EVENT:
        is_object = isinstance(value["detail"], dict)
        fields = {name: value[key] for key, name in EVENT_FIELDS.items() if key in value}
        value = {**fields, "Detail": _text_of(text, "detail")}
    elif _is_detail(value, named=bool(source and detail_type)):
        value = {"Detail": text.strip()}
    elif isinstance(value.get("Detail"), dict):
        value["Detail"] = _text_of(text, "Detail")
    else:
        is_object = False
    for name, default in zip(("Source", "DetailType", "TraceHeader"), defaults, strict=True):
        value.setdefault(name, default)
    return _check(value, region, is_object=is_object)


def unwrap(record: bytes) -> bytes:
    """Return the original record of a line of a file of rejected records, else the record."""
    if record.startswith(b'{"Raw":'):
        try:
            value = json.loads(record)
            if value.keys() == {RAW, REJECTED}:
                return str(value[RAW]).encode("utf-8", "surrogateescape")
        except (ValueError, RecursionError):
            return record
    return record


def _is_note(value: Any) -> bool:
    return isinstance(value, dict) and {"Code", "Record"} <= value.keys()


def _is_detail(value: dict[str, Any], *, named: bool) -> bool:
    """Return True if the record is only a detail; ``named``: source and detail type are given."""
    is_entry = "Detail" in value and value.keys() <= FIELDS
    return (named and not is_entry) or not value.keys() & FIELDS


def _parse(text: str, code: str) -> Any:
    """Return the value of a JSON text, its numbers as bytes. Raises EntryError."""
    try:
        return DECODER.decode(text)
    except ValueError as error:
        raise EntryError(code, f"invalid JSON: {error}") from None
    except RecursionError:  # Python 3.11 parses some 950 levels, later versions more than AWS
        raise EntryError("MalformedDetail", "nested too deeply: AWS allows 1,000 levels") from None


def _text_of(text: str, name: str) -> str:
    """Return the text of a key's value in a JSON object; of a duplicate key, the last one."""
    at, value = text.index("{") + 1, ""
    while text[at := _SPACE.match(text, at).end()] != "}":  # type: ignore[union-attr]  # it matches ""
        key, at = DECODER.raw_decode(text, at)
        start = _SPACE.match(text, text.index(":", at) + 1).end()  # type: ignore[union-attr]
        _, end = DECODER.raw_decode(text, start)
        if key == name:
            value = text[start:end]
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        at += text[at] == ","
    return value


def _check(fields: dict[str, Any], region: str | None, *, is_object: bool) -> Entry:
    """Return the entry of checked fields. Raises EntryError.

    Size: 14 bytes for Time, and the UTF-8 bytes of Source, DetailType, Detail and each of Resources.
    Source: EventBridge User Guide, 'Calculating PutEvents event entry size'; API reference,
    PutEventsRequestEntry.
    """
    if unknown := fields.keys() - FIELDS:
        raise _invalid(f"PutEvents has no field {', '.join(sorted(unknown))}")
    fields = {key: value for key, value in fields.items() if value is not None}
    try:
        _check_names(*map(fields.get, ("Source", "DetailType", "TraceHeader", "EventBusName")))
    except TypeError:  # not hashable
        raise _invalid("Source, DetailType, TraceHeader and EventBusName must be strings") from None
    resources, detail = fields.get("Resources", []), fields.get("Detail")
    if not isinstance(resources, list) or not all(isinstance(one, str) for one in resources):
        raise _invalid("Resources must be a list of strings")
    if "Time" in fields:
        fields["Time"] = _seconds(fields["Time"])
    if not detail:
        raise _invalid("Detail is missing")
    if not isinstance(detail, str) or not (
        is_object or isinstance(_parse(detail, "MalformedDetail"), dict)
    ):
        raise EntryError("MalformedDetail", "Detail must be a JSON object, or the text of one")
    try:
        body = to_json(fields)
    except UnicodeEncodeError:
        raise EntryError("InvalidUtf8", "invalid Unicode (lone surrogate)") from None
    size = 14 * ("Time" in fields) + sum(
        len(one) if one.isascii() else len(one.encode())
        for one in (fields["Source"], fields["DetailType"], detail, *resources)
    )
    if size >= SIZE_LIMIT:
        raise EntryError("EntryTooLarge", f"{size:,} bytes; the limit is {SIZE_LIMIT - 1:,}")
    return Entry(body, size, fields.get("EventBusName"), region)


@functools.lru_cache(maxsize=1024)
def _check_names(source: Any, detail_type: Any, trace_header: Any, bus: Any) -> None:
    """Raise EntryError for what is not a string, empty, too long, or missing.

    Limits in characters. Source: botocore's model of the service, and the user guide.
    """
    for name, value, limit, advice in (
        ("Source", source, SIZE_LIMIT, " (set it, or use --source)"),
        ("DetailType", detail_type, 128, " (set it, or use --detail-type)"),
        ("TraceHeader", trace_header or "-", 500, ""),
        ("EventBusName", "-" if bus is None else bus, 1600, ""),
    ):
        if not value:
            raise _invalid(f"{name} is missing{advice}")
        if not isinstance(value, str):
            raise _invalid(f"{name} must be a string")
        if len(value) > limit:
            raise _invalid(f"{name} has {len(value)} characters; the limit is {limit}")


def _invalid(message: str) -> EntryError:
    return EntryError("InvalidArgument", message)


def _seconds(value: Any) -> int:
    """Return seconds since 1970 of an ISO 8601 string with a time zone, or of a number."""
    text = value.decode() if isinstance(value, bytes) else value
    try:
        if not isinstance(value, str):
            return int(float(text))
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError):
        raise _invalid(f"invalid Time {text!r}: use ISO 8601 or seconds since 1970") from None
    if moment.tzinfo is None:
        raise _invalid(f"Time {value} has no time zone (add Z or +02:00)")
    return int(moment.timestamp())
