"""`make taskcat`: run taskcat's own program on a new embedded AWS, or on an account."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from eventstacks import aws, environment, rendering
from eventstacks.__main__ import main
from eventstacks.cli import output
from eventstacks.cli.options import where_options, yes_option
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.local import server

TASKCAT = Path(".venv-taskcat/bin")


@click.command(context_settings={"ignore_unknown_options": True})
@where_options
@yes_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def taskcat(
    env: str, stack: str | None, region: str | None, *, yes: bool, arguments: tuple[str, ...]
) -> int:
    """Create and delete every stack of .taskcat.yml in each of its Regions.

    With --env local, taskcat runs on a new embedded AWS. In addition to what taskcat does, an event
    is sent through each stack and must arrive, and nothing may remain after the deletion. Any other
    environment gets a stock `taskcat test run` on its account, after confirmation, with ARGUMENTS.
    Only account and profile of the environment are used. Delete by hand what remains there: the
    buckets that the templates retain, and the one taskcat uploads to (its issue 652), tcat-….

    --stack and --region select tests and Regions of .taskcat.yml. The report is
    taskcat_outputs/index.html.

    \b
    Examples:
      make taskcat
      make taskcat STACK=custom-event-bus REGION=us-east-1
      make taskcat ENV=dev
    """
    chosen, python = environment.load(env), str(TASKCAT / "python")
    if not Path(python).exists():
        text = "taskcat is not installed"
        raise ToolError(text, code=ErrorCode.NOT_FOUND, where=str(TASKCAT), advice="make taskcat")
    rendering.render_all()
    options = {"--test-names": stack, "--regions": region}
    selected = [word for name, value in options.items() if value for word in (name, value)]
    if chosen.endpoint:
        with tempfile.TemporaryDirectory(prefix="taskcat-") as directory:
            endpoint = server.start(Path(directory), 0)
            # Nothing of the user's: a profile or a ~/.taskcat.yml would win over these credentials.
            variables = {
                "PATH": os.environ.get("PATH", ""),
                "HOME": directory,
                "LANG": "C.UTF-8",
                "PYTHONWARNINGS": "ignore",  # taskcat imports pkg_resources, which warns
                **endpoint.variables("us-east-1"),
            }
            program = [python, "tests/taskcat/runner.py", *selected, *arguments]
            try:
                done = subprocess.run(program, env=variables, check=False)
            finally:
                server.stop(Path(directory))
    else:
        account = aws.Aws(chosen, server.start).guard()
        question = f"Create and delete the stacks of .taskcat.yml in account {account}?"
        output.confirm(question, chosen, yes=yes)
        profile = ["--profile", chosen.profile] if chosen.profile else []
        # `make lint` has linted; taskcat would lint every template once per test.
        run = ["test", "run", "--lint-disable", "--minimal-output", *selected, *arguments]
        done = subprocess.run([python, "tests/taskcat/stock.py", *profile, *run], check=False)
    return output.EXIT_FAILED if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main(taskcat))
