"""The options that many verbs share, and what they give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Decorator = "Callable[[Callable[..., Any]], Callable[..., Any]]"

env_option = click.option(
    "--env", default="local", show_default=True, metavar="NAME", help="The environment: parameters/NAME.yaml."
)
stack_option = click.option("--stack", metavar="NAME", help="Only this stack of the environment.")
region_option = click.option("--region", metavar="NAME", help="Only this region.")
yes_option = click.option("--yes", is_flag=True, envvar="YES", help="Answer every question with yes.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, all else on stderr.")


def where_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--env``, ``--stack`` and ``--region``."""
    return env_option(stack_option(region_option(function)))
