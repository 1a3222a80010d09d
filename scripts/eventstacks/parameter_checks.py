"""Check the parameters of an environment against the templates of its stacks."""

import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from eventstacks import documents
from eventstacks.environment import Environment, StackRef
from eventstacks.errors import ErrorCode, ToolError, nearest
from eventstacks.rendering import RenderedTemplate


def check_parameters(
    environment: Environment, templates: Mapping[str, RenderedTemplate], refs: Iterable[StackRef]
) -> None:
    """Check the parameters of stacks against the ``Parameters`` of their templates.

    Raises ToolError (PARAMETER_INVALID) for a parameter that the template lacks or that has no
    value, an output that the referenced template lacks, and a value that CloudFormation would
    refuse; also for a template that is missing or broken.
    Source: AWS CloudFormation User Guide, 'Parameters section'.
    """
    for ref in refs:
        where = f"{environment.path}: stacks.{ref.stack}.parameters"
        template, values = templates[ref.settings.template].document, ref.values()
        check_declared(values, template, where)
        for name, (source, output) in environment.references(ref).items():
            outputs = templates[source.settings.template].document.get("Outputs") or {}
            if output not in outputs:
                raise ToolError(
                    f"{values[name]}: template {source.settings.template!r} has no such output"
                    f"{nearest(output, outputs)}",
                    code=ErrorCode.PARAMETER_INVALID,
                    where=f"{where}.{name}",
                    advice=f"Outputs: {', '.join(outputs) or 'none'}.",
                )
        for name, one in (template.get("Parameters") or {}).items():
            value = values.get(name)
            if value is None and "Default" not in one:
                raise ToolError(
                    f"template {ref.settings.template!r} needs a value for {name}",
                    code=ErrorCode.PARAMETER_INVALID,
                    where=where,
                )
            if isinstance(value, str) and (problem := refusal(one, value)):
                raise ToolError(
                    problem,
                    code=ErrorCode.PARAMETER_INVALID,
                    where=f"{where}.{name}",
                    advice=str(one.get("Description", "")),
                )


def check_declared(names: Iterable[str], template: Mapping[str, Any], where: str) -> None:
    """Raise ToolError (PARAMETER_INVALID) for a parameter that a template does not declare."""
    declared = template.get("Parameters") or {}
    for name in names:
        if name not in declared:
            raise ToolError(
                f"the template has no parameter {name!r}{nearest(name, declared)}",
                code=ErrorCode.PARAMETER_INVALID,
                where=where,
                advice=f"Parameters: {', '.join(declared) or 'none'}.",
            )


def refusal(declared: Mapping[str, Any], value: str) -> str:
    """Return why CloudFormation would refuse the value of a parameter, or ''.

    ``declared``: an entry of a template's ``Parameters``. The items of a list are checked one by
    one. A dynamic reference is resolved by CloudFormation.
    """
    kind = str(declared.get("Type", "String"))
    if kind.startswith("AWS::SSM::Parameter") or value.startswith("{{resolve:"):
        return ""
    is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
    items = [item.strip() for item in value.split(",")] if is_list else [value]
    problems = (_item_refusal(declared, item, is_number="Number" in kind) for item in items)
    problem = next(filter(None, problems), "")
    note = declared.get("ConstraintDescription") if problem else ""
    return f"{problem} ({note})" if note else problem


def _item_refusal(declared: Mapping[str, Any], item: str, *, is_number: bool) -> str:
    is_secret = str(declared.get("NoEcho")).lower() == "true"
    shown = "the value" if is_secret else repr(item)  # secrets are in no log
    allowed = [documents.text_of(one) for one in declared.get("AllowedValues", ())]
    if allowed and item not in allowed:
        return f"{shown} is not one of {', '.join(map(repr, allowed))}"
    if not _matches(declared.get("AllowedPattern", "(?s).*"), item):
        return f"{shown} does not match {declared['AllowedPattern']}"
    if is_number and not re.fullmatch(documents.NUMBER, item.strip()):
        return f"{shown} is not a number"
    what, size = ("Value", float(item)) if is_number else ("Length", len(item))
    least, most = declared.get(f"Min{what}", "-inf"), declared.get(f"Max{what}", "inf")
    if not float(least) <= size <= float(most):
        return f"{shown} is outside of Min{what} {least}, Max{what} {most}"
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
            return bool(re.fullmatch(pattern, item, re.ASCII))
        except (re.error, FutureWarning):
            return True
