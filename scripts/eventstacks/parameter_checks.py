"""Check the parameters of an environment against the templates of its stacks."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from eventstacks import documents
from eventstacks.environment import Environment, EnvironmentFileError, OutputReference, Source
from eventstacks.errors import ErrorCode, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eventstacks.environment import StackSettings
    from eventstacks.rendering import RenderedTemplate


# No underscores, nan or digits of other scripts, which Python would take.
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


class ParameterError(EnvironmentFileError):
    """A parameter that the template does not have, or a value that it does not allow."""

    default_code = ErrorCode.PARAMETER_INVALID


def check_parameters(
    environment: Environment,
    templates: Mapping[str, RenderedTemplate],
    stacks: Iterable[str] | None = None,
) -> None:
    """Check the parameters of stacks (default: all) against the ``Parameters`` of their templates.

    ``stacks``: keys of the environment file. Raises ParameterError for a parameter that the
    template lacks or that has no value, an output that the referenced template lacks, and a value
    that CloudFormation would refuse; RenderingError for a template that is missing or broken.
    Source: AWS CloudFormation User Guide, 'Parameters section'.
    """
    for name in environment.stacks if stacks is None else dict.fromkeys(stacks):
        stack = environment.stacks[name]
        for region in stack.regions:
            _check_stack(environment, stack, region, templates)


def _check_stack(
    environment: Environment,
    stack: StackSettings,
    region: str,
    templates: Mapping[str, RenderedTemplate],
) -> None:
    key = f"{environment.path}: stacks.{stack.name}.parameters"
    declared = templates[stack.template].document.get("Parameters") or {}
    values = stack.values(region)
    for name, value in values.items():
        where = f"{key}.{name}"
        if name not in declared:
            raise ParameterError(
                f"template {stack.template!r} has no such parameter{nearest(name, declared)}",
                where=where,
                advice=f"Parameters: {', '.join(declared) or 'none'}.",
            )
        if isinstance(value, OutputReference):
            source = environment.stacks[value.stack].template
            outputs = templates[source].document.get("Outputs") or {}
            if value.output not in outputs:
                raise ParameterError(
                    f"{value}: template {source!r} has no such output"
                    f"{nearest(value.output, outputs)}",
                    where=where,
                    advice=f"Outputs: {', '.join(outputs) or 'none'}.",
                )
        elif isinstance(value, Source) or value.startswith("{{resolve:"):
            continue  # known when it is deployed
        elif problem := refusal(declared[name], value):
            advice = str(declared[name].get("Description", ""))
            raise ParameterError(problem, where=where, advice=advice)
    needed = [name for name, one in declared.items() if "Default" not in one]
    if absent := [name for name in needed if name not in values]:
        text = f"template {stack.template!r} needs a value for {', '.join(absent)}"
        raise ParameterError(text, where=key)


def refusal(declared: Mapping[str, Any], value: str) -> str:
    """Return why CloudFormation would refuse the value of a parameter, or ''.

    ``declared``: an entry of a template's ``Parameters``. The items of a list are checked one by
    one.
    """
    kind = str(declared.get("Type", "String"))
    if kind.startswith("AWS::SSM::Parameter"):
        return ""  # the value is the name of a parameter
    is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
    items = [item.strip() for item in value.split(",")] if is_list else [value]
    problems = (_item_refusal(declared, item, is_number="Number" in kind) for item in items)
    problem = next(filter(None, problems), "")
    note = declared.get("ConstraintDescription") if problem else ""
    return f"{problem} ({note})" if note else problem


def _item_refusal(declared: Mapping[str, Any], item: str, *, is_number: bool) -> str:
    is_secret = documents.text_of(declared.get("NoEcho")).lower() == "true"
    shown = "the value" if is_secret else repr(item)  # secrets are in no log
    try:
        allowed = [documents.text_of(one) for one in declared.get("AllowedValues", ())]
        if allowed and item not in allowed:
            return f"{shown} is not one of {', '.join(map(repr, allowed))}"
        if not _matches(declared.get("AllowedPattern"), item):
            return f"{shown} does not match {declared['AllowedPattern']}"
        if is_number and not _NUMBER.fullmatch(item.strip()):
            return f"{shown} is not a number"
        what, size = ("Value", float(item)) if is_number else ("Length", len(item))
        least, most = declared.get(f"Min{what}", size), declared.get(f"Max{what}", size)
        if not float(least) <= size <= float(most):
            limits = {f"Min{what}": least, f"Max{what}": most}.items()
            texts = [f"{name} {limit}" for name, limit in limits if name in declared]
            return f"{shown} is outside of {', '.join(texts)}"
    except (TypeError, ValueError) as error:
        return f"a constraint of the template is invalid: {error}"
    return ""


def _matches(pattern: Any, item: str) -> bool:
    """Return False if a value certainly does not match an AllowedPattern.

    AllowedPattern is a regular expression of Java. What Python cannot read, or would read in
    another way, is left to CloudFormation: \\p{L}, ranges such as [\\w-.], intersections with &&.
    Source: AWS CloudFormation User Guide, 'Regular expressions'.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # a set that may come to mean something else
        try:
            return not pattern or bool(re.fullmatch(str(pattern), item, re.ASCII))
        except (re.error, FutureWarning):
            return True
