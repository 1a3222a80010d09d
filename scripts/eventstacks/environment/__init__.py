"""An environment is one file, ``parameters/<env>.yaml``: which stacks go where, with which values.

Reading is strict. An unknown key, stack or parameter, or a value that the template would refuse, is an error
before anything is asked of AWS.
"""

from eventstacks.environment.file import PARAMETERS, load, names
from eventstacks.environment.model import (
    EMBEDDED,
    Environment,
    EnvironmentFileError,
    OutputReference,
    StackSet,
    StackSettings,
    Value,
)
from eventstacks.environment.parameters import check_parameters, refusal

__all__ = [
    "EMBEDDED",
    "PARAMETERS",
    "Environment",
    "EnvironmentFileError",
    "OutputReference",
    "StackSet",
    "StackSettings",
    "Value",
    "check_parameters",
    "load",
    "names",
    "refusal",
]
