"""Options that several verbs share: numbers, times, completion, and the connection to AWS."""

from datetime import UTC, datetime
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from eventstacks import aws, environment
from eventstacks.cli import options, output


def convert(kind, text):
    return kind.convert(text, None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "0", "x"])
def test_a_rate_is_a_finite_number_above_zero(text):
    with pytest.raises(click.BadParameter):
        convert(options.RATE, text)


def test_a_rate_can_be_a_fraction():
    assert convert(options.RATE, "0.5") == 0.5


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-01T08:00:00Z", "2026-05-01T08:00:00+00:00"),
        (" 2026-05-01T08:00:00+02:00", "2026-05-01T06:00:00+00:00"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_with_a_zone(text, moment):
    assert convert(options.Time(), text).isoformat() == moment


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("2w", 1209600)]
)
def test_a_time_ago(text, seconds):
    ago = datetime.now(UTC) - convert(options.Time(), text)
    assert seconds - 5 < ago.total_seconds() <= seconds


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01T08:00:00",
        "yesterday",
        "5y",
        "",
        "999999w",
        "999999d",
        "٣h",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1969-12-31T23:59:59Z",
        "999999h",
    ],
)
def test_a_wrong_time_is_wrong_use(text):
    with pytest.raises(click.BadParameter, match=r"\."):
        convert(options.Time(), text)


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setattr(aws.Aws, "guard", lambda _: "000000000000")
    client = SimpleNamespace(meta=SimpleNamespace(endpoint_url="http://127.0.0.1:1"))
    monkeypatch.setattr(aws.Aws, "client", lambda *_: client)


@click.command()
@options.where_options
def verb(env, stack, region):
    connection, refs = options.connect(env, stack, region)
    click.echo(f"{connection.environment.name} {len(refs)}")


@pytest.mark.usefixtures("account")
def test_a_connection_prints_the_header_line_on_stderr():
    done = CliRunner().invoke(verb, ["--stack", "custom-event-bus", "--region", "us-east-1"])
    assert done.stderr == "local · account 000000000000 · us-east-1 · http://127.0.0.1:1\n"
    assert done.stdout.startswith("local ")
    assert CliRunner().invoke(verb, ["--quiet"]).stderr == ""


def test_without_an_endpoint_the_header_says_aws(account, monkeypatch):
    chosen = environment.load("dev")
    monkeypatch.setattr(environment, "load", lambda _: chosen)
    assert CliRunner().invoke(verb, ["--env", "dev"]).stderr.endswith(" · AWS\n")


def test_keys_of_aws_become_snake_case():
    change = {"LogicalResourceId": "A", "Details": [{"Target": {"BeforeValue": {"K": 1}}}]}
    assert output.snake_keys(change) == {
        "logical_resource_id": "A",
        "details": [{"target": {"before_value": {"k": 1}}}],
    }
