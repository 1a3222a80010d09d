"""An inline Lambda target's code, run on what it would receive: in a process of its own, without credentials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eventstacks.flow.inputs import compact, is_json
from eventstacks.flow.resolution import as_dict

if TYPE_CHECKING:
    from eventstacks.flow.resolution import Resource

_BOOTSTRAP = """\
import importlib, json, logging, sys
logging.basicConfig(stream=sys.stderr, format='[%(levelname)s] %(message)s')
module, name = sys.argv[1].rsplit('.', 1)
class Context:
    aws_request_id, function_name, function_version, memory_limit_in_mb = 'trace', sys.argv[2], '$LATEST', '128'
    invoked_function_arn = sys.argv[3]
    log_group_name = log_stream_name = 'trace'
    def get_remaining_time_in_millis(self): return 30000
handler = getattr(importlib.import_module(module), name)
answer, sys.stdout = (sys.stdout, sys.stderr)
result = handler(json.load(sys.stdin), Context())
json.dump(result, answer, default=str)
"""


@dataclass(frozen=True)
class Run:
    """``result``: what the handler gave, as JSON; ``log``: what it wrote."""

    ok: bool
    result: str
    log: str


def run(function: Resource, payload: str) -> Run | None:
    """Calls the handler of a function with inline Python code; None for any other function.

    The process sees the function's own variables, a made-up region, and nothing of the user's environment; it is
    stopped after the function's Timeout.
    """
    given = function.properties
    code = as_dict(given.get("Code")).get("ZipFile")
    if not isinstance(code, str) or not str(given.get("Runtime", "")).startswith("python"):
        return None
    timeout = str(given.get("Timeout"))
    seconds = (
        int(timeout) if timeout.isdecimal() else 3
    )  # Lambda's default, also where only AWS knows
    variables = {
        str(key): str(one)
        for key, one in as_dict(as_dict(given.get("Environment")).get("Variables")).items()
    }
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "index.py").write_text(code, encoding="utf-8")
        command = [
            sys.executable,
            "-c",
            _BOOTSTRAP,
            str(given.get("Handler")),
            function.name,
            function.arn,
        ]
        region = function.region or "us-east-1"
        clean = {
            "PATH": os.defpath,
            "PYTHONPATH": directory,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            "HOME": directory,
            "AWS_DEFAULT_REGION": region,
            "AWS_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
        }
        try:
            done = subprocess.run(
                command,
                input=payload,
                capture_output=True,
                text=True,
                cwd=directory,
                env={**variables, **clean},
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Run(
                ok=False, result="", log=f"stopped after {seconds} s, the function's Timeout"
            )
    result = compact(json.loads(done.stdout)) if is_json(done.stdout) else done.stdout
    return Run(done.returncode == 0, result, done.stderr.strip())
