"""The input of ``send``: split it into records, and turn those into entries of PutEvents.

A record is an entry as PutEvents takes it (``Detail`` may also be an object), an event as a bus
delivers it (``source``, ``detail-type``, ``detail``), a sample of tests/events, a line of a file of
rejected records, or just a detail. A detail is passed on as the text it is in the record, so that
no number is rounded and no key is reordered.
"""

import codecs
import contextlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from io import RawIOBase
from typing import Any

from eventstacks.errors import ErrorCode, ToolError
from eventstacks.patterns.operators import refuse_constant

READ_SIZE = 64 * 1024
# Bytes. More than an entry of 1 MB takes even if each of its bytes is escaped.
RECORD_LIMIT = 8 * 1024 * 1024
BOM = b"\xef\xbb\xbf"
# PutEvents, API reference and user guide: 1-10 entries a call; "total entry size must be less than
# 1 MB" (256 KB before January 2026).
SIZE_LIMIT, COUNT_LIMIT = 1024 * 1024, 10
# The longest text of a field, in characters. Source: botocore's model of the service, user guide.
LENGTHS = {
    "Source": SIZE_LIMIT,
    "DetailType": 128,
    "Detail": RECORD_LIMIT,
    "TraceHeader": 500,
    "EventBusName": 1600,
}
FIELDS = LENGTHS.keys() | {"Time", "Resources"}
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
_ENTRY = FIELDS | {REJECTED}
_SPACE = re.compile(r"[ \t\r\n]*")
_COMMA_OR_END = re.compile(r"[ \t\r\n]*(,?[ \t\r\n]*\]|,)[ \t\r\n]*")
RESUME = "The records before it were sent. Fix the input, then send the rest with --resume."


# Numbers stay the text they are: nothing is computed with them, and int() refuses 4,300 digits.
DECODER = json.JSONDecoder(
    parse_int=str.encode, parse_float=str.encode, parse_constant=refuse_constant
)


class RecordsError(ToolError):
    """The rest of an input cannot be split into records."""

    default_code = ErrorCode.DOCUMENT_INVALID


class EntryError(Exception):
    """A record that is not sent: code (PutEvents' own where one fits) and message."""


# From the input to records


def read_records(sources: Iterable[RawIOBase]) -> Iterator[list[bytes]]:
    """Yield the records of unbuffered files in lists, as soon as they are read.

    A file is NDJSON, a JSON array, or one JSON document whose first line is a brace alone. A byte
    order mark and empty lines are skipped. Raises RecordsError, after the records before it, for
    invalid JSON in an array, an array that does not end, and a record over RECORD_LIMIT.
    """
    number = 1
    for source in sources:
        try:
            for records in _split(source):
                yield records
                number += len(records)
        except RecordsError as error:
            name = getattr(source, "name", None)
            error.where = f"{name if isinstance(name, str) else 'stdin'}, record {number}"
            raise


def _more(source: RawIOBase, rest: bytes | str = b"") -> bytes:
    """Read some bytes, in growing parts if a record goes on after ``rest``. Raises RecordsError."""
    if len(rest) > RECORD_LIMIT:
        raise RecordsError(f"a record of more than {RECORD_LIMIT:,} bytes", advice=RESUME)
    while (data := source.read(max(READ_SIZE, len(rest)))) is None:  # non-blocking and empty
        time.sleep(0.01)
    return data


def _split(source: RawIOBase) -> Iterator[list[bytes]]:
    head, data = b"", b" "
    # After a brace, the rest of the line decides between a document and NDJSON.
    while data and (BOM.startswith(head) or re.fullmatch(rb"\{[ \t\r]*", head)):
        data = _more(source)
        head = (head + data).removeprefix(BOM).lstrip()
    if head.startswith(b"["):
        yield from _elements(head, source)
    elif re.match(rb"\{[ \t\r]*\n", head):
        while data := _more(source, head):
            head += data
        yield [head.strip()]
    else:
        yield from _lines(head, source)


def _lines(rest: bytes, source: RawIOBase) -> Iterator[list[bytes]]:
    data = rest
    while data:
        *lines, rest = rest.split(b"\n")
        yield [line for one in lines if (line := one.strip())]
        data = _more(source, rest)
        rest += data
    if rest.strip():
        yield [rest.strip()]


def _elements(head: bytes, source: RawIOBase) -> Iterator[list[bytes]]:
    """Yield the elements of an array; ``head`` begins with its bracket."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    text, at = f",{decode(head)[1:]}", 0  # so a comma is before each element
    records: list[bytes] = []
    while not (mark := _COMMA_OR_END.match(text, at)) or mark[1] == ",":
        with contextlib.suppress(ValueError, RecursionError):
            end = DECODER.raw_decode(text, mark.end())[1] if mark else len(text)
            if end < len(text):
                record = text[mark.end() : end]  # type: ignore[union-attr]
                records.append(record.encode("utf-8", "surrogateescape"))
                at = end
                continue
        yield records  # the element goes on in the next read, or is not JSON
        records, text, at = [], text[at:], 0
        if not (data := _more(source, text)):
            raise RecordsError("invalid JSON in the array, or it does not end", advice=RESUME)
        text += decode(data)
    yield records
    rest = text[mark.end() :].encode("utf-8", "surrogateescape")
    while not rest and (data := _more(source)):
        rest = data.strip()
    if rest:
        raise RecordsError("text after the end of the array", advice="Put each array in a file.")


def record_of(event: str | Mapping[str, Any]) -> bytes:
    """Return an event of a Python program as a record. Detail may be a dict, Time a datetime."""
    text = event if isinstance(event, str) else json.dumps(dict(event), default=datetime.isoformat)
    return text.encode("utf-8", "surrogatepass")


# From records to entries


def unwrap(record: bytes) -> bytes:
    """Return the original record of a line of a file of rejected records, else the record."""
    if record.startswith(b'{"Raw":'):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(record)
            if value.keys() == {RAW, REJECTED}:
                return str(value[RAW]).encode("utf-8", "surrogateescape")
    return record


def read_entry(
    record: bytes, source: str | None = None, detail_type: str | None = None
) -> tuple[dict[str, Any], int]:
    """Return the entry of a record, as client.put_events takes it, and its size in bytes.

    ``source`` and ``detail_type`` are defaults for records without them. Raises EntryError.
    """
    try:
        text = record.decode()
    except UnicodeDecodeError as error:
        raise EntryError(
            "InvalidUtf8", f"not UTF-8: {error.reason} at byte {error.start}"
        ) from None
    value = _object_of(text, "the record", "InvalidJson")
    event = value.get("event") if "expect" in value else None
    if isinstance(event, dict) and event.keys() >= _EVENT:  # a sample
        text, value = _text_of(text, "event"), event
    fields: dict[str, Any] = {"Source": source, "DetailType": detail_type}
    is_object, is_entry = True, "Detail" in value and value.keys() <= _ENTRY
    if value.keys() >= _EVENT:
        fields |= {name: value[key] for key, name in EVENT_FIELDS.items() if key in value}
        fields["Detail"], is_object = _text_of(text, "detail"), isinstance(value["detail"], dict)
    elif is_entry or not ((source and detail_type) or FIELDS.isdisjoint(value)):
        fields |= value
        fields.pop(REJECTED, None)
        is_object = isinstance(value.get("Detail"), dict)
        if not isinstance(value.get("Detail"), str):
            fields["Detail"] = _text_of(text, "Detail") or None
    else:
        fields["Detail"] = text.strip()
    fields = {key: value for key, value in fields.items() if value is not None}
    size = _check(fields)
    if not is_object:
        _object_of(fields["Detail"], "Detail", "MalformedDetail")
    return fields, size


def _object_of(text: str, name: str, code: str) -> dict[str, Any]:
    """Return the value of a JSON object, its numbers as bytes. Raises EntryError."""
    try:
        value = DECODER.decode(text)
    except ValueError as error:
        raise EntryError(code, f"invalid JSON: {error}") from None
    except RecursionError:  # Python 3.11 parses some 950 levels, later versions more than AWS
        raise EntryError("MalformedDetail", "nested too deeply: AWS allows 1,000 levels") from None
    if not isinstance(value, dict):
        raise EntryError("MalformedDetail", f"{name} is not a JSON object")
    return value


def _text_of(text: str, name: str) -> str:
    """Return the text of a key's value in a JSON object; of a duplicate key, the last one."""
    at, value = text.index("{") + 1, ""
    while text[at := _SPACE.match(text, at).end()] != "}":  # type: ignore[union-attr]
        key, at = DECODER.raw_decode(text, at)
        start = _SPACE.match(text, text.index(":", at) + 1).end()  # type: ignore[union-attr]
        _, end = DECODER.raw_decode(text, start)
        if key == name:
            value = text[start:end]
        at = _SPACE.match(text, end).end()  # type: ignore[union-attr]
        at += text[at] == ","
    return value


def _check(fields: dict[str, Any]) -> int:
    """Check the fields of an entry, make Time a datetime, and return the entry's size in bytes.

    Size: 14 bytes for Time, and the UTF-8 bytes of Source, DetailType, Detail and each of
    Resources. Raises EntryError. Sources: EventBridge User Guide, 'Calculating PutEvents event
    entry size'; API reference, PutEventsRequestEntry.
    """
    for name, value in fields.items():
        if name in LENGTHS:
            if not isinstance(value, str) or not 0 < len(value) <= LENGTHS[name]:
                raise _invalid(f"{name} must be a string of 1 to {LENGTHS[name]:,} characters")
        elif name == "Time":
            fields["Time"] = _time(value)
        elif name != "Resources":
            raise _invalid(f"PutEvents has no field {name}")
        elif not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise _invalid("Resources must be a list of strings")
    try:
        texts = [fields["Source"], fields["DetailType"], fields["Detail"]]
        size = len("".join(texts + fields.get("Resources", [])).encode()) + 14 * ("Time" in fields)
        (fields.get("TraceHeader", "") + fields.get("EventBusName", "")).encode()
    except KeyError as error:
        raise _invalid(
            f"{error.args[0]} is missing: set it, or use --source and --detail-type"
        ) from None
    except UnicodeEncodeError:
        raise EntryError("InvalidUtf8", "invalid Unicode (lone surrogate)") from None
    if size >= SIZE_LIMIT:
        raise EntryError("EntryTooLarge", f"{size:,} bytes; the limit is {SIZE_LIMIT - 1:,}")
    return size


def _invalid(message: str) -> EntryError:
    return EntryError("InvalidArgument", message)


def _time(value: Any) -> datetime:
    """Return the time of an ISO 8601 string with a time zone, or of seconds since 1970."""
    with contextlib.suppress(TypeError, ValueError, OverflowError, OSError):
        if isinstance(value, bytes):  # a number
            return datetime.fromtimestamp(float(value), UTC)
        if (moment := datetime.fromisoformat(value)).tzinfo:
            return moment.astimezone(UTC)
    raise _invalid("Time must be ISO 8601 with a time zone (Z, +02:00), or seconds since 1970")
