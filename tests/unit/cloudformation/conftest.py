"""A clock that does not wait, and a world in which plan and deploy run."""

import pytest
from rendered import templates
from scripted_aws import FakeAws, FakeClock, FakeClockView, RecordingListener, environment
from scripted_cloudformation import TEMPLATE

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
