"""MiniStack, as far as this room touches it.

Every private name that is used stands in ``PRIVATE`` and is looked for at start: internals move between releases, and
a release that moved one must say so at once instead of losing events in silence.
"""

from __future__ import annotations

import importlib
import json
import logging
from typing import Any

from scripts.errors import ToolError

VERSION = "1.5.33"
PRIVATE = {
    "core.iam_evaluator": ("_gather_role_policies",),
    "core.lambda_runtime": ("_PYTHON_WORKER_SCRIPT",),
    "services.cloudformation": ("_stacks",),
    "services.cloudformation.changesets": ("_find_change_set", "_resolve_props_for_diff"),
    "services.cloudformation.drift": ("_DRIFT_READERS",),
    "services.cloudformation.helpers": ("_resolve_document",),
    "services.cloudformation.provisioners": (
        "_RESOURCE_HANDLERS", "_REPLACING_PROPERTIES", "_physical_name", "_replacing_change"),
    "services.cloudformation.stacks": ("_update_resource",),
    "services.eventbridge": (
        "_apply_input_transformer", "_archive_event", "_dispatch_event", "_event_bus_policies", "_event_buses",
        "_event_pattern_error", "_invoke_target", "_pattern_event_view", "_put_events", "_rule_key",
        "_validate_target_arn"),
    "services.iam": ("_roles",),
    "services.lambda_svc": ("_emit_lambda_logs",),
    "services.rds": ("_db_cluster_snapshots", "_snapshot_xml", "_snapshots"),
    "services.s3": ("_buckets", "_notification_bucket_region"),
}  # fmt: skip
# The call of the handler inside the worker's script: the request id of a log line is set just before it.
HANDLER_CALL = "result = handler_fn(event, context)"
log = logging.getLogger("local_aws")


class AwsError(Exception):
    """An error answer of a service; ``code`` is its type, such as ResourceNotFoundException."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def module(name: str) -> Any:
    """A module of MiniStack by its name below the package."""
    return importlib.import_module(f"ministack.{name}")


def check() -> None:
    """Raise ToolError that lists every private name this MiniStack lacks."""
    missing = [f"{name}.{key}" for name, keys in PRIVATE.items() for key in keys if not hasattr(module(name), key)]
    if not missing and module("core.lambda_runtime")._PYTHON_WORKER_SCRIPT.count(HANDLER_CALL) != 1:
        missing = [f"'{HANDLER_CALL}' in core.lambda_runtime._PYTHON_WORKER_SCRIPT"]
    if missing:
        advice = f"The embedded AWS needs ministack=={VERSION}: run `make setup`, or mend scripts/local_aws."
        raise ToolError(f"this MiniStack has no {', '.join(missing)}", where="ministack", advice=advice)


def send(service: str, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """One request to a service of this process, in the current account and region: (status, answer).

    A service's handler is a coroutine that never waits for what is sent from here; it is run to its end in one step,
    so that it can be called from the middle of another request.
    """
    handler = module(f"services.{service}").handle_request(method, path, headers, body, {})
    try:
        handler.send(None)
    except StopIteration as done:
        return done.value[0], done.value[2] or b""
    handler.close()
    raise RuntimeError(f"{service} waits in {method} {path}; it cannot be called from here")


def call(service: str, target: str, **body: Any) -> dict[str, Any]:
    """One operation over the JSON protocol; AwsError when the service refuses."""
    headers = {"x-amz-target": target, "content-type": "application/x-amz-json-1.1"}
    status, answer = send(service, "POST", "/", headers, json.dumps(body).encode())
    data: dict[str, Any] = json.loads(answer or b"{}")
    if status >= 400:
        raise AwsError(str(data.get("__type", status)), data.get("message") or data.get("Message") or "")
    return data
