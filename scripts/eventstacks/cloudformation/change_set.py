"""Change sets: options, request, creation, reading, and deletion of what was not executed."""

from __future__ import annotations

import contextlib
import re
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks.aws import AWS_ERRORS, Clock, error_code, error_message
from eventstacks.cloudformation import failure, noecho, operation, outputs, package, states
from eventstacks.cloudformation.operation import NESTED_STACK, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from eventstacks.cloudformation.stack import StackClient
    from eventstacks.environment import Environment, StackSettings

# Both wordings mean that there is nothing to do; the second comes from templates with transforms.
_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")
_NESTED_TYPES = {NESTED_STACK, "AWS::Serverless::Application"}
# The name of a change set ends with this, its time and a random part.
_MARK, _TIME = "eventstacks", "%Y%m%dT%H%M%SZ"
_ABANDONED = timedelta(hours=1)  # an older change set was left by a run that was killed


@dataclass(frozen=True)
class Options:
    """What ``deploy`` accepts."""

    disable_rollback: bool = False
    nested: bool = True
    allow_replace: frozenset[str] = frozenset()  # logical ids


@dataclass(frozen=True)
class ChangeSet:
    """A change set that can be executed, or (``unchanged``) the result that there is none."""

    arn: str
    stack_id: str
    kind: str  # CREATE or UPDATE
    created_stack: bool  # this run brought the stack into REVIEW_IN_PROGRESS
    # ResourceChange; can be empty: outputs or tags can change alone. A nested stack is followed by
    # the changes in it, whose LogicalResourceId is Stack/Resource.
    changes: tuple[dict[str, Any], ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    unchanged: bool = False


def request(
    environment: Environment,
    settings: StackSettings,
    template: Mapping[str, Any],
    values: Mapping[str, str],
    stack: Mapping[str, Any] | None,
    options: Options,
) -> dict[str, Any]:
    """Return the arguments of CreateChangeSet without the template's body.

    Only values of the environment file are sent, UsePreviousValue for !Previous alone: a parameter that the file
    leaves out gets the template's Default, also if the stack has an older value. Topics and alarms
    that the file no longer names are removed.
    """
    held = stack or {"StackStatus": states.DELETED}
    kind = "CREATE" if held["StackStatus"] in (states.IN_REVIEW, states.DELETED) else "UPDATE"
    arguments: dict[str, Any] = {
        "StackName": settings.stack_name,
        "ChangeSetType": kind,
        "Parameters": outputs.parameter_arguments(values, held, settings.stack_name),
        "Tags": [{"Key": name, "Value": value} for name, value in settings.tags.items()],
        "Capabilities": package.capabilities(template),
    }
    if options.nested and _NESTED_TYPES & package.types(template):
        arguments["IncludeNestedStacks"] = True
    if settings.role:
        arguments["RoleARN"] = settings.role
    if environment.notifications or held.get("NotificationARNs"):
        arguments["NotificationARNs"] = list(environment.notifications)
    alarms, minutes = settings.rollback_alarms, settings.rollback_minutes
    if alarms or minutes or any((held.get("RollbackConfiguration") or {}).values()):
        arguments["RollbackConfiguration"] = {
            "RollbackTriggers": [{"Arn": arn, "Type": "AWS::CloudWatch::Alarm"} for arn in alarms],
            "MonitoringTimeInMinutes": minutes,
        }
    return arguments


def create(
    stack: StackClient, arguments: dict[str, Any], secrets: noecho.Secrets, *, stack_existed: bool
) -> ChangeSet:
    """Create a change set, wait for it and read it whole; the result holds no secret.

    One without changes is deleted and returned as ``unchanged``. Raises failure.DeploymentError if
    it fails; nothing is left behind then, nor if waiting is interrupted.
    """
    kind, stack_name = arguments["ChangeSetType"], arguments["StackName"]
    # The stack's name comes first: IAM policies on change sets see only this name.
    name = f"{stack_name[:80]}-{_MARK}-{datetime.now(UTC):{_TIME}}-{uuid.uuid4().hex[:8]}"
    try:
        answer = stack.call("create_change_set", ChangeSetName=name, ClientToken=name, **arguments)
        arn, stack_id = answer["Id"], answer["StackId"]
    except ClientError as error:
        if error_code(error) != "AlreadyExistsException" or name not in error_message(error):
            raise
        # The first answer was lost and the call was repeated: only this run uses the name.
        answer = stack.call("describe_change_set", ChangeSetName=name, StackName=stack_name)
        arn, stack_id = answer["ChangeSetId"], answer["StackId"]
    pending = ChangeSet(arn, stack_id, kind, created_stack=kind == "CREATE" and not stack_existed)
    try:
        return _read(stack, pending, secrets)
    except BaseException:
        discard(stack, pending)
        raise


def _read(stack: StackClient, pending: ChangeSet, secrets: noecho.Secrets) -> ChangeSet:
    """Wait for a change set and return it with its changes."""
    which = {"ChangeSetName": pending.arn, "IncludePropertyValues": True}
    answer = stack.wait_for(
        lambda one: one["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"),
        "describe_change_set",
        longest=1.0,
        **which,
    )
    if answer["Status"] == "FAILED":
        reason = answer.get("StatusReason") or "AWS gives no reason"
        if not any(words in reason for words in _NO_CHANGE):
            raise failure.of_change_set(stack, pending.arn, reason)
        discard(stack, pending)
        return replace(pending, created_stack=False, unchanged=True)
    token = answer.get("NextToken")
    rest = stack.pages("describe_change_set", NextToken=token, **which) if token else ()
    changes = _changes(stack, chain([answer], rest))
    parameters = {
        one["ParameterKey"]: one.get("ResolvedValue") or one.get("ParameterValue", "")
        for one in answer.get("Parameters") or ()
    }
    return replace(
        pending,
        changes=tuple(map(secrets.change, changes)),
        parameters=parameters | dict.fromkeys(parameters.keys() & secrets.parameters, noecho.MASK),
    )


def _changes(
    stack: StackClient, pages: Iterable[Mapping[str, Any]], path: str = ""
) -> Iterator[dict[str, Any]]:
    """Yield the changes of a change set, each nested stack followed by the changes in it."""
    listed = (one for page in pages for one in page.get("Changes") or ())
    for change in (one["ResourceChange"] for one in listed if "ResourceChange" in one):
        name = path + change["LogicalResourceId"]
        yield {**change, "LogicalResourceId": name}
        if nested := change.get("ChangeSetId"):
            inner = stack.pages(
                "describe_change_set", ChangeSetName=nested, IncludePropertyValues=True
            )
            yield from _changes(stack, inner, f"{name}/")


def execute(
    stack: StackClient, change_set: ChangeSet, options: Options, on_start: Callable[[], None]
) -> Operation:
    """Execute a change set, as ``operation.start`` does. Raises ClientError with AWS's refusal."""

    def is_started(error: ClientError) -> bool:
        # Only this run knows the change set: if it is being executed, the first call did it.
        if error_code(error) != "InvalidChangeSetStatus":
            return False
        answer = stack.call("describe_change_set", ChangeSetName=change_set.arn)
        return str(answer.get("ExecutionStatus")).startswith("EXECUTE_")

    running = operation.start(
        stack,
        "execute_change_set",
        change_set.stack_id,
        on_start=on_start,
        is_started=is_started,
        ChangeSetName=change_set.arn,
        DisableRollback=options.disable_rollback,
    )
    running.rollback_disabled = options.disable_rollback
    return running


def discard(stack: StackClient, change_set: ChangeSet) -> None:
    """Delete a change set, and the stack that exists only because this run created it for it.

    DeleteChangeSet leaves that stack in REVIEW_IN_PROGRESS. It stays if somebody has created
    another change set for it since: DeleteStack deletes those, too. Never raises: a run must not
    fail because it could not clean up.
    """
    stack = replace(stack, clock=Clock())  # Ctrl-C has stopped the run's own
    with contextlib.suppress(*AWS_ERRORS):
        for pause in (0.5, 1.0, 2.0, 4.0, 8.0, 0.0):
            try:
                stack.call("delete_change_set", retry_for=10, ChangeSetName=change_set.arn)
                break
            except ClientError as error:
                if error_code(error) != "InvalidChangeSetStatus":  # else it is still being created
                    break
            stack.clock.sleep(pause)
        if not change_set.created_stack:
            return
        description = stack.describe(change_set.stack_id, retry_for=10) or {}
        if description.get("StackStatus") != states.IN_REVIEW:  # somebody has deployed to it
            return
        if all(one["ChangeSetId"] == change_set.arn for one in _listed(stack, change_set.stack_id)):
            stack.call("delete_stack", retry_for=10, StackName=change_set.stack_id)


def _listed(stack: StackClient, stack_id: str) -> list[Mapping[str, Any]]:
    """Return the change sets of a stack that are not being deleted."""
    summaries = stack.items("list_change_sets", "Summaries", retry_for=10, StackName=stack_id)
    return [one for one in summaries if not str(one.get("Status")).startswith("DELETE_")]


def sweep(stack: StackClient, description: Mapping[str, Any]) -> bool:
    """Delete the change sets that killed runs left on a stack: their names tell the time.

    Returns True if the stack itself is such a remnant: in review, without other change sets.
    Never raises.
    """
    try:
        listed = _listed(stack, description["StackId"])
    except AWS_ERRORS:
        return False
    abandoned = [one for one in listed if _is_abandoned(one)]
    for one in abandoned:
        discard(stack, ChangeSet(one["ChangeSetId"], one["StackId"], "UPDATE", created_stack=False))
    return description["StackStatus"] == states.IN_REVIEW and 0 < len(abandoned) == len(listed)


def _is_abandoned(summary: Mapping[str, Any]) -> bool:
    name = re.search(rf"-{_MARK}-(\d{{8}}T\d{{6}}Z)-[0-9a-f]+$", summary["ChangeSetName"])
    if not name or summary.get("ExecutionStatus") not in ("AVAILABLE", "UNAVAILABLE"):
        return False
    created = datetime.strptime(name[1], _TIME).replace(tzinfo=UTC)
    return datetime.now(UTC) - created > _ABANDONED
