"""Delete stacks: preview what is deleted and retained, then delete in reverse dependency order."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks.cloudformation import failure, operation, order, states
from eventstacks.cloudformation.plan import deployed_template
from eventstacks.cloudformation.run import Result, Run, Scope
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventstacks.aws import Aws
    from eventstacks.cloudformation.stack import StackClient
    from eventstacks.environment import StackRef


@dataclass(frozen=True)
class Preview:
    """What deleting one stack would do; ``stack`` is None if it does not exist."""

    ref: StackRef
    stack: Mapping[str, Any] | None = None
    deleted: Mapping[str, str] = field(default_factory=dict)  # logical id → type
    retained: Mapping[str, str] = field(default_factory=dict)  # logical id → physical id
    snapshots: tuple[str, ...] = ()  # logical ids of which a snapshot is kept
    full_buckets: Mapping[str, str] = field(default_factory=dict)  # name → logical id
    importers: Mapping[str, Sequence[str]] = field(default_factory=dict)  # export → stacks
    # output → deployed stacks of the environment that use it (!Output) and are not deleted too
    consumers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problem: ToolError | None = None


def preview(scope: Scope) -> list[Preview]:
    """Return what ``delete`` would delete and keep. Changes nothing. Raises ToolError for the wrong account."""
    consumers = _consumers(scope)

    def job(stack: StackClient) -> Preview:
        return _preview(scope.aws, stack, consumers.get(stack.ref, {}))

    return scope.for_each(job, lambda ref, error: Preview(ref, problem=error))


def _preview(aws: Aws, stack: StackClient, consumers: Mapping[str, Sequence[str]]) -> Preview:
    ref, environment = stack.ref, aws.environment
    newest = stack.newest_root_event()
    if newest is None:
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
    template = {} if status == states.IN_REVIEW else deployed_template(stack, stack_id, "Processed")
    declared = template.get("Resources") or {}
    deleted, retained, snapshots, buckets = dict[str, str](), dict[str, str](), [], dict[str, str]()
    summaries = stack.items("list_stack_resources", "StackResourceSummaries", StackName=stack_id)
    for one in summaries:
        name, kind = one["LogicalResourceId"], one["ResourceType"]
        physical_id, policy = one.get("PhysicalResourceId", ""), _policy(declared.get(name) or {})
        if one.get("ResourceStatus") == states.DELETED:
            continue
        if policy.startswith("Retain"):
            retained[name] = physical_id
            continue
        deleted[name] = kind
        if policy == "Snapshot":
            snapshots.append(name)
        if kind == "AWS::S3::Bucket" and physical_id:
            buckets[physical_id] = name
    s3 = aws.client("s3", ref.region) if buckets else None
    return Preview(
        ref,
        description,
        deleted,
        retained,
        tuple(snapshots),
        {bucket: name for bucket, name in buckets.items() if _holds_objects(s3, bucket)},
        _importers(stack, description),
        consumers,
    )


def _policy(resource: Mapping[str, Any]) -> str:
    """Return the deletion policy. Source of its defaults: User Guide, 'DeletionPolicy attribute'."""
    kind, properties = resource.get("Type"), resource.get("Properties") or {}
    is_database = kind == "AWS::RDS::DBCluster" or (
        kind == "AWS::RDS::DBInstance" and "DBClusterIdentifier" not in properties
    )
    return str(resource.get("DeletionPolicy", "Snapshot" if is_database else "Delete"))


def _consumers(scope: Scope) -> dict[StackRef, dict[str, list[str]]]:
    """Return stack to delete → its outputs → the deployed stacks that stay and use them."""
    refs = scope.refs
    others = {
        ref: used
        for ref, outputs in order.uses(scope.aws.environment, None).items()
        if ref not in refs and (used := {one for one in outputs if one[0] in refs})
    }
    found: dict[StackRef, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))

    def job(stack: StackClient) -> tuple[StackRef, bool]:
        description = stack.describe() or {"StackStatus": states.DELETED}
        return stack.ref, description["StackStatus"] not in (states.IN_REVIEW, states.DELETED)

    # A stack that cannot be read counts as deployed.
    for ref, is_deployed in scope.for_each(job, lambda ref, _: (ref, True), others):
        for giver, output in others[ref] if is_deployed else ():
            found[giver][output].append(str(ref))
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


def empty_bucket(s3: Any, bucket: str) -> int:
    """Delete every version of every object; return their number. Raises ToolError if AWS refuses."""
    count = 0
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
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
            count += len(objects)
    return count


def delete(
    scope: Scope,
    previews: Sequence[Preview],
    *,
    empty_buckets: bool = False,
    retain: Sequence[str] = (),
    force: bool = False,
) -> list[Result]:
    """Delete the stacks of ``preview``, those that use an output before those that have it.

    A bucket with objects is emptied only with ``empty_buckets``. A stack in DELETE_FAILED is
    deleted again only with ``retain`` (logical ids to keep) or ``force`` (keep what cannot be
    deleted); a stack in another state is not changed with these. Raises Interrupted after Ctrl-C;
    the error of one stack is in its result.
    """
    aws, run = scope.aws, Run(scope)
    by_ref = {one.ref: one for one in previews}

    def job(stack: StackClient) -> Result:
        ref, found = stack.ref, by_ref[stack.ref]
        if found.problem:
            raise found.problem
        if found.stack is None:
            return Result(ref, "unchanged")
        stack_id = found.stack["StackId"]
        newest = stack.newest_root_event(stack_id)  # the preview can be minutes old
        status = newest["ResourceStatus"] if newest else states.DELETED
        if status == states.DELETED:
            return Result(ref, "deleted", status=status)
        if status == "DELETE_IN_PROGRESS" and not (retain or force):
            run.start(ref)  # AWS accepts a second deletion, which does nothing
            running = operation.in_progress(stack, found.stack)
        else:
            arguments = _arguments(
                aws, stack, found, status, retain, force=force, empty=empty_buckets
            )
            running = operation.start(
                stack,
                "delete_stack",
                stack_id,
                on_start=lambda: run.start(ref),
                StackName=stack_id,
                **arguments,
            )
        end = run.follow(stack, running, len(found.deleted) + len(found.retained))
        if end != states.DELETED:
            raise failure.of_operation(stack, running, end)
        return Result(ref, "deleted", status=end)

    return run.work(job, _reverse_order(aws, previews), "not deleted: {} depends on it")


def _reverse_order(aws: Aws, previews: Sequence[Preview]) -> dict[StackRef, set[StackRef]]:
    """Return for each stack those that are deleted before it: they use its outputs or exports."""
    refs = [one.ref for one in previews]
    forward = order.predecessors(aws.environment, refs)
    before = {ref: {other for other in refs if ref in forward[other]} for ref in refs}
    for one in previews:
        names = {name for importers in one.importers.values() for name in importers}
        before[one.ref] |= {
            ref
            for ref in refs
            if ref != one.ref and ref.region == one.ref.region and ref.stack_name in names
        }
    return before


def _arguments(
    aws: Aws,
    stack: StackClient,
    found: Preview,
    status: str,
    retain: Sequence[str],
    *,
    force: bool,
    empty: bool,
) -> dict[str, Any]:
    """Return the arguments of DeleteStack. Raises DeploymentError if the stack cannot be deleted.

    Source: API Reference of DeleteStack: RetainResources and DeletionMode are for stacks in
    DELETE_FAILED. In another state nothing could be kept.
    """
    ref = found.ref
    if (retain or force) and status != "DELETE_FAILED":
        raise failure.cannot_retain("delete", status, ref)
    # Importers and consumers come first: a bucket must not be emptied for a deletion that fails.
    _check_unused(stack, found, status)
    # A bucket that is retained keeps its objects.
    full = [bucket for bucket, name in found.full_buckets.items() if name not in retain]
    if full and not (empty or force):
        raise failure.DeploymentError(
            f"bucket {full[0]} is not empty",
            code=ErrorCode.STACK_IN_USE,
            where=str(ref),
            status=status,
            advice=f"To delete its objects too: {ref.command('delete', '--empty-buckets')}",
        )
    if status == "DELETE_FAILED" and not (retain or force or full):
        raise failure.refused("its deletion has failed before", status, ref)
    for bucket in full if empty else ():
        empty_bucket(aws.client("s3", ref.region), bucket)
    if retain:
        return {"RetainResources": list(retain)}
    return {"DeletionMode": "FORCE_DELETE_STACK"} if force else {}


def _check_unused(stack: StackClient, found: Preview, status: str) -> None:
    """Raise DeploymentError if stacks use an output or import an export."""
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
            where=str(found.ref),
            status=status,
            advice="Delete these stacks first or in the same run, or deploy them without it.",
        )
