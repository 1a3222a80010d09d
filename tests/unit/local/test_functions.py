"""Concurrency of functions, and their complete logs."""

import io
import os
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

os.environ.setdefault("BIND_HOST", "127.0.0.1")  # MiniStack reads it when it is imported

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from eventstacks.local import functions


@pytest.fixture
def worker(monkeypatch):
    """worker(code, seconds?): a process for that function.

    Its log is read late, as on a busy machine.
    """
    made = []

    def read(self):
        lines = self._proc.stderr
        time.sleep(0.5)
        for line in lines:
            self._stderr_queue.put(line.rstrip("\n"))

    monkeypatch.setattr(lambda_runtime.Worker, "_read_stderr", read)

    def make(code, seconds=30, runtime="python3.13"):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("index.py", code)
        config = {
            "Runtime": runtime,
            "Handler": "index.handler",
            "Timeout": seconds,
            "FunctionName": "f",
            "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f",
        }
        made.append(lambda_runtime.Worker("f", config, archive.getvalue()))
        return made[-1]

    yield make
    lambda_runtime.kill_workers(made)


@pytest.mark.parametrize("body", ["", "raise ValueError", "import os; os._exit(1)"])
def test_a_log_that_comes_late_is_whole(worker, body):
    one = worker(f"def handler(event, context):\n  print('one'); print('two')\n  {body}\n")
    assert one.invoke({}, "id")["log"] == "one\ntwo"


def test_what_is_written_before_a_time_out_is_in_the_log(worker):
    one = worker(
        "import time\ndef handler(event, context):\n  print('one'); time.sleep(60)\n", seconds=0.3
    )
    answer = one.invoke({}, "id")
    assert (answer["status"], answer["log"]) == ("error", "one")


def test_each_invocation_has_its_own_lines(worker):
    one = worker("def handler(event, context):\n  print(event, end=event)\n")
    assert [one.invoke(each, "id")["log"] for each in ("", "\n", "x", "")] == ["", "\n", "xx", ""]


def test_a_worker_of_another_language_is_read_as_before(worker):
    one = worker("", runtime="nodejs22.x")
    one._stderr_queue.put("one")
    assert one._drain_stderr_bounded(first_line_wait=0.1) == one._drain_stderr() + "one"


def test_a_log_without_an_end_is_not_waited_for_for_ever(worker, monkeypatch):
    monkeypatch.setattr(functions, "TIMEOUT", 1.0)
    code = (
        "import os, time\n"
        "def handler(event, context):\n"
        "  print('one')\n"
        "  if os.fork(): os._exit(1)\n"
        "  os.close(1); time.sleep(4); print('late'); os._exit(0)\n"
    )
    assert worker(code).invoke({}, "id")["log"] == "one"


def test_a_burst_of_functions_queues(monkeypatch):
    monkeypatch.setattr(functions, "SLOTS", threading.BoundedSemaphore(2))
    running, most, lock, never = 0, 0, threading.Lock(), threading.Event()

    def function(number):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        never.wait(0.1)  # time for a third one to come in, if it may
        with lock:
            running -= 1
        return number

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(lambda number: functions.in_turn(function, number), range(6))) == [
            *range(6)
        ]
    assert most <= 2
    assert functions.SLOTS._value == 2


@pytest.mark.parametrize(("functions_left", "written"), [({"f": {}}, ["f"]), ({}, [])])
def test_the_log_group_of_a_deleted_function_is_not_created_again(
    monkeypatch, functions_left, written
):
    logs = []
    monkeypatch.setattr(lambda_svc, "_functions", functions_left)
    functions.no_log_of_a_deleted_function(
        lambda function, *_, **__: logs.append(function["FunctionName"]), {"FunctionName": "f"}
    )
    assert logs == written
