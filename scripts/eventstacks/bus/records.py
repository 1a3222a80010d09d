"""Split an input into records: NDJSON, JSON arrays or concatenated JSON documents, in constant memory."""

from __future__ import annotations

import codecs
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from io import RawIOBase

READ_SIZE = 64 * 1024
# Bytes. More than an entry of 1 MB takes even if each of its bytes is escaped.
RECORD_LIMIT = 8 * 1024 * 1024
BOM = b"\xef\xbb\xbf"
RESUME = "The records before it were sent. Fix the input, then send the rest with --resume."
_SPACE = re.compile(r"[ \t\r\n]*")
# A brace alone on the first line opens a pretty-printed document; it is never a line of NDJSON.
_DOCUMENT = re.compile(rb"\[|\{[ \t]*\r?\n")
_UNDECIDED = re.compile(rb"\s*(\S?|\{[ \t\r]*)")
# An error this close to the end of the text (characters) can be a token that was cut by the read.
_LONGEST_TOKEN = 16


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Numbers stay the text they are: nothing is computed with them, and int() refuses 4,300 digits.
DECODER = json.JSONDecoder(
    parse_int=str.encode, parse_float=str.encode, parse_constant=_refuse_constant
)


class RecordsError(ToolError):
    """The rest of an input cannot be split into records."""

    default_code = ErrorCode.DOCUMENT_INVALID


@dataclass(slots=True)
class Chunk:
    """Consecutive records; ``first`` is the number of the first one, counted from 0."""

    first: int
    records: list[bytes]


def read(sources: Iterable[RawIOBase]) -> Iterator[Chunk]:
    """Yield the records of unbuffered files, numbered across files, as soon as they are read.

    A byte order mark and empty lines are skipped. A line of more than RECORD_LIMIT bytes is cut
    there: it is then invalid JSON and is rejected. Raises RecordsError, after the records before
    it, for invalid JSON in an array or document, one that does not end, or one over RECORD_LIMIT.
    """
    number = 0
    for source in sources:
        try:
            for records in _split(source):
                if records:
                    yield Chunk(number, records)
                    number += len(records)
        except RecordsError as error:
            name = getattr(source, "name", "")
            error.where = f"{name if isinstance(name, str) else 'stdin'}, record {number + 1}"
            raise


def _more(source: RawIOBase, size: int = READ_SIZE) -> bytes:
    while (data := source.read(size)) is None:  # non-blocking and empty
        time.sleep(0.01)
    return data


def _split(source: RawIOBase) -> Iterator[list[bytes]]:
    head, data = b"", b" "
    # The second character, and after a brace the line end, decides between a document and NDJSON.
    while data and (BOM.startswith(head) or _UNDECIDED.fullmatch(head.removeprefix(BOM))):
        data = _more(source)
        head = (head + data).lstrip()
    head = head.removeprefix(BOM).lstrip()
    if not _DOCUMENT.match(head):
        yield from _lines(head, source)
        return
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode

    def more(size: int) -> str:
        text = ""
        while not text and (data := _more(source, size)):  # part of a character is not text yet
            text = decode(data)
        return text

    for values in _values(decode(head), more):
        yield [value.encode("utf-8", "surrogateescape") for value in values]


def _lines(data: bytes, source: RawIOBase) -> Iterator[list[bytes]]:
    rest = data
    while data:
        *lines, rest = rest.split(b"\n")
        yield [line for one in lines if (line := one.strip())]
        if len(rest) > RECORD_LIMIT:
            yield [rest[:RECORD_LIMIT]]
            while (data := _more(source)) and b"\n" not in data:
                pass
            rest = data.partition(b"\n")[2]
        else:
            data = _more(source, max(READ_SIZE, len(rest)))
            rest += data
    if rest.strip():
        yield [rest.strip()]


def _values(text: str, more: Callable[[int], str]) -> Iterator[list[str]]:
    """Yield the texts of JSON values: elements of arrays, and documents outside of arrays."""
    at, in_array, needs_comma, is_first = 0, False, False, True
    values: list[str] = []
    problem = ""
    while not problem:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches ""
        mark, end = text[at : at + 1], at
        if not in_array and mark == "[":
            in_array, needs_comma, is_first, at = True, False, True, at + 1
        elif in_array and mark == "]" and (needs_comma or is_first):
            in_array, at = False, at + 1
        elif in_array and needs_comma and mark:
            needs_comma, at = False, at + 1
            problem = "" if mark == "," else "expected , or ] in the array"
        elif mark and (end := _end_of_value(text, at)) > at:
            values.append(text[at:end])
            at, needs_comma, is_first = end, True, False
        elif end < 0:
            problem = "invalid JSON, or nested too deeply"
        elif len(text) - at > RECORD_LIMIT:
            problem = f"a record of more than {RECORD_LIMIT:,} bytes"
        else:  # the value goes on in the next read
            yield values
            values = []
            if data := more(max(READ_SIZE, len(text) - at)):
                text, at = text[at:] + data, 0
            elif in_array or mark:
                problem = "the array or document does not end"
            else:
                return
    yield values
    raise RecordsError(problem, advice=RESUME)


def _end_of_value(text: str, at: int) -> int:
    """Return the end of the JSON value at ``at``; ``at`` if it may go on, -1 if it is not JSON."""
    try:
        end = int(DECODER.raw_decode(text, at)[1])
    except json.JSONDecodeError as error:
        is_cut = error.msg.startswith("Unterminated") or error.pos > len(text) - _LONGEST_TOKEN
        return at if is_cut else -1
    except (ValueError, RecursionError):
        return -1
    return end if end < len(text) or text[end - 1] in '}]"' else at
