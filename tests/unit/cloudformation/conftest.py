"""A clock that does not wait, and a world in which plan and deploy run."""

import functools

import pytest
from rendered import templates
from scripted_aws import FakeAws, FakeClock, FakeClockView, RecordingListener, environment
from scripted_cloudformation import TEMPLATE

from eventstacks.cloudformation import delete, deploy, inspect, recover
from eventstacks.cloudformation.change_set import Options
from eventstacks.cloudformation.run import Scope

HERE = "us-east-1"


@pytest.fixture
def clock(monkeypatch):
    fake = FakeClock()
    # What tidies up after Ctrl-C makes a clock of its own; here it must not wait in earnest.
    monkeypatch.setattr("eventstacks.cloudformation.change_set.Clock", lambda: FakeClockView(fake))
    return fake


class World:
    """An object with aws, cfn (the one Region's fake), and the verbs."""

    def __init__(self, clock, found=None, **options):
        self.environment = found or environment()
        self.aws = FakeAws(self.environment, clock)
        self.cfn = self.aws.client("cloudformation", HERE)
        self.clock, self.listener = clock, RecordingListener()
        self.options, self.template = dict(options), TEMPLATE

    def scope(self, stack=None):
        refs = self.environment.choose(stack)
        return Scope(self.aws, refs, self.listener, self.clock)

    def deploy(self, stack=None, **options):
        how = Options(**{**self.options, **options})
        return deploy.deploy(self.scope(stack), templates(queue=self.template), how)

    def plan(self, stack=None, **options):
        how = Options(**{**self.options, **options})
        return deploy.plan(self.scope(stack), templates(queue=self.template), how)

    def propose(self, **more):
        return recover.propose(self.scope(), **more)

    def recover(self, **more):
        return recover.recover(self.scope(), self.propose(**more))

    def follow(self):
        return recover.follow(self.scope())

    def status(self):
        return inspect.status(self.scope())

    def drift(self):
        return inspect.drift(self.scope())

    def preview(self, stack=None):
        return delete.preview(self.scope(stack))

    def delete(self, stack=None, **more):
        scope = self.scope(stack)
        return delete.delete(scope, delete.preview(scope), **more)


@pytest.fixture
def world(clock):
    """world(environment?): a World."""
    return functools.partial(World, clock)
