"""Lambda functions, as MiniStack runs them: in processes of their own, whose standard error is the log."""

import os
import queue
import secrets
import threading
import time
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import lambda_svc

from eventstacks.local.ministack import Original, patch

HANDLER_CALL = "result = handler_fn(event, context)"  # in the worker's script: the request id is set just before it
ANSWER = "        _real_stdout.flush()\n\nrun()"  # in the worker's script: what it says of one invocation leaves it
END = "\x1eend of invocation\x1e"  # closes the log of each invocation on standard error
PATIENCE = 5.0  # seconds for the rest of a log whose end does not come: something that was started still holds the pipe
# What the Lambda runtime does for `logging`: a root handler with level, time, request id and text between tabs.
LOGGING = """
import logging as _logging, time as _time
_request, _logging.Formatter.converter = [""], _time.gmtime
_logging.basicConfig(datefmt="%Y-%m-%dT%H:%M:%S",
                     format="[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s")
_logging.getLogger().handlers[0].addFilter(lambda record: setattr(record, "aws_request_id", _request[0]) or True)
"""
SECRET = secrets.token_hex(16)
SLOTS = threading.BoundedSemaphore(2 * (os.cpu_count() or 2))


def apply_patches() -> None:
    """Put the logging into the worker's script, and the whole log into what a worker answers.

    MiniStack takes a function for silent whose log has not come 50 ms after its answer, which on a busy machine
    loses it. Raises AttributeError when something of MiniStack's is not where it was.
    """
    script, worker = lambda_runtime._PYTHON_WORKER_SCRIPT, lambda_runtime.Worker
    for place, before in (
        (HANDLER_CALL, "_request[0] = context.aws_request_id; "),
        (ANSWER, f"        print({END!r}, file=sys.__stderr__, flush=True)\n"),
    ):
        if script.count(place) != 1:
            raise AttributeError(f"{place!r} in _PYTHON_WORKER_SCRIPT")
        script = script.replace(place, before + place)
    lambda_runtime._PYTHON_WORKER_SCRIPT = LOGGING + script
    worker._drain_stderr_bounded = _of_python(worker._drain_stderr_bounded)
    worker._drain_stderr = _of_python(worker._drain_stderr)  # after a time-out


def _of_python(original: Original) -> Original:
    """The workers of other languages write no mark; how MiniStack reads their log is left as it is."""

    def drain(worker: Any, *arguments: Any, **more: Any) -> Any:
        is_ours = str(worker.config.get("Runtime", "python")).startswith("python")
        return log_of(worker) if is_ours else original(worker, *arguments, **more)

    return drain


def log_of(worker: Any) -> str:
    """What a worker wrote since its last invocation, to the mark at the end of this one, or to its own end."""
    lines, deadline = [], time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        is_read = (
            worker._stderr_thread.is_alive()
        )  # asked first: its last line may come just before its end
        try:
            line = worker._stderr_queue.get(timeout=0.01)
        except queue.Empty:
            if is_read:
                continue
            break
        if line != END:
            lines.append(line.removesuffix(END))
        if line.endswith(END):
            break
    return "\n".join(lines)


@patch("execution_credentials", lambda_runtime, lambda_svc)
def unpredictable_credentials(original: Original, config: dict[str, Any]) -> Any:
    """Make a function's credentials depend on a secret of this start; MiniStack derives them from ARNs alone."""
    return original({**config, "FunctionArn": f"{config['FunctionArn']}:{SECRET}"})


@patch("_execute_function", lambda_svc)
def in_turn(original: Original, *arguments: Any) -> Any:
    """Run a function when few others run: a burst of events queues, as on AWS, and starts no interpreter for each."""
    taken = SLOTS.acquire(
        timeout=5
    )  # no longer: a function that waits for another one would hold up itself
    try:
        return original(*arguments)
    finally:
        if taken:
            SLOTS.release()
