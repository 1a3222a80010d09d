"""``make outputs``."""

from __future__ import annotations

import re

import click

from scripts.commands._options import json_option, where_options


@click.command()
@where_options
@json_option
@click.option("--dotenv", is_flag=True, help="NAME='value' lines, for a shell or a .env file.")
def command(env: str, stack: str | None, region: str | None, as_json: bool, dotenv: bool) -> int:
    """Print what the deployed stacks put out.

    \b
    Examples:
      python -m scripts outputs --env local --stack custom-event-bus
      python -m scripts outputs --env local --region us-east-1 --dotenv > .env
    """
    from scripts.commands import _stacks

    _, _, pairs, aws = _stacks.read(env, stack, region)
    from scripts.cloudformation import outputs

    aws.guard()
    found = [(settings, where, outputs.read(aws, settings.stack_name, where)) for settings, where in pairs]
    if as_json:
        _stacks.print_json([
            {"stack": settings.name, "stackName": settings.stack_name, "region": where, "outputs": values}
            for settings, where, values in found
        ])  # fmt: skip
    elif dotenv:
        one_stack, one_region = len({each[0].name for each in found}) == 1, len({each[1] for each in found}) == 1
        for settings, where, values in found:  # the name says only what it must to be the only one
            start = [] if one_stack else [settings.name]
            for name, value in values.items():
                snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
                key = re.sub(r"\W", "_", "_".join([*start, snake, *([] if one_region else [where])])).upper()
                quoted = value.replace("'", "'\\''")
                print(f"{key}='{quoted}'")
    else:
        for settings, where, values in found:
            print(f"{settings.stack_name} in {where}")
            for name, value in values.items():
                print(f"  {name:<28} {value}")
    return 0
