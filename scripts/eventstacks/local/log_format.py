"""LoggingConfig's LogFormat JSON: what a function writes with `logging` becomes one JSON object per line.

The fields are those of Lambda's Python runtime (awslambdaric, JsonFormatter), which adds the fields of ``extra``.
ApplicationLogLevel and SystemLogLevel are not applied.
"""

from collections.abc import Callable
from typing import Any

from ministack.core import lambda_runtime

JSON_FORMATTER = """
import json as _json, logging as _logging, os as _os, time as _time
class _JsonFormatter(_logging.Formatter):
    _reserved = {*vars(_logging.makeLogRecord({})), "aws_request_id"}
    def format(self, record):
        when = _time.strftime("%Y-%m-%dT%H:%M:%S", _time.gmtime(record.created))
        fields = {"timestamp": f"{when}.{int(record.msecs):03d}Z", "level": record.levelname,
                  "message": record.getMessage(), "logger": record.name,
                  "requestId": getattr(record, "aws_request_id", None)}
        if record.exc_info and record.exc_info[0]:
            fields |= {"errorType": record.exc_info[0].__name__, "errorMessage": str(record.exc_info[1]),
                       "stackTrace": self.formatException(record.exc_info).splitlines()}
        fields |= {k: v for k, v in vars(record).items() if k not in self._reserved and k not in fields}
        return _json.dumps({k: v for k, v in fields.items() if v is not None}, ensure_ascii=False)
if _os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
    _logging.getLogger().handlers[0].setFormatter(_JsonFormatter())
"""


def with_log_format(spawn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return Worker._spawn with the variable that tells the runtime the format of the log."""

    def outer(worker: Any) -> Any:
        settings = worker.config.get("LoggingConfig") or {}
        variables = (worker.config.get("Environment") or {}).get("Variables") or {}
        if settings.get("LogFormat") == "JSON":
            variables = {**variables, "AWS_LAMBDA_LOG_FORMAT": "JSON"}
            worker.config = {**worker.config, "Environment": {"Variables": variables}}
        return spawn(worker)

    return outer


lambda_runtime.Worker._spawn = with_log_format(lambda_runtime.Worker._spawn)
# Before functions.py puts the root handler in front of it.
lambda_runtime._PYTHON_WORKER_SCRIPT = JSON_FORMATTER + lambda_runtime._PYTHON_WORKER_SCRIPT
