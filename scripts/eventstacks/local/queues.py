"""SQS's StartMessageMoveTask and ListMessageMoveTasks, which MiniStack lacks.

They move messages out of a dead-letter queue.

A task ends before the call returns, at any rate that is asked for. Source: SQS Developer Guide,
'Configure a dead-letter queue redrive'. The texts of errors are a guess.
"""

import json
import time
import uuid

from ministack.core.concurrency import esm_wake
from ministack.services import sqs

from eventstacks.local.ministack import Json


def queue_of(arn: str) -> Json:
    """Return MiniStack's queue. Raises its error if there is none."""
    if not (queue := sqs._queue_by_arn(arn)):
        raise sqs._Err("ResourceNotFoundException", f"The queue {arn} does not exist.")
    found: Json = queue
    return found


def sources_of(arn: str) -> list[str]:
    """Return the ARNs of the queues of this Region whose dead-letter queue this is."""
    policies = {
        queue["attributes"]["QueueArn"]: json.loads(
            queue["attributes"].get("RedrivePolicy") or "{}"
        )
        for queue in sqs._queues.values()
    }
    return [name for name, policy in policies.items() if policy.get("deadLetterTargetArn") == arn]


def start_move(data: Json, _url: str) -> Json:
    """Move the visible messages of a dead-letter queue to a queue, by default back to their own."""
    arn, destination, now = data["SourceArn"], data.get("DestinationArn"), time.time()
    source = queue_of(arn)
    if not sources_of(arn):
        text = "Source queue must be configured as a Dead Letter Queue."
        raise sqs._Err("AWS.SimpleQueueService.UnsupportedOperation", text)
    moved = 0
    for one in [one for one in source["messages"] if one["visible_at"] <= now]:
        origin = one["sys"].get("DeadLetterQueueSourceArn", "")
        if target := sqs._queue_by_arn(destination or origin):  # others stay where they are
            # A moved message is a new one: its own ID, age and count of receives.
            new = {"id": str(uuid.uuid4()), "receive_count": 0, "first_receive_at": None, "sys": {}}
            target["messages"].append({**one, **new, "sent_at": now})
            source["messages"].remove(one)
            moved += 1
    esm_wake.set()
    entry = {
        "SourceArn": arn,
        "Status": "COMPLETED",
        "ApproximateNumberOfMessagesMoved": moved,
        "StartedTimestamp": int(now * 1000),
    }
    source.setdefault("move_tasks", []).insert(0, entry)
    return {"TaskHandle": str(uuid.uuid4())}


def list_moves(data: Json, _url: str) -> Json:
    """List the newest tasks of a queue."""
    tasks = queue_of(data["SourceArn"]).get("move_tasks", [])
    return {"Results": tasks[: int(data.get("MaxResults", 1))]}


sqs._HANDLERS |= {"StartMessageMoveTask": start_move, "ListMessageMoveTasks": list_moves}
