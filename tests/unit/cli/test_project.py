"""The verbs of a project: init, render, lint, local."""

import json
import os
import shlex
import subprocess

import pytest
from click.testing import CliRunner

from eventstacks import rendering
from eventstacks.__main__ import cli
from eventstacks.cli import project
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.local import server


def run(*arguments):
    """The verb's exit code as __main__ makes it, stdout and stderr."""
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value or 0, done.stdout, done.stderr


def test_render_lists_what_it_wrote(checkout):
    code, out, _ = run("render")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        f"build/{name}.yaml" for name in rendering.names()
    ]
    assert f"{(checkout / 'build' / 'custom-event-bus.yaml').stat().st_size:,} bytes" in out


def test_the_embedded_aws_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_AWS_DIR", str(tmp_path))
    assert "not running" in run("local", "status")[1]
    assert json.loads(run("local", "status", "--json")[1]) is None
    assert "was not running" in run("local", "down")[1]
    try:
        url = run("local", "up", "--port", "0")[1].split()[2]
        assert url == server.status().url
        port = int(url.rsplit(":", 1)[1])
        assert run("local", "up", "--port", str(port))[2] == ""
        _, out, err = run("local", "up", "--port", str(port - 1))
        assert url in out
        assert f"Already running on port {port}." in err
        assert url in run("local", "status")[1]
        assert json.loads(run("local", "status", "--json")[1])["stacks"] == []
    finally:
        assert "Stopped." in run("local", "down")[1]
    assert server.status() is None


def test_each_stack_has_a_line_in_the_status(monkeypatch, tmp_path):
    found = server.Status(
        1, "http://127.0.0.1:4566", 0.0, 1, ["eu-west-1/one", "us-east-1/two"], tmp_path / "log"
    )
    monkeypatch.setattr(server, "status", lambda: found)
    assert run("local", "status")[1].splitlines()[-2:] == [
        "stacks  eu-west-1/one",
        "        us-east-1/two",
    ]


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
def test_a_demo_refuses_an_invalid_time(seconds):
    done = CliRunner().invoke(cli, ["demo", "--wait", seconds])
    assert (done.exit_code, "Invalid value for '--wait'" in done.stderr) == (2, True)


# A type that these partitions do not have; that they do not get it meanwhile is what the first assertion tells.
ONLY_IN_AWS = """
Resources:
  Bus:
    Type: AWS::EventsV2::EventBus
"""


EXAMPLES = [
    line.split("eventstacks lint")[1]
    for line in project.lint.help.splitlines()
    if "eventstacks" in line
]


@pytest.mark.usefixtures("checkout", "children_unmeasured")
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_stacks_have_no_findings_as_each_example_of_the_help_shows(example, capfd):
    assert (
        CliRunner().invoke(project.lint, shlex.split(example), standalone_mode=False).return_value
        == 0
    )
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    assert (json.loads(said.out) if "json" in example else said.out) in ("", [])


@pytest.mark.usefixtures("children_unmeasured")
def test_what_a_partition_lacks_is_found(checkout, capfd):
    (checkout / "templates" / "new-bus.yaml.j2").write_text(ONLY_IN_AWS)
    assert CliRunner().invoke(project.lint, standalone_mode=False).return_value == 1
    said = capfd.readouterr().out.replace("\n", " ")
    for region in project.OTHER_PARTITIONS:
        assert f"Resource type 'AWS::EventsV2::EventBus' does not exist in '{region}'" in said


def test_lint_needs_no_cfnlintrc_for_our_rules(checkout, capfd):
    (checkout / ".cfnlintrc").unlink()
    rule = "Type: AWS::Events::Rule, Properties: {EventPattern: {source: [{wrong: 1}]}}"
    (checkout / "templates" / "odd.yaml.j2").write_text(f"Resources: {{R: {{{rule}}}}}")
    assert CliRunner().invoke(project.lint, standalone_mode=False).return_value == 1
    assert capfd.readouterr().out.count("E9803") == 1


def test_init_creates_a_project_and_overwrites_nothing(tmp_path, monkeypatch):
    code, out, err = run("init", str(tmp_path / "mine"))
    assert code == 0
    files = {path for path in (tmp_path / "mine").rglob("*") if path.is_file()}
    assert set(out.split()) == {str(path) for path in files}
    assert "eventstacks deploy --yes" in err
    assert not [path for path in files if "<<" in path.read_text()]
    monkeypatch.chdir(tmp_path / "mine")
    assert run("render")[0] == 0
    (tmp_path / "mine" / "Makefile").write_text("mine")
    with pytest.raises(ToolError) as caught:
        run("init", str(tmp_path / "mine"))
    assert caught.value.code == ErrorCode.ALREADY_EXISTS
    assert (tmp_path / "mine" / "Makefile").read_text() == "mine"


def test_the_makefile_of_a_new_project_refuses_unknown_variables(tmp_path):
    run("init", str(tmp_path))
    done = subprocess.run(
        ["make", "-n", "delete", "STCK=x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "unknown variable STCK" in done.stderr
    listed = subprocess.run(
        ["make"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert "  make deploy" in listed.stdout
