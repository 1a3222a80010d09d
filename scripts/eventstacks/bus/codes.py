"""Answers of AWS that are no trouble here: what is to be removed is gone, what is to be made is there."""

from __future__ import annotations

from eventstacks.aws import error_code

GONE, EXISTS = "ResourceNotFoundException", "ResourceAlreadyExistsException"
NO_QUEUE = (
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
)  # as SQS says it, and as its model does


class Ignoring:
    """``with Ignoring(GONE):`` ends the block at an error of AWS with this code (or one of several).

    By their codes: when threads share a client boto3 may build its exception classes twice, and they differ.
    """

    def __init__(self, *codes: str) -> None:
        self._codes = codes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, Exception) and error_code(error) in self._codes
