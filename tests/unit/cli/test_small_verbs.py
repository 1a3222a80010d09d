"""The verb sample."""

import json

import pytest
from click.testing import CliRunner

from eventstacks.__main__ import cli


def run(*arguments):
    """The verb's exit code as __main__ makes it, stdout and stderr."""
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value or 0, done.stdout, done.stderr


def test_samples_are_listed_and_made():
    assert "s3-object-created" in run("sample", "--list")[1]
    code, out, _ = run(
        "sample",
        "order-placed",
        "--set",
        "detail.total=3.5",
        "--set",
        "detail.note=by hand",
    )
    assert code == 0
    event = json.loads(out)
    assert (event["detail"]["total"], event["detail"]["note"]) == (3.5, "by hand")
    assert len(out.splitlines()) > 5


def test_an_account_stays_text_in_a_sample():
    assert (
        json.loads(run("sample", "order-placed", "--set", "account=012345678901")[1])["account"]
        == "012345678901"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sample",), "--list"),
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
