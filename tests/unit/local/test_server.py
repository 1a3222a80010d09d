"""Start, status and stop of the embedded AWS.

There is one per directory, and no other process is signalled.
"""

import contextlib
import errno
import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

from eventstacks.errors import ErrorCode, ToolError
from eventstacks.local import server

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def where(tmp_path):
    yield tmp_path
    server.stop(tmp_path)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The state directory and the endpoint of one for the tests that only look at it."""
    where = tmp_path_factory.mktemp("running")
    yield where, server.start(where, 0)
    server.stop(where)


def until(probe):
    deadline = time.monotonic() + 60
    while not (found := probe()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def processes_of(where):
    """Pids of living processes that have the directory as an argument."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(where) in path.read_text().split("\0"):
                found.append(int(path.parent.name))
    return found


def test_a_second_start_returns_the_first(running):
    where, first = running
    pid = server.status(where).pid
    assert server.start(where, 0) == first
    assert server.status(where).pid == pid


def test_two_processes_that_start_at_once_share_one(where):
    code = (
        "from pathlib import Path; from eventstacks.local import server; "
        f"print(server.start(Path({str(where)!r}), 0).url)"
    )
    run = [sys.executable, "-c", code]
    with ThreadPoolExecutor() as pool:
        done = [
            pool.submit(
                subprocess.run, run, cwd=CHECKOUT, capture_output=True, text=True, check=True
            )
            for _ in range(3)
        ]
    assert {one.result().stdout.strip() for one in done} == {server.status(where).url}
    assert processes_of(where) == [
        server.status(where).pid
    ]  # none that came late waits for the first one's end


def test_a_busy_port_is_an_error_that_names_it(where):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ToolError) as caught:
            server.start(where, port)
    assert f"port {port} of 127.0.0.1" in str(caught.value)
    assert "LOCAL_AWS_PORT" in str(caught.value)
    assert server.status(where) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOCAL_AWS_PORT", "abc"),
        ("LOCAL_AWS_PORT", "-1"),
        ("LOCAL_AWS_PORT", "70000"),
        ("LOCAL_AWS_IDLE", "x"),
        ("LOCAL_AWS_IDLE", "-1"),
        ("LOCAL_AWS_IDLE", "nan"),
    ],
)
def test_an_invalid_setting_is_named(where, monkeypatch, name, value):
    monkeypatch.setenv("LOCAL_AWS_PORT", "0")
    monkeypatch.setenv(name, value)
    with pytest.raises(ToolError) as caught:
        server.start(where)
    assert caught.value.code is ErrorCode.LOCAL_AWS_FAILED
    assert f"{name} '{value}'" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert server.status(where) is None


def test_it_listens_on_loopback_alone(running):
    where, _ = running
    sockets = {
        path.readlink().name
        for path in Path(f"/proc/{server.status(where).pid}/fd").iterdir()
        if path.is_symlink()
    }
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                listening.append(fields[1].split(":")[0])
    assert listening == ["0100007F"]  # 127.0.0.1, as the kernel writes it


def test_after_its_death_another_starts(where):
    server.start(where, 0)
    os.kill(server.status(where).pid, signal.SIGKILL)
    assert until(lambda: server.status(where) is None)
    assert json.loads((where / "alive").read_text())["pid"]  # stale: it had no time to tidy up
    assert server.stop(where) is False
    assert server.start(where, 0)
    assert server.status(where)


def test_a_foreign_process_under_the_recorded_pid_is_left_alone(where):
    with subprocess.Popen(["sleep", "60"]) as foreign:
        try:
            told = {"pid": foreign.pid, "url": "http://127.0.0.1:1", "since": 0}
            (where / "alive").write_text(json.dumps(told))
            assert server.status(where) is None
            assert server.stop(where) is False
            server.start(where, 0)
            assert server.stop(where) is True
            assert foreign.poll() is None
        finally:
            foreign.kill()


def test_stop_ends_it_and_leaves_no_process(where):
    server.start(where, 0)
    pid = server.status(where).pid
    assert server.stop(where) is True
    assert server.status(where) is None
    assert until(
        lambda: (
            not Path(f"/proc/{pid}").exists()
            or "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
        )
    )
    assert not (where / "tmp").exists()


def test_it_ends_when_no_request_comes(where, monkeypatch):
    monkeypatch.setenv("LOCAL_AWS_IDLE", "0.5")
    server.start(where, 0)
    assert until(lambda: server.read_state(where) is None)


def test_a_function_sees_nothing_of_the_users_environment(where, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-users-own")
    monkeypatch.setenv("MY_TOKEN", "the-users-own")
    endpoint = server.start(where, 0)
    keys = {"aws_access_key_id": endpoint.access_key, "aws_secret_access_key": endpoint.secret_key}
    environ = Path(f"/proc/{server.status(where).pid}/environ").read_text()
    assert "the-users-own" not in environ
    assert str(Path.home()) not in environ.replace(os.environ["PATH"], "")
    sts = boto3.client("sts", region_name="eu-central-1", endpoint_url=endpoint.url, **keys)
    assert sts.get_caller_identity()["Account"] == "000000000000"


def test_status_tells_stacks(running):
    where, endpoint = running
    keys = {"aws_access_key_id": endpoint.access_key, "aws_secret_access_key": endpoint.secret_key}
    cloudformation = boto3.client(
        "cloudformation", region_name="eu-west-1", endpoint_url=endpoint.url, **keys
    )
    cloudformation.create_stack(
        StackName="one", TemplateBody='{"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}'
    )
    cloudformation.create_stack(
        StackName="missing", TemplateBody='{"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}'
    )
    cloudformation.delete_stack(StackName="missing")
    found = until(lambda: (now := server.status(where)) and now.stacks == ["eu-west-1/one"] and now)
    assert found.log == where / "log"


def test_a_daemon_that_cannot_start_is_an_error_with_its_log(where, monkeypatch):
    monkeypatch.setattr(server, "DAEMON", "import sys; sys.exit('what went wrong')")
    with pytest.raises(ToolError, match="what went wrong"):
        server.start(where, 0)


def test_a_deleted_state_directory_stops_it(where):
    server.start(where, 0)
    pid = server.status(where).pid
    shutil.rmtree(where)
    assert until(lambda: pid not in processes_of(where))
    where.mkdir()


def test_the_access_key_is_random_and_readable_by_the_user_only(where):
    before = os.umask(0)
    try:
        first = server.start(where, 0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(where.stat().st_mode) == 0o700
    assert stat.S_IMODE((where / "alive").stat().st_mode) == 0o600
    assert stat.S_IMODE((where / "log").stat().st_mode) == 0o600
    public = Path(f"/proc/{server.status(where).pid}/cmdline").read_text() + repr(first)
    assert first.access_key not in public
    assert first.secret_key not in public
    server.stop(where)
    second = server.start(where, 0)
    assert len(first.access_key) >= 36
    assert first.access_key != second.access_key
    assert first.secret_key != second.secret_key


def test_requests_without_the_access_key_are_refused(running):
    _, endpoint = running
    options = {"region_name": "eu-central-1", "endpoint_url": endpoint.url}
    keys = ("test", "000000000000", endpoint.access_key[:-1])
    calls = {"sts": "get_caller_identity", "events": "list_event_buses", "s3": "list_buckets"}
    for key, (service, call) in itertools.product(keys, calls.items()):
        client = boto3.client(service, aws_access_key_id=key, aws_secret_access_key="x", **options)
        with pytest.raises(ClientError, match="eventstacks local env") as caught:
            getattr(client, call)()
        assert caught.value.response["Error"]["Code"].startswith("AccessDenied")
    for path in (
        "/_ministack/health",
        "/_local_aws/status",
        "/?Action=ListStacks&AWSAccessKeyId=test",
    ):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(endpoint.url + path, timeout=10)


def test_the_credentials_of_a_function_cannot_be_derived_from_its_arn(where):
    """MiniStack makes the keys of an execution role by hashing the ARNs of function and role."""
    code = "from eventstacks.local import functions; from ministack.core import lambda_runtime\n"
    code += "arn = 'arn:aws:lambda:us-east-1:000000000000:function:f'\n"
    code += "given = {'FunctionArn': arn, 'Role': 'r', 'FunctionName': 'f'}\n"
    code += "print(lambda_runtime.execution_credentials(given))"
    run = [sys.executable, "-c", code]
    environment = {**os.environ, "BIND_HOST": "127.0.0.1", "AUTH": "true"}
    found = {
        subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(found) == 2


@pytest.mark.parametrize("is_project", [True, False])
def test_the_default_directory_is_that_of_the_project_or_of_the_user(
    tmp_path, monkeypatch, is_project
):
    monkeypatch.delenv("LOCAL_AWS_DIR", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
    if is_project:
        (tmp_path / "parameters").mkdir()
    expected = ".local-aws" if is_project else "xdg/eventstacks/local-aws"
    assert server.directory(None) == tmp_path / expected


def test_the_variables_are_those_of_the_aws_cli():
    found = server.Endpoint("http://127.0.0.1:1", "key", "secret").variables("eu-west-1")
    assert found == {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_REGION": "eu-west-1",
    }


def test_a_full_disk_is_named(where, monkeypatch):
    monkeypatch.setattr(server, "DAEMON", f"import sys; sys.exit({server.EXIT_NO_SPACE})")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        server.start(where, 0)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(where))


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT"])
def test_a_full_disk_ends_the_daemon_with_its_code_though_the_log_is_full(where, number):
    code = "import errno, sys; from pathlib import Path; from eventstacks.local import server\n"
    code += "with server.lock(Path(sys.argv[1])):\n"
    code += f"    print('to the log', end=''); raise OSError(errno.{number}, 'full')"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, str(where)],
            env={key: os.environ[key] for key in os.environ if key != "PYTHONUNBUFFERED"},
            stdout=full,
            stderr=full,
            check=False,
        )
    assert done.returncode == server.EXIT_NO_SPACE


def test_a_daemon_waits_for_the_end_of_the_one_before(where):
    code = "import sys; from pathlib import Path; from eventstacks.local import server\n"
    code += "with server.lock(Path(sys.argv[1])) as alive: server.publish(alive)"
    with server.open_private(where / "alive") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = subprocess.Popen([sys.executable, "-c", code, str(where)])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
    assert process.wait(30) == 0
