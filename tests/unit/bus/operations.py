"""AWS as the operator's tools see it in unit tests: what each service answers is a plain object."""

from __future__ import annotations

from botocore.exceptions import ClientError

from eventstacks.aws import Cancelled, Clock


class MissingError(ClientError):
    """What is not there; or with another code, what is there already."""

    def __init__(self, code="ResourceNotFoundException"):
        super().__init__({"Error": {"Code": code, "Message": code}}, "Call")


class Service:
    """Base of the made-up services. No exception classes: errors are told by their codes."""


class FakeAws:
    def __init__(self, **services):
        self.services = services

    def client(self, service, region=None):
        return self.services[service]


class TurningClock(Clock):
    """A clock whose ``sleep`` calls ``turn`` with the number of the sleep and returns at once.

    The last of ``turns`` sleeps raises Cancelled.
    """

    def __init__(self, turns, turn=lambda number: None, step=None):
        super().__init__()
        self.step = step
        self.time, self.turns, self.turn, self.number = 0.0, turns, turn, 0

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += self.step or seconds
        self.number += 1
        self.turn(self.number)
        if self.number >= self.turns:
            raise Cancelled
