"""``make outputs``."""

from __future__ import annotations

import re

import click

from eventstacks.cli._options import json_option, where_options


@click.command()
@where_options
@json_option
@click.option("--dotenv", is_flag=True, help="NAME='value' lines, for a shell or a .env file.")
def command(env: str, stack: str | None, region: str | None, as_json: bool, dotenv: bool) -> int:
    """Print what the deployed stacks put out.

    \b
    Examples:
      eventstacks outputs --env local --stack custom-event-bus
      eventstacks outputs --env local --region us-east-1 --dotenv > .env
    """
    from eventstacks.cli import _stacks

    aws, _, refs = _stacks.read(env, stack, region)
    from eventstacks.cloudformation import outputs

    aws.guard()
    found = [(ref, outputs.read(aws, ref)) for ref in refs]
    if as_json:
        _stacks.print_json([{**ref.document(), "outputs": values} for ref, values in found])
        return 0
    many_stacks, many_regions = (
        len({one.stack for one in refs}) > 1,
        len({one.region for one in refs}) > 1,
    )
    for ref, values in found:
        if not dotenv:
            print(ref)
        for name, value in values.items():
            if not dotenv:
                print(f"  {name:<28} {value}")
                continue
            snake = re.sub(
                r"(?<=[a-z0-9])(?=[A-Z])", "_", name
            )  # with only what makes it the only one
            parts = [
                ref.stack if many_stacks else "",
                snake,
                ref.region if many_regions else "",
            ]
            key, quoted = (
                re.sub(r"\W", "_", "_".join(filter(None, parts))).upper(),
                value.replace("'", "'\\''"),
            )
            print(f"{key}='{quoted}'")
    return 0
