"""Who somebody is, asked of AWS: what is said when there is no answer."""

import socket

import pytest

from scripts.aws import AccountError, Aws, UnreachedError
from scripts.environment import Environment


@pytest.fixture
def nobody(monkeypatch):
    """The URL of a port that nobody listens on; the pauses between two tries are left out."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def ask(tmp_path):
    return lambda **settings: Aws(Environment("dev", tmp_path / "dev.yaml", ("us-east-1",), {}, **settings)).account()


def test_an_endpoint_that_does_not_answer_is_no_matter_of_credentials(ask, nobody):
    with pytest.raises(UnreachedError) as caught:
        ask(endpoint=nobody)
    assert str(caught.value).startswith(
        f'environment dev: AWS cannot be reached: Could not connect to the endpoint URL: "{nobody}'
    )
    assert caught.value.advice.endswith("dev.yaml: endpoint.")


def test_a_network_without_aws_is_no_matter_of_credentials(ask, nobody, monkeypatch):
    for name, value in (("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "x"), ("HTTPS_PROXY", nobody)):
        monkeypatch.setenv(name, value)
    with pytest.raises(UnreachedError) as caught:
        ask()
    assert "HTTPS_PROXY" in caught.value.advice
    assert "credentials" not in str(caught.value)


def test_without_credentials_they_are_asked_for(ask):
    with pytest.raises(AccountError, match="Give credentials"):
        ask()
