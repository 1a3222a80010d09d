"""A clock that nobody waits for, and a world in which plan and deploy run."""

import pytest
from rendered import templates
from scripted_cloudformation import (
    TEMPLATE,
    Ear,
    FakeAws,
    FakeClock,
    FakeClockView,
    environment,
)

from eventstacks.cloudformation import deployment
from eventstacks.cloudformation.options import Options

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
            self.clock, self.ear = clock, Ear()
            self.options, self.template = dict(options), TEMPLATE

        def _run(self, what, **options):
            return what(
                self.aws,
                templates(queue=self.template),
                self.environment.choose(),
                clock=self.clock,
                options=Options(**{**self.options, **options}),
                listener=self.ear,
            )

        def deploy(self, **options):
            return self._run(deployment.deploy, **options)

        def plan(self, **options):
            return self._run(deployment.plan, **options)

    return World
