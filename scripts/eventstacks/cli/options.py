"""Options that several verbs have, and what they name: an environment, its templates and stacks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from eventstacks import aws, environment, parameter_checks, rendering
from eventstacks.cli import output
from eventstacks.local import server

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Time(click.ParamType["datetime"]):
    """A point in time after 1970-01-01: 90s, 15m, 3h, 7d, 2w ago, or an ISO 8601 timestamp."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time in UTC; a wrong one is an error of usage that names the option."""
        try:
            if match := re.fullmatch(r"([0-9]{1,6})([smhdw])", value.strip()):
                ago = timedelta(**{_UNITS[match[2]]: int(match[1])})
                moment = datetime.now(UTC) - ago
            else:
                moment = datetime.fromisoformat(value.strip())
            if moment.tzinfo and moment.timestamp() >= 0:
                return moment.astimezone(UTC)
        except (ValueError, OverflowError):  # also before the year 1, or after 9999
            pass
        advice = (
            "use 90s, 15m, 2h, 1d, or an ISO 8601 timestamp with its zone: 2026-05-01T08:00:00Z."
        )
        return self.fail(f"invalid time {value!r}: {advice}", param, ctx)


class FiniteRange(click.FloatRange):
    """A range of floats without nan and infinity, which click's own range accepts."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; a wrong one is an error of usage that names the option."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


RATE = FiniteRange(min=0.001)  # per second: one in a quarter of an hour is the slowest


def combine(*options: Decorator) -> Decorator:
    """Return a decorator that adds several options; help shows them in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on stdout, all else on stderr."
)
where_options = combine(
    click.option(
        "--env",
        default="local",
        show_default=True,
        metavar="NAME",
        shell_complete=lambda _ctx, _param, text: [
            name for name in environment.names() if name.startswith(text)
        ],
        help="The environment: parameters/NAME.yaml.",
    ),
    click.option("--stack", metavar="NAME", help="Only this stack of the environment."),
    click.option("--region", metavar="NAME", help="Only this Region."),
    click.option(
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, _param, value: ctx.meta.update({output.QUIET: value}),
        help="No header line and no progress.",
    ),
)
# Of verbs that show stacks, of those that change them, and those of plan and deploy alone.
read_options = combine(where_options, json_option)
change_options = combine(where_options, yes_option, json_option)
deployment_options = combine(
    click.option(
        "--disable-rollback",
        is_flag=True,
        help="Do not roll back on failure (for debugging).",
    ),
    click.option(
        "--nested/--no-nested",
        default=True,
        show_default=True,
        help="Include nested stacks in the change set (fails if one uses an output another has "
        "not created yet).",
    ),
    click.option(
        "--allow-replace",
        multiple=True,
        metavar="ID",
        help="Allow this resource to be replaced or deleted (protected environments).",
    ),
)


def connect(
    env: str,
    stack: str | None,
    region: str | None,
    templates: rendering.Templates | None = None,
) -> tuple[aws.Aws, list[environment.StackRef]]:
    """Return AWS for an environment, and the stacks that are meant.

    An error in the file is found before the first call, with ``templates`` also in the parameters
    of these stacks. The account is checked, and the header line is printed.
    """
    chosen = environment.load(env)
    stacks = chosen.choose(stack, region)
    if templates is not None:
        parameter_checks.check_parameters(chosen, templates, stacks)
    return open_aws(chosen, stacks), stacks


def open_aws(
    chosen: environment.Environment, stacks: Sequence[environment.StackRef], **client_options: Any
) -> aws.Aws:
    """Return AWS for an environment, after checking the account and printing the header line.

    ``client_options``: of botocore's Config.
    """
    connection = aws.Aws(chosen, server.start, **client_options)
    with output.progress("Connecting"):
        account = connection.guard()
    endpoint = connection.client("sts").meta.endpoint_url if chosen.endpoint else "AWS"
    output.header(chosen, account, [ref.region for ref in stacks], endpoint)
    return connection
