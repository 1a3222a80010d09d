"""The deployed stacks of an environment, event buses by name, archives and replays."""

import re
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from eventstacks.aws import RETRY_LONG, Aws, Clock, suppress_aws_error, wait_for
from eventstacks.cloudformation import outputs
from eventstacks.environment import StackRef
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow import graph

BUS_OUTPUT = "EventBusName"
FINAL_STATES = ("COMPLETED", "CANCELLED", "FAILED")  # of a replay


class BusError(ToolError):
    """An event bus that does not exist."""

    default_code = ErrorCode.NOT_FOUND


@dataclass(frozen=True)
class Deployed:
    """A deployed stack. ``resources``: (logical id, type, physical id)."""

    ref: StackRef
    outputs: Mapping[str, str]
    resources: tuple[tuple[str, str, str], ...]

    def of_type(self, resource_type: str) -> dict[str, str]:
        """Return the physical ids of the resources of a type, by logical id."""
        return {key: physical for key, kind, physical in self.resources if kind == resource_type}


def find(aws: Aws, refs: Sequence[StackRef], *, required: bool) -> list[Deployed]:
    """Return those of ``refs`` that are deployed, in their order.

    Raises NotDeployedError if none is, or with ``required`` if one is not.
    """
    missing: list[outputs.NotDeployedError] = []

    def read(ref: StackRef) -> Deployed | None:
        try:
            values = outputs.read(aws, ref)
        except outputs.NotDeployedError as error:
            missing.append(error)
            return None
        pages = aws.client("cloudformation", ref.region).get_paginator("list_stack_resources")
        resources = tuple(
            (one["LogicalResourceId"], one["ResourceType"], one["PhysicalResourceId"])
            for page in pages.paginate(StackName=ref.stack_name)
            for one in page["StackResourceSummaries"]
            if one.get("PhysicalResourceId") and one.get("ResourceStatus") != "DELETE_COMPLETE"
        )
        return Deployed(ref, values, resources)

    with ThreadPoolExecutor(8) as pool:
        found = [one for one in pool.map(read, refs) if one]
    if missing and (required or not found):
        raise missing[0]
    return found


def parse_bus(bus: str, region: str = "") -> tuple[str, str]:
    """Return the Region of a bus's ARN, or the one given, and the bus. Raises BusError if invalid.

    Source: EventBridge API reference, DescribeEventBus, Name: letters, digits and ``/._-``, or an
    ARN.
    """
    arn = r"arn:[\w-]+:events:([a-z][a-z0-9-]+):\d{12}:event-bus(?:v2)?/"
    match = re.fullmatch(rf"(?:{arn})?[/.\-\w]{{1,1600}}", bus, re.ASCII)
    if not match:
        raise BusError(
            f"invalid event bus {bus!r}",
            code=ErrorCode.PARAMETER_INVALID,
            where="--bus",
            advice="Give a name, or an ARN: arn:aws:events:REGION:ACCOUNT:event-bus/NAME.",
        )
    return match[1] or region, bus


def describe_bus(client: Any, bus: str) -> Any:
    """Describe a bus, given by name or ARN, in the Region of an ``events`` client.

    Raises BusError if it does not exist: PutEvents would succeed, and the event be dropped.
    """
    with suppress_aws_error("ResourceNotFoundException"):
        return client.describe_event_bus(Name=bus)
    raise BusError(
        f"event bus {bus!r} not found: PutEvents would succeed and drop the events",
        where=f"Region {client.meta.region_name}",
        advice="Deploy its stack first, or give the right name with --bus.",
    )


def bus_of_stack(aws: Aws, ref: StackRef) -> str:
    """Return the bus of a deployed stack.

    Raises BusError, or NotDeployedError if it is not deployed.
    """
    values = outputs.read(aws, ref)
    if BUS_OUTPUT not in values:
        raise BusError(
            f"the stack has no output {BUS_OUTPUT}",
            where=str(ref),
            advice="Name a stack with a bus (--stack), or the bus itself (--bus).",
        )
    return values[BUS_OUTPUT]


def find_archives(aws: Aws, stacks: Sequence[Deployed]) -> list[dict[str, Any]]:
    """Return the archives of stacks. Raises ToolError if there are none.

    ``bus`` is an ARN, ``size`` is in bytes, ``retention`` in days (0: unlimited). The counts lag by
    up to 24 hours (EventBridge User Guide).
    """
    archives = []
    for stack in stacks:
        for name in stack.of_type("AWS::Events::Archive").values():
            answer = aws.client("events", stack.ref.region).describe_archive(ArchiveName=name)
            archives.append(
                {
                    "region": stack.ref.region,
                    "name": name,
                    "arn": answer["ArchiveArn"],
                    "bus": answer["EventSourceArn"],
                    "state": answer["State"],
                    "events": answer.get("EventCount", 0),
                    "size": answer.get("SizeBytes", 0),
                    "retention": answer.get("RetentionDays", 0),
                }
            )
    if not archives:
        raise ToolError(
            "no archive",
            code=ErrorCode.NOT_FOUND,
            where=", ".join(str(stack.ref) for stack in stacks),
        )
    return archives


def find_rules(
    aws: Aws, archive: Mapping[str, Any], names: Sequence[str], stacks: Sequence[Deployed]
) -> list[str]:
    """Return the ARNs of rules of the archive's bus, by name or logical id.

    Raises ClientError (ResourceNotFoundException) for a rule that the bus does not have.
    """
    region, bus = archive["region"], graph.bus_name(archive["bus"])
    physical_ids = {  # of a rule on a custom bus: bus|name
        logical: physical
        for stack in stacks
        for logical, physical in stack.of_type("AWS::Events::Rule").items()
        if stack.ref.region == region and physical.rpartition("|")[0] in (bus, "")
    }
    describe = aws.client("events", region).describe_rule
    names = [physical_ids.get(name, name).removeprefix(f"{bus}|") for name in names]
    return [describe(Name=name, EventBusName=bus)["Arn"] for name in names]


def start_replay(
    aws: Aws, archive: Mapping[str, Any], since: datetime, until: datetime, rules: Sequence[str]
) -> str:
    """Start a replay to the archive's bus, to the rules with these ARNs or to all.

    Return its name.
    """
    name = f"{archive['name'][:43]}-{until:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}"
    aws.client("events", archive["region"]).start_replay(
        ReplayName=name,
        EventSourceArn=archive["arn"],
        EventStartTime=since,
        EventEndTime=until,
        Destination={"Arn": archive["bus"], **({"FilterArns": list(rules)} if rules else {})},
    )
    return name


def wait_for_replay(aws: Aws, region: str, name: str, clock: Clock) -> dict[str, Any]:
    """Return the state of a replay, and its reason, when it has ended."""
    answer = wait_for(
        lambda one: one["State"] in FINAL_STATES,
        aws.client("events", region).describe_replay,
        clock=clock,
        longest=2.0,
        retry_for=RETRY_LONG,
        ReplayName=name,
    )
    return {
        "replay": name,
        "region": region,
        "state": answer["State"],
        "reason": answer.get("StateReason"),
    }
