"""Change sets.

Request, creation, reading without secrets, execution, deletion of what is unused.
"""

import contextlib
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import ClientError

from eventstacks.aws import AWS_ERRORS, Clock, error_code, wait_for
from eventstacks.cloudformation import failure, operation
from eventstacks.cloudformation.operation import Operation
from eventstacks.cloudformation.stack import IN_REVIEW, MASK, StackClient

# Both wordings mean that there is nothing to do; the second comes from templates with transforms.
_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")
# Of a property in a change set, and in the answer of drift detection.
_VALUES = ("BeforeValue", "AfterValue", "ExpectedValue", "ActualValue")


@dataclass(frozen=True)
class Options:
    """What ``deploy`` accepts."""

    disable_rollback: bool = False
    nested: bool = True
    allow_replace: Collection[str] = ()  # logical ids


@dataclass(frozen=True)
class ChangeSet:
    """A change set that can be executed."""

    arn: str
    stack_id: str
    kind: str  # CREATE or UPDATE
    # ResourceChange; can be empty: outputs or tags can change alone. A nested stack is followed by
    # the changes in it, whose LogicalResourceId is Stack/Resource.
    changes: tuple[dict[str, Any], ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


def create(stack: StackClient, arguments: dict[str, Any], secrets: "Secrets") -> ChangeSet | None:
    """Create a change set, wait for it and read it whole; the result holds no secret.

    Returns None if there are no changes. Raises failure.DeploymentError if it fails. Nothing is
    left behind then, nor if waiting is interrupted.
    """
    stack_name = arguments["StackName"]
    # The stack's name comes first: IAM policies on change sets see only this name.
    name = f"{stack_name[:80]}-eventstacks-{uuid.uuid4().hex}"
    try:
        answer = stack.call("create_change_set", ChangeSetName=name, ClientToken=name, **arguments)
    except ClientError as error:
        if error_code(error) != "AlreadyExistsException":
            raise
        # The first answer was lost and the call was repeated: only this run uses the name.
        answer = stack.call("describe_change_set", ChangeSetName=name, StackName=stack_name)
    arn = answer.get("Id") or answer["ChangeSetId"]
    pending = ChangeSet(arn, answer["StackId"], arguments["ChangeSetType"])
    try:
        return _read(stack, pending, secrets)
    except BaseException:
        discard(stack, pending)
        raise


def _wait(stack: StackClient, arn: str) -> Any:
    """Return the first page of DescribeChangeSet when the change set is created, or has failed."""
    return wait_for(
        lambda one: one["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"),
        stack.client.describe_change_set,
        clock=stack.clock,
        longest=1.0,
        ChangeSetName=arn,
        IncludePropertyValues=True,
    )


def _read(stack: StackClient, pending: ChangeSet, secrets: "Secrets") -> ChangeSet | None:
    """Wait for a change set and return it with its changes; delete one that has none."""
    answer = _wait(stack, pending.arn)
    if answer["Status"] == "FAILED":
        reason = answer.get("StatusReason") or "AWS gives no reason"
        if not any(words in reason for words in _NO_CHANGE):
            raise failure.of_change_set(stack, pending.arn, reason)
        discard(stack, pending)
        return None
    parameters = {
        one["ParameterKey"]: one.get("ResolvedValue") or one.get("ParameterValue", "")
        for one in answer.get("Parameters") or ()
    }
    return replace(
        pending,
        changes=tuple(map(secrets.change, _changes(stack, answer))),
        parameters=parameters | dict.fromkeys(parameters.keys() & secrets.parameters, MASK),
    )


def _changes(stack: StackClient, page: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Yield the changes of a change set, each nested stack followed by the changes in it.

    ``page``: the first one of DescribeChangeSet.
    """
    arguments = {"ChangeSetName": page["ChangeSetId"], "IncludePropertyValues": True}
    for each in stack.pages("describe_change_set", page, **arguments):
        for entry in each.get("Changes") or ():
            if change := entry.get("ResourceChange"):
                name = path + change["LogicalResourceId"]
                yield {**change, "LogicalResourceId": name}
                if nested := change.get("ChangeSetId"):
                    yield from _changes(stack, _wait(stack, nested), f"{name}/")


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


def discard(stack: StackClient, change_set: ChangeSet, *, keep_stack: bool = False) -> None:
    """Delete a change set, and the stack in REVIEW_IN_PROGRESS that exists only for it.

    That stack stays with ``keep_stack``, or if somebody has created another change set for it:
    DeleteStack deletes those, too. Never raises: a run must not fail because it could not clean up.
    """
    stack = replace(stack, clock=Clock())  # Ctrl-C has stopped the run's own
    with contextlib.suppress(*AWS_ERRORS):
        try:
            stack.call("delete_change_set", retry_for=10, ChangeSetName=change_set.arn)
        except ClientError as error:
            if error_code(error) == "InvalidChangeSetStatus":  # it is still being created
                _wait(stack, change_set.arn)
                stack.call("delete_change_set", retry_for=10, ChangeSetName=change_set.arn)
        stack_id = change_set.stack_id
        if keep_stack or change_set.kind == "UPDATE":
            return
        others = stack.items("list_change_sets", "Summaries", retry_for=10, StackName=stack_id)
        if any(
            one["ChangeSetId"] != change_set.arn and not one["Status"].startswith("DELETE_")
            for one in others
        ):
            return
        newest = stack.newest_root_event(stack_id, retry_for=10) or {}
        if newest.get("ResourceStatus") == IN_REVIEW:  # else somebody has deployed to it
            stack.call("delete_stack", retry_for=10, StackName=stack_id)


# --- what must not be shown ------------------------------------------------------------------


def _tainted(template: Mapping[str, Any], secret: set[str]) -> set[str]:
    """Return every ``Resource.Property`` made from a secret parameter.

    An attribute named like such a property (``!GetAtt Parameter.Value``) passes the secret on.
    """
    texts = {  # a resource's Metadata counts as a property
        f"{name}.{key}": json.dumps(value, default=str)
        for name, one in (template.get("Resources") or {}).items()
        if isinstance(one, dict)
        for key, value in {**one, **(one.get("Properties") or {})}.items()
    }
    found, added = set[str](), set(secret)
    while added:
        found |= added
        attributes = [name for name in found if "." in name]
        uses = [json.dumps({"Ref": name}) for name in found] + [f"${{{name}}}" for name in found]
        for form in (attributes, [name.split(".", 1) for name in attributes]):
            uses += [json.dumps({"Fn::GetAtt": one}) for one in form]
        added = {name for name, text in texts.items() if any(one in text for one in uses)} - found
    return found - secret


class Secrets:
    """What must not be shown of a change set: made from the templates before and after it.

    ``values``: parameter → value as sent. ``templates``: the new one, and the deployed one. The
    secret values are added to those that the stack masks.
    """

    def __init__(
        self, stack: StackClient, values: Mapping[str, str | None], *templates: Mapping[str, Any]
    ) -> None:
        self.stack = stack
        self.parameters, self.properties = set[str](), set[str]()  # NoEcho; Resource.Property
        for template in templates:
            declared = (template.get("Parameters") or {}).items()
            secret = {name for name, one in declared if str(one.get("NoEcho")).lower() == "true"}
            self.parameters |= secret
            self.properties |= _tainted(template, secret)
        stack.secrets.update(values[name] or "" for name in self.parameters & values.keys())

    def change(self, change: Mapping[str, Any]) -> dict[str, Any]:
        """Mask a ResourceChange whose LogicalResourceId is the path through nested stacks.

        A property made from a secret is masked as a whole, before and after: the value before is
        not known here. In a nested stack that gets a secret, all values are masked.
        """
        name = change["LogicalResourceId"]
        contexts = ("BeforeContext", "AfterContext")
        return {
            **change,
            **self._masked(change, ("PhysicalResourceId",), hidden=False),
            **self._masked(change, contexts, hidden=bool(self._owned(name))),
            "Details": [
                {**one, "Target": self.property(name, one.get("Target") or {})}
                for one in change.get("Details") or ()
            ],
        }

    def property(self, resource: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Mask the values of a property: of the Target of a change, or a PropertyDifference."""
        path = str(given.get("Path") or given.get("PropertyPath") or "").strip("/")
        name = path.removeprefix("Properties/").split("/")[0] or given.get("Name")
        owned = self._owned(resource)
        hidden = (name or given.get("Attribute")) in owned or bool(owned and "/" in resource)
        return dict(given) | self._masked(given, _VALUES, hidden=hidden)

    def _owned(self, resource: str) -> set[str]:
        """Return the secret properties of a resource, or of the nested stack that contains it."""
        outer = resource.partition("/")[0]
        return {one.split(".")[1] for one in self.properties if one.startswith(f"{outer}.")}

    def _masked(
        self, given: Mapping[str, Any], keys: Sequence[str], *, hidden: bool
    ) -> dict[str, Any]:
        """Return the values of ``keys`` masked, as a whole if ``hidden``."""
        values = {key: str(given[key]) for key in keys if key in given}
        return {k: MASK if hidden else self.stack.mask(v) for k, v in values.items()}
