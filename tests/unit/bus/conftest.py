from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import boto3
import in_process
import pytest
from botocore.config import Config
from tests.bench import stub as stubs

ROOT = Path(__file__).resolve().parents[3]


class Stub:
    """tests/bench/stub.py in a thread."""

    def __init__(self, *options: str) -> None:
        self.bus = stubs.Bus(stubs.parse(["--delay", "1", "--count-ids", *options]))
        self._loop, started = asyncio.new_event_loop(), threading.Event()

        async def start() -> None:
            server = await self._loop.create_server(
                lambda: stubs.Connection(self.bus), "127.0.0.1", 0
            )
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.set()

        self._started = self._loop.create_task(start())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        started.wait(5)

    def counts(self) -> dict:
        return self.bus.all_counts()

    def fault(self, mode: str) -> None:
        """Let each PutEvents call fail from now on; "" ends it."""
        self.bus.fault = mode

    def client(self, region: str = "us-east-1"):
        return boto3.client(
            "events",
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id="made",
            aws_secret_access_key="up",
            config=Config(max_pool_connections=16, retries={"total_max_attempts": 1}),
        )

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


@pytest.fixture
def stub():
    running = []

    def start(*options: str) -> Stub:
        running.append(Stub(*options))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with an environment whose endpoint is given, and the verb ``send``."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "parameters").mkdir()
    template = (
        "AWSTemplateFormatVersion: 2010-09-09\nResources:\n  Topic:\n    Type: AWS::SNS::Topic\n"
    )
    (tmp_path / "templates/bus.yaml.j2").write_text(template)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1"\n')
    monkeypatch.chdir(tmp_path)

    class Project:
        path = tmp_path

        def arguments(self, endpoint: str, *arguments: str) -> list[str]:
            environment = (
                f"endpoint: {endpoint}\nregions: [us-east-1, eu-west-1]\nstacks: {{bus: }}\n"
            )
            (tmp_path / "parameters/stub.yaml").write_text(environment)
            return ["send", "--env", "stub", "--quiet", *arguments]

        def start(self, endpoint: str, *arguments: str, **settings) -> subprocess.Popen:
            """A process, for what a signal does to it."""
            measured = {
                name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")
            }
            return subprocess.Popen(
                [sys.executable, "-m", "eventstacks", *self.arguments(endpoint, *arguments)],
                cwd=tmp_path,
                stdin=settings.get("stdin", subprocess.PIPE),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**measured, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
            )

        def send(self, endpoint: str, *arguments: str, data: bytes = b"") -> tuple[int, str, str]:
            done = in_process.run(*self.arguments(endpoint, *arguments), data=data)
            return done.returncode, done.stdout, done.stderr

        def rejected(self, name: str = "rejected.ndjson") -> list[dict]:
            return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    return Project()
