"""The life of a change set: make, wait, read, delete."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks.aws import AWS_ERRORS, Clock, error_code, error_message
from eventstacks.cloudformation import events, failure, noecho, parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from eventstacks.cloudformation.noecho import Secrets
    from eventstacks.cloudformation.options import Options
    from eventstacks.cloudformation.stack import Remote
    from eventstacks.environment import Environment, StackSettings

# Both wordings mean that there is nothing to do; the second comes from templates with transforms.
_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")
_OURS = "stacks-"
_NESTED = {events.NESTED, "AWS::Serverless::Application"}
_ABANDONED = timedelta(minutes=10)  # how old a change set must be to be taken for one that was left


def _host() -> str:
    """What tells the processes of this machine apart from those of any other by their numbers, as a short hash.

    A name is not enough: containers may have one name, or none of their own, and count their processes each for itself.
    After a new start the numbers are given again: what a run before it left is left to somebody who knows.
    Source: proc(5), random/boot_id; pid_namespaces(7).
    """
    parts = [platform.node(), str(getattr(os, "getuid", int)())]
    with contextlib.suppress(OSError):  # neither is there but on Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


_HOST = _host()


@dataclass(frozen=True)
class ChangeSet:
    """A change set that can be executed, or the knowledge that there is nothing to execute."""

    arn: str
    stack_id: str
    kind: str  # CREATE or UPDATE
    made_stack: bool  # this run brought the stack into REVIEW_IN_PROGRESS
    # ResourceChange; may be empty: outputs or tags may change alone. A nested stack is followed by the changes in it,
    # whose LogicalResourceId is Stack/Resource.
    changes: tuple[dict[str, Any], ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    drift: str = ""  # StackDriftStatus of a drift-aware change set
    unchanged: bool = False


def request(
    environment: Environment,
    settings: StackSettings,
    template: Mapping[str, Any],
    values: Mapping[str, str],
    stack: Mapping[str, Any] | None,
    options: Options,
) -> dict[str, Any]:
    """The arguments of CreateChangeSet, but for the template's body.

    Only values of the environment's file are sent, and UsePreviousValue for !Previous alone: what the file leaves out
    gets the template's Default, also when the stack holds an older value. What a stack was given once and the file no longer
    names (topics, alarms) is taken away.
    """
    held = stack or {"StackStatus": "DELETE_COMPLETE"}
    # A stack in review is there, but only a change set brought it into being, and nobody executed that.
    kind = (
        "CREATE" if held["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE") else "UPDATE"
    )
    found: dict[str, Any] = {
        "StackName": settings.stack_name,
        "ChangeSetType": kind,
        "Parameters": parameters.arguments(values, held, settings.stack_name),
        "Tags": [{"Key": name, "Value": value} for name, value in settings.tags.items()],
        "Capabilities": capabilities(template),
        **options.creating(kind),
    }
    if options.nested and _NESTED & _types(template):
        found["IncludeNestedStacks"] = True
    if settings.role:
        found["RoleARN"] = settings.role
    if environment.notifications or held.get("NotificationARNs"):
        found["NotificationARNs"] = list(environment.notifications)
    alarms, minutes = settings.rollback_alarms, settings.rollback_minutes
    if alarms or minutes or any((held.get("RollbackConfiguration") or {}).values()):
        found["RollbackConfiguration"] = {
            "RollbackTriggers": [{"Arn": arn, "Type": "AWS::CloudWatch::Alarm"} for arn in alarms],
            "MonitoringTimeInMinutes": minutes,
        }
    return found


def _types(template: Mapping[str, Any]) -> set[str]:
    return {
        str(one.get("Type"))
        for one in (template.get("Resources") or {}).values()
        if isinstance(one, dict)
    }


def capabilities(template: Mapping[str, Any]) -> list[str]:
    """What the template needs to be granted; the plan shows what it does with it."""
    expands = (
        events.NESTED in _types(template)
        or "Transform" in template
        or "Fn::Transform" in str(template)
    )
    iam = expands or any(one.startswith("AWS::IAM::") for one in _types(template))
    return (["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"] if iam else []) + (
        ["CAPABILITY_AUTO_EXPAND"] if expands else []
    )


def make(
    remote: Remote, arguments: dict[str, Any], secrets: Secrets, *, stack_was_there: bool
) -> ChangeSet:
    """Makes a change set, waits for it and reads it whole. One without changes is deleted and comes back ``unchanged``.

    What comes back holds no value of ``secrets``, nor do the errors.
    Raises failure.DeploymentError when it fails; nothing is left behind then, nor when the waiting is stopped.
    """
    kind, stack_name = arguments["ChangeSetType"], arguments["StackName"]
    # The stack's name comes first: IAM judges a change set by its own ARN, which says nothing of the stack otherwise.
    name = f"{stack_name[:80]}-{_OURS}{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
    try:
        made = remote.call("create_change_set", ChangeSetName=name, ClientToken=name, **arguments)
        arn, stack_id = made["Id"], made["StackId"]
    except ClientError as error:
        if error_code(error) != "AlreadyExistsException" or name not in error_message(error):
            raise
        # The answer was lost, and the call was made a second time: the name is ours alone.
        found = remote.call("describe_change_set", ChangeSetName=name, StackName=stack_name)
        arn, stack_id = found["ChangeSetId"], found["StackId"]
    pending = ChangeSet(arn, stack_id, kind, made_stack=kind == "CREATE" and not stack_was_there)
    which = {"ChangeSetName": arn, "IncludePropertyValues": True}
    try:
        found = remote.until(
            lambda answer: answer["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"),
            "describe_change_set",
            longest=1.0,
            **which,
        )
        if found["Status"] == "FAILED":
            reason = found.get("StatusReason") or "AWS gives no reason"
            if not any(words in reason for words in _NO_CHANGE):
                raise failure.of_change_set(remote, arn, reason)  # noqa: TRY301 - tidied up below
            discard(remote, pending)
            return replace(pending, made_stack=False, unchanged=True)
        token = found.get("NextToken")
        rest = remote.pages("describe_change_set", NextToken=token, **which) if token else ()
        changes = tuple(map(secrets.change, _changes(remote, chain([found], rest))))
    except BaseException:
        discard(remote, pending)
        raise
    return replace(
        pending,
        drift=found.get("StackDriftStatus", ""),
        changes=changes,
        parameters={
            one["ParameterKey"]: noecho.MASK
            if one["ParameterKey"] in secrets.parameters
            else one.get("ResolvedValue") or one.get("ParameterValue", "")
            for one in found.get("Parameters") or ()
        },
    )


def _changes(
    remote: Remote, pages: Iterable[Mapping[str, Any]], path: str = ""
) -> Iterator[dict[str, Any]]:
    """The changes of a change set, and after that of a nested stack those of its own change set."""
    listed = (one for page in pages for one in page.get("Changes") or ())
    for change in (one["ResourceChange"] for one in listed if "ResourceChange" in one):
        name = path + change["LogicalResourceId"]
        yield {**change, "LogicalResourceId": name}
        if nested := change.get("ChangeSetId"):
            inner = remote.pages(
                "describe_change_set", ChangeSetName=nested, IncludePropertyValues=True
            )
            yield from _changes(remote, inner, f"{name}/")


def discard(remote: Remote, change_set: ChangeSet) -> None:
    """Deletes a change set, and the stack that exists only because of it when this run made it.

    DeleteChangeSet leaves that stack in REVIEW_IN_PROGRESS. It stays when somebody has made another change set for it
    since: DeleteStack takes those, too. Never raises: a run must not fail, nor end differently, for what it could not
    tidy.
    """
    remote = replace(remote, clock=Clock())  # Ctrl-C has stopped the run's own
    with contextlib.suppress(*AWS_ERRORS):
        for pause in (0.5, 1.0, 2.0, 4.0, 8.0, 0.0):
            try:
                remote.call("delete_change_set", retry_for=10, ChangeSetName=change_set.arn)
                break
            except ClientError as error:
                if (
                    error_code(error) != "InvalidChangeSetStatus"
                ):  # still being made: it cannot be deleted yet
                    break
            remote.clock.sleep(pause)
        stack = remote.stack(change_set.stack_id, retry_for=10) if change_set.made_stack else None
        if (
            not stack or stack["StackStatus"] != "REVIEW_IN_PROGRESS"
        ):  # somebody has put something in it
            return
        if not [
            one
            for one in _held(remote, change_set.stack_id)
            if one["ChangeSetId"] != change_set.arn
        ]:
            remote.call("delete_stack", retry_for=10, StackName=change_set.stack_id)


def _held(remote: Remote, stack_id: str) -> list[Mapping[str, Any]]:
    """The change sets of a stack, but for those that are being deleted."""
    pages = remote.pages("list_change_sets", retry_for=10, StackName=stack_id)
    found = [one for page in pages for one in page.get("Summaries") or ()]
    return [one for one in found if not str(one.get("Status")).startswith("DELETE_")]


def sweep(remote: Remote, stack: Mapping[str, Any]) -> bool:
    """Deletes the change sets that a killed run of this machine left on a stack: their names tell whose they are.

    Whether the stack itself is such a left-over: in review, with nobody else's change set. Never raises.
    """
    try:
        found = _held(remote, stack["StackId"])
    except AWS_ERRORS:
        return False
    ours = [
        one
        for one in found
        if one.get("ExecutionStatus") in ("AVAILABLE", "UNAVAILABLE") and _orphaned(one)
    ]
    for one in ours:
        discard(remote, ChangeSet(one["ChangeSetId"], one["StackId"], "UPDATE", made_stack=False))
    return stack["StackStatus"] == "REVIEW_IN_PROGRESS" and 0 < len(ours) == len(found)


def _orphaned(summary: Mapping[str, Any]) -> bool:
    maker = re.fullmatch(rf"(?:.+-)?{_OURS}{_HOST}-(\d+)-[0-9a-f]+", summary["ChangeSetName"])
    made = summary.get("CreationTime")
    if not maker or not made or datetime.now(UTC) - made < _ABANDONED:
        return False
    try:
        os.kill(int(maker[1]), 0)  # signals nobody; says whether there is such a process
    except OSError as error:
        return isinstance(
            error, ProcessLookupError
        )  # any other: it runs, and is not ours to signal
    return False
