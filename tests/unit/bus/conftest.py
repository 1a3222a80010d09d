from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from eventstacks.bus.send import Destination

ROOT = Path(__file__).resolve().parents[3]


class Stub:
    """tests/bench/stub.py as a process."""

    def __init__(self, *options: str) -> None:
        command = [
            sys.executable,
            str(ROOT / "tests/bench/stub.py"),
            "--count-ids",
            "--seconds",
            "120",
            *options,
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().strip()

    def counts(self) -> dict:
        with urllib.request.urlopen(f"{self.url}/counts", timeout=10) as answer:
            return json.load(answer)

    def fault(self, mode: str) -> None:
        """Let each PutEvents call fail from now on; "none" ends it."""
        urllib.request.urlopen(f"{self.url}/fault/{mode}", timeout=10).close()

    def client(self, region: str = "us-east-1"):
        return boto3.client(
            "events",
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id="made",
            aws_secret_access_key="up",
            config=Config(max_pool_connections=16),
        )

    def orders(self) -> Destination:
        return Destination(self.client(), "orders")

    def entries(self) -> list[dict]:
        """What it acknowledged, with --keep; ends it."""
        output, _ = self.process.communicate(timeout=10)
        return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def stub():
    stubs = []

    def start(*options: str) -> Stub:
        stubs.append(Stub(*options))
        return stubs[-1]

    yield start
    for one in stubs:
        one.process.kill()
        one.process.wait()
        one.process.stdout.close()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with an environment whose endpoint is given; gives a function that runs the verb there."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "parameters").mkdir()
    template = (
        "AWSTemplateFormatVersion: 2010-09-09\nResources:\n  Topic:\n    Type: AWS::SNS::Topic\n"
    )
    (tmp_path / "templates/bus.yaml.j2").write_text(template)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1"\n')

    class Project:
        path = tmp_path

        def start(self, endpoint: str, *arguments: str, **settings) -> subprocess.Popen:
            environment = (
                f"endpoint: {endpoint}\nregions: [us-east-1, eu-west-1]\nstacks: {{bus: }}\n"
            )
            (tmp_path / "parameters/stub.yaml").write_text(environment)
            command = [
                *settings.get("through", ()),
                sys.executable,
                "-m",
                "eventstacks",
                "send",
                "--env",
                "stub",
                "--quiet",
                *arguments,
            ]
            measured = {
                name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")
            }
            return subprocess.Popen(
                command,
                cwd=tmp_path,
                stdin=settings.get("stdin", subprocess.PIPE),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**measured, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
            )

        def send(
            self, endpoint: str, *arguments: str, data: bytes | None = None
        ) -> tuple[int, str, str]:
            process = self.start(endpoint, *arguments)
            out, err = process.communicate(data, timeout=120)
            return process.returncode, out.decode(), err.decode()

        def rejected(self, name: str = "rejected.ndjson") -> list[dict]:
            return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    return Project()
