"""Text with ``*`` in it: its parts, its regular expression, and how much work it may be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STAR = ""  # stands between characters in what parse returns

# AWS refuses *:*:*:*:*:event-bus/* (of which eleven beginnings match one text at once) and takes
# /Users/*/dir/dir/dir/dir/dir/doc.txt (seven); both are recorded verdicts. Its limit is not published: this is a guess.
_COMPLEX = 10
_EFFORT = 2_000  # sets of positions to look at before a wildcard is taken as it is
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


def is_complex(wildcards: Iterable[tuple[str, ...]]) -> bool:
    """Whether some text would match too many beginnings of the wildcards of one field at once.

    What is counted is event-ruler's MachineComplexityEvaluator's; the limit is guessed (see above).
    """
    texts = [('"', *parts, '"') for parts in wildcards if STAR in parts]
    letters = {letter for text in texts for letter in text} - {STAR}

    def skip_star(state: tuple[int, int]) -> set[tuple[int, int]]:
        # A state is (which wildcard, how many of its parts are read); a star may stand for nothing.
        index, read = state
        at_star = read < len(texts[index]) and texts[index][read] == STAR
        return {state, (index, read + 1)} if at_star else {state}

    todo = [frozenset((index, 0) for index in range(len(texts)))]
    seen = set(todo)
    while todo and len(seen) < _EFFORT:
        states = todo.pop()
        for letter in letters:
            reached: set[tuple[int, int]] = set()
            for index, read in states:
                text = texts[index]
                if read and text[read - 1] == STAR:
                    reached |= skip_star((index, read))
                if read < len(text) and text[read] == letter:
                    reached |= skip_star((index, read + 1))
            if len(reached) >= _COMPLEX:
                return True
            frozen = frozenset(reached)
            if frozen not in seen:
                seen.add(frozen)
                todo.append(frozen)
    return False
