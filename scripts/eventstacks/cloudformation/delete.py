"""Delete stacks: preview what is deleted and retained, then delete in reverse dependency order."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from botocore.exceptions import ClientError

from eventstacks.aws import Aws, Clock
from eventstacks.cloudformation import failure, inspect, operation, outputs
from eventstacks.cloudformation.plan import deployed_template
from eventstacks.cloudformation.run import Preview, Result, Scope
from eventstacks.cloudformation.stack import DELETED, IN_REVIEW, NOT_DEPLOYED, StackClient
from eventstacks.environment import Environment, StackRef
from eventstacks.errors import ErrorCode, ToolError


def preview(scope: Scope) -> list[Preview]:
    """Return what ``delete`` would delete and keep.

    Changes nothing. Raises ToolError for the wrong account.
    """
    consumers = _consumers(scope)
    return scope.for_each(
        lambda stack: _preview(scope.aws, stack, consumers.get(stack.ref, {})), Preview
    )


def _preview(aws: Aws, stack: StackClient, consumers: Mapping[str, Sequence[str]]) -> Preview:
    ref, environment = stack.ref, aws.environment
    newest = stack.newest_root_event()
    if newest is None or newest["ResourceStatus"] == DELETED:
        return Preview(ref)
    # By its ARN: by name the answer can be an older stack that had this name.
    stack_id, status = newest["StackId"], newest["ResourceStatus"]
    description = stack.describe(stack_id) or {"StackId": stack_id, "StackStatus": status}
    if description.get("EnableTerminationProtection") or environment.protect:
        raise failure.DeploymentError(
            "the stack is protected against deletion",
            code=ErrorCode.STACK_PROTECTED,
            where=str(ref),
            status=status,
            advice=f"Set 'protect: false' in {environment.path} and remove its protection:\n"
            "aws cloudformation update-termination-protection --no-enable-termination-protection "
            f"--region {ref.region} --stack-name {ref.stack_name}",
        )
    resources = _resources(stack, stack_id, status)
    deleted = {name: one for name, one in resources.items() if not one[2].startswith("Retain")}
    buckets = [id_ for kind, id_, _ in deleted.values() if kind == "AWS::S3::Bucket" and id_]
    s3 = aws.client("s3", ref.region) if buckets else None
    return Preview(
        ref,
        description,
        {name: kind for name, (kind, *_) in deleted.items()},
        {name: id_ for name, (_, id_, _) in resources.items() if name not in deleted},
        tuple(name for name, (*_, policy) in deleted.items() if policy == "Snapshot"),
        tuple(bucket for bucket in buckets if _holds_objects(s3, bucket)),
        _importers(stack, description),
        consumers,
    )


def _resources(stack: StackClient, stack_id: str, status: str) -> dict[str, tuple[str, str, str]]:
    """Return logical id → type, physical id and DeletionPolicy of the resources that exist."""
    template = {} if status == IN_REVIEW else deployed_template(stack, stack_id, "Processed")
    declared = template.get("Resources") or {}
    listed = stack.items("list_stack_resources", "StackResourceSummaries", StackName=stack_id)
    return {
        (name := one["LogicalResourceId"]): (
            one["ResourceType"],
            one.get("PhysicalResourceId", ""),
            str((declared.get(name) or {}).get("DeletionPolicy")),
        )
        for one in listed
        if one.get("ResourceStatus") != DELETED
    }


def _consumers(scope: Scope) -> dict[StackRef, dict[str, list[str]]]:
    """Return stack to delete → its outputs → the deployed stacks that stay and use them."""
    refs = scope.refs
    others = {
        ref: used
        for ref, uses in outputs.uses(scope.aws.environment).items()
        if ref not in refs and (used := {one for one in uses if one[0] in refs})
    }
    found: dict[StackRef, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for one in inspect.status(replace(scope, refs=list(others))):
        # A stack that cannot be read (UNKNOWN) counts as deployed.
        if one.status not in (IN_REVIEW, NOT_DEPLOYED):
            for giver, output in others[one.ref]:
                found[giver][output].append(str(one.ref))
    return found


def _importers(stack: StackClient, description: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return export → names of the stacks that import it.

    ListImports is refused for an export without importers, and without permission: then
    CloudFormation refuses the deletion itself. Source: API Reference of ListImports.
    """
    found = {}
    for output in description.get("Outputs") or ():
        if name := output.get("ExportName"):
            with contextlib.suppress(ClientError):
                found[name] = list(stack.items("list_imports", "Imports", ExportName=name))
    return {name: importers for name, importers in found.items() if importers}


def _holds_objects(s3: Any, bucket: str) -> bool:
    try:
        found = s3.list_object_versions(Bucket=bucket, MaxKeys=1)
    except ClientError:
        return False  # missing, or permission denied: CloudFormation will say so
    return bool(found.get("Versions") or found.get("DeleteMarkers"))


def empty_bucket(s3: Any, bucket: str, clock: Clock) -> None:
    """Delete every version of every object. Raises ToolError if AWS refuses, and Cancelled."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        clock.sleep(0)  # raises Cancelled after Ctrl-C
        objects = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for one in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        ]
        if objects:
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            for error in answer.get("Errors") or ():
                raise ToolError(
                    f"cannot delete {error['Key']}: {error.get('Message')}",
                    code=ErrorCode.AWS_ERROR,
                    where=f"bucket {bucket}",
                )


def delete(
    scope: Scope, previews: Sequence[Preview], *, empty_buckets: bool = False
) -> list[Result]:
    """Delete the stacks of ``preview``, those that use an output before those that have it.

    A bucket with objects is emptied only with ``empty_buckets``. Raises Interrupted after Ctrl-C;
    the error of one stack is in its result.
    """

    def job(stack: StackClient, found: Preview) -> Result:
        if found.stack is None:
            return Result(stack.ref, "unchanged")
        stack_id = found.stack["StackId"]
        newest = stack.newest_root_event(stack_id)  # the preview can be minutes old
        status = newest["ResourceStatus"] if newest else DELETED
        if status == DELETED:
            return Result(stack.ref, "deleted", status=status)
        if status == "DELETE_IN_PROGRESS":
            scope.start(stack.ref)  # AWS accepts a second deletion, which does nothing
            running = operation.in_progress(stack, found.stack)
        else:
            _check(stack, found, status, empty=empty_buckets)
            for bucket in found.full_buckets:
                empty_bucket(scope.aws.client("s3", stack.ref.region), bucket, stack.clock)
            running = operation.start(
                stack,
                "delete_stack",
                stack_id,
                on_start=lambda: scope.start(stack.ref),
                StackName=stack_id,
            )
        end = scope.follow_operation(stack, running, len(found.deleted) + len(found.retained))
        if end != DELETED:
            raise failure.of_operation(stack, running, end)
        return Result(stack.ref, "deleted", status=end)

    before = _reverse_order(scope.aws.environment, previews)
    return scope.work(previews, job, before, "not deleted: {} depends on it")


def _reverse_order(
    environment: Environment, previews: Sequence[Preview]
) -> dict[StackRef, set[StackRef]]:
    """Return for each stack those that are deleted before it: they use its outputs or exports."""
    refs = [one.ref for one in previews]
    forward = outputs.predecessors(environment, refs, outputs.uses(environment))
    before = {ref: {other for other in refs if ref in forward[other]} for ref in refs}
    for one in previews:
        names = {name for importers in one.importers.values() for name in importers}
        before[one.ref] |= {
            ref
            for ref in refs
            if ref != one.ref and ref.region == one.ref.region and ref.stack_name in names
        }
    return before


def _check(stack: StackClient, found: Preview, status: str, *, empty: bool) -> None:
    """Raise DeploymentError if the stack cannot be deleted.

    Importers and consumers come first: a bucket must not be emptied for a deletion that fails.
    """
    ref = found.ref
    in_use = [
        f"its output {name} is used by {', '.join(users)}"
        for name, users in found.consumers.items()
    ]
    if found.importers:  # those before it can have been deleted since the preview
        in_use += [
            f"its export {name} is imported by {', '.join(users)}"
            for name, users in _importers(stack, found.stack or {}).items()
        ]
    if in_use:
        raise failure.DeploymentError(
            f"not deleted: {'; '.join(in_use)}",
            code=ErrorCode.STACK_IN_USE,
            where=str(ref),
            status=status,
            advice="Delete these stacks first or in the same run, or deploy them without it.",
        )
    if found.full_buckets and not empty:
        raise failure.DeploymentError(
            f"bucket {next(iter(found.full_buckets))} is not empty",
            code=ErrorCode.STACK_IN_USE,
            where=str(ref),
            status=status,
            advice=f"To delete its objects too: {ref.command('delete', '--empty-buckets')}",
        )
