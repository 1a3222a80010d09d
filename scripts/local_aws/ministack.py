"""MiniStack, as far as this room touches it: its private names, looked for at start, and its services, called.

Internals move between releases, and one that moved has to be told at once instead of losing events in silence.
"""

from __future__ import annotations

import importlib
import json
import logging
import pkgutil
from typing import Any

from scripts.errors import ToolError

PRIVATE = """
core.iam_evaluator._gather_role_policies core.lambda_runtime._PYTHON_WORKER_SCRIPT services.cloudformation._stacks
services.cloudformation.changesets._find_change_set services.cloudformation.changesets._resolve_props_for_diff
services.cloudformation.drift._DRIFT_READERS services.cloudformation.helpers._resolve_document
services.cloudformation.provisioners._RESOURCE_HANDLERS services.cloudformation.provisioners._REPLACING_PROPERTIES
services.cloudformation.provisioners._physical_name services.cloudformation.provisioners._replacing_change
services.cloudformation.stacks._update_resource services.eventbridge._apply_input_transformer
services.eventbridge._archive_event services.eventbridge._dispatch_event services.eventbridge._event_bus_policies
services.eventbridge._event_buses services.eventbridge._event_pattern_error services.eventbridge._invoke_target
services.eventbridge._pattern_event_view services.eventbridge._put_events services.eventbridge._rule_key
services.eventbridge._validate_target_arn services.iam._roles services.rds._error services.rds._snapshot_xml
services.lambda_svc._execute_function services.rds._snapshots services.rds._xml services.s3._buckets
services.s3._notification_bucket_region services.cloudformation.engine._resolve_refs
services.cloudformation.changesets._evaluate_conditions services.cloudformation.engine._evaluate_conditions
services.cloudformation.handlers._evaluate_conditions services.cloudformation.stacks._evaluate_conditions
""".split()  # noqa: SIM905 - one name a line would be half of this file
# The call of the handler inside the worker's script: the request id of a log line is set just before it.
HANDLER_CALL = "result = handler_fn(event, context)"
log = logging.getLogger("local_aws")


class AwsError(Exception):
    """An error answer of a service; its text starts with the error's code."""


def check() -> None:
    """Raise ToolError that lists every private name this MiniStack lacks."""
    missing = []
    for name in PRIVATE:
        try:
            found = pkgutil.resolve_name(f"ministack.{name}")
            if name.endswith("_WORKER_SCRIPT") and found.count(HANDLER_CALL) != 1:
                missing.append(f"'{HANDLER_CALL}' in {name}")
        except (ImportError, AttributeError):
            missing.append(name)
    if missing:
        advice = "Install the pinned one (make setup), or mend scripts/local_aws."
        raise ToolError(f"MiniStack has changed: no {', '.join(missing)}", where="embedded AWS", advice=advice)


def send(service: str, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """One request to a service of this process, in the current account and region: (status, answer).

    Handlers are coroutines, but wait for nothing that is sent from here: they run to their end in one step, and so
    can be called in the midst of another request.
    """
    handler = importlib.import_module(f"ministack.services.{service}").handle_request(method, path, headers, body, {})
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
        raise AwsError(f"{data.get('__type', status)}: {data.get('message') or data.get('Message')}")
    return data
