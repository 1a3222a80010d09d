"""The verb taskcat: every stack of .taskcat.yml, created and deleted in each of its Regions."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventstacks import aws, documents, environment, rendering
from eventstacks.cli import output
from eventstacks.cli.options import where_options, yes_option
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.local import server

if TYPE_CHECKING:
    from eventstacks.environment import Environment

PROGRAMS = Path(".venv-taskcat/bin")
RUNNERS = Path("tests/taskcat")
CONFIG = Path(".taskcat.yml")
MAX_SECONDS = 900  # for a run on the embedded AWS


@click.command(context_settings={"ignore_unknown_options": True})
@where_options
@yes_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def taskcat(
    env: str, stack: str | None, region: str | None, yes: bool, arguments: tuple[str, ...]
) -> int:
    """Create and delete every stack of .taskcat.yml in each of its Regions.

    With --env local, taskcat runs on a new embedded AWS. In addition to what taskcat does, an event
    is sent through each stack and must arrive, and nothing may remain after the deletion. Any other
    environment gets a stock `taskcat test run` on its account, after confirmation, with ARGUMENTS.
    Only account and profile of the environment are used. The buckets that the templates retain, and
    the one taskcat uploads to (its issue 652), remain: they are listed at the end. taskcat 0.9.58
    by itself does not start on Python 3.14; started from here it does.

    --stack and --region select tests and Regions of .taskcat.yml. The report is
    taskcat_outputs/index.html.

    \b
    Examples:
      eventstacks taskcat
      eventstacks taskcat --stack custom-event-bus --region us-east-1
      eventstacks taskcat --env dev
    """
    chosen = environment.load(env)
    if not PROGRAMS.is_dir():
        raise ToolError(
            "taskcat is not installed",
            code=ErrorCode.NOT_FOUND,
            where=str(PROGRAMS),
            advice="make taskcat",
        )
    if "--project-root" not in arguments:  # else the file of another project counts
        _check_selection(stack, region)
    rendering.render_all()
    selected = (
        *(("--test-names", stack) if stack else ()),
        *(("--regions", region) if region else ()),
        *arguments,
    )
    return _run_locally(selected) if chosen.endpoint else _run_on_account(chosen, selected, yes=yes)


def _config() -> dict[str, Any]:
    return dict(documents.parse(documents.read_text(CONFIG), str(CONFIG)))


def _check_selection(stack: str | None, region: str | None) -> None:
    """Raise ToolError for a test or Region that .taskcat.yml lacks: taskcat would do nothing."""
    try:
        config = _config()
        tests = {
            name: (test or {}).get("regions") or config["project"]["regions"]
            for name, test in config["tests"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ToolError(
            "expected a mapping of tests, and project.regions",
            code=ErrorCode.DOCUMENT_INVALID,
            where=str(CONFIG),
            advice="See taskcat's documentation, or the original: git log .taskcat.yml",
        ) from None
    if stack and stack not in tests:
        raise ToolError(
            f"test {stack!r} not found",
            code=ErrorCode.NOT_FOUND,
            where=str(CONFIG),
            advice=f"Available: {', '.join(tests)}.",
        )
    regions = tests[stack] if stack else sorted({one for some in tests.values() for one in some})
    if region and region not in regions:
        raise ToolError(
            f"no test {f'{stack!r} ' if stack else ''}runs in {region!r}",
            code=ErrorCode.NOT_FOUND,
            where=str(CONFIG),
            advice=f"Regions: {', '.join(regions)}.",
        )


def _run_locally(arguments: tuple[str, ...]) -> int:
    """Run on a new embedded AWS, with nothing of the user's environment; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="taskcat-") as directory:
        endpoint = server.start(Path(directory), 0)
        settings = {
            # A profile or a ~/.taskcat.yml of the user would win over these credentials.
            "PATH": os.environ.get("PATH", ""),
            "HOME": directory,
            "LANG": "C.UTF-8",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "PYTHONWARNINGS": "ignore",  # taskcat imports pkg_resources, which warns
            **endpoint.variables("us-east-1"),
        }
        program = [str(PROGRAMS / "python"), str(RUNNERS / "runner.py"), *arguments]
        try:
            done = subprocess.run(program, env=settings, check=False, timeout=MAX_SECONDS)
        except subprocess.TimeoutExpired:
            raise ToolError(
                f"taskcat was stopped after {MAX_SECONDS} s",
                advice="Select fewer stacks: --stack NAME",
            ) from None
        finally:
            server.stop(Path(directory))
    return output.EXIT_FAILED if done.returncode else 0


def _run_on_account(chosen: Environment, arguments: tuple[str, ...], *, yes: bool) -> int:
    """Check the account, ask, run the stock program, and list the buckets that it left."""
    connection = aws.Aws(chosen, server.start)
    account = connection.guard()
    question = f"Create and delete the stacks of {CONFIG} in account {account}?"
    if not output.confirm(question, chosen, yes=yes):
        output.echo("Nothing was changed.", err=True)
        return output.EXIT_FAILED
    before = _buckets(connection)
    program = [str(PROGRAMS / "python"), str(RUNNERS / "stock.py")]
    profile = ["--profile", chosen.profile] if chosen.profile else []
    # `make lint` has linted; taskcat would lint every template once per test.
    run = ["test", "run", "--lint-disable", "--minimal-output", *arguments]
    done = subprocess.run([*program, *profile, *run], check=False)
    for name in sorted(_buckets(connection) - before):
        output.note(f"Not deleted: the bucket {name}. Empty and delete it by hand.")
    return output.EXIT_FAILED if done.returncode else 0


def _buckets(connection: aws.Aws) -> set[str]:
    """Return the buckets whose names begin as those of taskcat and of its stacks."""
    prefix = f"tcat-{_config()['project']['name']}-"
    pages = connection.client("s3").get_paginator("list_buckets").paginate(Prefix=prefix)
    return {bucket["Name"] for page in pages for bucket in page.get("Buckets", ())}
