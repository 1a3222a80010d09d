"""What the operator's verbs share: the stacks that are deployed, their flow, and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstacks.cli.output import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.aws import Aws
    from eventstacks.bus.stacks import Deployed
    from eventstacks.flow.graph import Flow

__all__ = ["deployed", "flow", "print_table"]


def deployed(env: str, stack: str | None, region: str | None) -> tuple[Aws, list[Deployed]]:
    """AWS, and what is deployed of the environment; a stack that is named has to be."""
    from eventstacks.cli import _stacks

    aws, _, refs = _stacks.read(env, stack, region)
    from eventstacks.bus import stacks

    aws.guard()
    return aws, stacks.find(aws, refs, required=stack is not None)


def flow(aws: Aws, stacks: Sequence[Deployed]) -> Flow:
    """The flow through the account, with the names that the stacks' templates give."""
    from eventstacks import rendering
    from eventstacks.flow import graph, live

    known = graph.stacks_of(aws.environment, rendering.render_all())
    return live.read(aws, live.locate(aws, [known[one.ref] for one in stacks], aws.guard()))
