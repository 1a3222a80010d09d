"""What goes in: one record of the input becomes one entry of PutEvents, or is refused with a reason.

A record is an entry as PutEvents takes it (``Detail`` may also stand there as an object), an event as it arrives
from a bus (``source``, ``detail-type``, ``detail``), a sample of tests/events, or just a detail. Details are passed on
as the text they came as, so that no number is rounded and no key is reordered.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# PutEvents, API reference and user guide: "total entry size must be less than 1 MB"; 1-10 entries a call.
SIZE_LIMIT = 1024 * 1024
COUNT_LIMIT = 10
DEPTH_LIMIT = 1000
LENGTHS = {
    "DetailType": 128,
    "TraceHeader": 500,
    "EventBusName": 1600,
}  # characters: botocore's model, and the guide
OPTIONS = {
    "Source": " (give it, or --source)",
    "DetailType": " (give it, or --detail-type)",
    "Detail": "",
}
FIELDS = frozenset({*OPTIONS, *LENGTHS, "Time", "Resources"})
EVENT = frozenset(
    {"source", "detail-type", "detail"}
)  # by which an event is known, also inside a sample
NOTE = "Rejected"  # what a line of rejected.ndjson carries beside the entry
RAW = "Raw"  # and what stands there in place of an entry when the record was none
MARKS = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{}]'
)  # a whole string, or a bracket outside of one


class Refusal(Exception):  # noqa: N818 - the domain's word: it is caught at once and becomes a line of rejected.ndjson
    """Why a record is not sent: a code, as PutEvents has them where one fits, and a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.record: bytes | None = (
            None  # the record itself, when it came wrapped in a line of rejected.ndjson
        )


@dataclass(slots=True)
class Entry:
    """One entry, ready for the wire."""

    fields: dict[
        str, Any
    ]  # as PutEvents takes them on the wire: Time is seconds since 1970, Detail is text
    size: int  # bytes, by AWS's rule
    region: str | None = (
        None  # only this region: a line of rejected.ndjson goes back to where it was refused
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Numbers are kept as the bytes they are: nothing is computed with them, they are told apart from text, and Python
# would refuse integers of more than 4,300 digits.
_DECODER = json.JSONDecoder(
    parse_int=str.encode, parse_float=str.encode, parse_constant=_refuse_constant
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def depth(text: str) -> int:
    """How deep objects and arrays are nested in a JSON text; ``{}`` is 1."""
    deepest = level = 0
    for mark in MARKS.finditer(text):
        if mark[0] in "{[":
            level += 1
            deepest = max(deepest, level)
        elif mark[0] in "}]":
            level -= 1
    return deepest


def _check_depth(text: str, limit: int) -> None:
    if text.count("{") + text.count("[") > limit and (found := depth(text)) > limit:
        raise Refusal("MalformedDetail", f"nested {found} deep; the limit is {DEPTH_LIMIT}")


def parse(text: str, code: str = "InvalidJson") -> Any:
    """The value of a JSON text, its numbers as text. Raises Refusal: not JSON, or nested too deep."""
    if text.count("{") + text.count("[") > DEPTH_LIMIT // 2:
        _check_depth(text, DEPTH_LIMIT + 1)  # an entry is one level around its Detail
        sys.setrecursionlimit(
            max(sys.getrecursionlimit(), 4 * DEPTH_LIMIT)
        )  # what AWS takes must not fail here
    try:
        return _DECODER.decode(text)
    except ValueError as error:
        raise Refusal(code, f"not JSON: {error}") from None


def read(
    record: bytes,
    source: str | None = None,
    detail_type: str | None = None,
    trace_header: str | None = None,
) -> Entry:
    """The entry of one record: UTF-8 JSON text. Source, detail type and trace header are for records that lack them.

    Raises Refusal.
    """
    try:
        text = record.decode()
    except UnicodeDecodeError as error:
        raise Refusal("InvalidUtf8", f"not UTF-8: {error.reason} at byte {error.start}") from None
    value = parse(text)
    if not isinstance(value, dict):
        raise Refusal("MalformedDetail", "a record is a JSON object")
    if value.keys() == {RAW, NOTE} and isinstance(value[RAW], str):
        inner = value[RAW].encode("utf-8", "surrogateescape")
        try:
            return read(inner, source, detail_type, trace_header)
        except Refusal as refusal:
            refusal.record = refusal.record or inner
            raise
    if (
        "expect" in value
        and isinstance(value.get("event"), dict)
        and value["event"].keys() >= EVENT
    ):
        return read(_slice(text, "event").encode(), source, detail_type, trace_header)
    region, is_read = None, True
    if (
        isinstance(note := value.get(NOTE), dict)
        and {"Code", "Record"} <= note.keys()
        and value.keys() <= FIELDS | {NOTE}
    ):
        region = value.pop(NOTE).get("Region")
    if value.keys() >= EVENT:
        is_read = isinstance(value["detail"], dict)
        value = {**_from_event(value), "Detail": _slice(text, "detail")}
    elif (
        source and detail_type and not ("Detail" in value and value.keys() <= FIELDS)
    ) or not value.keys() & FIELDS:
        value = {"Detail": text.strip()}  # just a detail
    elif isinstance(value.get("Detail"), dict):
        value["Detail"] = _slice(text, "Detail")
    else:
        is_read = False
    value.setdefault("Source", source)
    value.setdefault("DetailType", detail_type)
    value.setdefault("TraceHeader", trace_header)
    return Entry(*check(value, detail_is_object=is_read), region)


def record_of(event: bytes | str | Mapping[str, Any]) -> bytes:
    """A record of an entry in Python: Detail may be a dict, Time a datetime (whether it has a zone is asked later)."""
    if isinstance(event, bytes):
        return event
    text = event if isinstance(event, str) else json.dumps(dict(event), default=_to_text)
    return text.encode("utf-8", "surrogatepass")


def _to_text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} has no JSON form")


def _from_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as it came from a bus, as an entry; without what EventBridge fills in (id, account, region)."""
    names = {
        "source": "Source",
        "detail-type": "DetailType",
        "resources": "Resources",
        "time": "Time",
    }
    return {name: event[key] for key, name in names.items() if key in event}


def _slice(text: str, name: str) -> str:
    """The value of a key of the outermost object, as it stands in the text; of a key that is there twice, the last."""
    space = re.compile(r"[ \t\r\n]*")
    at = text.index("{") + 1
    found = ""
    while text[at := space.match(text, at).end()] != "}":  # type: ignore[union-attr]  # it matches the empty text
        key, at = _DECODER.raw_decode(text, at)
        at = space.match(text, text.index(":", at) + 1).end()  # type: ignore[union-attr]
        _, end = _DECODER.raw_decode(text, at)
        if key == name:
            found = text[at:end]
        at = space.match(text, end).end()  # type: ignore[union-attr]
        at += text[at] == ","
    return found


def check(  # noqa: C901 - one rule after the other
    fields: dict[str, Any], *, detail_is_object: bool = False
) -> tuple[dict[str, Any], int]:
    """The fields for the wire and the entry's size in bytes. Raises Refusal.

    Size: 14 bytes for Time, and the UTF-8 bytes of Source, DetailType, Detail and of each of Resources.
    Source: EventBridge User Guide, 'Calculating PutEvents event entry size'; API reference, PutEventsRequestEntry.
    """
    if unknown := fields.keys() - FIELDS:
        raise Refusal("InvalidArgument", f"PutEvents knows no {', '.join(sorted(unknown))}")
    fields = {key: value for key, value in fields.items() if value is not None}
    for name, option in OPTIONS.items():
        if not fields.get(name):
            raise Refusal("InvalidArgument", f"{name} is missing{option}")
    for name in ("Source", *LENGTHS):
        if not isinstance(value := fields.get(name, "-"), str) or not value:
            raise Refusal("InvalidArgument", f"{name} is not text")
        if len(value) > (limit := LENGTHS.get(name, SIZE_LIMIT)):
            raise Refusal(
                "InvalidArgument", f"{name} has {len(value)} characters; the limit is {limit}"
            )
    resources = fields.get("Resources", [])
    if not isinstance(resources, list) or not all(isinstance(one, str) for one in resources):
        raise Refusal("InvalidArgument", "Resources is not a list of texts")
    if "Time" in fields:
        fields["Time"] = _seconds(fields["Time"])
    _check_detail(fields["Detail"], is_object=detail_is_object)
    texts = (fields["Source"], fields["DetailType"], fields["Detail"], *resources)
    try:
        to_json([fields.get(name) for name in LENGTHS])  # not counted, but sent
        size = 14 * ("Time" in fields) + sum(len(one.encode()) for one in texts)
    except UnicodeEncodeError:
        raise Refusal("InvalidUtf8", "half a surrogate pair has no UTF-8 form") from None
    if size >= SIZE_LIMIT:
        raise Refusal("EntryTooLarge", f"{size:,} bytes; an entry must be under {SIZE_LIMIT:,}")
    return fields, size


def _check_detail(detail: Any, *, is_object: bool) -> None:
    if not isinstance(detail, str):
        raise Refusal("MalformedDetail", "Detail is neither an object nor the text of one")
    if not is_object and not isinstance(parse(detail, "MalformedDetail"), dict):
        raise Refusal("MalformedDetail", "Detail is not a JSON object")
    _check_depth(detail, DEPTH_LIMIT)


def _seconds(value: Any) -> int:
    """Seconds since 1970 of an ISO 8601 text with a zone, or of such a number."""
    try:
        if not isinstance(value, str):
            return int(float(value))
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError):
        text = value.decode() if isinstance(value, bytes) else value  # a number of the input
        raise Refusal(
            "InvalidArgument", f"Time {text!r} is neither ISO 8601 nor seconds since 1970"
        ) from None
    if moment.tzinfo is None:
        raise Refusal("InvalidArgument", f"Time {value} has no zone; add Z or +02:00")
    return int(moment.timestamp())


def to_json(value: Any) -> bytes:
    """JSON for the wire."""
    return _ENCODER.encode(value).encode()
