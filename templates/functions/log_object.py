"""Log each object that was created in the data bucket: which one, by which call and by whom."""

import logging
from typing import Any

LOGGER = logging.getLogger(__name__)
LOGGER.setLevel(logging.INFO)


def caller_of(identity: dict[str, Any]) -> str:
    """Return who made the call: an ARN, another account or an AWS service.

    Source: CloudTrail record reference.
    """
    for field in ("arn", "invokedBy", "accountId", "principalId"):
        if identity.get(field):
            return str(identity[field])
    return "unknown"


def summarize(event: dict[str, Any]) -> dict[str, str]:
    """Return what to log of an event that CloudTrail or S3 itself reported.

    ``eventId`` is the same in repeated deliveries; ``version`` tells writes to one key apart.
    """
    detail = event["detail"]
    if event["detail-type"] == "AWS API Call via CloudTrail":
        request, answer = detail["requestParameters"], detail.get("responseElements") or {}
        return {
            "eventId": str(event.get("id", "")),
            "bucket": request["bucketName"],
            "key": request["key"],
            "version": str(answer.get("x-amz-version-id", "")),
            "call": detail["eventName"],
            "caller": caller_of(detail["userIdentity"]),
        }
    created = detail["object"]
    return {
        "eventId": str(event.get("id", "")),
        "bucket": detail["bucket"]["name"],
        "key": created["key"],
        "version": str(created.get("version-id") or created.get("sequencer", "")),
        "call": detail["reason"],
        "caller": detail["requester"],
    }


def handler(event: dict[str, Any], context: object) -> None:
    """Write one log line for each object. Events arrive at least once."""
    LOGGER.info("Object created", extra=summarize(event))
