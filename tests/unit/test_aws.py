"""Who somebody is, asked of AWS: what is said when there is no answer."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.parsers import ResponseParserError

from eventstacks.__main__ import as_tool_error
from eventstacks.aws import AccountError, Aws, UnreachedError
from eventstacks.environment import Environment


@pytest.fixture
def nobody(monkeypatch):
    """The URL of a port that nobody listens on; the pauses between two tries are left out."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def ask(tmp_path):
    return lambda **settings: Aws(
        Environment("dev", tmp_path / "dev.yaml", ("us-east-1",), {}, **settings)
    ).account()


def test_an_endpoint_that_does_not_answer_is_no_matter_of_credentials(ask, nobody):
    with pytest.raises(UnreachedError) as caught:
        ask(endpoint=nobody)
    assert str(caught.value).startswith(
        f'environment dev: AWS cannot be reached: Could not connect to the endpoint URL: "{nobody}'
    )
    assert caught.value.advice.endswith("dev.yaml: endpoint.")


def test_a_network_without_aws_is_no_matter_of_credentials(ask, nobody, monkeypatch):
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("HTTPS_PROXY", nobody),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(UnreachedError) as caught:
        ask()
    assert "HTTPS_PROXY" in caught.value.advice
    assert "credentials" not in str(caught.value)


def test_without_credentials_they_are_asked_for(ask):
    with pytest.raises(AccountError, match="Give credentials"):
        ask()


ANSWERS = {
    "html": (200, {}, b"<html><body>Hello</body></html>"),
    "json": (200, {}, b'{"hello": 1}'),
    "nothing": (200, {}, b""),
    "redirect": (302, {"Location": "/login"}, b""),
    "missing": (404, {}, b"<html><body>Not found</body></html>"),
}


@pytest.fixture(params=ANSWERS)
def somebody(request):
    """The URL of something that answers, and is not AWS."""
    status, headers, body = ANSWERS[request.param]

    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_not_aws_is_called_so(ask, somebody, tmp_path):
    with pytest.raises(UnreachedError, match=f"{somebody} answers something that is not AWS"):
        ask(endpoint=somebody)
    aws = Aws(Environment("dev", tmp_path / "dev.yaml", ("us-east-1",), {}, endpoint=somebody))
    with pytest.raises(ResponseParserError) as caught:
        aws.client("cloudformation").describe_stacks()
    assert as_tool_error(caught.value).what.startswith(
        f"{somebody} answers something that is not AWS (HTTP "
    )


def test_no_proxy_leads_to_the_loopback(ask, somebody, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(UnreachedError, match=f"{somebody} answers something"):
        ask(endpoint=somebody)


def test_a_bad_file_of_settings_is_no_matter_of_credentials(ask, tmp_path, monkeypatch):
    (tmp_path / "config").write_text("[default\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(AccountError, match="AWS_CONFIG_FILE"):
        ask()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("endpoint_url = localhost:4566", "Invalid endpoint: localhost:4566"),
        ("credential_process = echo hello", "Expecting value: line 1 column 1"),
        ("credential_process = /nowhere/login", "No such file or directory: '/nowhere/login'"),
    ],
)
def test_settings_with_which_no_client_can_be_made_are_said(
    ask, tmp_path, monkeypatch, setting, words
):
    (tmp_path / "config").write_text(f"[default]\n{setting}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(AccountError) as caught:
        ask()
    assert str(caught.value).startswith(
        "environment dev: AWS cannot be asked with these settings: "
    )
    assert words in caught.value.what
    assert "endpoint_url and credential_process of the profile" in caught.value.advice


def test_a_region_that_cannot_be_one_is_a_matter_of_the_file(tmp_path):
    with pytest.raises(AccountError, match=r"Correct .*dev.yaml: regions"):
        Aws(Environment("dev", tmp_path / "dev.yaml", ("us east",), {})).account()
