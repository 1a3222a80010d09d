"""Lambda functions as MiniStack runs them, in processes of their own.

Credentials, logs and concurrency.
"""

import os
import queue
import secrets
import threading
import time
import uuid
from typing import Any

from ministack.core import lambda_runtime
from ministack.services import cloudwatch_logs, lambda_svc

from eventstacks.local.ministack import Json, Original, patch

HANDLER_CALL = (
    "result = handler_fn(event, context)"  # in the worker's script, after the request ID is set
)
ANSWER = "        _real_stdout.flush()\n\nrun()"  # in the worker's script, after each invocation
END = "\x1eend of invocation\x1e"  # ends the log of each invocation on standard error
TIMEOUT = 5.0  # seconds for a log without an end: a child process of the function has the pipe open
# What the Lambda runtime does for `logging`: a root handler with level, time, request ID and
# message between tabs or, with LoggingConfig's LogFormat JSON, one object per line with the fields
# of awslambdaric's JsonFormatter and `extra`. ApplicationLogLevel and SystemLogLevel are not
# applied.
LOGGING = """
import json as _json, logging as _logging, os as _os, time as _time
_request, _logging.Formatter.converter = [""], _time.gmtime
class _JsonFormatter(_logging.Formatter):
    _reserved = {*vars(_logging.makeLogRecord({})), "aws_request_id"}
    def format(self, record):
        when = _time.strftime("%Y-%m-%dT%H:%M:%S", _time.gmtime(record.created))
        fields = {"timestamp": f"{when}.{int(record.msecs):03d}Z", "level": record.levelname,
                  "message": record.getMessage(), "logger": record.name,
                  "requestId": getattr(record, "aws_request_id", None)}
        if record.exc_info and record.exc_info[0]:
            fields |= {"errorType": record.exc_info[0].__name__,
                       "errorMessage": str(record.exc_info[1]),
                       "stackTrace": self.formatException(record.exc_info).splitlines()}
        given = self._reserved | fields.keys()
        fields |= {k: v for k, v in vars(record).items() if k not in given}
        return _json.dumps({k: v for k, v in fields.items() if v is not None}, ensure_ascii=False)
_logging.basicConfig(datefmt="%Y-%m-%dT%H:%M:%S",
                     format="[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s")
_logging.getLogger().handlers[0].addFilter(
    lambda record: setattr(record, "aws_request_id", _request[0]) or True)
if _os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
    _logging.getLogger().handlers[0].setFormatter(_JsonFormatter())
"""
SECRET = secrets.token_hex(16)
SLOTS = threading.BoundedSemaphore(2 * (os.cpu_count() or 2))


def apply_patches() -> None:
    """Add logging to the worker's script, and the whole log to a worker's answer.

    MiniStack waits 50 ms for the log after an answer; on a busy machine the log would be lost.
    Raises AttributeError if MiniStack's script has changed.
    """
    script, worker = lambda_runtime._PYTHON_WORKER_SCRIPT, lambda_runtime.Worker
    for place, addition in (
        (HANDLER_CALL, "_request[0] = context.aws_request_id; "),
        (ANSWER, f"        print({END!r}, file=sys.__stderr__, flush=True)\n"),
    ):
        if script.count(place) != 1:
            raise AttributeError(f"{place!r} in _PYTHON_WORKER_SCRIPT")
        script = script.replace(place, addition + place)
    lambda_runtime._PYTHON_WORKER_SCRIPT = LOGGING + script
    worker._drain_stderr_bounded = _of_python(worker._drain_stderr_bounded)
    worker._drain_stderr = _of_python(worker._drain_stderr)  # after a timeout
    worker._spawn = _with_log_format(worker._spawn)


def _with_log_format(original: Original) -> Original:
    """Pass the log format to the function's process in its variable."""

    def spawn(worker: Any) -> Any:
        log_format = (worker.config.get("LoggingConfig") or {}).get("LogFormat", "Text")
        variables = (worker.config.get("Environment") or {}).get("Variables") or {}
        variables = {**variables, "AWS_LAMBDA_LOG_FORMAT": log_format}
        worker.config = {**worker.config, "Environment": {"Variables": variables}}
        return original(worker)

    return spawn


def _of_python(original: Original) -> Original:
    """Read the log of Python workers to its end mark; other languages write none."""

    def drain(worker: Any, *arguments: Any, **more: Any) -> Any:
        is_python = str(worker.config.get("Runtime", "python")).startswith("python")
        return log_of(worker) if is_python else original(worker, *arguments, **more)

    return drain


def log_of(worker: Any) -> str:
    """Return what a worker wrote since its last invocation, up to the end mark or its own end."""
    lines, deadline = [], time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        is_read = (
            worker._stderr_thread.is_alive()
        )  # before the queue: the last line precedes its end
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
    """Make a function's credentials depend on a secret of this start.

    MiniStack derives them from ARNs alone.
    """
    return original({**config, "FunctionArn": f"{config['FunctionArn']}:{SECRET}"})


@patch("_execute_function", lambda_svc)
def in_turn(original: Original, *arguments: Any) -> Any:
    """Queue invocations while many functions run, as AWS does.

    MiniStack starts an interpreter for each.
    """
    # No longer than 5 s: a function that waits for another one would block itself.
    has_slot = SLOTS.acquire(timeout=5)
    try:
        return original(*arguments)
    finally:
        if has_slot:
            SLOTS.release()


@patch("_append_log_events", cloudwatch_logs)
def with_ids(original: Original, stream: Json, events: list[Json]) -> None:
    """Store log events with an ID, as AWS does; MiniStack gives none to those of functions."""
    original(stream, [{"eventId": str(uuid.uuid4()), **one} for one in events])


@patch("_emit_lambda_logs", lambda_svc)
def no_log_of_a_deleted_function(
    original: Original, function: dict[str, Any], *arguments: Any, **more: Any
) -> None:
    """Drop the log of a function that was deleted while it ran.

    MiniStack would create its log group again.

    AWS creates a log group only if the role of the function allows it.
    """
    config = function.get("config") or function
    if config.get("FunctionName") in lambda_svc._functions:
        original(function, *arguments, **more)
