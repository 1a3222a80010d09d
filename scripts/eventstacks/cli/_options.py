"""The options that many verbs share, and what they give."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


class Moment(click.ParamType["datetime"]):
    """A point in time, as ``eventstacks.bus.moments`` reads it."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The moment. Fails in words that name the option."""
        from eventstacks.bus import moments
        from eventstacks.errors import ToolError

        try:
            return moments.parse(value)
        except ToolError as error:
            self.fail(f"{error.what}. {error.advice}", param, ctx)


class Number(click.FloatRange):
    """A number to count with, ``min`` at least: click's own ranges let nan pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number. Fails in words that name the option."""
        found = float(super().convert(value, param, ctx))
        if not math.isfinite(found):
            self.fail(f"{value} is no number to count with.", param, ctx)
        return found


RATE = Number(min=0.001)  # one in a quarter of an hour is the slowest that anybody waits for

env_option = click.option(
    "--env",
    default="local",
    show_default=True,
    metavar="NAME",
    help="The environment: parameters/NAME.yaml.",
)
stack_option = click.option("--stack", metavar="NAME", help="Only this stack of the environment.")
region_option = click.option("--region", metavar="NAME", help="Only this region.")
yes_option = click.option(
    "--yes", is_flag=True, envvar="YES", help="Answer every question with yes."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on stdout, all else on stderr."
)


def where_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--env``, ``--stack`` and ``--region``."""
    return env_option(stack_option(region_option(function)))
