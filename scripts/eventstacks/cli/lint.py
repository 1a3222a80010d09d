"""``make lint``."""

from __future__ import annotations

import click

# The same bytes go into every partition, whether an environment names one of its regions or not.
OTHER_PARTITIONS = {"cn-north-1", "cn-northwest-1", "us-gov-east-1", "us-gov-west-1"}


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Render, check every environment, and run cfn-lint over build/ for every region of every environment.

    The regions of aws-cn and aws-us-gov are added. All in one process, errors, warnings and informational findings;
    ARGUMENTS go to cfn-lint as they are.

    \b
    Examples:
      eventstacks lint
      eventstacks lint -- --format json
    """
    import subprocess
    import sys
    from pathlib import Path

    from eventstacks import environment, parameter_checks, rendering
    from eventstacks.cli._stacks import counted

    templates = rendering.render_all()
    regions = set(OTHER_PARTITIONS)
    for name in environment.names():
        found = environment.load(name)
        parameter_checks.check_parameters(found, templates)
        regions.update(region for stack in found.stacks.values() for region in stack.regions)
    files = [str(one.path) for one in templates.values()]
    lint = [
        str(Path(sys.executable).with_name("cfn-lint")),
        "--regions",
        *sorted(regions),
        *arguments,
        "--",
        *files,
    ]
    code = subprocess.run(lint, check=False).returncode
    if code == 0:
        click.echo(
            f"{counted(len(files), 'template')}, {counted(len(regions), 'region')}: nothing found",
            err=True,
        )
    return 1 if code else 0
