"""What the operator's verbs share: the stacks that are deployed, their flow, and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.aws import Aws
    from eventstacks.bus.stacks import Deployed
    from eventstacks.flow.graph import Flow


def deployed(env: str, stack: str | None, region: str | None) -> tuple[Aws, list[Deployed]]:
    """AWS, and what is deployed of the environment; a stack that is named has to be."""
    from eventstacks.cli import _stacks

    aws, _, pairs = _stacks.read(env, stack, region)
    from eventstacks.bus import stacks

    aws.guard()
    return aws, stacks.find(aws, pairs, every=stack is not None)


def flow(aws: Aws, stacks: Sequence[Deployed]) -> Flow:
    """The flow through the account, with the names that the stacks' templates give."""
    from eventstacks import rendering
    from eventstacks.flow import graph, live

    known = graph.stacks_of(aws.environment, rendering.render_all())
    return live.read(aws, live.locate(aws, [known[one.place.key] for one in stacks], aws.guard()))


def print_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> None:
    """A table on a terminal; lines of tabs elsewhere."""
    from rich.table import Table
    from rich.text import Text

    from eventstacks.cli import _stacks

    out = _stacks.console()
    if not out.is_terminal:
        for row in (heads, *rows):
            print("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in heads:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    out.print(table)
