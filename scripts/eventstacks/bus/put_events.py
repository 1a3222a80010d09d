"""Calls of PutEvents, and whether their failures can be retried."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from eventstacks.aws import (
    AWS_ERRORS,
    RETRY_LONG,
    error_code,
    error_message,
    is_login_error,
    is_transient,
)

# Beside throttling, only these can succeed later; all other codes of an entry are permanent.
# Source: EventBridge API reference, PutEventsResultEntry; common errors of AWS services.
RETRYABLE = (
    "InternalFailure",
    "InternalException",
    "InternalServerError",
    "ServiceUnavailable",
    "ServiceUnavailableException",
)
# Of a whole call: permission or a signature is missing. See also eventstacks.aws.is_login_error.
STOP_CODES = (
    "AccessDenied",
    "AccessDeniedException",
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
)

NEW_FIELDS = ("Source", "DetailType", "Detail", "Resources", "Time")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an entry was not accepted.

    ``retryable``: the entry can succeed later. ``whole_call``: the call was refused because of one
    of its entries. ``retry_after``: seconds that the answer asked to wait.
    """

    code: str
    message: str
    retryable: bool = False
    whole_call: bool = False
    retry_after: float = 0.0


class NewBus:
    """A bus of the new kind (AWS::EventsV2), with those calls of a Classic client that send uses.

    An entry that is a duplicate (SuccessCode DEDUPLICATED) counts as acknowledged; TraceHeader does
    not exist there and is left out. Source: botocore's model of eventbridgev2, 2025-05-15.
    """

    count_limit = 100  # entries in a call; its size is assumed to be Classic's

    def __init__(self, client: Any, arn: str) -> None:
        self._client, self._arn, self.meta = client, arn, client.meta

    def describe_event_bus(self, Name: str) -> Any:  # noqa: N803
        """Describe the bus. Another one is not found: a call is for one bus."""
        if Name != self._arn:
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "DescribeEventBus")
        return self._client.describe_event_bus(EventBusArn=Name)

    def put_events(self, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803
        """Put the entries on the bus; its results have the form of Classic's."""
        return self._client.put_events(
            EventBusArn=self._arn,
            Entries=[{key: one[key] for key in NEW_FIELDS if key in one} for one in Entries],
        )


def put(client: Any, batch: list[dict[str, Any]]) -> list[Failure | None]:
    """Make one call of PutEvents; return a failure or None for each entry.

    Raises ClientError or BotoCoreError if the credentials are not valid.
    """
    try:
        results = client.put_events(Entries=batch)["Entries"]
        return [_entry_failure(result) for result, _ in zip(results, batch, strict=True)]
    except AWS_ERRORS as error:
        return [failure_of(error)] * len(batch)
    except (AttributeError, KeyError, TypeError, ValueError):  # of botocore's parser: other JSON
        return [failure_of(ResponseParserError("the answer is not one of PutEvents"))] * len(batch)


def failure_of(error: Exception) -> Failure:
    """Return the failure of a whole call. Raises the error if its cause is not an entry."""
    answer: Any = error.response if isinstance(error, ClientError) else {}
    code, metadata = error_code(error), answer.get("ResponseMetadata", {})
    if code in STOP_CODES or is_login_error(error) or not (answer or is_transient(error)):
        raise error
    header = metadata.get("HTTPHeaders", {}).get("retry-after", "").strip()
    wait = min(float(header), RETRY_LONG) if header.isdecimal() else 0.0  # a date is not used
    # botocore's code for an answer without one, which is a proxy's, not AWS's: the HTTP status.
    if code.isdigit():
        return Failure(f"Http{code}", f"HTTP {code}", retryable=True, retry_after=wait)
    is_busy = metadata.get("HTTPStatusCode") == 429 or code in RETRYABLE or is_transient(error)
    return Failure(
        code or type(error).__name__,
        error_message(error),
        retryable=is_busy,
        whole_call=not is_busy,
        retry_after=wait,
    )


def _entry_failure(result: Mapping[str, Any]) -> Failure | None:
    if "EventId" in result or "SuccessCode" in result:
        return None
    code = result["ErrorCode"]  # without it, this is not an answer of PutEvents
    retryable = code in RETRYABLE or is_transient(ClientError({"Error": {"Code": code}}, ""))
    return Failure(code, result.get("ErrorMessage", ""), retryable)
