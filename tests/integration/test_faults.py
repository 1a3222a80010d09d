"""Deployments through a proxy between program and endpoint that fails by script."""

import contextlib
import http.client
import http.server
import json
import threading
import time
from urllib.parse import parse_qs, urlsplit

import in_process
import pytest

ERROR = (
    b"<ErrorResponse><Error><Type>%s</Type><Code>%s</Code><Message>%s</Message></Error>"
    b"</ErrorResponse>"
)
THROTTLED = (400, ERROR % (b"Sender", b"Throttling", b"Rate exceeded"))
BROKEN = (500, ERROR % (b"Receiver", b"InternalFailure", b"oops"))
EXPIRED = (
    403,
    ERROR % (b"Sender", b"ExpiredToken", b"The security token included in the request is expired"),
)


@pytest.fixture
def proxy(endpoint):  # noqa: C901 - a server, its handler, its faults
    """proxy.faults[action] is a list of what to do to the next calls of it.

    An answer, 'cut', 'lose' (done, no answer), a number of seconds, or None.
    """
    target = urlsplit(endpoint.url)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            action = parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[0]
            with found.lock:
                found.calls.append(action)
                queue = found.faults.get(action) or [None]
                fault = queue.pop(0)
            if isinstance(fault, tuple):
                return self._answer(fault[0], fault[1], [("Content-Type", "text/xml")])
            if fault == "cut":
                return self._hang_up()
            if isinstance(fault, int | float):
                time.sleep(fault)
            connection = http.client.HTTPConnection(target.hostname, target.port, timeout=30)
            connection.request(
                "POST",
                self.path,
                body,
                {
                    # The environment's endpoint is the proxy,
                    # for which the tools use dummy credentials.
                    name: value.replace("Credential=test/", f"Credential={endpoint.access_key}/")
                    for name, value in self.headers.items()
                    if name.lower() != "host"
                }
                | {"Host": target.netloc},
            )
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
            if fault == "lose":
                return self._hang_up()
            return self._answer(
                answer.status,
                text,
                [
                    (name, value)
                    for name, value in answer.getheaders()
                    if name.lower() == "content-type"
                ],
            )

        def _hang_up(self):
            self.close_connection = True
            self.connection.close()

        def _answer(self, status, text, headers):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

        def handle(self):
            with contextlib.suppress(OSError, ValueError):  # its connection was cut on purpose
                super().handle()

    class Found:
        def __init__(self):
            self.faults, self.calls, self.lock = {}, [], threading.Lock()
            self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            self.server.daemon_threads = True
            self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
            threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    found = Found()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def deploy(proxy, tmp_path, unique, clients, monkeypatch):
    for folder in ("templates", "parameters"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]\nversion = '1'\n")
    (tmp_path / "templates" / "queue.yaml.j2").write_text(
        "Resources:\n  Queue:\n    Type: AWS::SQS::Queue\n"
    )
    settings = {
        "account": "000000000000",
        "endpoint": proxy.url,
        "regions": ["us-east-1"],
        "prefix": f"{unique}-",
        "stacks": {"queue": {}},
    }
    (tmp_path / "parameters" / "test.yaml").write_text(json.dumps(settings))

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return in_process.run("deploy", "--env", "test", "--yes", "--json", *arguments)

    cloudformation = clients("cloudformation", "us-east-1")
    run.status = lambda: cloudformation.describe_stacks(StackName=f"{unique}-queue")["Stacks"][0][
        "StackStatus"
    ]
    run.change_sets = lambda: [
        one
        for one in cloudformation.list_change_sets(StackName=f"{unique}-queue")["Summaries"]
        if one["ExecutionStatus"] == "AVAILABLE"
    ]
    yield run
    cloudformation.delete_stack(StackName=f"{unique}-queue")


@pytest.mark.parametrize(
    "faults",
    [
        {"DescribeStackEvents": [None, THROTTLED, THROTTLED, BROKEN]},
        {"CreateChangeSet": ["lose"]},
        {"ExecuteChangeSet": ["lose"]},
        {"ExecuteChangeSet": ["cut", BROKEN]},
        {
            "DescribeChangeSet": ["cut"],
            "DescribeStacks": [BROKEN, "cut"],
            "DescribeStackEvents": ["cut", 1.5],
        },
    ],
    ids=["throttled", "made and lost", "executed and lost", "cut", "everywhere"],
)
def test_a_deployment_survives(deploy, proxy, faults):
    proxy.faults = faults
    done = deploy()
    assert done.returncode == 0, done.stderr
    assert [one["outcome"] for one in json.loads(done.stdout)] == ["created"]
    assert (deploy.status(), deploy.change_sets()) == ("CREATE_COMPLETE", [])


def test_credentials_that_expire_in_the_middle(deploy, proxy):
    proxy.faults = {"DescribeStackEvents": [None, *[EXPIRED] * 50]}
    done = deploy()
    assert done.returncode == 1
    assert "credentials have expired" in done.stderr
    assert "make follow ENV=test STACK=queue REGION=us-east-1" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    proxy.faults = {}
    again = deploy()
    assert (again.returncode, json.loads(again.stdout)[0]["outcome"]) == (0, "unchanged")


def test_one_call_per_tick(deploy, proxy):
    assert deploy().returncode == 0
    assert (
        proxy.calls.count("DescribeStackEvents") <= 6
    )  # the marker, and the first looks at a stack that is made at once
    proxy.calls.clear()
    assert deploy().returncode == 0
    assert proxy.calls == [
        "GetCallerIdentity",
        "DescribeStacks",
        "CreateChangeSet",
        "DescribeChangeSet",
        "DeleteChangeSet",
    ]
