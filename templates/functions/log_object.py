"""Logs each object that was created in the data bucket: which, how and by whom."""

import json
import logging
from typing import Any

LOGGER = logging.getLogger(__name__)
LOGGER.setLevel(logging.INFO)


def summarize(event: dict[str, Any]) -> dict[str, str]:
    """Bucket, key, call and caller, from an event of CloudTrail's or of S3's own."""
    detail = event["detail"]
    if event["detail-type"] == "AWS API Call via CloudTrail":
        request = detail["requestParameters"]
        caller = detail["userIdentity"].get("arn", "unknown")
        return {
            "bucket": request["bucketName"],
            "key": request["key"],
            "call": detail["eventName"],
            "caller": caller,
        }
    return {
        "bucket": detail["bucket"]["name"],
        "key": detail["object"]["key"],
        "call": detail["reason"],
        "caller": detail["requester"],
    }


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """The entry point: one line in the function's log per object."""
    summary = summarize(event)
    LOGGER.info("Object created: %s", json.dumps(summary))
    return summary
