"""What was changed outside of CloudFormation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.aws import AWS_ERRORS, RETRY_LONG
from eventstacks.cloudformation import failure, schedule, stack_sets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventstacks.aws import Aws, Clock
    from eventstacks.cloudformation.stack import Remote
    from eventstacks.environment import StackRef
    from eventstacks.errors import ToolError


@dataclass(frozen=True)
class Difference:
    """One property: ``kind`` is ADD, REMOVE or NOT_EQUAL, seen from the template."""

    path: str
    kind: str
    expected: str
    actual: str


@dataclass(frozen=True)
class DriftedResource:
    """A resource that is MODIFIED or DELETED."""

    logical_id: str
    type: str
    status: str
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Drift:
    """What detection found for one stack in one region: IN_SYNC, DRIFTED, UNKNOWN or NOT_DEPLOYED."""

    ref: StackRef
    status: str
    resources: tuple[DriftedResource, ...] = ()
    problem: ToolError | None = None

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            **self.ref.document(),
            "status": self.status,
            "resources": [asdict(one) for one in self.resources],
            "error": str(self.problem) if self.problem else None,
        }


def detect(aws: Aws, refs: Sequence[StackRef], *, clock: Clock | None = None) -> list[Drift]:
    """Runs drift detection on every stack at once.

    Raises aws.AccountError, and stack_set.RefusedError for stacks in many accounts; other trouble stands in
    ``problem``.
    """
    if aws.environment.stack_set:
        raise stack_sets.no_drift(aws, refs)
    return schedule.everywhere(aws, refs, _try, clock)


def _try(remote: Remote) -> Drift:
    try:
        return _detect(remote)
    except AWS_ERRORS as error:
        return Drift(remote.ref, "UNKNOWN", problem=failure.wrap(error, remote.ref))


def _detect(remote: Remote) -> Drift:
    stack = remote.stack()
    if stack is None:
        return Drift(remote.ref, "NOT_DEPLOYED")
    found = remote.until(
        lambda answer: answer["DetectionStatus"] != "DETECTION_IN_PROGRESS",
        "describe_stack_drift_detection_status",
        longest=2.0,
        retry_for=RETRY_LONG,
        StackDriftDetectionId=remote.call("detect_stack_drift", StackName=stack["StackId"])[
            "StackDriftDetectionId"
        ],
    )
    problem = None
    if found["DetectionStatus"] == "DETECTION_FAILED":
        why = f"drift could not be detected: {found.get('DetectionStatusReason')}"
        problem = failure.DeploymentError(why, where=str(remote.ref))
    pages = remote.pages(
        "describe_stack_resource_drifts",
        StackName=stack["StackId"],
        StackResourceDriftStatusFilters=["MODIFIED", "DELETED"],
    )
    resources = tuple(
        _resource(one) for page in pages for one in page.get("StackResourceDrifts") or ()
    )
    return Drift(remote.ref, found.get("StackDriftStatus", "UNKNOWN"), resources, problem)


def _resource(raw: Mapping[str, Any]) -> DriftedResource:
    differences = tuple(
        Difference(
            one["PropertyPath"],
            one["DifferenceType"],
            one.get("ExpectedValue", ""),
            one.get("ActualValue", ""),
        )
        for one in raw.get("PropertyDifferences") or ()
    )
    return DriftedResource(
        raw["LogicalResourceId"], raw["ResourceType"], raw["StackResourceDriftStatus"], differences
    )
