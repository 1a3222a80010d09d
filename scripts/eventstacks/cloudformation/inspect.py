"""Inspect deployed stacks: their status, their outputs and their drift."""

from eventstacks.aws import RETRY_LONG, wait_for
from eventstacks.cloudformation import change_set, failure, outputs
from eventstacks.cloudformation.plan import templates_with_secrets
from eventstacks.cloudformation.run import Drift, Scope, Status
from eventstacks.cloudformation.stack import NOT_DEPLOYED, StackClient, advice_for

_DRIFT_KEYS = (  # of StackResourceDrift, besides PropertyDifferences
    "LogicalResourceId",
    "PhysicalResourceId",
    "ResourceType",
    "StackResourceDriftStatus",
)


def status(scope: Scope) -> list[Status]:
    """Return the status of stacks, by one DescribeStacks each."""
    return scope.for_each(_status, Status)


def drift(scope: Scope) -> list[Drift]:
    """Detect drift of all stacks at once."""
    return scope.for_each(_drift, Drift)


def _status(stack: StackClient) -> Status:
    found = stack.describe()
    if found is None:
        return Status(stack.ref, NOT_DEPLOYED)
    drift = (found.get("DriftInformation") or {}).get("StackDriftStatus", "")
    return Status(
        stack.ref,
        found["StackStatus"],
        found.get("LastUpdatedTime") or found["CreationTime"],
        drift="" if drift == "NOT_CHECKED" else drift,
        protected=bool(found.get("EnableTerminationProtection")),
        advice=advice_for(found["StackStatus"], stack.ref),
        outputs=outputs.of(found),
    )


def _drift(stack: StackClient) -> Drift:
    held = stack.describe()
    if held is None:
        return Drift(stack.ref, NOT_DEPLOYED)
    which = {"StackName": held["StackId"]}
    answer = wait_for(
        lambda one: one["DetectionStatus"] != "DETECTION_IN_PROGRESS",
        stack.client.describe_stack_drift_detection_status,
        clock=stack.clock,
        longest=2.0,
        retry_for=RETRY_LONG,
        StackDriftDetectionId=stack.call("detect_stack_drift", **which)["StackDriftDetectionId"],
    )
    problem = None
    if answer["DetectionStatus"] == "DETECTION_FAILED":
        problem = failure.DeploymentError(
            f"drift could not be detected: {answer.get('DetectionStatusReason')}",
            where=str(stack.ref),
        )
    drifted = stack.items(
        "describe_stack_resource_drifts",
        "StackResourceDrifts",
        StackResourceDriftStatusFilters=["MODIFIED", "DELETED"],
        **which,
    )
    secrets = change_set.Secrets(stack, {}, *templates_with_secrets(stack, held))
    resources = tuple(
        {key: one.get(key) for key in _DRIFT_KEYS}
        | {
            "PropertyDifferences": [
                secrets.property(one["LogicalResourceId"], each)
                for each in one.get("PropertyDifferences") or ()
            ]
        }
        for one in drifted
    )
    return Drift(stack.ref, answer.get("StackDriftStatus", "UNKNOWN"), resources, problem=problem)
