"""Create a snapshot for a workflow that waits for it with a task token.

Called by the state machine of rds-snapshot-workflow, with ``action``:

``start``  Store the task token, then create the snapshot. Storing comes first: RDS can announce a
           small snapshot before a token that is stored afterwards would be found.
``look``   Return the status of the snapshot. Used when no event arrived in time.

Calling ``start`` again for the same execution is safe: it replaces the token, and RDS answers that
the snapshot exists already.
"""

import hashlib
import json
import logging
import os
import re
import time
from typing import Any

import boto3
from botocore.exceptions import ClientError

LOGGER = logging.getLogger()
KEEP_SECONDS = 8 * 24 * 3600  # longer than any execution: MaximumWaitInSeconds is at most 7 days


def snapshot_id(database: str, execution: str, longest: int) -> str:
    """Return an identifier that is the same for every attempt of one execution, and legal in RDS.

    Letters, digits and single hyphens, a letter first, no hyphen at the end.
    Source: RDS API reference, CreateDBSnapshot and CreateDBClusterSnapshot.
    """
    digest = hashlib.sha256(f"{execution} {database}".encode()).hexdigest()[:8]
    name = f"{database}-{execution.rsplit(':', 1)[-1]}".lower()
    return f"{re.sub('[^a-z0-9]+', '-', name)[: longest - 9].rstrip('-')}-{digest}"


def snapshot_of(request: dict[str, Any], function_arn: str) -> dict[str, str]:
    """Return kind, database, identifier and ARN of the snapshot.

    Raises ValueError for bad input.
    """
    given = request["input"] if isinstance(request.get("input"), dict) else {}
    kinds = {
        "DBInstanceIdentifier": ("snapshot", 255),
        "DBClusterIdentifier": ("cluster-snapshot", 63),
    }
    named = [key for key in kinds if given.get(key)]
    if len(named) != 1 or not isinstance(given[named[0]], str):
        raise ValueError(f"the input needs exactly one of {' and '.join(kinds)}, as a string")
    kind, longest = kinds[named[0]]
    identifier = snapshot_id(given[named[0]], request["execution"], longest)
    _, partition, _, region, account, *_ = function_arn.split(":")
    arn = f"arn:{partition}:rds:{region}:{account}:{kind}:{identifier}"
    return {"kind": kind, "database": given[named[0]], "identifier": identifier, "arn": arn}


def store_token(dynamodb: Any, table: str, arn: str, request: dict[str, Any]) -> bool:
    """Store the token of this attempt; return True if the snapshot was announced before."""
    item = dynamodb.update_item(
        TableName=table,
        Key={"SnapshotArn": {"S": arn}},
        UpdateExpression="SET TaskToken = :token, ExecutionArn = :execution, ExpiresAt = :expires",
        ConditionExpression="attribute_not_exists(ExecutionArn) OR ExecutionArn = :execution",
        ExpressionAttributeValues={
            ":token": {"S": request["token"]},
            ":execution": {"S": request["execution"]},
            ":expires": {"N": str(int(time.time()) + KEEP_SECONDS)},
        },
        ReturnValues="ALL_NEW",
    )["Attributes"]
    return "Announced" in item


def create(rds: Any, snapshot: dict[str, str], execution: str) -> None:
    """Create the snapshot; it is fine if an earlier attempt of this execution created it."""
    tags = [{"Key": "created-by", "Value": execution}]
    try:
        if snapshot["kind"] == "snapshot":
            rds.create_db_snapshot(
                DBSnapshotIdentifier=snapshot["identifier"],
                DBInstanceIdentifier=snapshot["database"],
                Tags=tags,
            )
        else:
            rds.create_db_cluster_snapshot(
                DBClusterSnapshotIdentifier=snapshot["identifier"],
                DBClusterIdentifier=snapshot["database"],
                Tags=tags,
            )
    except ClientError as error:
        codes = ("DBSnapshotAlreadyExists", "DBClusterSnapshotAlreadyExistsFault")
        if error.response["Error"]["Code"] not in codes:
            raise
        LOGGER.info("%s exists already", snapshot["arn"])


def status(rds: Any, snapshot: dict[str, str]) -> str:
    """Return the status of the snapshot: available, creating, failed, … or missing."""
    try:
        if snapshot["kind"] == "snapshot":
            found = rds.describe_db_snapshots(DBSnapshotIdentifier=snapshot["identifier"])
            return str(found["DBSnapshots"][0]["Status"])
        found = rds.describe_db_cluster_snapshots(
            DBClusterSnapshotIdentifier=snapshot["identifier"]
        )
        return str(found["DBClusterSnapshots"][0]["Status"])
    except ClientError as error:
        codes = ("DBSnapshotNotFound", "DBClusterSnapshotNotFoundFault")
        if error.response["Error"]["Code"] not in codes:
            raise
        return "missing"


def start(request: dict[str, Any], snapshot: dict[str, str]) -> None:
    """Create the snapshot and leave the workflow waiting, or resume it if the event came first."""
    dynamodb, table = boto3.client("dynamodb"), os.environ["TABLE_NAME"]
    if store_token(dynamodb, table, snapshot["arn"], request):
        output = json.dumps({"SnapshotArn": snapshot["arn"], "Status": "available"})
        boto3.client("stepfunctions").send_task_success(taskToken=request["token"], output=output)
    else:
        create(boto3.client("rds"), snapshot, request["execution"])


def handler(request: dict[str, Any], context: Any) -> dict[str, str]:
    """Serve one request of the state machine."""
    if request["action"] == "look":
        snapshot = snapshot_of(request, context.invoked_function_arn)
        return {"SnapshotArn": snapshot["arn"], "Status": status(boto3.client("rds"), snapshot)}
    try:
        start(request, snapshot_of(request, context.invoked_function_arn))
    except (ClientError, ValueError) as error:
        # Fail the task by its token, with the error code that its Retry and the operator look for.
        LOGGER.exception("The snapshot was not created")
        code = error.response["Error"]["Code"] if isinstance(error, ClientError) else "InvalidInput"
        boto3.client("stepfunctions").send_task_failure(
            taskToken=request["token"], error=code, cause=str(error)
        )
        return {"Status": "failed"}
    return {"Status": "waiting"}
