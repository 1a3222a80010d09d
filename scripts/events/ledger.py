"""The account of a sending: what was acknowledged, what was rejected and why."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.events.entries import NOTE, RAW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.events.calls import Failure


class Ledger:
    """Writes ``rejected.ndjson``: lines that can be sent again."""

    def __init__(self, rejected: Path) -> None:
        self.path = rejected
        self._file: Any = None
        self._lock = threading.Lock()

    def acknowledge(self, lane: int, numbers: Sequence[int]) -> None:
        """Entries that AWS has."""

    def reject(self, number: int, destination: Any, record: bytes, failure: Failure) -> None:
        """A record that will not be sent, or an entry that a destination refused for good."""
        note = {"Code": failure.code, "Message": failure.message, "Record": number + 1}
        line: dict[str, Any]
        if destination is None:
            line = {RAW: record.decode("utf-8", "surrogateescape")}
        else:
            line, note["Region"] = json.loads(record), destination.region
        with self._lock:
            if self._file is None:
                self._file = self.path.open("wb", buffering=0)
            self._file.write(json.dumps({**line, NOTE: note}).encode() + b"\n")
