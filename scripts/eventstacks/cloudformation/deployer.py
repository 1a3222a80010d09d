"""What deploys an environment: its verbs are called on what ``create`` returns."""

from collections.abc import Mapping, Sequence
from typing import Any

from eventstacks.aws import RETRY_LONG, Aws, Clock
from eventstacks.cloudformation import failure, operation, outputs
from eventstacks.cloudformation.delete import delete, preview
from eventstacks.cloudformation.deploy import deploy, plan
from eventstacks.cloudformation.run import (
    Drift,
    Listener,
    Result,
    Scope,
    Status,
    Step,
)
from eventstacks.cloudformation.stack import (
    NOT_DEPLOYED,
    StackClient,
    advice_for,
    is_in_progress,
    state_of,
)
from eventstacks.environment import StackRef

_FOLLOW = "follow"  # the method of a step that starts nothing; its arguments are DescribeStacks
_DRIFT_KEYS = (  # of StackResourceDrift; PropertyDifferences are seen from the template
    "LogicalResourceId",
    "PhysicalResourceId",
    "ResourceType",
    "StackResourceDriftStatus",
    "PropertyDifferences",
)


class Stacks(Scope):
    """The stacks of one account.

    All verbs raise ToolError for the wrong account; those that wait raise run.Interrupted after
    Ctrl-C. The error of one stack is the ``problem`` of its report.
    """

    plan = plan
    deploy = deploy
    preview_deletion = preview
    delete = delete

    def status(self) -> list[Status]:
        """Return the status of stacks, by one DescribeStacks each."""
        return self.for_each(_status, Status)

    def drift(self) -> list[Drift]:
        """Detect drift of all stacks at once."""
        return self.for_each(_drift, Drift)

    def follow(self) -> list[Result]:
        """Follow the operations in progress; return a result for each, [] without any."""

        def moving(stack: StackClient) -> Step:
            held = stack.describe() or {}
            is_moving = is_in_progress(held.get("StackStatus", ""))
            return Step(stack.ref, _FOLLOW if is_moving else "", arguments=held)

        return self.recover(self.for_each(moving, Step))

    def propose_recovery(
        self, *, skip: Sequence[str] = (), retain: Sequence[str] = (), force: bool = False
    ) -> list[Step]:
        """Return the step that leads each stack out of its state. Changes nothing.

        ``skip``: logical ids that a rollback leaves as they are (UPDATE_ROLLBACK_FAILED).
        ``retain``: logical ids that a deletion keeps, ``force``: it keeps what cannot be deleted
        (DELETE_FAILED).
        """
        given: dict[str, dict[str, Any]] = {
            "UPDATE_ROLLBACK_FAILED": {"ResourcesToSkip": list(skip)} if skip else {},
            "DELETE_FAILED": {"RetainResources": list(retain)} if retain else {},
        }
        if force:
            given["DELETE_FAILED"] = {"DeletionMode": "FORCE_DELETE_STACK"}
        return self.for_each(lambda stack: _propose(stack, given), Step)

    def recover(self, steps: Sequence[Step]) -> list[Result]:
        """Carry out steps, all at once, and follow them."""
        wanted = [step for step in steps if step.method or step.problem]

        def job(stack: StackClient, step: Step) -> Result:
            if step.method == _FOLLOW:
                self.start(stack.ref)
                return _finish(self, stack, operation.in_progress(stack, step.arguments))
            running = operation.start(
                stack,
                step.method,
                step.stack_id,
                on_start=lambda: self.start(stack.ref),
                StackName=step.stack_id,
                **step.arguments,
            )
            return _finish(self, stack, running)

        return self.work(wanted, job)


def create(
    aws: Aws,
    refs: Sequence[StackRef],
    *,
    listener: Listener | None = None,
    clock: Clock | None = None,
) -> Stacks:
    """Return what deploys the stacks of ``refs`` (``environment.choose()``)."""
    listener, clock = listener or Listener(), clock or Clock()
    return Stacks(aws, refs, listener, clock)


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
    filters = {"StackResourceDriftStatusFilters": ["MODIFIED", "DELETED"]}
    drifted = stack.items(
        "describe_stack_resource_drifts", "StackResourceDrifts", **filters, **which
    )
    resources = tuple({key: one.get(key) for key in _DRIFT_KEYS} for one in drifted)
    return Drift(stack.ref, answer.get("StackDriftStatus", "UNKNOWN"), resources, problem=problem)


def _propose(stack: StackClient, given: Mapping[str, dict[str, Any]]) -> Step:
    """Return the step for one stack, if it needs one.

    ``given``: state → arguments that are for this state only.

    Raises DeploymentError if more has to be given, or something was given for another state: a
    deletion that could not keep a resource must not start.
    """
    ref, held = stack.ref, stack.describe() or {"StackStatus": NOT_DEPLOYED}
    status = held["StackStatus"]
    (method, description), arguments = state_of(status).recovery, given.get(status, {})
    if not method:
        return Step(ref)
    if unfit := [needed for needed, one in given.items() if one and needed != status]:
        raise failure.refused(
            f"not changed: the stack is in {status}; the options are for {unfit[0]}",
            status,
            ref,
            f"Without them: {ref.command('recover')}",
        )
    if status == "DELETE_FAILED" and not arguments:
        raise _stuck(stack, held["StackId"])
    words = [f"{name}: {value}" for name, value in arguments.items()]
    return Step(ref, method, ", ".join([description, *words]), held["StackId"], arguments)


def _stuck(stack: StackClient, stack_id: str) -> failure.DeploymentError:
    """Return the error for a failed deletion that needs to be told what to keep."""
    resources = stack.items("list_stack_resources", "StackResourceSummaries", StackName=stack_id)
    stuck = {
        one["LogicalResourceId"]: one.get("ResourceStatusReason", "")
        for one in resources
        if one["ResourceStatus"] == "DELETE_FAILED"
    }
    listed = ", ".join(f"{name} ({reason})" for name, reason in stuck.items())
    options = [word for name in stuck for word in ("--retain", name)] or ["--force"]
    return failure.refused(
        f"could not be deleted: {listed or 'AWS does not name the resource'}",
        "DELETE_FAILED",
        stack.ref,
        f"To delete the stack and keep these: {stack.ref.command('recover', *options)}",
    )


def _finish(scope: Scope, stack: StackClient, running: operation.Operation) -> Result:
    """Follow an operation to its end. Raises DeploymentError if it failed.

    A rollback is a success if it was the purpose, and a failure if the operation began otherwise.
    """
    status = scope.follow_operation(stack, running)
    begun = running.started
    rolled_back = begun and state_of(begun.status).is_start and "ROLLBACK" in status
    outcome = state_of(status).outcome
    if rolled_back or not outcome:
        raise failure.of_operation(stack, running, status)
    return Result(stack.ref, outcome, status=status)
