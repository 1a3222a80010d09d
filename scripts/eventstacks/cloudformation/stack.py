"""Calls about one stack, with retries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks.aws import RETRY_SHORT, call, error_code, error_message
from eventstacks.cloudformation import noecho

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eventstacks.aws import Clock
    from eventstacks.environment import StackRef


def is_missing(error: Exception) -> bool:
    """Whether AWS says that there is no such stack.

    Two wordings: 'Stack with id X does not exist' (DescribeStacks) and 'Stack [X] does not exist' (events).
    """
    return error_code(error) == "ValidationError" and "does not exist" in error_message(error)


@dataclass(frozen=True, eq=False)
class Remote:
    """A stack as CloudFormation holds it, and patient calls about it."""

    ref: StackRef
    client: Any
    clock: Clock
    secrets: set[str] = field(default_factory=set)  # values of NoEcho parameters

    def mask(self, text: str) -> str:
        """Replace the values of NoEcho parameters in AWS's words."""
        return noecho.mask_text(text, self.secrets)

    def call(self, method: str, **arguments: Any) -> Any:
        """As the function ``call``, of a method of the client; ``retry_for`` may be among the arguments."""
        return call(getattr(self.client, method), clock=self.clock, **arguments)

    def pages(self, method: str, **arguments: Any) -> Iterator[Any]:
        """The answers of a method that gives them in pages."""
        while True:
            page = self.call(method, **arguments)
            yield page
            if not page.get("NextToken"):
                return
            arguments["NextToken"] = page["NextToken"]

    def until(
        self, done: Callable[[Any], bool], method: str, *, longest: float, **arguments: Any
    ) -> Any:
        """The first answer that is ``done``, asked for ever less often, and every ``longest`` seconds at least."""
        pause = 0.1
        while not done(found := self.call(method, **arguments)):
            self.clock.sleep(pause)
            pause = min(pause * 1.5, longest)
        return found

    def stack(self, stack_id: str = "", *, retry_for: float = RETRY_SHORT) -> dict[str, Any] | None:
        """DescribeStacks of ``stack_id``, or of the stack that has this name now; None when there is none."""
        try:
            answer = self.call(
                "describe_stacks", retry_for=retry_for, StackName=stack_id or self.ref.stack_name
            )
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return dict(answer["Stacks"][0])

    def newest_root_event(self, stack: str = "") -> dict[str, Any] | None:
        """Return the stack's own newest event, or None if there is no such stack.

        ``stack``: an ARN; by default the stack that has the name now. Events are written when
        something happens, while DescribeStacks can answer with what was true some seconds ago.
        """
        name = stack or self.ref.stack_name
        try:
            for page in self.pages("describe_stack_events", StackName=name):
                for event in page.get("StackEvents") or ():
                    if event.get("PhysicalResourceId") == event["StackId"]:
                        return dict(event)
        except ClientError as error:
            if not is_missing(error):
                raise
        return None
