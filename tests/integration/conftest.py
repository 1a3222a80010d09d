"""An embedded AWS for the test run.

Each worker of pytest-xdist has one, on a free port. It is stopped at the end.
"""

import functools
import os
import uuid

import boto3
import pytest
import yaml
from click.testing import CliRunner
from operators import REGION, Operator
from raw_stacks import Stack
from stack_project import QUEUES, Project

from eventstacks import environment, rendering
from eventstacks.__main__ import cli
from eventstacks.aws import Aws
from eventstacks.bus import tail
from eventstacks.cloudformation import delete, deploy
from eventstacks.cloudformation.run import Scope
from eventstacks.local import server


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory):
    """eventstacks.local.server.Endpoint of a running embedded AWS that only this worker uses."""
    directory = tmp_path_factory.mktemp("local-aws")
    before = os.environ.get("LOCAL_AWS_DIR")
    os.environ["LOCAL_AWS_DIR"] = str(directory)  # `endpoint: embedded` is this one
    server.INHERITED += tuple(
        name for name in os.environ if name.startswith("COVERAGE_")
    )  # its code is measured, too
    try:
        yield server.start(directory, 0)
    finally:
        server.stop(directory)
        del os.environ["LOCAL_AWS_DIR"]
        if before:
            os.environ["LOCAL_AWS_DIR"] = before


@pytest.fixture(scope="session")
def clients(endpoint):
    """clients(service, region="eu-central-1", **options): a boto3 client of the embedded AWS."""

    @functools.cache
    def make(service, region="eu-central-1", **options):
        keys = {
            "aws_access_key_id": endpoint.access_key,
            "aws_secret_access_key": endpoint.secret_key,
        }
        client = boto3.client(
            service, region_name=region, endpoint_url=endpoint.url, **{**keys, **options}
        )
        # boto3 does not sign AssumeRoleWithWebIdentity;
        # the embedded AWS requires an access key in every request.
        scope = f"{endpoint.access_key}/20260101/{region}/{service}/aws4_request"
        client.meta.events.register(
            "before-send",
            lambda request, **_: (
                request.headers.setdefault("Authorization", f"AWS4-HMAC-SHA256 Credential={scope}")
                and None
            ),
        )
        return client

    return make


@pytest.fixture
def unique():
    """A name that no other test uses: stacks and what they hold stay apart."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def start(clients, unique):
    """start(template, suffix, region=…, **parameters): a Stack, deleted after the test."""
    stacks = []

    def create(template, suffix, region=REGION, **parameters):
        body = rendering.render(template).text if isinstance(template, str) else template
        stack = Stack(clients, f"{unique}-{suffix}", body, region, **parameters)
        assert stack.status == "CREATE_COMPLETE", stack.reasons()
        stacks.append(stack)
        return stack

    yield create
    for stack in reversed(stacks):
        stack.cloudformation.delete_stack(StackName=stack.name)


@pytest.fixture
def operate(endpoint, checkout, unique):
    """operate(template, **parameters): an Operator of a stack that lasts as long as the test."""
    made = []

    def operator(template, **parameters):
        stacks = {
            unique: {"template": template, "parameters": {"LogRetentionInDays": "1", **parameters}}
        }
        settings = {"endpoint": "embedded", "regions": [REGION], "stacks": stacks}
        (checkout / "parameters/test.yaml").write_text(yaml.safe_dump(settings))
        read = environment.load("test")
        aws = Aws(read, server.start)
        (result,) = deploy.deploy(Scope(aws, read.choose()), rendering.render_all())
        assert result.ok, result.problem
        made.append(Operator(aws, read, template))
        return made[-1]

    yield operator
    for one in made:
        for process in one.running:
            process.kill()
            process.communicate()
        for name in one.taps()[0]:
            tail.Tap(one.aws, REGION, one.bus, name=name).remove()
        scope = Scope(one.aws, one.settings.choose())
        (result,) = delete.delete(scope, delete.preview(scope), empty_buckets=True)
        assert result.ok, result.problem


@pytest.fixture
def invoke(checkout, endpoint):
    """invoke(*arguments): a verb with ENV=local, which has to succeed.

    It runs on the embedded AWS of the test run.
    """

    def call(*arguments):
        done = CliRunner().invoke(cli, arguments, standalone_mode=False)
        assert done.exception is None, done.output
        assert not done.return_value, done.output
        return done.stdout

    return call


@pytest.fixture
def project(tmp_path, endpoint, unique, monkeypatch):
    """A project in a directory of its own; its stacks are deleted afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nversion = '1'\n")
    found = Project(tmp_path, f"{unique}-")
    found.template("queues", QUEUES)
    yield found
    found.delete()
