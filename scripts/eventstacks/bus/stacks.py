"""What of an environment is deployed: the outputs and resources that the operator's tools start from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eventstacks.cloudformation import outputs
from eventstacks.environment import StackRef

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef


@dataclass(frozen=True)
class Deployed:
    """One stack in one region; ``resources``: (logical id, type, physical id); ``rules``: logical id → (bus, name)."""

    ref: StackRef
    outputs: Mapping[str, str]
    resources: tuple[tuple[str, str, str], ...]
    rules: Mapping[str, tuple[str, str]]

    def of_type(self, kind: str) -> dict[str, str]:
        """The physical ids of one type, by logical id."""
        return {logical: physical for logical, one, physical in self.resources if one == kind}


def find(aws: Aws, refs: Sequence[StackRef], *, every: bool) -> list[Deployed]:
    """The stacks of ``refs`` that are deployed, in their order.

    Raises NotDeployedError when none is, or with ``every`` when one is not.
    """
    missing: list[outputs.NotDeployedError] = []

    def read(ref: StackRef) -> Deployed | None:
        try:
            put_out = outputs.read(aws, ref)
        except outputs.NotDeployedError as error:
            missing.append(error)
            return None
        pages = aws.client("cloudformation", ref.region).get_paginator("list_stack_resources")
        found = [
            one
            for page in pages.paginate(StackName=ref.stack_name)
            for one in page["StackResourceSummaries"]
        ]
        resources = [
            (one["LogicalResourceId"], one["ResourceType"], one.get("PhysicalResourceId"))
            for one in found
            if one.get("ResourceStatus") != "DELETE_COMPLETE"
        ]
        own = [
            physical
            for _, kind, physical in resources
            if kind == "AWS::Events::EventBus" and physical
        ]
        rules = {
            logical: _locate(aws.client("events", ref.region), physical, own)
            for logical, kind, physical in resources
            if kind == "AWS::Events::Rule" and physical
        }
        return Deployed(
            ref, put_out, tuple((one, kind, name) for one, kind, name in resources if name), rules
        )

    with ThreadPoolExecutor(8) as pool:
        found = [one for one in pool.map(read, refs) if one]
    if missing and (every or not found):
        raise missing[0]
    return found


def _locate(events: Any, physical: str, buses: Sequence[str]) -> tuple[str, str]:
    """(bus, name) of a rule. On a custom bus its id is ``bus|name``; MiniStack gives the name alone."""
    bus, _, name = physical.rpartition("|")
    others = [
        one
        for one in buses
        if not bus and events.list_rules(NamePrefix=name, EventBusName=one)["Rules"]
    ]
    return bus or next(iter(others), "default"), name
