"""The life of the daemon: one per directory, found again, never somebody else's process."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from eventstacks import daemons
from eventstacks.errors import ToolError
from eventstacks.local import server

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def where(tmp_path):
    yield tmp_path
    server.stop(tmp_path)


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


def test_a_second_start_finds_the_first(where):
    first = server.start(where, 0)
    pid = server.status(where).pid
    assert server.start(where, 0) == first
    assert server.status(where).pid == pid


def test_two_processes_that_start_at_once_share_one(where):
    code = f"from pathlib import Path; from eventstacks.local import server; print(server.start(Path({str(where)!r}), 0).url)"
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
    ("name", "value", "words"),
    [
        ("LOCAL_AWS_PORT", "abc", "a port is a number"),
        ("LOCAL_AWS_PORT", "70000", "a port is a number"),
        ("LOCAL_AWS_IDLE", "x", "a number of seconds"),
        ("LOCAL_AWS_IDLE", "-1", "a number of seconds"),
        ("LOCAL_AWS_IDLE", "nan", "a number of seconds"),
    ],
)
def test_a_variable_that_is_no_number_is_named(where, monkeypatch, name, value, words):
    monkeypatch.setenv("LOCAL_AWS_PORT", "0")
    monkeypatch.setenv(name, value)
    with pytest.raises(ToolError) as caught:
        server.start(where)
    assert str(caught.value).startswith(f"{name} is '{value}', but ")
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert server.status(where) is None


def test_it_listens_on_loopback_alone(where):
    server.start(where, 0)
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


def test_it_ends_when_nobody_asks(where, monkeypatch):
    monkeypatch.setenv("LOCAL_AWS_IDLE", "0.5")
    server.start(where, 0)
    assert until(lambda: daemons.living(where) is None)


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


def test_status_tells_memory_and_stacks(where):
    endpoint = server.start(where, 0)
    keys = {"aws_access_key_id": endpoint.access_key, "aws_secret_access_key": endpoint.secret_key}
    cloudformation = boto3.client(
        "cloudformation", region_name="eu-west-1", endpoint_url=endpoint.url, **keys
    )
    cloudformation.create_stack(
        StackName="one", TemplateBody='{"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}'
    )
    cloudformation.create_stack(
        StackName="gone", TemplateBody='{"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}'
    )
    cloudformation.delete_stack(StackName="gone")
    found = until(lambda: (now := server.status(where)) and now.stacks == ["eu-west-1/one"] and now)
    assert 10_000_000 < found.memory < 300_000_000
    assert found.log == where / "log"


def test_the_memory_is_its_own_and_not_that_of_who_started_it(where):
    large = (
        b"x" * 400_000_000
    )  # on Linux the peak of a process (ru_maxrss) begins with that of its parent
    server.start(where, 0)
    assert 10_000_000 < server.status(where).memory < len(large)


def test_a_daemon_that_cannot_start_is_an_error_with_its_log(where, monkeypatch):
    monkeypatch.setattr(server, "DAEMON", "import sys; sys.exit('what went wrong')")
    with pytest.raises(ToolError, match="what went wrong"):
        server.start(where, 0)
