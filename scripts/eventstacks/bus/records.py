"""Reading without end: NDJSON, JSON arrays or pretty-printed JSON documents, in constant memory."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from io import RawIOBase

CHUNK = 64 * 1024
RECORD_LIMIT = (
    8 * 1024 * 1024
)  # bytes: more than an entry of 1 MB takes even when each of its bytes is escaped
BOM = b"\xef\xbb\xbf"
TOKENS = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\][{},]', re.DOTALL
)  # a whole string, the begin of one, or a mark

RESUME = "What stands before that was sent; --resume sends the rest when the input is mended."


class RecordsError(ToolError):
    """An input that cannot be split any further; the records before that place are not touched by it."""


@dataclass(slots=True)
class Chunk:
    """Some records that stand one after the other; ``first`` is the number of the first one, counted from 0."""

    first: int
    records: list[bytes]


def read(sources: Iterable[RawIOBase]) -> Iterator[Chunk]:
    """The records of all sources (unbuffered files), numbered through; a byte order mark and empty lines are none.

    A chunk leaves as soon as it was read, however few records it holds. Raises RecordsError after the last record
    that could be told apart: an array that does not end, an element of more than RECORD_LIMIT bytes. A longer line
    is cut there: what is cut is no JSON, so it ends among the rejected.
    """
    number = 0
    for source in sources:
        try:
            for records in _of_source(source):
                if records:
                    yield Chunk(number, records)
                    number += len(records)
        except RecordsError as error:
            name = getattr(source, "name", "")
            error.where = name if isinstance(name, str) else "stdin"
            raise


def _more(source: RawIOBase, size: int = CHUNK) -> bytes:
    while (data := source.read(size)) is None:  # nothing yet
        time.sleep(0.01)
    return data


def _of_source(source: RawIOBase) -> Iterator[list[bytes]]:
    rest = b""
    while rest := _head(rest, source):
        if rest[:1] == b"[":
            rest = yield from _elements(rest[1:], source, in_array=True)
        elif re.match(
            rb"\{[ \t]*\r?\n", rest
        ):  # never a line of NDJSON: a brace alone on its line opens a document
            rest = yield from _elements(rest, source, in_array=False)
        else:
            yield from _lines(rest, source)
            return


def _head(head: bytes, source: RawIOBase) -> bytes:
    """Reads until it can be told what the input is: the second character that is not white space."""
    while True:
        if not BOM.startswith(head):
            head = head.removeprefix(BOM).lstrip()
            if head[1:].strip(b" \t\r\n") or len(head) > CHUNK or (head and head[:1] not in b"{["):
                return head
        if not (data := _more(source)):
            return head.removeprefix(BOM).lstrip()
        head += data


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
            data = _more(source, max(CHUNK, len(rest)))
            rest += data
    if rest.strip():
        yield [rest.strip()]


def _elements(  # noqa: C901, PLR0912 - one loop over the marks of JSON
    data: bytes, source: RawIOBase, *, in_array: bool
) -> Generator[list[bytes], None, bytes]:
    """Splits by brackets and, in an array, by the commas between elements; whether each is JSON is asked later.

    Where an element is missing is an empty one: no JSON, so that it ends among the rejected.
    Gives back what was read beyond the array's end.
    """
    level = begin = at = 0
    is_first = is_closed = True
    while True:
        found: list[bytes] = []
        rest = None
        for token in TOKENS.finditer(data, at):
            mark = token[0]
            if mark == b'"':  # a string that ends beyond what was read
                break
            at = token.end()
            if mark in b"{[":
                level += 1
            elif mark in b"}]":
                level -= 1
                if level < 0 and in_array:
                    last = data[begin : token.start()]
                    if last.strip() or not is_first:
                        found.append(last)
                    rest = data[at:]
                    is_closed = mark == b"]"
                    break
                if level == 0 and not in_array:
                    found.append(data[begin:at])
                    begin = at
            elif mark == b"," and level == 0 and in_array:
                found.append(data[begin : token.start()])
                begin, is_first = at, False
        yield [one.strip() for one in found]
        if rest is not None and not is_closed:
            raise RecordsError("the array ends with }", advice=RESUME)
        if rest is not None:
            return rest
        data, at, begin = data[begin:], at - begin, 0
        if len(data) > RECORD_LIMIT:
            raise RecordsError(f"an element of more than {RECORD_LIMIT:,} bytes", advice=RESUME)
        if not (more := _more(source, max(CHUNK, len(data)))):
            if in_array:  # what the last element is will be known when the input is whole
                raise RecordsError("the array does not end: the input was cut short", advice=RESUME)
            if data.strip():
                yield [data.strip()]
            return b""
        data += more
