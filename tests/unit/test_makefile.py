"""The Makefile takes variables from its command line only, under their names.

It reads 1, true and yes as yes.
"""

import os
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from eventstacks.__main__ import cli

ROOT = Path(__file__).parents[2]
EVENTSTACKS = (
    '#!/bin/sh\necho "$@"\necho "make=$EVENTSTACKS_MAKE YES=${YES-} STACK=${STACK-}" >&2\n'
)
PIP_AUDIT = '#!/bin/sh\necho "$@" >> audited\ncase "$*" in *"${BROKEN:-none}"*) exit 1;; esac\n'
# make hands its own variables down to the tests that it runs.
OF_MAKE = {"MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "GNUMAKEFLAGS", "MAKE_TERMOUT"}


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path):
    """A folder with our Makefile, two environments and an `eventstacks` that prints arguments."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for path in ROOT.glob("requirements*.lock"):
        (tmp_path / path.name).touch()
    for name in ("local", "dev"):
        (tmp_path / "parameters").mkdir(exist_ok=True)
        (tmp_path / "parameters" / f"{name}.yaml").touch()
    write_program(tmp_path / ".venv/bin/eventstacks", EVENTSTACKS)
    write_program(tmp_path / ".venv-scan/bin/pip-audit", PIP_AUDIT)
    for stamp in (".venv/.installed", ".venv/.installed-dev", ".venv-scan/.installed"):
        (tmp_path / stamp).touch()
    return tmp_path


def make(project, *arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    return subprocess.run(
        ["make", *arguments],
        cwd=project,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("deploy", "deploy --env local"),
        ("deploy ENV=dev STACK=a REGION=b", "deploy --env dev --stack a --region b"),
        ("deploy YES=1 ARGS=--disable-rollback", "deploy --env local --yes --disable-rollback"),
        ("deploy YES=true", "deploy --env local --yes"),
        ("deploy YES=yes", "deploy --env local --yes"),
        ("deploy YES=no", "deploy --env local"),
        ("deploy YES=0", "deploy --env local"),
        ("deploy YES=", "deploy --env local"),
        ("demo", "demo"),
        ("send FILE=x.ndjson", "send --env local x.ndjson"),
        ("send", "send --env local"),
        ("new STACK=s TARGET=sqs BUS_OF=b", "new --stack s --target sqs --bus-of b"),
        ("trace EVENT=e.json ENV=dev", "trace e.json --env dev"),
    ],
)
def test_a_variable_becomes_an_option(project, arguments, command):
    done = make(project, *arguments.split())
    assert (done.returncode, done.stdout.split()) == (0, command.split()), done.stderr


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [("stack=x", "STACK"), ("STCK=x", "STACK"), ("Yes=1", "YES"), ("REGIONS=x", "REGION")],
)
def test_an_unknown_variable_is_an_error(project, variable, nearest):
    done = make(project, "delete", variable)
    name = variable.partition("=")[0]
    assert (done.returncode, done.stdout) == (2, "")
    assert f"unknown variable {name}: did you mean {nearest}?" in done.stderr


@pytest.mark.parametrize("flags", [(), ("-e",)])
@pytest.mark.parametrize("variable", ["STACK=x", "REGION=x", "YES=1", "YES=", "ARGS=x", "ENV=dev"])
def test_an_exported_variable_is_refused(project, variable, flags):
    name, _, value = variable.partition("=")
    done = make(project, *flags, "delete", **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{variable} comes from the shell's environment" in done.stderr
    assert f"make delete {variable}" in done.stderr
    assert f"unset {name}" in done.stderr


def test_an_exported_variable_that_the_target_does_not_read_is_no_error(project):
    assert make(project, "render", STACK="x", YES="1").returncode == 0


def test_the_command_line_wins_over_an_exported_variable(project):
    done = make(project, "status", "STACK=a", "ENV=local", STACK="b", ENV="dev")
    assert done.stdout.split() == ["status", "--env", "local", "--stack", "a"]


def test_the_start_up_file_of_a_shell_is_not_an_environment(project):
    done = make(project, "status", ENV="/etc/shrc")
    assert done.stdout.split() == ["status", "--env", "local"]


def test_commands_learn_that_make_runs_them_and_see_no_variables(project):
    assert make(project, "delete", "YES=no", "STACK=x").stderr == "make=1 YES= STACK=\n"


@pytest.mark.parametrize("broken", ["requirements.lock", "requirements-scan.lock"])
def test_audit_reads_every_lock_and_fails_if_one_is_not_audited(project, broken):
    done = make(project, "audit", BROKEN=broken)
    assert done.returncode == 2
    assert f"vulnerable or not audited: {broken}\n" in done.stderr
    audited = (project / "audited").read_text()
    assert sorted(line.split()[-1] for line in audited.splitlines()) == sorted(
        path.name for path in ROOT.glob("requirements*.lock")
    )
    assert all("--strict" in line for line in audited.splitlines())


def test_audit_passes_if_all_are_audited(project):
    assert make(project, "audit").returncode == 0


def test_no_option_of_a_command_is_read_from_the_environment():
    context = click.Context(cli)
    for name in cli.list_commands(context):
        for parameter in cli.get_command(context, name).params:
            assert parameter.envvar is None, (name, parameter.name)
