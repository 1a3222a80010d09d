"""Stack events: newest first as AWS gives them, in order and each once as they leave here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.aws import RETRY_SHORT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from eventstacks.cloudformation.stack import Remote

NESTED = "AWS::CloudFormation::Stack"
# What a root event may say last. CREATE_FAILED and UPDATE_FAILED may be followed by a rollback.
ENDS = frozenset(
    {
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "DELETE_COMPLETE",
        "DELETE_FAILED",
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "UPDATE_ROLLBACK_COMPLETE",
        "UPDATE_ROLLBACK_FAILED",
        "IMPORT_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
        "IMPORT_ROLLBACK_FAILED",
    }
)
MAYBE_ENDS = frozenset({"CREATE_FAILED", "UPDATE_FAILED"})
GOOD_ENDS = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
STARTS = frozenset(
    {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"}
)


@dataclass(frozen=True)
class Event:
    """One stack event."""

    id: str
    at: datetime
    stack_id: str
    logical_id: str
    physical_id: str
    type: str
    status: str
    reason: str = ""
    token: str = ""  # ClientRequestToken of the operation
    hook: str = ""  # HookType
    hook_status: str = ""
    hook_reason: str = ""
    detail: str = ""  # DetailedStatus: VALIDATION_FAILED …

    @classmethod
    def of(cls, raw: Mapping[str, Any], mask: Callable[[str], str] = str) -> Event:
        """From one entry of DescribeStackEvents; ``mask`` is applied to AWS's reasons."""
        return cls(
            raw["EventId"],
            raw["Timestamp"],
            raw["StackId"],
            raw.get("LogicalResourceId", ""),
            raw.get("PhysicalResourceId", ""),
            raw.get("ResourceType", ""),
            raw.get("ResourceStatus", ""),
            mask(raw.get("ResourceStatusReason") or ""),
            raw.get("ClientRequestToken", ""),
            raw.get("HookType", ""),
            raw.get("HookStatus", ""),
            mask(raw.get("HookStatusReason") or ""),
            raw.get("DetailedStatus", ""),
        )

    @property
    def is_root(self) -> bool:
        """Return True for an event of the stack itself.

        The events of a nested stack have its type too, and no physical id when its creation failed early.
        """
        return self.type == NESTED and self.physical_id == self.stack_id


def read(
    remote: Remote, stack_id: str, seen: set[str], *, retry_for: float = RETRY_SHORT
) -> list[Event]:
    """The events that are not in ``seen``, oldest first; ``seen`` then holds them.

    Pages back until a page holds an event that was seen before; a page is read whole, since order is not certain.
    One call, when no more than a page of events is new.
    """
    fresh: dict[str, Event] = {}
    for page in remote.pages("describe_stack_events", StackName=stack_id, retry_for=retry_for):
        found = page.get("StackEvents") or ()
        fresh |= {
            one["EventId"]: Event.of(one, remote.mask)
            for one in found
            if one["EventId"] not in seen
        }
        if any(one["EventId"] in seen for one in found):
            break
    seen.update(fresh)
    # Events of one moment keep the order in which they were written: AWS gives the newest first.
    return sorted(reversed(fresh.values()), key=lambda one: one.at)  # noqa: C414 - sorting is stable
