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


# In the worker's script: where code goes -> what is added before it.
ADDITIONS = {
    # The request ID is set.
    "result = handler_fn(event, context)": "_request[0] = context.aws_request_id; ",
    # The end of each invocation.
    "        _real_stdout.flush()\n\nrun()": (
        f"        print({END!r}, file=sys.__stderr__, flush=True)\n"
    ),
}

_script = lambda_runtime._PYTHON_WORKER_SCRIPT
for _place, _addition in ADDITIONS.items():
    if _script.count(_place) != 1:
        raise AttributeError(f"{_place!r} in _PYTHON_WORKER_SCRIPT")
    _script = _script.replace(_place, _addition + _place)
lambda_runtime._PYTHON_WORKER_SCRIPT = LOGGING + _script


class Worker(lambda_runtime.Worker):
    """A worker whose process knows the log format, and whose answers have the whole log.

    MiniStack waits 50 ms for the log after an answer; on a busy machine the log would be lost.
    """

    config: Json
    _drain = lambda_runtime.Worker._drain_stderr_bounded

    def _spawn(self) -> Any:
        log_format = (self.config.get("LoggingConfig") or {}).get("LogFormat", "Text")
        variables = (self.config.get("Environment") or {}).get("Variables") or {}
        variables = {**variables, "AWS_LAMBDA_LOG_FORMAT": log_format}
        self.config = {**self.config, "Environment": {"Variables": variables}}
        return super()._spawn()

    def _drain_stderr(self, **more: Any) -> Any:
        """Return what was written since the last invocation, up to the end mark or the own end.

        Workers of other languages than Python write no end mark.
        """
        if not str(self.config.get("Runtime", "python")).startswith("python"):
            return self._drain(**more)
        lines, deadline = [""], time.monotonic() + TIMEOUT
        while time.monotonic() < deadline and not lines[-1].endswith(END):
            # Before the queue: the last line precedes the end of the thread.
            is_read = self._stderr_thread.is_alive()
            try:
                lines.append(self._stderr_queue.get(timeout=0.01))
            except queue.Empty:
                if not is_read:
                    break
        return "\n".join(lines[1:]).removesuffix(END).removesuffix("\n")

    _drain_stderr_bounded = _drain_stderr


lambda_runtime.Worker = Worker


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
