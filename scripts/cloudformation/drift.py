"""What was changed outside of CloudFormation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from scripts.cloudformation import calls, failure, schedule
from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.aws import Aws
    from scripts.cloudformation.calls import Clock
    from scripts.cloudformation.order import Pair
    from scripts.cloudformation.place import Place


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

    place: Place
    status: str
    resources: tuple[DriftedResource, ...] = ()
    problem: ToolError | None = None

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self.place), "status": self.status, "resources": [asdict(one) for one in self.resources],
                "error": str(self.problem) if self.problem else None}  # fmt: skip


def detect(aws: Aws, pairs: Sequence[Pair], *, clock: Clock | None = None) -> list[Drift]:
    """Runs drift detection on every stack at once. Raises aws.AccountError; other trouble stands in ``problem``."""
    time = clock or calls.Clock()

    def job(place: Place, client: Any) -> Drift:
        try:
            return _detect(client, place, time)
        except (ToolError, *calls.TROUBLE) as error:
            return Drift(place, "UNKNOWN", problem=failure.wrap(error, place))

    return schedule.everywhere(aws, pairs, job, clock=time)


def _detect(client: Any, place: Place, clock: Clock) -> Drift:
    stack = calls.find_stack(client, place.stack_name, clock=clock)
    if stack is None:
        return Drift(place, "NOT_DEPLOYED")
    detection = calls.call(client.detect_stack_drift, clock=clock, StackName=stack["StackId"])["StackDriftDetectionId"]
    pause = 0.2
    while True:
        found = calls.call(client.describe_stack_drift_detection_status, clock=clock, patience=calls.LONG,
                           StackDriftDetectionId=detection)  # fmt: skip
        if found["DetectionStatus"] != "DETECTION_IN_PROGRESS":
            break
        clock.sleep(pause)
        pause = min(pause * 1.5, 2.0)
    problem = None
    if found["DetectionStatus"] == "DETECTION_FAILED":
        problem = failure.DeploymentError(
            f"drift could not be detected: {found.get('DetectionStatusReason')}", where=str(place)
        )
    resources: list[DriftedResource] = []
    token: dict[str, Any] = {}
    while True:
        page = calls.call(client.describe_stack_resource_drifts, clock=clock, StackName=stack["StackId"],
                          StackResourceDriftStatusFilters=["MODIFIED", "DELETED"], **token)  # fmt: skip
        resources += [
            DriftedResource(one["LogicalResourceId"], one["ResourceType"], one["StackResourceDriftStatus"], tuple(
                Difference(each["PropertyPath"], each["DifferenceType"], each.get("ExpectedValue", ""),
                           each.get("ActualValue", "")) for each in one.get("PropertyDifferences") or ()
            )) for one in page.get("StackResourceDrifts") or ()
        ]  # fmt: skip
        if not page.get("NextToken"):
            return Drift(place, found.get("StackDriftStatus", "UNKNOWN"), tuple(resources), problem)
        token = {"NextToken": page["NextToken"]}
