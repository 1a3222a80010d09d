"""One call to AWS with patience, and time as the deployer sees it."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's name
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eventstacks.cloudformation.place import Place

TROUBLE = (ClientError, BotoCoreError, ResponseParserError)  # whatever a call may raise
BRIEFLY, LONG = (
    30.0,
    600.0,
)  # seconds of trouble to wait out: before anything is under way, and while something is
_LONGEST_PAUSE = 20.0
_LOGIN_ERRORS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
_LOGIN_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "RequestExpired",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
    }
)
_BUSY_CODES = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
        "SlowDown",
        "RequestTimeout",
        "RequestTimeoutException",
    }
)


class Stopped(Exception):  # noqa: N818 - no error: the user pressed Ctrl-C, and who was waiting wakes up
    """The user wants this to end."""


class Clock:
    """Time, as all that waits here sees it. Tests give their own, whose ``sleep`` returns at once.

    ``hear`` is told of each trouble before it is waited out, in whatever thread.
    """

    def __init__(self, hear: Callable[[Exception], None] = lambda _trouble: None) -> None:
        self.hear = hear
        self._stop = threading.Event()

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits; raises Stopped as soon as ``stop`` was called."""
        if self._stop.wait(seconds):
            raise Stopped

    def stop(self) -> None:
        """Wakes everybody who sleeps on this clock."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stop.is_set()


def code(error: Exception) -> str:
    """The error code of AWS's answer, or ''."""
    return (
        str(error.response.get("Error", {}).get("Code", ""))
        if isinstance(error, ClientError)
        else ""
    )


def message(error: Exception) -> str:
    """AWS's words, or the error's own."""
    words = (
        error.response.get("Error", {}).get("Message") if isinstance(error, ClientError) else None
    )
    return str(words or error)


def is_missing(error: Exception) -> bool:
    """Whether AWS says that there is no such stack.

    Two wordings: 'Stack with id X does not exist' (DescribeStacks) and 'Stack [X] does not exist' (events).
    """
    return code(error) == "ValidationError" and "does not exist" in message(error)


def is_login(error: Exception) -> bool:
    """Whether credentials are gone or have expired: waiting does not help."""
    return isinstance(error, _LOGIN_ERRORS) or code(error) in _LOGIN_CODES


def passes(error: Exception) -> bool:
    """Whether the trouble passes by itself: throttling, a 5xx answer, a lost connection, half an answer."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code(error) in _BUSY_CODES or status >= 500
    return isinstance(error, HTTPClientError | ConnectionError | ResponseParserError)


def pauses(first: float = 0.5) -> Iterator[float]:
    """Ever longer pauses with full jitter, in seconds: many runs that were throttled together come back apart."""
    longest = first
    while True:
        yield random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        longest = min(longest * 2, _LONGEST_PAUSE)


def call(
    method: Callable[..., Any], *, clock: Clock, patience: float = BRIEFLY, **arguments: Any
) -> Any:
    """``method(**arguments)``, again for as long as ``passes`` and no longer than ``patience`` seconds.

    Comes on top of botocore's own retries. Raises what does not pass, and the last trouble when patience ends.
    """
    begun = clock.now()
    for pause in pauses():
        try:
            return method(**arguments)
        except TROUBLE as error:
            if not passes(error) or clock.now() + pause - begun > patience:
                raise
            clock.hear(error)
        clock.sleep(pause)
    raise AssertionError  # pauses() does not end


@dataclass(frozen=True, eq=False)
class Remote:
    """A stack as CloudFormation holds it, and patient calls about it."""

    place: Place
    client: Any
    clock: Clock

    def call(self, method: str, **arguments: Any) -> Any:
        """As the function ``call``, of a method of the client; ``patience`` may be among the arguments."""
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

    def stack(self, stack_id: str = "", *, patience: float = BRIEFLY) -> dict[str, Any] | None:
        """DescribeStacks of ``stack_id``, or of the stack that has the place's name now; None when there is none."""
        try:
            answer = self.call(
                "describe_stacks", patience=patience, StackName=stack_id or self.place.stack_name
            )
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return dict(answer["Stacks"][0])
