"""Check the parameters of an environment against the templates of its stacks."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from eventstacks import documents
from eventstacks.environment import Environment, EnvironmentFileError, OutputReference, Source
from eventstacks.errors import ErrorCode, command_line, nearest
from eventstacks.rendering import RenderingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from eventstacks.environment import StackSettings
    from eventstacks.rendering import RenderedTemplate


# No underscores, nan or digits of other scripts, which Python would take.
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def check_parameters(
    environment: Environment,
    templates: Mapping[str, RenderedTemplate],
    stacks: Iterable[str] | None = None,
) -> None:
    """Check the parameters of stacks (default: all) against the ``Parameters`` section of their templates.

    ``templates``: ``rendering.render_all()``; ``stacks``: keys of the environment file. Raises EnvironmentFileError for
    a template that is missing, a parameter that it lacks or that has no value, an output that the referenced template
    lacks, and a value that CloudFormation would refuse; RenderingError for a template that cannot be rendered.
    Source: AWS CloudFormation User Guide, 'Parameters section'.
    """
    for name in environment.stacks if stacks is None else dict.fromkeys(stacks):
        _check_stack(environment, environment.stacks[name], templates)


def _check_stack(
    environment: Environment, stack: StackSettings, templates: Mapping[str, RenderedTemplate]
) -> None:
    key = f"{environment.path}: stacks.{stack.name}"
    try:
        declared = templates[stack.template].document.get("Parameters") or {}
    except RenderingError as error:
        if error.code != ErrorCode.TEMPLATE_NOT_FOUND:
            raise
        raise EnvironmentFileError(
            error.what, code=error.code, where=key, advice=error.advice
        ) from None
    for region in stack.regions:
        values = stack.values(region)
        for name, value in values.items():
            where = f"{key}.parameters.{name}"
            if name not in declared:
                raise EnvironmentFileError(
                    f"template {stack.template!r} has no such parameter{nearest(name, declared)}",
                    code=ErrorCode.PARAMETER_INVALID,
                    where=where,
                    advice=f"Parameters: {', '.join(declared) or 'none'}.",
                )
            if isinstance(value, OutputReference):
                _check_output(environment, value, templates, where)
            elif isinstance(value, Source) or value.startswith("{{resolve:"):
                continue  # known when it is deployed
            elif problem := _checked(stack.template, name, declared[name], value):
                raise EnvironmentFileError(
                    problem,
                    code=ErrorCode.PARAMETER_INVALID,
                    where=where,
                    advice=str(declared[name].get("Description", "")),
                )
        if absent := [
            name for name, one in declared.items() if "Default" not in one and name not in values
        ]:
            raise EnvironmentFileError(
                f"template {stack.template!r} needs a value for {', '.join(absent)}",
                code=ErrorCode.PARAMETER_INVALID,
                where=f"{key}.parameters",
            )


def _checked(template: str, name: str, declared: Mapping[str, Any], value: str) -> str | None:
    try:
        return refusal(declared, value)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise EnvironmentFileError(
            f"a constraint of the parameter is invalid: {error}",
            code=ErrorCode.TEMPLATE_INVALID,
            where=f"template {template!r}: Parameters.{name}",
            advice=f"Run: {command_line('lint')}",
        ) from None


def _check_output(
    environment: Environment,
    value: OutputReference,
    templates: Mapping[str, RenderedTemplate],
    where: str,
) -> None:
    source = environment.stacks[value.stack].template
    outputs = templates[source].document.get("Outputs") or {}
    if value.output not in outputs:
        raise EnvironmentFileError(
            f"{value}: template {source!r} has no such output{nearest(value.output, outputs)}",
            code=ErrorCode.PARAMETER_INVALID,
            where=where,
            advice=f"Outputs: {', '.join(outputs) or 'none'}.",
        )


def refusal(declared: Mapping[str, Any], value: str) -> str | None:
    """Return why CloudFormation would refuse the value of a parameter, or None.

    ``declared``: an entry of a template's ``Parameters``. The items of a list are checked one by one.
    """
    kind = str(declared.get("Type", "String"))
    as_list = kind == "CommaDelimitedList" or kind.startswith("List<")
    if kind.startswith("AWS::SSM::Parameter"):
        return None  # the value is the name of a parameter
    for item in [one.strip() for one in value.split(",")] if as_list else [value]:
        problem = next(
            _item_refusals(declared, item, is_number=kind in ("Number", "List<Number>")), None
        )
        if problem:
            note = declared.get("ConstraintDescription")
            return problem + (f" ({note})" if note else "")
    return None


def _item_refusals(declared: Mapping[str, Any], item: str, *, is_number: bool) -> Iterator[str]:
    is_secret = documents.text_of(declared.get("NoEcho")).lower() == "true"
    shown = "the value" if is_secret else repr(item)  # secrets are in no log
    allowed = [documents.text_of(one) for one in declared.get("AllowedValues", ())]
    if allowed and item not in allowed:
        yield f"{shown} is not one of {', '.join(map(repr, allowed))}"
    if not _matches(declared.get("AllowedPattern"), item):
        yield f"{shown} does not match {declared['AllowedPattern']}"
    if is_number:
        if not _NUMBER.fullmatch(item.strip()):
            yield f"{shown} is not a number"
            return
        number = float(item)
        if number < float(declared.get("MinValue", number)):
            yield f"{shown} is less than {declared['MinValue']}"
        if number > float(declared.get("MaxValue", number)):
            yield f"{shown} is more than {declared['MaxValue']}"
    if len(item) < int(declared.get("MinLength", 0)):
        yield f"{shown} is shorter than {declared['MinLength']}"
    if len(item) > int(declared.get("MaxLength", len(item))):
        yield f"{shown} is longer than {declared['MaxLength']}"


def _matches(pattern: Any, item: str) -> bool:
    """Return False if a value certainly does not match an AllowedPattern.

    AllowedPattern is a regular expression of Java. What Python cannot read, or would read in another way, is left to
    CloudFormation: \\p{L}, ranges such as [\\w-.], intersections with &&.
    Source: AWS CloudFormation User Guide, 'Regular expressions'.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)  # a set that may come to mean something else
        try:
            return not pattern or bool(re.fullmatch(str(pattern), item, re.ASCII))
        except (re.error, FutureWarning):
            return True
