"""The client of one stack: calls with retries, pages, and the stack's description."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks.aws import RETRY_SHORT, Clock, call, error_code, error_message
from eventstacks.cloudformation import noecho

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eventstacks.environment import StackRef


def is_missing(error: Exception) -> bool:
    """Return True if AWS answers that the stack does not exist.

    There are two wordings: 'Stack with id X does not exist' (DescribeStacks) and
    'Stack [X] does not exist' (DescribeStackEvents).
    """
    return error_code(error) == "ValidationError" and "does not exist" in error_message(error)


@dataclass(frozen=True, eq=False)
class StackClient:
    """One stack, the client of its Region, and the clock that retries and waits go by."""

    ref: StackRef
    client: Any
    clock: Clock
    secrets: set[str] = field(default_factory=set)  # values of NoEcho parameters

    def mask(self, text: str) -> str:
        """Replace the values of NoEcho parameters in AWS's words."""
        return noecho.mask_text(text, self.secrets)

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of the client with retries (``aws.call``); accepts ``retry_for``."""
        return call(getattr(self.client, method), clock=self.clock, **arguments)

    def pages(self, method: str, **arguments: Any) -> Iterator[Any]:
        """Yield all pages of an answer, each with retries.

        Not by botocore's paginators: they cannot go on after a page that failed.
        """
        while True:
            page = self.call(method, **arguments)
            yield page
            if not page.get("NextToken"):
                return
            arguments["NextToken"] = page["NextToken"]

    def items(self, method: str, key: str, **arguments: Any) -> Iterator[Any]:
        """Yield the entries of a list that is answered in pages."""
        for page in self.pages(method, **arguments):
            yield from page.get(key) or ()

    def wait_for(
        self, is_done: Callable[[Any], bool], method: str, *, longest: float, **arguments: Any
    ) -> Any:
        """Call until ``is_done(answer)``, with growing pauses of at most ``longest`` seconds."""
        pause = 0.1
        while not is_done(answer := self.call(method, **arguments)):
            self.clock.sleep(pause)
            pause = min(pause * 1.5, longest)
        return answer

    def describe(
        self, stack_id: str = "", *, retry_for: float = RETRY_SHORT
    ) -> dict[str, Any] | None:
        """Return DescribeStacks of an ARN, by default of the stack's name; None if it is missing."""
        name = stack_id or self.ref.stack_name
        try:
            answer = self.call("describe_stacks", retry_for=retry_for, StackName=name)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return dict(answer["Stacks"][0])

    def newest_root_event(self, stack_id: str = "") -> dict[str, Any] | None:
        """Return the stack's own newest event, or None if there is no such stack.

        Events are written when something happens; DescribeStacks can answer with what was true
        some seconds ago.
        """
        name = stack_id or self.ref.stack_name
        try:
            for event in self.items("describe_stack_events", "StackEvents", StackName=name):
                if event.get("PhysicalResourceId") == event["StackId"]:
                    return dict(event)
        except ClientError as error:
            if not is_missing(error):
                raise
        return None
