"""The known faults of taskcat 0.9.58, each with the way around it.

Nothing else in this project changes taskcat.
"""

from __future__ import annotations

import sys
import threading
import time
import typing
from types import SimpleNamespace
from typing import Any

import dataclasses_jsonschema
from taskcat import _generate_reports
from taskcat._cfn import stack as stack_module
from taskcat._cfn.threaded import Stacker
from taskcat._config import Config
from taskcat.exceptions import TaskCatException

PAUSE = 0.2  # seconds between two looks at the stacks: calls of the embedded AWS are quick and free
PATIENCE = 300.0  # seconds for all stacks to be created, or deleted
STYLE = (
    "body {font-family: sans-serif} th, td {padding: .3em 1em; text-align: left} "
    ".test-green {background: #cfc} .test-red {background: #fcc}"
)


class Printer:
    """Waits for the stacks.

    taskcat's own printer looks every 10 s, and for ever: a refresh that failed never comes again.
    """

    def report_test_progress(self, stacker: Any) -> None:
        """Return when no stack is in progress. Raises TaskCatException after PATIENCE seconds."""
        deadline = time.monotonic() + PATIENCE
        while waiting := stacker.status()["IN_PROGRESS"]:
            if time.monotonic() > deadline:
                raise TaskCatException(
                    f"still in progress after {PATIENCE:.0f} s: {', '.join(waiting)}"
                )
            time.sleep(PAUSE)


def read_annotations() -> None:
    """Let taskcat's settings be read on Python 3.14.

    That keeps a class's annotations elsewhere (PEP 649). dataclasses-jsonschema looks for them in
    ``__dict__``, and ends with ``KeyError: 'parameters'``; taskcat allows no later version than
    2.15.1, and 2.16.0 does the same.
    """
    if sys.version_info >= (3, 14):
        dataclasses_jsonschema.get_class_type_hints = typing.get_type_hints


def apply() -> None:
    """Change taskcat in this process."""
    read_annotations()
    # A stack's state is read again once a minute: a stack of 6 s took 142 s to test.
    stack_module.Timer = lambda seconds, refresh: threading.Timer(min(seconds, PAUSE), refresh)
    # The report downloads its style sheet; without the internet it is not written,
    # and the run fails, stacks green or not.
    _generate_reports.requests = SimpleNamespace(get=lambda *_, **__: SimpleNamespace(text=STYLE))

    # Issue 652: cleaning up asks for 'the' bucket, which makes another one with a new name,
    # and deletes that.
    stock_buckets = Config.get_buckets

    def remembered_buckets(self: Any, boto3_cache: Any = None) -> Any:
        if not hasattr(self, "known_buckets"):
            self.known_buckets = stock_buckets(self, boto3_cache)
        return self.known_buckets

    Config.get_buckets = remembered_buckets

    # Issue 823: all tests append their tags to one list, so that stacks carry each other's,
    # and keys twice.
    stock_create = Stacker._create_stacks_for_test
    Stacker._create_stacks_for_test = lambda self, test, tags: stock_create(self, test, list(tags))


def configure(test: Any) -> Any:
    """The settings of a CFNTest that its defaults get wrong; returns it."""
    test.printer = Printer()
    test.lint_disable = True  # it lints every template once per test; `make lint` has seen them all
    test.dont_wait_for_delete = False  # else a stack that cannot be deleted passes
    return test
