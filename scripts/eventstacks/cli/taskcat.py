"""``make taskcat``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventstacks.cli._options import where_options, yes_option

if TYPE_CHECKING:
    from eventstacks.aws import Aws
    from eventstacks.environment import Environment

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ROOT / ".venv-taskcat" / "bin"
RUNNERS = ROOT / "tests" / "taskcat"
LONGEST = 900  # seconds for a run on the embedded AWS


@click.command(context_settings={"ignore_unknown_options": True})
@where_options
@yes_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    env: str, stack: str | None, region: str | None, yes: bool, arguments: tuple[str, ...]
) -> int:
    """Create every stack of .taskcat.yml in each of its regions, and delete it again.

    ENV=local runs taskcat on an embedded AWS of its own. Beyond taskcat: an event is sent through each stack and must
    arrive, and nothing may be left afterwards. Any other environment runs the stock program on its account, after
    asking: `taskcat test run`, with ARGUMENTS as they are. That one leaves the buckets that the templates keep, and the
    one it uploads to (its issue 652): they are named at the end. Of the environment, account and profile count here.
    By hand taskcat 0.9.58 does not start on Python 3.14; from here it does.

    --stack and --region choose among the tests and regions of .taskcat.yml. The report is taskcat_outputs/index.html.

    \b
    Examples:
      eventstacks taskcat
      eventstacks taskcat --stack custom-event-bus --region us-east-1
      eventstacks taskcat --env dev
    """
    from eventstacks import environment, rendering
    from eventstacks.errors import ToolError

    found = environment.load(env)
    if not PROGRAMS.is_dir():
        raise ToolError(
            "taskcat is not installed",
            where=str(PROGRAMS),
            advice="make taskcat installs it and runs it.",
        )
    if (
        "--project-root" not in arguments
    ):  # then it is another project's file, and the run itself looks
        _check(stack, region)
    rendering.render_all()
    chosen = (
        *(("--test-names", stack) if stack else ()),
        *(("--regions", region) if region else ()),
        *arguments,
    )
    return _run_here(chosen) if found.endpoint else _run_on_account(found, chosen, yes=yes)


def _check(stack: str | None, region: str | None) -> None:
    """Raises ToolError for what .taskcat.yml does not have: taskcat would run nothing, and call it a run."""
    from eventstacks import documents
    from eventstacks.errors import ToolError

    config = Path(".taskcat.yml")
    read = documents.parse(documents.read_text(config), str(config))
    try:
        tests = {
            name: (one or {}).get("regions") or read["project"]["regions"]
            for name, one in read["tests"].items()
        }
    except (AttributeError, KeyError, TypeError):
        raise ToolError(
            "taskcat needs a mapping of tests, and project.regions",
            where=str(config),
            advice="The one that came with this project is in its history: git log .taskcat.yml",
        ) from None
    if stack and stack not in tests:
        raise ToolError(
            f"there is no test {stack!r}", where=str(config), advice=f"It has: {', '.join(tests)}."
        )
    regions = (
        tests[stack] if stack else sorted({region for some in tests.values() for region in some})
    )
    if region and region not in regions:
        raise ToolError(
            f"no test {f'{stack!r} ' if stack else ''}runs in {region!r}",
            where=str(config),
            advice=f"The regions are: {', '.join(regions)}.",
        )


def _run_here(arguments: tuple[str, ...]) -> int:
    """On an embedded AWS that starts empty and ends with the run; nothing of the user's environment is seen."""
    import os
    import subprocess
    import tempfile

    from eventstacks.errors import ToolError
    from eventstacks.local import server

    with tempfile.TemporaryDirectory(prefix="taskcat-") as directory:
        endpoint = server.start(Path(directory), 0)
        settings = {
            # HOME and the files: a profile or a ~/.taskcat.yml of the user's would come before these credentials.
            "PATH": os.environ.get("PATH", ""),
            "HOME": directory,
            "LANG": "C.UTF-8",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_ENDPOINT_URL": endpoint.url,
            "AWS_ACCESS_KEY_ID": endpoint.access_key,
            "AWS_SECRET_ACCESS_KEY": endpoint.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONWARNINGS": "ignore",  # taskcat needs pkg_resources, which warns
        }
        program = [str(PROGRAMS / "python"), str(RUNNERS / "runner.py"), *arguments]
        try:
            return (
                1
                if subprocess.run(program, env=settings, check=False, timeout=LONGEST).returncode
                else 0
            )
        except subprocess.TimeoutExpired:
            raise ToolError(
                f"taskcat was stopped after {LONGEST} s", advice="Fewer stacks: --stack NAME"
            ) from None
        finally:
            server.stop(Path(directory))


def _run_on_account(found: Environment, arguments: tuple[str, ...], *, yes: bool) -> int:
    """The stock program, once the account is the environment's own and somebody agreed; then, what it has left."""
    import subprocess

    from eventstacks.aws import Aws
    from eventstacks.cli import _stacks
    from eventstacks.local import server

    aws = Aws(found, server.start)
    account = aws.guard()
    if not _stacks.confirm(
        f"Create and delete the stacks of .taskcat.yml in account {account}?", found, yes=yes
    ):
        click.echo("Nothing was changed.", err=True)
        return 1
    before = _buckets(aws)
    profile = ["--profile", found.profile] if found.profile else []
    # `make lint` has linted; taskcat would lint every template once per test.
    program = [
        str(PROGRAMS / "python"),
        str(RUNNERS / "stock.py"),
        *profile,
        "test",
        "run",
        "--lint-disable",
        "--minimal-output",
        *arguments,
    ]
    code = subprocess.run(program, check=False).returncode
    for name in sorted(_buckets(aws) - before):
        click.echo(
            f"Left behind: the bucket {name}. Empty and delete it when you have seen enough.",
            err=True,
        )
    return 1 if code else 0


def _buckets(aws: Aws) -> set[str]:
    """The buckets that taskcat, or a stack made by it, may have made: CloudFormation puts the stack's name first."""
    from eventstacks import documents

    config = ROOT / ".taskcat.yml"
    prefix = f"tcat-{documents.parse(documents.read_text(config), str(config))['project']['name']}-"
    pages = aws.client("s3").get_paginator("list_buckets").paginate(Prefix=prefix)
    return {bucket["Name"] for page in pages for bucket in page.get("Buckets", ())}
