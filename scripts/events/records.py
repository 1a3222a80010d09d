"""Reading without end: NDJSON, a JSON array or JSON documents one after the other, in constant memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNK = 64 * 1024
RECORD_LIMIT = 16 * 1024 * 1024  # bytes: more than 1 MB of detail can take when each byte is escaped twice
BOM = b"\xef\xbb\xbf"
TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["][^\0]*|[][{},]', re.DOTALL)


class Source(Protocol):
    """A file opened for bytes without a buffer; ``read`` gives what is there, ``b""`` at the end."""

    def read(self, size: int, /) -> bytes | None:
        """Up to ``size`` bytes."""


@dataclass(slots=True)
class Chunk:
    """Some records that stand one after the other; ``first`` is the number of the first one, counted from 0."""

    first: int
    records: list[bytes]


def read(sources: Iterable[Source]) -> Iterator[Chunk]:
    """The records of all sources, numbered through; empty lines are none.

    A record of more than RECORD_LIMIT bytes is cut there; what is cut never parses, so it ends among the rejected.
    """
    number = 0
    for source in sources:
        for records in _of_source(source):
            if records:
                yield Chunk(number, records)
                number += len(records)


def _of_source(source: Source) -> Iterator[list[bytes]]:
    head = b""
    while data := source.read(CHUNK):
        head += data
        begin = head.removeprefix(BOM).lstrip()
        # A pretty-printed document opens with a brace alone on its line; that is never a line of NDJSON.
        if (
            len(head) >= len(BOM)
            and len(begin) > 1
            and (begin[:1] != b"{" or begin[1:].strip(b" \t\r") or len(begin) > CHUNK)
        ):
            break
    begin = head.removeprefix(BOM).lstrip()
    if begin[:1] == b"[":
        yield from _elements(begin[1:], source, in_array=True)
    elif re.match(rb"\{[ \t]*\r?\n", begin):
        yield from _elements(begin, source, in_array=False)
    else:
        yield from _lines(begin, source)


def _lines(data: bytes, source: Source) -> Iterator[list[bytes]]:
    rest = data
    while data:
        *lines, rest = rest.split(b"\n")
        yield [line for one in lines if (line := one.strip())]
        if len(rest) > RECORD_LIMIT:
            yield [rest[:RECORD_LIMIT]]
            while (data := source.read(CHUNK) or b"") and b"\n" not in data:
                pass
            rest = data.partition(b"\n")[2]
        else:
            data = source.read(max(CHUNK, len(rest))) or b""
            rest += data
    yield [rest.strip()] if rest.strip() else []


def _elements(data: bytes, source: Source, *, in_array: bool) -> Iterator[list[bytes]]:
    """Splits by brackets and, in an array, by the commas between elements; whether each is JSON is asked later."""
    level, begin, at, ended = 0, 0, 0, False
    while True:
        found: list[bytes] = []
        for token in TOKENS.finditer(data, at):
            mark = token[0]
            if mark[0] == 0x22:
                if len(mark) == 1 or not TOKENS.fullmatch(mark) or mark[-1] != 0x22:
                    at = token.start()
                    break
            elif mark in b"{[":
                level += 1
            elif mark in b"}]":
                level -= 1
                if in_array and level < 0:
                    found.append(data[begin : token.start()])
                    begin, level, in_array, ended = token.end(), 0, False, True
                elif level == 0 and not in_array and not ended:
                    found.append(data[begin : token.end()])
                    begin = token.end()
            elif mark == b"," and level == 0 and in_array:
                found.append(data[begin : token.start()])
                begin = token.end()
            at = token.end()
        yield [record for one in found if (record := one.strip())]
        data, at, begin = data[begin:], at - begin, 0
        more = source.read(max(CHUNK, len(data))) or b""
        if not more or len(data) > RECORD_LIMIT:
            yield [data.strip()[:RECORD_LIMIT]] if data.strip() else []
            return
        data += more
