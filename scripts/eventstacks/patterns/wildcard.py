"""Text with ``*`` in it: its parts, its regular expression, and how much work it may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STAR = ""  # stands between characters in what parse returns

# AWS refuses *:*:*:*:*:event-bus/* (of which eleven beginnings match one text at once) and takes
# /Users/*/dir/dir/dir/dir/dir/doc.txt (seven); both are recorded verdicts. Its limit is not published, nor whether it
# adds up the wildcards of a field. This is a guess, on the mild side: each alone, and what is known to be too much.
_COMPLEX = 11
_EFFORT = 2_000  # sets of positions to look at before a wildcard is taken
TOO_COMPLEX = (
    "Rule is too complex - try using fewer wildcard characters or "
    "fewer repeating character sequences after a wildcard character"
)


def parse(text: str) -> tuple[str, ...]:
    r"""The characters of a wildcard, STAR for each ``*``; ``\*`` and ``\\`` are literal.

    Raises ValueError in AWS's words; its positions count the UTF-8 bytes of the quoted text.
    """
    parts: list[str] = []
    position, escaped = 1, False
    quoted = text + '"'
    for character, following in zip(text, quoted[1:], strict=True):
        if escaped:
            escaped = False
            parts.append(character)
        elif character == "\\":
            if following not in "*\\":
                raise ValueError(f"Invalid escape character at pos {position}")
            escaped = True
        elif character == "*" == following:
            raise ValueError(f"Consecutive wildcard characters at pos {position}")
        else:
            parts.append(STAR if character == "*" else character)
        position += len(character.encode("utf-8", "surrogatepass"))
    return tuple(parts)


def to_regex(parts: Iterable[str]) -> str:
    """A regular expression for the whole text, in linear time for each star: the first place that fits will do."""
    runs: list[list[str]] = [[]]
    for part in parts:
        if part == STAR:
            runs.append([])
        else:
            runs[-1].append(re.escape(part))
    first, *middle = ["".join(run) for run in runs]
    if not middle:
        return first
    last = middle.pop()
    return first + "".join(f"(?>.*?{run})" for run in middle) + f".*{last}"


def is_complex(parts: tuple[str, ...]) -> bool:
    """Whether some text would match too many beginnings of a wildcard at once.

    What is counted is event-ruler's MachineComplexityEvaluator's; the limit is guessed (see above).
    """
    text = ('"', *parts, '"')
    letters = set(text) - {STAR}

    def skip_star(read: int) -> set[int]:  # how many parts are read; a star may stand for nothing
        return {read, read + 1} if text[read : read + 1] == (STAR,) else {read}

    todo = [frozenset({0})]
    seen = set(todo)
    while STAR in parts and todo and len(seen) < _EFFORT:
        states = todo.pop()
        for letter in letters:
            reached: set[int] = set()
            for read in states:
                if read and text[read - 1] == STAR:
                    reached |= skip_star(read)
                if text[read : read + 1] == (letter,):
                    reached |= skip_star(read + 1)
            if len(reached) >= _COMPLEX:
                return True
            if (frozen := frozenset(reached)) not in seen:
                seen.add(frozen)
                todo.append(frozen)
    return False
