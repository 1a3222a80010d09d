"""tail when AWS goes away."""

import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from eventstacks.bus import tail
from eventstacks.cli import events

# The verb, without a stack behind it; botocore's own pauses are left out.
TAIL = """
import sys
from pathlib import Path
from types import SimpleNamespace
import botocore.endpoint
from eventstacks.__main__ import main
from eventstacks.aws import Aws
from eventstacks.cli import events
from eventstacks.environment import Environment
from eventstacks.bus import tail

botocore.endpoint.time = SimpleNamespace(sleep=lambda _seconds: None)
aws = Aws(Environment("stub", Path("stub.yaml"), ("us-east-1",), {}, endpoint=sys.argv[1]), None)
events.deployed = lambda *_: (aws, [])
tail.find_groups = lambda *_: [("us-east-1", name) for name in "ab"]
sys.argv = ["eventstacks", "tail", "--raw"]
sys.exit(main())
"""


class Logs(BaseHTTPRequestHandler):
    def do_POST(self):
        event = {
            "timestamp": int(time.time() * 1000),
            "message": "here",
            "logStreamName": "s",
            "eventId": "1",
        }
        answer = json.dumps({"events": [event]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("message", ["START RequestId", 100_000 * "[", "5"])
def test_what_is_no_json_is_a_line(message, capsys):
    event = tail.Event(0, "group", message, {"id": "1"})
    events._print(event, raw=False, as_json=True)
    assert json.loads(capsys.readouterr().out)["message"] == message


@pytest.mark.parametrize("message", ["\x1b]0;evil\x07\x9b31m\u202e", '{"a": "\x9b31m"}'])
def test_control_characters_are_escaped(message, capsys):
    event = tail.Event(0, "group", message, {})
    events._print(event, raw=False, as_json=False)
    assert not set("\x1b\x07\x9b\u202e") & set(capsys.readouterr().out)


@pytest.mark.parametrize(("is_terminal", "text"), [(True, "\\x9b31m"), (False, "\x9b31m")])
def test_raw_messages_are_escaped_on_a_terminal(is_terminal, text, capsys, monkeypatch):
    console = SimpleNamespace(is_terminal=is_terminal)
    monkeypatch.setattr(events.output, "console", lambda: console)
    events._print(tail.Event(0, "group", "\x9b31m", {}), raw=True, as_json=False)
    assert capsys.readouterr().out == f"{text}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_an_answer_it_says_so_and_ends_when_told(number):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Logs)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [sys.executable, "-c", TAIL, f"http://127.0.0.1:{server.server_port}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert [process.stdout.readline() for _ in "ab"] == ["here\n", "here\n"]
            server.shutdown()
            server.server_close()
            assert process.stderr.readline() == "2 log groups: a in us-east-1, b in us-east-1\n"
            assert process.stderr.readline().startswith(
                "No answer, trying again: Could not connect"
            )
            time.sleep(0.3)  # it waits now
            process.send_signal(number)
            _, said = process.communicate(timeout=5)
        finally:
            process.kill()
    assert (process.returncode, said[-14:]) == (130, "\nInterrupted.\n")
    assert "Traceback" not in said


class SwallowingTap:
    """A tap during whose first call a signal comes in a finalizer, where Python ignores it."""

    def __init__(self, aws, region, bus, pattern):
        self.region, self.bus, self.name, self.log = region, bus, "tap", aws

    def create(self):
        self.log.append("create")

    def remove(self):
        self.log.append("remove")

    def receive(self, _seconds):
        assert self.log == ["create"]
        self.log.append("receive")
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            return []


def test_a_signal_that_python_loses_ends_it_too(monkeypatch):
    log = []
    monkeypatch.setattr(tail, "Tap", SwallowingTap)
    monkeypatch.setattr(tail, "remove_stale", lambda *_: [])
    found = [SimpleNamespace(ref=SimpleNamespace(region="us-east-1"), outputs={})]
    with pytest.raises(KeyboardInterrupt):
        list(events._bus_events(log, found, events.STACK_BUS, "{}"))
    assert log == ["create", "receive", "remove"]
