"""Old names; use ``cli.options``."""

from eventstacks.cli.options import (
    RATE,
    Time,
    env_option,
    json_option,
    region_option,
    stack_option,
    where_options,
    yes_option,
)
from eventstacks.cli.options import FiniteRange as Number

Moment = Time

__all__ = [
    "RATE",
    "Moment",
    "Number",
    "env_option",
    "json_option",
    "region_option",
    "stack_option",
    "where_options",
    "yes_option",
]
