"""What the deployer needs besides CloudFormation: a clock, an environment and a listener."""

import threading
from pathlib import Path

from scripted_cloudformation import FakeCloudFormation

from eventstacks.aws import Cancelled
from eventstacks.cloudformation.run import Listener
from eventstacks.environment import Environment, StackSettings
from eventstacks.errors import ErrorCode, ToolError


class FakeClock:
    def __init__(self):
        self.time, self.naps, self._stopped, self.alarms = 0.0, [], False, []
        self.lock = threading.RLock()

    def now(self):
        return self.time

    def sleep(self, seconds):
        if self._stopped:
            raise Cancelled
        with self.lock:
            self.naps.append(seconds)
            self.time += seconds
        for at, action in list(self.alarms):
            if at <= self.time:
                self.alarms.remove((at, action))
                action()
        if self._stopped:
            raise Cancelled
        assert self.time < 100_000, "waits for ever"

    def stop(self):
        self._stopped = True

    def on_retry(self, trouble):
        pass

    @property
    def stopped(self):
        return self._stopped

    def at(self, seconds, action):
        self.alarms.append((seconds, action))


class FakeClockView:
    """The same time, but never stopped."""

    def __init__(self, clock):
        self.clock = clock

    def now(self):
        return self.clock.now()

    def sleep(self, seconds):
        self.clock.time += seconds

    def on_retry(self, trouble):
        pass


class FakeAws:
    def __init__(self, environment, clock):
        self.environment, self.clock, self.fakes, self.lock = (
            environment,
            clock,
            {},
            threading.Lock(),
        )

    def client(self, service, region=None):
        with self.lock:
            return self.fakes.setdefault(
                (service, region), FakeCloudFormation(self.clock, region or "us-east-1")
            )

    def guard(self):
        return "123456789012"


def stack(name="bus", regions=("us-east-1",), **more):
    return StackSettings(
        name=name, stack_name=f"t-{name}", template="queue", regions=regions, **more
    )


def environment(*stacks, **more):
    stacks = stacks or (stack(),)
    return Environment(
        name="test",
        path=Path("parameters/test.yaml"),
        regions=("us-east-1",),
        stacks={one.name: one for one in stacks},
        **more,
    )


class RecordingListener(Listener):
    def __init__(self):
        self.answer = True
        self.asked, self.events, self.results, self.totals = [], [], [], {}

    def confirm(self, plans):
        self.asked.append(list(plans))
        answer = self.answer(plans) if callable(self.answer) else self.answer
        if not answer:
            raise ToolError("declined", code=ErrorCode.DECLINED)

    def progressed(self, ref, total, event):
        self.totals[ref] = total
        self.events.append(event)

    def finished(self, result):
        self.results.append(result)
