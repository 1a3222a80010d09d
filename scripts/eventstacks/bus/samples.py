"""Sample events, as EventBridge delivers them: ``samples/<kind>.json``.

Shapes: S3 User Guide, 'EventBridge event message structure'; CloudTrail User Guide, record contents; RDS User Guide,
'Amazon RDS events'. Assumed, not seen in AWS's pages: SourceType CLUSTER_SNAPSHOT, and the wording of Message.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

from eventstacks.errors import ToolError

DIRECTORY = Path(__file__).with_name("samples")


class SampleError(ToolError):
    """A kind or a field that no sample has."""


def kinds() -> dict[str, dict[str, Any]]:
    """Every kind, with its event."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(DIRECTORY.glob("*.json"))
    }


def make(kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The sample of a kind with fields changed: ``{"detail.bucket.name": "mine", "resources.0": "…"}``.

    Text that stands elsewhere in the event, alone or in an ARN, follows the change: account, region, bucket, key. A
    field of ``detail`` may be new. Raises SampleError for a kind or a field that is not there.
    """
    known = kinds()
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise SampleError(
            f"there is no sample {kind!r}{hint}", advice=f"There are: {', '.join(known)}."
        )
    event = known[kind]
    for path, value in changes.items():
        old = _change(event, path, value)
        if isinstance(old, str) and isinstance(value, str) and len(old) > 3:
            event = _follow(event, re.compile(rf"(?<![\w-]){re.escape(old)}(?![\w-])"), value)
    return event


def _change(event: dict[str, Any], path: str, value: Any) -> Any:
    *parents, last = path.split(".")
    place: Any = event
    try:
        for name in parents:
            place = place[int(name) if isinstance(place, list) else name]
        if isinstance(place, dict) and last not in place and parents[:1] == ["detail"]:
            place[last] = None
        key = int(last) if isinstance(place, list) else last
        old, place[key] = place[key], value
    except (KeyError, IndexError, ValueError, TypeError):
        there = f"At the top it has: {', '.join(event)}."
        raise SampleError(f"the event has no field {path!r}", advice=there) from None
    return old


def _follow(value: Any, old: re.Pattern[str], new: str) -> Any:
    if isinstance(value, dict):
        return {key: _follow(one, old, new) for key, one in value.items()}
    if isinstance(value, list):
        return [_follow(one, old, new) for one in value]
    return old.sub(lambda _: new, value) if isinstance(value, str) else value
