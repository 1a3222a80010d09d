"""What is deployed: the state of stacks and their drift."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.aws import RETRY_LONG
from eventstacks.cloudformation import failure, states

if TYPE_CHECKING:
    from datetime import datetime

    from eventstacks.cloudformation.run import Scope
    from eventstacks.cloudformation.stack import StackClient
    from eventstacks.environment import StackRef
    from eventstacks.errors import ToolError


@dataclass(frozen=True)
class Status:
    """One stack. ``status`` is CloudFormation's, NOT_DEPLOYED, or UNKNOWN with a ``problem``."""

    ref: StackRef
    status: str
    changed: datetime | None = None
    drift: str = ""  # DRIFTED, IN_SYNC, or '' if it was not looked for
    protected: bool = False
    advice: str = ""  # '' if all is well
    problem: ToolError | None = None

    def document(self) -> dict[str, Any]:
        """Return the status for ``--json``."""
        found = {
            name: value for name, value in vars(self).items() if name not in ("ref", "problem")
        }
        error = self.problem.document() if self.problem else None
        return {**self.ref.document(), **found, "error": error}


def read(scope: Scope) -> list[Status]:
    """Return the status of stacks, by one DescribeStacks each. Raises ToolError for the wrong account."""
    return scope.for_each(_read, lambda ref, error: Status(ref, "UNKNOWN", problem=error))


def _read(stack: StackClient) -> Status:
    found = stack.describe()
    if found is None:
        return Status(stack.ref, states.NOT_DEPLOYED)
    status = found["StackStatus"]
    drift = (found.get("DriftInformation") or {}).get("StackDriftStatus", "")
    return Status(
        stack.ref,
        status,
        found.get("LastUpdatedTime") or found["CreationTime"],
        drift="" if drift == "NOT_CHECKED" else drift,
        protected=bool(found.get("EnableTerminationProtection")),
        advice="" if states.of(status).is_sound else states.advice(status, stack.ref),
    )


# --- drift -------------------------------------------------------------------------------------


_DRIFT_KEYS = (  # of StackResourceDrift; PropertyDifferences are seen from the template
    "LogicalResourceId",
    "PhysicalResourceId",
    "ResourceType",
    "StackResourceDriftStatus",
    "PropertyDifferences",
)


@dataclass(frozen=True)
class Drift:
    """What drift detection found for one stack: IN_SYNC, DRIFTED, UNKNOWN or NOT_DEPLOYED."""

    ref: StackRef
    status: str
    resources: tuple[dict[str, Any], ...] = ()  # MODIFIED or DELETED: StackResourceDrift
    problem: ToolError | None = None

    def document(self) -> dict[str, Any]:
        """Return the drift for ``--json``."""
        return {
            **self.ref.document(),
            "status": self.status,
            "resources": list(self.resources),
            "error": self.problem.document() if self.problem else None,
        }


def detect_drift(scope: Scope) -> list[Drift]:
    """Detect drift of all stacks at once. Raises ToolError for the wrong account; other errors are ``problem``."""
    return scope.for_each(_detect, lambda ref, error: Drift(ref, "UNKNOWN", problem=error))


def _detect(stack: StackClient) -> Drift:
    held = stack.describe()
    if held is None:
        return Drift(stack.ref, states.NOT_DEPLOYED)
    which = {"StackName": held["StackId"]}
    answer = stack.wait_for(
        lambda one: one["DetectionStatus"] != "DETECTION_IN_PROGRESS",
        "describe_stack_drift_detection_status",
        longest=2.0,
        retry_for=RETRY_LONG,
        StackDriftDetectionId=stack.call("detect_stack_drift", **which)["StackDriftDetectionId"],
    )
    problem = None
    if answer["DetectionStatus"] == "DETECTION_FAILED":
        why = f"drift could not be detected: {answer.get('DetectionStatusReason')}"
        problem = failure.DeploymentError(why, where=str(stack.ref))
    drifted = stack.items(
        "describe_stack_resource_drifts",
        "StackResourceDrifts",
        StackResourceDriftStatusFilters=["MODIFIED", "DELETED"],
        **which,
    )
    resources = tuple({key: one.get(key) for key in _DRIFT_KEYS} for one in drifted)
    return Drift(stack.ref, answer.get("StackDriftStatus", "UNKNOWN"), resources, problem)
