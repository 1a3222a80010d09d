"""AWS clients: credentials, endpoints, and the errors of both."""

import functools
import hashlib
import io
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.credentials import AssumeRoleProvider
from botocore.parsers import ResponseParserError

from eventstacks import aws
from eventstacks.__main__ import as_tool_error
from eventstacks.aws import Endpoint
from eventstacks.environment import Environment
from eventstacks.errors import ErrorCode, ToolError

Aws = functools.partial(aws.Aws, connect=pytest.fail)  # without an embedded AWS


@pytest.fixture
def closed(monkeypatch):
    """The URL of a closed port; the pauses between two attempts are left out."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Return the account of an environment; no file of the user's is read."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    return lambda **settings: (
        Aws(Environment("dev", tmp_path / "dev.yaml", ("us-east-1",), {}, **settings)).account
    )


@pytest.fixture
def configure(ask, tmp_path):
    """Write the AWS config file; return what asks for the account of a profile in it."""

    def write(text, profile="p"):
        (tmp_path / "AWS_CONFIG_FILE").write_text(text)
        with pytest.raises(ToolError) as caught:
            ask(profile=profile)
        assert caught.value.code == ErrorCode.CREDENTIALS
        return caught.value

    return write


def test_an_endpoint_that_does_not_answer_is_not_a_matter_of_credentials(ask, closed):
    with pytest.raises(ToolError) as caught:
        ask(endpoint=closed)
    assert caught.value.code == ErrorCode.ENDPOINT_UNREACHABLE
    assert closed in caught.value.what
    assert caught.value.advice.endswith("dev.yaml: endpoint.")


def test_a_network_without_aws_is_not_a_matter_of_credentials(ask, closed, monkeypatch):
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("HTTPS_PROXY", closed),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(ToolError) as caught:
        ask()
    assert caught.value.code == ErrorCode.ENDPOINT_UNREACHABLE
    assert "HTTPS_PROXY" in caught.value.advice


def test_missing_credentials(ask):
    with pytest.raises(ToolError) as caught:
        ask()
    assert (caught.value.code, caught.value.where) == (ErrorCode.CREDENTIALS, "environment dev")
    assert "AWS_PROFILE" in caught.value.advice


MFA = """
[profile base]
aws_access_key_id = test
aws_secret_access_key = test
[profile p]
role_arn = arn:aws:iam::111122223333:role/deploy
source_profile = base
mfa_serial = arn:aws:iam::111122223333:mfa/device
"""


def test_an_mfa_code_needs_a_terminal(configure, monkeypatch):
    def no_terminal(*_):
        raise EOFError

    prompts = AssumeRoleProvider.__init__  # a default argument is botocore's prompt
    monkeypatch.setattr(prompts, "__defaults__", (no_terminal, *prompts.__defaults__[1:]))
    assert "'p'" in configure(MFA).advice


def test_an_assumed_role_is_taken_from_the_cache_of_the_aws_cli(ask, tmp_path, monkeypatch, other):
    """The code is asked for once: the key of the cache is botocore's, as in the AWS CLI."""
    (tmp_path / "AWS_CONFIG_FILE").write_text(MFA)
    arguments = {
        "RoleArn": "arn:aws:iam::111122223333:role/deploy",
        "SerialNumber": "arn:aws:iam::111122223333:mfa/device",
    }
    name = hashlib.sha1(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
    session = {"AccessKeyId": "cached", "SecretAccessKey": "s", "SessionToken": "t"}
    session["Expiration"] = "2100-01-01T00:00:00Z"
    cache = tmp_path / ".aws" / "cli" / "cache"
    cache.mkdir(parents=True)
    (cache / f"{name}.json").write_text(json.dumps({"Credentials": session}))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("AWS_ENDPOINT_URL", other)
    with pytest.raises(ToolError) as caught:
        ask(profile="p")
    assert caught.value.code == ErrorCode.ENDPOINT_UNREACHABLE  # it got as far as the call


def test_an_unknown_profile_is_named(configure):
    assert "(nope) could not be found" in configure("", "nope").what


def test_the_embedded_aws_is_connected_by_the_caller(tmp_path, closed):
    environment = Environment("dev", tmp_path / "dev.yaml", ("r-1",), {}, endpoint="embedded")
    calls = []
    aws = Aws(environment, connect=lambda: calls.append(1) or Endpoint(closed, "key", "secret"))
    client = aws.client("sqs", "us-east-1")
    assert aws.client("sqs", "us-east-1") is client
    assert (aws.client("s3").meta.endpoint_url, len(calls)) == (closed, 1)
    assert client._request_signer._credentials.access_key == "key"
    assert "key" not in repr(Endpoint(closed, "key", "secret"))


def test_an_endpoint_gets_no_credentials_of_the_user(ask, closed, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.setenv(name, "of-the-user")
    environment = Environment("dev", tmp_path / "dev.yaml", ("r-1",), {}, endpoint=closed)
    credentials = Aws(environment).client("sqs")._request_signer._credentials
    assert (credentials.access_key, credentials.secret_key) == ("test", "test")


ANSWERS = {
    "html": (200, {}, b"<html><body>Hello</body></html>"),
    "json": (200, {}, b'{"hello": 1}'),
    "nothing": (200, {}, b""),
    "redirect": (302, {"Location": "/login"}, b""),
    "missing": (404, {}, b"<html><body>Not found</body></html>"),
}


@pytest.fixture(params=ANSWERS)
def other(request):
    """The URL of something that answers, and is not AWS."""
    status, headers, body = ANSWERS[request.param]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_not_aws_is_called_so(ask, other, tmp_path):
    with pytest.raises(ToolError, match=f"{other} answers something that is not AWS") as error:
        ask(endpoint=other)
    assert error.value.code == ErrorCode.ENDPOINT_UNREACHABLE
    aws = Aws(Environment("dev", tmp_path / "dev.yaml", ("us-east-1",), {}, endpoint=other))
    with pytest.raises(ResponseParserError) as caught:
        aws.client("cloudformation").describe_stacks()
    assert as_tool_error(caught.value).what.startswith(
        f"{other} answers something that is not AWS (HTTP "
    )


def test_no_proxy_leads_to_the_loopback(ask, other, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(ToolError, match=f"{other} answers something"):
        ask(endpoint=other)


def test_a_bad_file_of_settings_is_no_matter_of_credentials(ask, tmp_path, monkeypatch):
    (tmp_path / "config").write_text("[default\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(ToolError, match="Unable to parse config file") as caught:
        ask()
    assert caught.value.code == ErrorCode.CREDENTIALS


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
    with pytest.raises(ToolError) as caught:
        ask()
    assert (caught.value.code, caught.value.where) == (ErrorCode.CREDENTIALS, "environment dev")
    assert words in caught.value.what


def test_a_region_that_cannot_be_one_is_named(tmp_path):
    with pytest.raises(ToolError, match="us east"):
        Aws(Environment("dev", tmp_path / "dev.yaml", ("us east",), {})).guard()


def test_credentials_of_another_account_are_refused(tmp_path):
    path = tmp_path / "dev.yaml"
    aws = Aws(Environment("dev", path, ("us-east-1",), {}, account="111122223333"))
    aws.__dict__["account"] = "444455556666"  # as GetCallerIdentity returned it
    with pytest.raises(ToolError) as caught:
        aws.guard()
    assert (caught.value.code, caught.value.where) == (ErrorCode.WRONG_ACCOUNT, f"{path}: account")
    aws.__dict__["account"] = "111122223333"
    assert aws.guard() == "111122223333"
