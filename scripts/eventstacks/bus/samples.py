"""Sample events as EventBridge delivers them: ``samples/<kind>.json``.

Shapes: S3 User Guide, 'EventBridge event message structure'; CloudTrail User Guide, record
contents; RDS User Guide, 'Amazon RDS events'. Assumed, because AWS's pages do not show them:
SourceType CLUSTER_SNAPSHOT, and the wording of Message.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

from eventstacks.errors import ErrorCode, ToolError

DIRECTORY = Path(__file__).with_name("samples")


def kinds() -> dict[str, dict[str, Any]]:
    """Return the sample of every kind."""
    paths = sorted(DIRECTORY.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def make(kind: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return a sample with fields changed: ``{"detail.bucket.name": "mine", "resources.0": "…"}``.

    A string that is repeated in the event, alone or in an ARN, is changed everywhere: account,
    Region, bucket, key. A field of ``detail`` may be new. Raises ToolError for an unknown kind or
    field.
    """
    known = kinds()
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=1)
        raise ToolError(
            f"no sample {kind!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            code=ErrorCode.NOT_FOUND,
            advice=f"Samples: {', '.join(known)}.",
        )
    event = known[kind]
    for path, value in changes.items():
        old = _change(event, path, value)
        if isinstance(old, str) and isinstance(value, str) and len(old) > 3:
            event = _replace(event, re.compile(rf"(?<![\w-]){re.escape(old)}(?![\w-])"), value)
    return event


def _change(event: dict[str, Any], path: str, value: Any) -> Any:
    """Set a field; return its old value."""
    *parents, last = path.split(".")
    parent: Any = event
    try:
        for name in parents:
            parent = parent[int(name) if isinstance(parent, list) else name]
        if isinstance(parent, dict) and parents[:1] == ["detail"]:
            parent.setdefault(last, None)
        key = int(last) if isinstance(parent, list) else last
        old, parent[key] = parent[key], value
    except (KeyError, IndexError, ValueError, TypeError):
        raise ToolError(
            f"the event has no field {path!r}",
            code=ErrorCode.NOT_FOUND,
            advice=f"Its top-level fields: {', '.join(event)}.",
        ) from None
    return old


def _replace(value: Any, old: re.Pattern[str], new: str) -> Any:
    if isinstance(value, dict):
        return {key: _replace(one, old, new) for key, one in value.items()}
    if isinstance(value, list):
        return [_replace(one, old, new) for one in value]
    return old.sub(lambda _: new, value) if isinstance(value, str) else value
