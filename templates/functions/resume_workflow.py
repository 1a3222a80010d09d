"""Resume the workflow that waits for a snapshot, when RDS announces it.

Reads events of RDS from a queue. An event without a stored token is about a snapshot that no
workflow waits for: it is dropped. Events can come twice, late or before the workflow waits.
"""

import json
import logging
import os
from typing import Any

import boto3
from botocore.exceptions import ClientError

LOGGER = logging.getLogger()
# The workflow goes on without this event: the token timed out, was used, or its execution ended.
FINISHED = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")


def announce(dynamodb: Any, table: str, arn: str) -> str | None:
    """Note that the snapshot is available; return the token of the workflow, or None if none waits.

    The note comes before the token is read: an attempt that stores its token later sees the note,
    and one that stored it earlier is the one that is resumed. So no order of calls can miss it.
    """
    try:
        item = dynamodb.update_item(
            TableName=table,
            Key={"SnapshotArn": {"S": arn}},
            UpdateExpression="SET Announced = :true",
            ConditionExpression="attribute_exists(SnapshotArn)",
            ExpressionAttributeValues={":true": {"BOOL": True}},
            ReturnValues="ALL_NEW",
        )["Attributes"]
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return None
    return str(item["TaskToken"]["S"])


def resume(dynamodb: Any, stepfunctions: Any, table: str, arn: str) -> str:
    """Resume the workflow that waits for this snapshot; return what happened, for the log."""
    token = announce(dynamodb, table, arn)
    if token is None:
        return "no workflow waits for it"
    output = json.dumps({"SnapshotArn": arn, "Status": "available"})
    try:
        stepfunctions.send_task_success(taskToken=token, output=output)
    except ClientError as error:
        if error.response["Error"]["Code"] not in FINISHED:
            raise
        # The note stays for a workflow that timed out and is about to wait again.
        return f"the workflow does not wait ({error.response['Error']['Code']})"
    dynamodb.delete_item(TableName=table, Key={"SnapshotArn": {"S": arn}})
    return "workflow resumed"


def handler(batch: dict[str, Any], context: object) -> dict[str, list[dict[str, str]]]:
    """Resume a workflow for each message; messages that failed are delivered again."""
    dynamodb, stepfunctions = boto3.client("dynamodb"), boto3.client("stepfunctions")
    failures = []
    for record in batch["Records"]:
        try:
            arn = json.loads(record["body"])["detail"]["SourceArn"]
            outcome = resume(dynamodb, stepfunctions, os.environ["TABLE_NAME"], arn)
            LOGGER.info("%s: %s", arn, outcome)
        except Exception:
            # After five attempts the message moves to the dead-letter queue.
            LOGGER.exception("Message %s failed and is tried again", record["messageId"])
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}
