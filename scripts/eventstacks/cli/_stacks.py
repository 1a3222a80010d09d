"""Old names; use ``cli.output`` and ``cli.options``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstacks import aws
from eventstacks.cli import options
from eventstacks.cli.output import (
    confirm,
    console,
    counted,
    print_json,
)
from eventstacks.cli.output import (
    print_errors as complain,
)
from eventstacks.local import server

if TYPE_CHECKING:
    from eventstacks.environment import StackRef

__all__ = ["complain", "confirm", "console", "counted", "print_json", "read"]


def read(
    env: str, stack: str | None, region: str | None, *, connections: int = 32
) -> tuple[aws.Aws, dict[str, Any], list[StackRef]]:
    """Do as ``options.connect``, without the header line."""
    chosen, templates, stacks = options.load(env, stack, region)
    return aws.Aws(chosen, server.start, connections=connections), templates, stacks
