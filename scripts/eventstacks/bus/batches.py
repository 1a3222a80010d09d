"""Entries become batches: ten at most, and together under the size that one call may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventstacks.bus.entries import COUNT_LIMIT, SIZE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Item:
    """One entry on its way to one destination."""

    number: int  # of its record, counted from 0
    lane: int  # its destination's place in the list
    body: bytes  # the entry as JSON
    size: int  # bytes, by AWS's rule
    attempts: int = 0
    alone: bool = False  # it shares no call, since one that it was in was refused whole


class Packer:
    """One open batch per destination; ``leave`` is called with each that is full."""

    def __init__(self, lanes: int, leave: Callable[[list[Item]], None]) -> None:
        self._open: list[list[Item]] = [[] for _ in range(lanes)]
        self._sizes = [0] * lanes
        self._leave = leave

    def add(self, item: Item) -> None:
        """Takes one more entry."""
        if item.alone:
            self._leave([item])
            return
        lane = item.lane
        if self._sizes[lane] + item.size >= SIZE_LIMIT:
            self._close(lane)
        self._open[lane].append(item)
        self._sizes[lane] += item.size
        if len(self._open[lane]) == COUNT_LIMIT:
            self._close(lane)

    def flush(self) -> None:
        """Lets go of what is open, full or not."""
        for lane in range(len(self._open)):
            self._close(lane)

    def _close(self, lane: int) -> None:
        items, self._open[lane], self._sizes[lane] = self._open[lane], [], 0
        if items:
            self._leave(items)
