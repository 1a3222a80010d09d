"""The verbs of a project: init, render, lint, local."""

import json
import os
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
        f"build/{name}.yaml" for name in rendering.find()
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
        assert url in run("local", "up", "--port", "4567")[1]
        assert url in run("local", "status")[1]
        assert json.loads(run("local", "status", "--json")[1])["stacks"] == []
    finally:
        assert "Stopped." in run("local", "down")[1]
    assert server.status() is None


def test_each_stack_has_a_line_in_the_status(monkeypatch, tmp_path):
    found = server.Status(
        1, "http://127.0.0.1:4566", 0.0, ["eu-west-1/one", "us-east-1/two"], tmp_path / "log"
    )
    monkeypatch.setattr(server, "status", lambda: found)
    assert run("local", "status")[1].splitlines()[-2:] == [
        "stacks  eu-west-1/one",
        "        us-east-1/two",
    ]


# E9803, and a type that these partitions do not have.
ODD = """
Resources:
  Rule:
    Type: AWS::Events::Rule
    Properties: {EventPattern: {source: [{wrong: 1}]}}
  Bus:
    Type: AWS::EventsV2::EventBus
"""


@pytest.mark.usefixtures("children_unmeasured")
def test_lint_has_our_rules_and_other_partitions_without_a_cfnlintrc(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "templates").mkdir()
    (tmp_path / "parameters").mkdir()
    (tmp_path / "templates" / "odd.yaml.j2").write_text(ODD)
    (tmp_path / "parameters" / "dev.yaml").write_text("regions: [us-east-1]\nstacks: {odd: }\n")
    example = ["--", "--format", "json"]  # as in the help
    assert " ".join(example) in project.lint.help
    assert CliRunner().invoke(project.lint, example, standalone_mode=False).return_value == 1
    findings = json.loads(capfd.readouterr().out)
    assert "E9803" in {one["Rule"]["Id"] for one in findings}
    texts = " ".join(one["Message"] for one in findings)
    for region in project.OTHER_PARTITIONS:
        assert f"Resource type 'AWS::EventsV2::EventBus' does not exist in '{region}'" in texts


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
