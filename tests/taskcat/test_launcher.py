"""`make taskcat`: what it refuses, and how it starts the program."""

import launcher
import pytest
from click.testing import CliRunner

from eventstacks.errors import ErrorCode, ToolError


def run(*arguments):
    """The command's exit code as main makes it."""
    done = CliRunner().invoke(launcher.taskcat, arguments, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value


def test_a_missing_program_is_refused(checkout, monkeypatch):
    monkeypatch.setattr(launcher, "TASKCAT", checkout / "nowhere")
    with pytest.raises(ToolError) as caught:
        run()
    assert (caught.value.code, caught.value.advice) == (ErrorCode.NOT_FOUND, "make taskcat")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A taskcat that notes how it was called and ends as ``code`` says."""

    def make(name, code):
        file = tmp_path / name
        file.write_text(
            "#!/bin/sh\n"
            f'echo "$@" > {tmp_path}/arguments\n'
            f"env > {tmp_path}/environment\n"
            f"exit {code}\n"
        )
        file.chmod(0o755)
        monkeypatch.setattr(launcher, "TASKCAT", tmp_path)
        return lambda: (tmp_path / "arguments").read_text().split(), (
            tmp_path / "environment"
        ).read_text

    return make


@pytest.mark.parametrize(("ends", "code"), [(0, 0), (3, 1)])
def test_a_local_run_gets_an_embedded_aws_and_nothing_of_the_users_environment(
    checkout, monkeypatch, program, ends, code
):
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("SECRET_OF_MINE", "x")
    arguments, environment = program("python", ends)
    assert run("--stack", "custom-event-bus", "--region", "us-east-1") == code
    assert arguments()[1:] == ["--test-names", "custom-event-bus", "--regions", "us-east-1"]
    assert "AWS_ENDPOINT_URL=http://127.0.0.1:" in environment()
    assert "AWS_ACCESS_KEY_ID=LKIA" in environment()
    assert "mine" not in environment().lower()
