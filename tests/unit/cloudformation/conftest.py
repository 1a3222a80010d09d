"""A clock that does not wait, and a world in which plan and deploy run."""

import functools
import importlib.util
import sys
import types

import pytest
from rendered import templates
from scripted_aws import FakeAws, FakeClock, FakeClockView, RecordingListener, environment
from scripted_cloudformation import TEMPLATE
from stack_sets import StackSetWorld

from eventstacks.cloudformation import deployer
from eventstacks.cloudformation.change_set import Options

HERE = "us-east-1"


@pytest.fixture
def clock(monkeypatch):
    fake = FakeClock()
    # What tidies up after Ctrl-C makes a clock of its own; here it must not wait in earnest.
    monkeypatch.setattr("eventstacks.cloudformation.change_set.Clock", lambda: FakeClockView(fake))
    return fake


@pytest.fixture
def world(clock):
    """world(environment?): an object with aws, cfn (the one region's fake), deploy() and plan()."""

    class World:
        def __init__(self, found=None, **options):
            self.environment = found or environment()
            self.aws = FakeAws(self.environment, clock)
            self.cfn = self.aws.client("cloudformation", HERE)
            self.clock, self.listener = clock, RecordingListener()
            self.options, self.template = dict(options), TEMPLATE

        def deployer(self, stack=None):
            refs = self.environment.choose(stack)
            return deployer.create(self.aws, refs, listener=self.listener, clock=self.clock)

        def deploy(self, stack=None, **options):
            how = Options(**{**self.options, **options})
            return self.deployer(stack).deploy(templates(queue=self.template), how)

        def plan(self, stack=None, **options):
            how = Options(**{**self.options, **options})
            return self.deployer(stack).plan(templates(queue=self.template), how)

        def recover(self, **more):
            steps = self.deployer().propose_recovery(**more)
            return self.deployer().recover(steps)

        def delete(self, stack=None, **more):
            chosen = self.deployer(stack)
            return chosen.delete(chosen.preview_deletion(), **more)

    return World


def stand_in(name, **names):
    """moto's CloudFormation imports API Gateway, and that a validator of OpenAPI which no test here needs."""
    module = types.ModuleType(name)
    module.__dict__.update(names, __path__=[])
    sys.modules.setdefault(name, module)


@pytest.fixture
def moto_aws(monkeypatch):
    if (
        "openapi_spec_validator" not in sys.modules
        and importlib.util.find_spec("openapi_spec_validator") is None
    ):
        stand_in("openapi_spec_validator", validate=None)
        stand_in("openapi_spec_validator.validation")
        stand_in("openapi_spec_validator.validation.exceptions", OpenAPIValidationError=Exception)
    from moto import mock_aws

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield


@pytest.fixture
def sets(moto_aws, clock, monkeypatch):
    return functools.partial(StackSetWorld, clock, monkeypatch)
