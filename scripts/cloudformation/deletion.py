"""Deletion: what it would take and leave, then those first that need the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from scripts import documents
from scripts.cloudformation import calls, failure, operation, order, schedule
from scripts.cloudformation.calls import Clock, Stopped
from scripts.cloudformation.deployment import Interrupted, Listener, Result, Tracker
from scripts.cloudformation.place import Place
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
    aws.guard()
    if environment.stack_set:  # what is in other accounts cannot be looked into from here
        return [Survey(Place.of(environment, pair), {"StackStatus": "", "StackId": ""}) for pair in pairs]
    places = [Place.of(environment, pair) for pair in pairs]
    clock = clock or Clock()
    by_key = {place.key: place for place in places}
    found = schedule.run(
        {key: set() for key in by_key},
        lambda key: _survey(aws, environment, by_key[key], clock),
        threads=16,
        clock=clock,
    )
    return [found[place.key] for place in places]


def _survey(aws: Aws, environment: Environment, place: Place, clock: Clock) -> Survey:
    client = aws.client("cloudformation", place.region)
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
        raw = calls.call(client.get_template, clock=clock, StackName=stack["StackId"], TemplateStage="Processed")["TemplateBody"] \
            if stack["StackStatus"] != "REVIEW_IN_PROGRESS" else {}  # fmt: skip
        template = documents.parse_template(raw, str(place)) if isinstance(raw, str) else raw
    except (ToolError, ClientError, BotoCoreError) as error:
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


def delete(
    aws: Aws, environment: Environment, surveys: Sequence[Survey], *, pairs: Sequence[Pair], empty_buckets: bool = False,
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
    clock, listener = clock or Clock(), listener or Listener()
    found = {one.place.key: one for one in surveys}
    forward = order.predecessors(environment, pairs)
    after: dict[Key, set[Key]] = {key: {other for other in forward if key in forward[other]} for key in forward}
    results: dict[Key, Result] = {}
    under_way: dict[Key, Place] = {}

    def job(key: Key) -> Result:
        begun = clock.now()
        one = found[key]
        blocked = [other for other in after[key] if not results[other].ok]
        if clock.stopped:
            result = Result(one.place, "interrupted")
        elif blocked:
            result = Result(one.place, "skipped", problem=failure.DeploymentError(
                "not deleted, since " + ", ".join(str(found[other].place) for other in blocked) + " takes its outputs",
                where=str(one.place)))  # fmt: skip
        else:
            result = _delete(aws, one, retain, under_way, clock, listener, empty=empty_buckets, force=force)
        result.seconds = clock.now() - begun
        results[key] = result
        listener.finished(result)
        return result

    try:
        schedule.run(after, job, threads=threads, clock=clock)
    except KeyboardInterrupt:
        raise Interrupted(list(under_way.values()), list(results.values())) from None
    return [results[one.place.key] for one in surveys]


def _delete(
    aws: Aws, one: Survey, retain: Sequence[str], under_way: dict[Key, Place], clock: Clock, listener: Listener, *,
    empty: bool, force: bool,
) -> Result:  # fmt: skip
    place, client = one.place, aws.client("cloudformation", one.place.region)
    if one.problem:
        return Result(place, "failed", problem=one.problem)
    if one.stack is None:
        return Result(place, "unchanged")
    status, stack_id = one.stack["StackStatus"], one.stack["StackId"]
    try:
        if one.full_buckets and not empty and not (force or retain):
            raise failure.DeploymentError(
                f"the bucket {one.full_buckets[0]} is not empty", where=str(place), status=status,
                advice=f"To delete what is in it, too: {place.command('delete', '--empty-buckets')}",
            )  # fmt: skip
        if status == "DELETE_FAILED" and not (retain or force or (empty and one.full_buckets)):
            raise failure.DeploymentError("its deletion has failed before", where=str(place), status=status,
                                          advice=failure.advice(status, place))  # fmt: skip
        for bucket in one.full_buckets if empty else ():
            empty_bucket(aws.client("s3", place.region), bucket)
        how: dict[str, Any] = {}
        if status == "DELETE_FAILED":  # both are refused in any other state
            how = (
                {"RetainResources": list(retain)} if retain else {"DeletionMode": "FORCE_DELETE_STACK"} if force else {}
            )
        under_way[place.key] = place
        running = operation.start(client, client.delete_stack, stack_id, clock, StackName=stack_id, **how)
        end = operation.follow(
            client, running, place, clock, Tracker(place, len(one.deleted) + len(one.retained), listener)
        )
        under_way.pop(place.key)
        if end != "DELETE_COMPLETE":
            raise failure.of_operation(client, running, end, place, clock)
        return Result(place, "deleted", status=end)
    except Stopped:
        return Result(place, "interrupted")
    except operation.LostSightError as error:
        return Result(place, "unknown", problem=error)
    except (ToolError, operation.StartError, ClientError, BotoCoreError) as error:
        under_way.pop(place.key, None)
        return Result(place, "failed", status=getattr(error, "status", status), problem=failure.wrap(error, place))
