"""The verbs that only read and print: render, sample, local, taskcat before it starts."""

import json

import pytest
from click.testing import CliRunner

from eventstacks import rendering
from eventstacks.__main__ import cli
from eventstacks.cli import taskcat
from eventstacks.errors import ToolError
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


def test_samples_are_listed_and_made():
    assert "s3-object-created" in run("sample", "--list")[1]
    code, out, _ = run(
        "sample",
        "order-placed",
        "--set",
        "detail.total=3.5",
        "--set",
        "detail.note=by hand",
        "--line",
    )
    assert code == 0
    event = json.loads(out)
    assert (event["detail"]["total"], event["detail"]["note"]) == (3.5, "by hand")
    assert len(out.splitlines()) == 1
    assert len(run("sample", "order-placed")[1].splitlines()) > 5


def test_an_account_stays_text_in_a_sample():
    assert (
        json.loads(run("sample", "order-placed", "--set", "account=012345678901")[1])["account"]
        == "012345678901"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sample",), "Which kind?"),
        (("sample", "order-placed", "--set", "x"), "FIELD=VALUE"),
        (
            ("sample", "order-placed", "--set", f"detail={'[' * 90_000}{']' * 90_000}"),
            "nested too deeply",
        ),
    ],
    ids=["no kind", "no value", "too deep"],
)
def test_a_sample_needs_its_kind_and_values(arguments, words):
    with pytest.raises(Exception, match=words):
        run(*arguments)


def test_the_embedded_aws_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_AWS_DIR", str(tmp_path))
    assert "not running" in run("local", "status")[1]
    assert json.loads(run("local", "status", "--json")[1]) is None
    assert "was not running" in run("local", "down")[1]
    try:
        url = run("local", "up", "--port", "0")[1].split()[5]
        assert url == server.status().url
        port = int(url.rsplit(":", 1)[1])
        assert run("local", "up", "--port", str(port))[2] == ""
        _, out, err = run("local", "up", "--port", str(port - 1))
        assert url in out
        assert f"It was running on port {port} and stays there." in err
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--region", "eu-west-9"],
            "no test runs in 'eu-west-9'\nThe regions are: ap-southeast-2, eu-central-1,",
        ),
        (["--stack", "no-such"], "there is no test 'no-such'\nIt has: custom-event-bus,"),
        (
            ["--stack", "custom-event-bus", "--region", "eu-west-9"],
            "no test 'custom-event-bus' runs in 'eu-west-9'\n",
        ),
    ],
)
def test_taskcat_is_not_run_for_what_has_no_test(checkout, program, arguments, words):
    asked, _ = program("python", 0)
    with pytest.raises(ToolError) as caught:
        run("taskcat", *arguments)
    assert str(caught.value).startswith(f".taskcat.yml: {words}")
    with pytest.raises(FileNotFoundError):
        asked()


@pytest.mark.parametrize(
    "text", ["tests: {a: }", "project: {regions: [r]}", "[]", "tests: [a]", "tests: {a: b}"]
)
def test_what_is_no_file_for_taskcat_is_said_to_be_none(checkout, program, text):
    program("python", 0)
    (checkout / ".taskcat.yml").write_text(text)
    with pytest.raises(
        ToolError, match=r"^\.taskcat\.yml: taskcat needs a mapping of tests, and project\.regions"
    ):
        run("taskcat")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
def test_a_demo_does_not_wait_for_what_is_no_time(seconds):
    done = CliRunner().invoke(cli, ["demo", "--wait", seconds])
    assert (done.exit_code, "Invalid value for '--wait'" in done.stderr) == (2, True)


def test_taskcat_says_that_it_is_not_installed(checkout, monkeypatch):
    monkeypatch.setattr(taskcat, "PROGRAMS", checkout / "nowhere")
    with pytest.raises(ToolError, match="taskcat is not installed"):
        run("taskcat")


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
def test_taskcat_here_gets_an_embedded_aws_and_nothing_of_the_users(
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
def test_taskcat_on_an_account_is_the_stock_program_and_says_what_it_left(
    checkout, monkeypatch, program, ends, code
):
    class Account:
        names = iter([["tcat-x-old"], ["tcat-x-old", "tcat-x-new"]])

        def __init__(self, _environment):
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
    assert "Left behind: the bucket tcat-x-new." in err
    assert "tcat-x-old" not in err
