"""Deletion: what it would take and leave, then those first that need the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from scripts import documents
from scripts.cloudformation import calls, failure, operation, order, results, schedule
from scripts.cloudformation.calls import Clock, Stopped
from scripts.cloudformation.place import Place
from scripts.cloudformation.results import Interrupted, Listener, Result, Tracker
from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.aws import Aws
    from scripts.cloudformation.order import Key, Pair
    from scripts.environment import Environment


@dataclass(frozen=True)
class Survey:
    """What deleting one stack in one region would do; ``stack`` is None when there is none."""

    place: Place
    stack: Mapping[str, Any] | None = None
    deleted: Mapping[str, str] = field(default_factory=dict)  # logical id → type
    retained: Mapping[str, str] = field(default_factory=dict)  # logical id → physical id: these stay
    snapshots: tuple[str, ...] = ()  # logical ids of which a snapshot stays
    full_buckets: tuple[str, ...] = ()  # names
    problem: ToolError | None = None


def survey(aws: Aws, environment: Environment, pairs: Sequence[Pair], *, clock: Clock | None = None) -> list[Survey]:
    """What ``delete`` would take and leave, in the order of ``pairs``. Changes nothing. Raises aws.AccountError."""
    if environment.stack_set:  # what is in other accounts cannot be looked into from here
        return [Survey(Place.of(environment, pair), {"StackStatus": "", "StackId": ""}) for pair in pairs]
    time = clock or Clock()
    return schedule.everywhere(
        aws, pairs, lambda place, client: _survey(aws, environment, place, client, time), clock=time
    )


def _survey(aws: Aws, environment: Environment, place: Place, client: Any, clock: Clock) -> Survey:
    try:
        stack = calls.find_stack(client, place.stack_name, clock=clock)
        if stack is None:
            return Survey(place)
        if stack.get("EnableTerminationProtection") or environment.protect:
            raise failure.DeploymentError(
                "this stack is protected against deletion", where=str(place), status=stack["StackStatus"],
                advice=f"Set 'protect: false' in {environment.path} and take its termination protection away:\n"
                       f"aws cloudformation update-termination-protection --no-enable-termination-protection "
                       f"--region {place.region} --stack-name {place.stack_name}",
            )  # fmt: skip
        held: dict[str, Any] = {}
        for page in client.get_paginator("list_stack_resources").paginate(StackName=stack["StackId"]):
            held |= {one["LogicalResourceId"]: one for one in page["StackResourceSummaries"]}
        raw: Any = {}
        if stack["StackStatus"] != "REVIEW_IN_PROGRESS":
            which = {"StackName": stack["StackId"], "TemplateStage": "Processed"}
            raw = calls.call(client.get_template, clock=clock, **which)["TemplateBody"]
        template = documents.parse_template(raw, str(place)) if isinstance(raw, str) else raw
    except (ToolError, *calls.TROUBLE) as error:
        return Survey(place, problem=failure.wrap(error, place))
    declared = template.get("Resources") or {}
    policies = {name: (declared.get(name) or {}).get("DeletionPolicy", "Delete") for name in held}
    there = {name: one for name, one in held.items() if one.get("ResourceStatus") != "DELETE_COMPLETE"}
    retained = {
        name: one.get("PhysicalResourceId", "")
        for name, one in there.items()
        if str(policies[name]).startswith("Retain")
    }
    gone = {name: one["ResourceType"] for name, one in there.items() if name not in retained}
    buckets = [there[name].get("PhysicalResourceId", "") for name, kind in gone.items() if kind == "AWS::S3::Bucket"]
    full = tuple(name for name in buckets if name and _holds_objects(aws.client("s3", place.region), name))
    return Survey(place, stack, gone, retained, tuple(name for name in gone if policies[name] == "Snapshot"), full)


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
        objects = [{"Key": one["Key"], "VersionId": one["VersionId"]}
                   for one in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]]  # fmt: skip
        if objects:
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            if errors := answer.get("Errors"):
                raise ToolError(
                    f"{errors[0]['Key']} cannot be deleted: {errors[0].get('Message')}", where=f"bucket {bucket}"
                )
            count += len(objects)
    return count


def delete(  # noqa: C901 - a job within, and within it its steps
    aws: Aws, environment: Environment, surveys: Sequence[Survey], *, pairs: Sequence[Pair],
    empty_buckets: bool = False,
    retain: Sequence[str] = (), force: bool = False, threads: int = 16, listener: Listener | None = None,
    clock: Clock | None = None,
) -> list[Result]:  # fmt: skip
    """Deletes the stacks that ``survey`` found, the takers of an output before its givers.

    A bucket that holds objects is emptied only with ``empty_buckets``. A stack in DELETE_FAILED is tried again only
    with ``retain`` (logical ids to keep) or ``force`` (keep whatever cannot be deleted).
    Raises Interrupted after Ctrl-C; what goes wrong with one stack stands in its result.
    """
    if environment.stack_set:
        from scripts.cloudformation.stack_set import Sets

        return Sets(aws, environment, pairs, listener=listener, clock=clock).delete()
    time, ear = clock or Clock(), listener or Listener()
    found = {one.place.key: one for one in surveys}
    forward = order.predecessors(environment, pairs)
    after: dict[Key, set[Key]] = {key: {other for other in forward if key in forward[other]} for key in forward}
    done: dict[Key, Result] = {}
    under_way: dict[Key, Place] = {}

    def job(key: Key) -> None:
        one = found[key]

        def work() -> Result:
            if time.stopped:
                raise Stopped
            if blocked := [str(found[other].place) for other in after[key] if not done[other].ok]:
                what = f"not deleted, since {', '.join(blocked)} takes its outputs"
                return Result(one.place, "skipped", problem=failure.DeploymentError(what, where=str(one.place)))
            if one.problem:
                raise one.problem
            if one.stack is None:
                return Result(one.place, "unchanged")
            arguments = _arguments(one, one.stack["StackStatus"], retain, force=force, empty=empty_buckets)
            for bucket in one.full_buckets if empty_buckets else ():
                empty_bucket(aws.client("s3", one.place.region), bucket)
            under_way[key] = one.place
            client, stack_id = aws.client("cloudformation", one.place.region), one.stack["StackId"]
            running = operation.start(client, client.delete_stack, stack_id, time, StackName=stack_id, **arguments)
            tracker = Tracker(one.place, len(one.deleted) + len(one.retained), ear)
            end = operation.follow(client, running, one.place, time, tracker)
            if end != "DELETE_COMPLETE":
                raise failure.of_operation(client, running, end, one.place, time)
            return Result(one.place, "deleted", status=end)

        done[key] = results.attempt(one.place, work, under_way, clock=time, listener=ear)

    try:
        schedule.run(after, job, threads=threads, clock=time)
    except KeyboardInterrupt:
        raise Interrupted(list(under_way.values())) from None
    return [done[one.place.key] for one in surveys]


def _arguments(one: Survey, status: str, retain: Sequence[str], *, force: bool, empty: bool) -> dict[str, Any]:
    """The arguments of DeleteStack. Raises DeploymentError for what must be said first."""
    place = one.place
    if one.full_buckets and not (empty or force or retain):
        raise failure.DeploymentError(
            f"the bucket {one.full_buckets[0]} is not empty", where=str(place), status=status,
            advice=f"To delete what is in it, too: {place.command('delete', '--empty-buckets')}",
        )  # fmt: skip
    if status != "DELETE_FAILED":  # in any other state AWS refuses both
        return {}
    if not (retain or force or (empty and one.full_buckets)):
        raise failure.DeploymentError("its deletion has failed before", where=str(place), status=status,
                                      advice=failure.advice(status, place))  # fmt: skip
    return {"RetainResources": list(retain)} if retain else {"DeletionMode": "FORCE_DELETE_STACK"} if force else {}
