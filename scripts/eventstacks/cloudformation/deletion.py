"""Deletion: what it would take and leave, then those first that need the others."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks import documents
from eventstacks.aws import AWS_ERRORS, Clock
from eventstacks.cloudformation import failure, operation, order, schedule, stack_sets
from eventstacks.cloudformation.results import Listener, Result, Run
from eventstacks.cloudformation.stack import Remote
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef


@dataclass(frozen=True)
class Survey:
    """What deleting one stack in one region would do; ``stack`` is None when there is none."""

    ref: StackRef
    stack: Mapping[str, Any] | None = None
    deleted: Mapping[str, str] = field(default_factory=dict)  # logical id → type
    retained: Mapping[str, str] = field(
        default_factory=dict
    )  # logical id → physical id: these stay
    snapshots: tuple[str, ...] = ()  # logical ids of which a snapshot stays
    full_buckets: Mapping[str, str] = field(default_factory=dict)  # name → logical id
    importers: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # name of an export → stacks that import it
    # output → deployed stacks of the environment that use it (!Output) and are not deleted too
    consumers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problem: ToolError | None = None


def survey(aws: Aws, refs: Sequence[StackRef], *, clock: Clock | None = None) -> list[Survey]:
    """What ``delete`` would take and leave, in the order of ``refs``. Changes nothing. Raises aws.AccountError."""
    if aws.environment.stack_set:  # what is in other accounts cannot be looked into from here
        return [Survey(ref, {"StackStatus": "", "StackId": ""}) for ref in refs]

    consumers = _consumers(aws, refs, clock)

    def job(remote: Remote) -> Survey:
        try:
            found = _survey(aws, remote)
            return replace(found, consumers=consumers.get(remote.ref, {}))
        except (ToolError, *AWS_ERRORS) as error:
            return Survey(remote.ref, problem=failure.wrap(error, remote.ref))

    return schedule.everywhere(aws, refs, job, clock)


def _survey(aws: Aws, remote: Remote) -> Survey:
    ref, environment = remote.ref, aws.environment
    newest = remote.newest_root_event()
    if newest is None:
        return Survey(ref)
    # By its ARN: by name the answer can be an older stack that had this name.
    stack = remote.stack(newest["StackId"]) or {
        "StackId": newest["StackId"],
        "StackStatus": newest["ResourceStatus"],
    }
    if stack.get("EnableTerminationProtection") or environment.protect:
        raise failure.DeploymentError(
            "this stack is protected against deletion",
            where=str(ref),
            status=stack["StackStatus"],
            advice=f"Set 'protect: false' in {environment.path} and take its termination protection away:\n"
            f"aws cloudformation update-termination-protection --no-enable-termination-protection "
            f"--region {ref.region} --stack-name {ref.stack_name}",
        )
    template: Any = {}
    if stack["StackStatus"] != "REVIEW_IN_PROGRESS":
        template = remote.call(
            "get_template", StackName=stack["StackId"], TemplateStage="Processed"
        )["TemplateBody"]
    if isinstance(template, str):
        template = documents.parse_template(template, str(ref))
    declared = template.get("Resources") or {}
    held = [
        (one, _policy(declared.get(one["LogicalResourceId"]) or {}))
        for page in remote.pages("list_stack_resources", StackName=stack["StackId"])
        for one in page["StackResourceSummaries"]
        if one.get("ResourceStatus") != "DELETE_COMPLETE"
    ]
    gone = {
        one["LogicalResourceId"]: one["ResourceType"]
        for one, policy in held
        if not policy.startswith("Retain")
    }
    stays = {
        one["LogicalResourceId"]: one.get("PhysicalResourceId", "")
        for one, policy in held
        if policy.startswith("Retain")
    }
    snapshots = tuple(one["LogicalResourceId"] for one, policy in held if policy == "Snapshot")
    buckets = {
        one.get("PhysicalResourceId"): one["LogicalResourceId"]
        for one, policy in held
        if one["ResourceType"] == "AWS::S3::Bucket" and one["LogicalResourceId"] in gone
    }
    s3 = aws.client("s3", ref.region) if buckets else None
    full = {
        name: logical_id
        for name, logical_id in buckets.items()
        if name and _holds_objects(s3, name)
    }
    return Survey(ref, stack, gone, stays, snapshots, full, _importers(remote, stack))


def _consumers(
    aws: Aws, refs: Sequence[StackRef], clock: Clock | None
) -> dict[StackRef, dict[str, list[str]]]:
    """Stack to be deleted → its outputs → the deployed stacks outside of ``refs`` that use them."""
    chosen = set(refs)
    others = [ref for ref in aws.environment.choose() if ref not in chosen]
    others = [
        ref
        for ref in others
        if any(source in chosen for source, _ in aws.environment.references(ref).values())
    ]
    found: dict[StackRef, dict[str, list[str]]] = {}
    stacks = schedule.everywhere(aws, others, Remote.stack, clock)
    for ref, stack in zip(others, stacks, strict=True):
        if stack and stack["StackStatus"] not in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE"):
            for source, output in aws.environment.references(ref).values():
                if source in chosen and str(ref) not in found.get(source, {}).get(output, ()):
                    found.setdefault(source, {}).setdefault(output, []).append(str(ref))
    return found


def _policy(resource: Mapping[str, Any]) -> str:
    """What becomes of a resource of a template. Source: User Guide, 'DeletionPolicy attribute', for its defaults."""
    kind, is_of_cluster = (
        resource.get("Type"),
        "DBClusterIdentifier" in (resource.get("Properties") or {}),
    )
    is_database = kind == "AWS::RDS::DBCluster" or (
        kind == "AWS::RDS::DBInstance" and not is_of_cluster
    )
    return str(resource.get("DeletionPolicy", "Snapshot" if is_database else "Delete"))


def _importers(remote: Remote, stack: Mapping[str, Any]) -> dict[str, list[str]]:
    """Name of an export → names of the stacks that import it, for those of a stack that are imported.

    ListImports is refused for an export that nobody imports, and to whoever may not call it: then CloudFormation will
    say so when it is to delete. Source: API reference of ListImports.
    """
    found: dict[str, list[str]] = {}
    for name in (one["ExportName"] for one in stack.get("Outputs") or () if one.get("ExportName")):
        with contextlib.suppress(ClientError):
            found[name] = [
                one
                for page in remote.pages("list_imports", ExportName=name)
                for one in page["Imports"]
            ]
    return {name: stacks for name, stacks in found.items() if stacks}


def _holds_objects(s3: Any, bucket: str) -> bool:
    try:
        found = s3.list_object_versions(Bucket=bucket, MaxKeys=1)
    except ClientError:
        return False  # gone, or not ours to look into: CloudFormation will say
    return bool(found.get("Versions") or found.get("DeleteMarkers"))


def empty_bucket(s3: Any, bucket: str) -> int:
    """Deletes every version of every object; gives their number. Raises ToolError for those that cannot be deleted."""
    count = 0
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        objects = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for one in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        ]
        if objects:
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            if errors := answer.get("Errors"):
                raise ToolError(
                    f"{errors[0]['Key']} cannot be deleted: {errors[0].get('Message')}",
                    where=f"bucket {bucket}",
                )
            count += len(objects)
    return count


def delete(
    aws: Aws,
    surveys: Sequence[Survey],
    *,
    refs: Sequence[StackRef],
    empty_buckets: bool = False,
    retain: Sequence[str] = (),
    force: bool = False,
    listener: Listener | None = None,
    clock: Clock | None = None,
) -> list[Result]:
    """Deletes the stacks that ``survey`` found, the takers of an output before its givers.

    A bucket that holds objects is emptied only with ``empty_buckets``. A stack in DELETE_FAILED is tried again only
    with ``retain`` (logical ids to keep) or ``force`` (keep whatever cannot be deleted); a stack in any other state is
    left alone with these. Raises Interrupted after Ctrl-C; what goes wrong with one stack stands in its result.
    """
    time = clock or Clock()
    if aws.environment.stack_set:
        if retain or force:
            raise failure.DeploymentError(
                "stacks in many accounts are deleted whole: --retain and --force are for a stack in DELETE_FAILED",
                where=str(aws.environment.path),
            )
        return stack_sets.delete(aws, refs, listener or Listener(), time)
    run = Run(schedule.remotes(aws, refs, time), time, listener)
    found = {one.ref: one for one in surveys}
    forward = order.predecessors(aws.environment, refs)
    after: dict[StackRef, set[StackRef]] = {
        ref: {other for other in forward if ref in forward[other]} for ref in forward
    }

    def work(remote: Remote) -> Result:
        one, ref = found[remote.ref], remote.ref
        if one.problem:
            raise one.problem
        if one.stack is None:
            return Result(ref, "unchanged")
        stack_id = one.stack["StackId"]
        newest = remote.newest_root_event(stack_id)
        if newest is None or newest["ResourceStatus"] == "DELETE_COMPLETE":
            return Result(ref, "deleted", status="DELETE_COMPLETE")
        now = {**one.stack, "StackStatus": newest["ResourceStatus"]}
        if now["StackStatus"] == "DELETE_IN_PROGRESS" and not (retain or force):
            run.start(ref)
            running = operation.under_way(
                remote, stack_id
            )  # AWS accepts a second deletion, which does nothing
        else:
            arguments = _prepare(aws, remote, one, now, retain, force=force, empty=empty_buckets)
            running = operation.start(
                remote,
                "delete_stack",
                stack_id,
                begin=lambda: run.start(ref),
                StackName=stack_id,
                **arguments,
            )
        end = run.follow(remote, running, len(one.deleted) + len(one.retained))
        if end != "DELETE_COMPLETE":
            raise failure.of_operation(remote, running, end)
        return Result(ref, "deleted", status=end)

    return run.in_order(work, after, "not deleted, since {} takes its outputs")


def _prepare(
    aws: Aws,
    remote: Remote,
    one: Survey,
    now: Mapping[str, Any],
    retain: Sequence[str],
    *,
    force: bool,
    empty: bool,
) -> dict[str, Any]:
    """The arguments of DeleteStack, once nothing stands in its way any more. Raises DeploymentError for what does.

    Source: API reference of DeleteStack: RetainResources is for stacks in DELETE_FAILED, and so is DeletionMode. In any
    other state nothing could be kept: the stack would go with what the caller wanted to keep.
    """
    ref, status = one.ref, now["StackStatus"]
    if (retain or force) and status != "DELETE_FAILED":
        raise failure.keeping_nothing("delete", status, ref)
    if one.consumers:
        what = "; ".join(
            f"its output {name} is used by {', '.join(stacks)}"
            for name, stacks in one.consumers.items()
        )
        raise failure.DeploymentError(
            f"not deleted: {what}",
            code=ErrorCode.STACK_IN_USE,
            where=str(ref),
            status=status,
            advice="Delete these stacks first, or in the same run, or remove the !Output from "
            f"{aws.environment.path} and deploy them.",
        )
    # A bucket that is retained keeps what is in it, too.
    full = [name for name, logical_id in one.full_buckets.items() if logical_id not in retain]
    if full and not (empty or force):
        raise failure.DeploymentError(
            f"the bucket {full[0]} is not empty",
            where=str(ref),
            status=status,
            advice=f"To delete what is in it, too: {ref.command('delete', '--empty-buckets')}",
        )
    if status == "DELETE_FAILED" and not (retain or force or full):
        raise failure.DeploymentError(
            "its deletion has failed before",
            where=str(ref),
            status=status,
            advice=failure.advice(status, ref),
        )
    if one.importers and (
        left := _importers(remote, now)
    ):  # those before it may have been deleted since
        what = "; ".join(
            f"its export {name} is in use by {', '.join(stacks)}" for name, stacks in left.items()
        )
        raise failure.DeploymentError(
            f"not touched: {what}",
            code=ErrorCode.STACK_IN_USE,
            where=str(ref),
            status=status,
            advice="Delete those stacks first, or deploy them without it.",
        )
    for bucket in full if empty else ():
        empty_bucket(aws.client("s3", ref.region), bucket)
    return (
        {"RetainResources": list(retain)}
        if retain
        else {"DeletionMode": "FORCE_DELETE_STACK"}
        if force
        else {}
    )
