"""The verb taskcat: what it refuses, and how it starts the program."""

import pytest
from click.testing import CliRunner

from eventstacks.__main__ import cli
from eventstacks.cli import taskcat
from eventstacks.errors import ErrorCode, ToolError


def run(*arguments):
    """The verb's exit code as __main__ makes it, stdout and stderr."""
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value or 0, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--region", "eu-west-9"], "Regions: ap-southeast-2, eu-central-1,"),
        (["--stack", "no-such"], "Available: custom-event-bus,"),
        (["--stack", "custom-event-bus", "--region", "eu-west-9"], "Regions: us-east-1,"),
    ],
)
def test_a_selection_without_a_test_is_refused(checkout, program, arguments, advice):
    asked, _ = program("python", 0)
    with pytest.raises(ToolError) as caught:
        run("taskcat", *arguments)
    assert (caught.value.code, caught.value.where) == (ErrorCode.NOT_FOUND, ".taskcat.yml")
    assert caught.value.advice.startswith(advice)
    with pytest.raises(FileNotFoundError):
        asked()


@pytest.mark.parametrize(
    "text", ["tests: {a: }", "project: {regions: [r]}", "[]", "tests: [a]", "tests: {a: b}"]
)
def test_an_invalid_configuration_is_refused(checkout, program, text):
    program("python", 0)
    (checkout / ".taskcat.yml").write_text(text)
    with pytest.raises(ToolError) as caught:
        run("taskcat")
    assert (caught.value.code, caught.value.where) == (ErrorCode.DOCUMENT_INVALID, ".taskcat.yml")


def test_a_missing_program_is_refused(checkout, monkeypatch):
    monkeypatch.setattr(taskcat, "PROGRAMS", checkout / "nowhere")
    with pytest.raises(ToolError) as caught:
        run("taskcat")
    assert (caught.value.code, caught.value.advice) == (ErrorCode.NOT_FOUND, "make taskcat")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A taskcat that notes how it was called and ends as ``code`` says."""

    def make(name, code):
        file = tmp_path / name
        file.write_text(
            f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\nenv > {tmp_path}/environment\nexit {code}\n'
        )
        file.chmod(0o755)
        monkeypatch.setattr(taskcat, "PROGRAMS", tmp_path)
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
    assert run("taskcat", "--stack", "custom-event-bus", "--region", "us-east-1")[0] == code
    assert arguments()[1:] == ["--test-names", "custom-event-bus", "--regions", "us-east-1"]
    assert "AWS_ENDPOINT_URL=http://127.0.0.1:" in environment()
    assert "AWS_ACCESS_KEY_ID=LKIA" in environment()
    assert "mine" not in environment().lower()


@pytest.mark.parametrize(("ends", "code"), [(0, 0), (3, 1)])
def test_a_run_on_an_account_is_the_stock_program_and_lists_what_it_left(
    checkout, monkeypatch, program, ends, code
):
    class Account:
        names = iter([["tcat-x-old"], ["tcat-x-old", "tcat-x-new"]])

        def __init__(self, _environment, _connect):
            pass

        def guard(self):
            return "111122223333"

        def client(self, _service):
            return self

        def get_paginator(self, _name):
            return self

        def paginate(self, **_arguments):
            return [{"Buckets": [{"Name": name} for name in next(self.names)]}]

    monkeypatch.setattr("eventstacks.aws.Aws", Account)
    arguments, _ = program("python", ends)
    done, _, err = run("taskcat", "--env", "dev", "--yes")
    assert done == code
    assert arguments()[1:] == ["test", "run", "--lint-disable", "--minimal-output"]
    assert "Not deleted: the bucket tcat-x-new." in err
    assert "tcat-x-old" not in err
