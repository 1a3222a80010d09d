"""Check the parameters of an environment against the templates of its stacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from eventstacks import documents
from eventstacks.environment import Environment, EnvironmentFileError, OutputReference
from eventstacks.errors import ErrorCode, ToolError, nearest
from eventstacks.rendering import RenderingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from eventstacks.environment import StackSettings
    from eventstacks.rendering import RenderedTemplate, Templates


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


def warnings(
    environment: Environment, templates: Templates, stacks: Iterable[str]
) -> Iterator[ToolError]:
    """Yield the errors of templates and stacks that are not among ``stacks``, and do not concern them."""
    yield from templates.problems.values()
    for name in environment.stacks.keys() - set(stacks):
        try:
            check_parameters(environment, templates, [name])
        except ToolError as error:
            if error not in templates.problems.values():
                yield error


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
    except (ArithmeticError, TypeError, ValueError, re.error) as error:
        raise EnvironmentFileError(
            f"what it says about the value of {name} cannot be understood: {error}",
            where=f"the template {template!r}: Parameters.{name}",
            advice="make lint says more.",
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
    """Why CloudFormation would refuse the value of a parameter, in words, or None.

    ``declared`` is one entry of a template's ``Parameters``. A parameter of a list type is checked item by item.
    """
    kind = str(declared.get("Type", "String"))
    as_list = kind == "CommaDelimitedList" or kind.startswith("List<")
    if kind.startswith("AWS::SSM::Parameter"):
        return None  # the value is the name of a parameter that only AWS can read
    for item in [one.strip() for one in value.split(",")] if as_list else [value]:
        problem = next(
            _item_refusals(declared, item, is_number=kind in ("Number", "List<Number>")), None
        )
        if problem:
            note = declared.get("ConstraintDescription")
            return problem + (f" ({note})" if note else "")
    return None


def _item_refusals(declared: Mapping[str, Any], item: str, *, is_number: bool) -> Iterator[str]:
    secret = (
        "the value" if str(declared.get("NoEcho")).lower() == "true" else ""
    )  # is said in no log
    said = secret or repr(item)
    allowed = [documents.text_of(one) for one in declared.get("AllowedValues", ())]
    if allowed and item not in allowed:
        yield f"{said} is not one of {', '.join(map(repr, allowed))}"
    pattern = declared.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, item):
        yield f"{said} does not match {pattern}"
    if is_number:
        try:
            number = float(item)
        except ValueError:
            yield f"{said} is not a number"
            return
        if number < float(declared.get("MinValue", number)):
            yield f"{secret or item} is less than {declared['MinValue']}"
        if number > float(declared.get("MaxValue", number)):
            yield f"{secret or item} is more than {declared['MaxValue']}"
    if len(item) < int(declared.get("MinLength", 0)):
        yield f"{said} is shorter than {declared['MinLength']}"
    if len(item) > int(declared.get("MaxLength", len(item))):
        yield f"{said} is longer than {declared['MaxLength']}"
