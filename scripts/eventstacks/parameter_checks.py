"""The parameters of an environment, held to the templates that take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from eventstacks import documents
from eventstacks.environment import (
    Environment,
    EnvironmentFileError,
    OutputReference,
    nearest,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def check_parameters(environment: Environment, templates: Mapping[str, Mapping[str, Any]]) -> None:
    """Holds every stack's parameters to its template's ``Parameters`` section.

    ``templates``: template name → parsed template (``documents.parse_template``). Raises EnvironmentFileError for
    a template that is not there, a parameter that it lacks or that it needs and nobody gives, an output that the
    referenced template does not have, and a value that CloudFormation would refuse.
    Source: AWS CloudFormation User Guide, 'Parameters section'.
    """
    for stack in environment.stacks.values():
        if stack.template not in templates:
            raise EnvironmentFileError(
                f"there is no template {stack.template!r}{nearest(stack.template, templates)}",
                where=f"{environment.path}: stacks.{stack.name}",
                advice=f"There are: {', '.join(templates) or 'none'}.",
            )
        declared = templates[stack.template].get("Parameters") or {}
        for region in stack.regions:
            values = stack.values(region)
            for name, value in values.items():
                where = f"{environment.path}: stacks.{stack.name}.parameters.{name}"
                if name not in declared:
                    raise EnvironmentFileError(
                        f"the template {stack.template!r} has no such parameter{nearest(name, declared)}",
                        where=where,
                        advice=f"It has: {', '.join(declared) or 'none'}.",
                    )
                if isinstance(value, OutputReference):
                    _check_output(environment, value, templates, where)
                elif problem := _checked(stack.template, name, declared[name], value):
                    raise EnvironmentFileError(
                        problem, where=where, advice=str(declared[name].get("Description", ""))
                    )
            if absent := [
                name
                for name, one in declared.items()
                if "Default" not in one and name not in values
            ]:
                raise EnvironmentFileError(
                    f"the template {stack.template!r} needs a value for {', '.join(absent)}",
                    where=f"{environment.path}: stacks.{stack.name}.parameters",
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
    templates: Mapping[str, Mapping[str, Any]],
    where: str,
) -> None:
    source = environment.stacks[value.stack].template
    outputs = (templates.get(source) or {}).get("Outputs") or {}
    if value.output not in outputs:
        raise EnvironmentFileError(
            f"{value}: the template {source!r} has no such output{nearest(value.output, outputs)}",
            where=where,
            advice=f"It has: {', '.join(outputs) or 'none'}.",
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
