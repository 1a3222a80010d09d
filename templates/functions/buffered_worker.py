"""Process the events of a queue, each of them once.

EventBridge and SQS deliver an event at least once. A table records the key of each event: an event
that was processed is dropped, and one that another invocation is processing is delivered again
later. Messages that fail are reported one by one, so that the others of their batch are not
repeated.
"""

import functools
import json
import logging
import math
import os
import time
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

LOGGER = logging.getLogger(__name__)
LOGGER.setLevel(logging.INFO)
RESERVE_IN_MILLISECONDS = 5000  # no event is started when less time is left


# --- Your code ------------------------------------------------------------------------------------


def process(event: dict[str, Any]) -> None:
    """Do the work for one event: replace this line of the log with your own code.

    An exception lets the event fail. It is delivered again, and after the last attempt its message
    moves to the dead-letter queue. If the function is stopped in here (out of memory, out of time),
    the event is processed again.
    """
    LOGGER.info("Processed %s", json.dumps(event))


# --- End of your code -----------------------------------------------------------------------------


@functools.cache
def database() -> Any:
    """Return the client of DynamoDB, the same for all invocations."""
    return boto3.client("dynamodb")


class InProgressError(Exception):
    """Another invocation is processing the event.

    This message is delivered again after that one has ended.
    """


def key_of(event: dict[str, Any], path: str) -> str:
    """Return what identifies the work: source, detail type and the value at a path.

    Paths are names with dots between them, such as ``id`` or ``detail.order``. Raises ValueError if
    the event has no such value.
    """
    value: Any = event
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise ValueError(f"the event has no text or number at {path}")
    return "/".join((event["source"], event["detail-type"], str(value)))


def reserve(dynamodb: Any, table: str, key: str, seconds: int, days: int) -> bool:
    """Reserve an event for this invocation; return False if it was processed before.

    A reservation ends with the invocation, ``seconds`` from now, so that a stopped function blocks
    nothing. The record is deleted after ``days``. Raises InProgressError.
    """
    now = int(time.time())
    item = {
        "EventKey": {"S": key},
        "Status": {"S": "RESERVED"},
        "ReservedUntil": {"N": str(now + seconds)},
        "ExpiresAt": {"N": str(now + days * 86400)},
    }
    try:
        dynamodb.put_item(
            TableName=table,
            Item=item,
            ConditionExpression="attribute_not_exists(EventKey)"
            " OR (#status = :reserved AND ReservedUntil < :now)",
            ExpressionAttributeNames={"#status": "Status"},
            ExpressionAttributeValues={":reserved": {"S": "RESERVED"}, ":now": {"N": str(now)}},
        )
    except dynamodb.exceptions.ConditionalCheckFailedException as error:
        found = dynamodb.get_item(
            TableName=table, Key={"EventKey": {"S": key}}, ConsistentRead=True
        ).get("Item")
        if found and found["Status"]["S"] == "PROCESSED":
            return False
        raise InProgressError(f"{key} is being processed") from error
    return True


def record(dynamodb: Any, table: str, key: str) -> None:
    """Record that an event was processed."""
    try:
        dynamodb.update_item(
            TableName=table,
            Key={"EventKey": {"S": key}},
            UpdateExpression="SET #status = :processed",
            ExpressionAttributeNames={"#status": "Status"},
            ExpressionAttributeValues={":processed": {"S": "PROCESSED"}},
        )
    except (BotoCoreError, ClientError):
        # Its message must not fail, or it would be processed again.
        LOGGER.exception(
            "%s was processed, but not recorded: a duplicate would be processed again", key
        )


def handle(dynamodb: Any, event: dict[str, Any], seconds: int) -> None:
    """Process an event unless it was processed before."""
    table, key = os.environ["TABLE_NAME"], key_of(event, os.environ["KEY_PATH"])
    if not reserve(dynamodb, table, key, seconds, int(os.environ["REMEMBER_DAYS"])):
        LOGGER.info("%s was processed before", key)
        return
    try:
        process(event)
    except Exception:
        dynamodb.delete_item(TableName=table, Key={"EventKey": {"S": key}})
        raise
    record(dynamodb, table, key)


def handler(batch: dict[str, Any], context: Any) -> dict[str, list[dict[str, str]]]:
    """Process each message of a batch; those that failed are delivered again."""
    failures = []
    for message in batch["Records"]:
        try:
            left = context.get_remaining_time_in_millis()
            if left < RESERVE_IN_MILLISECONDS:
                raise TimeoutError("not enough time is left in this invocation")
            handle(database(), json.loads(message["body"]), math.ceil(left / 1000) + 1)
        except Exception:
            LOGGER.exception("Message %s failed and is delivered again", message["messageId"])
            failures.append({"itemIdentifier": message["messageId"]})
    return {"batchItemFailures": failures}
