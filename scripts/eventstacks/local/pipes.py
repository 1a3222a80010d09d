"""EventBridge Pipes from a DynamoDB stream to the targets in deliveries.SENDERS.

Filter, input template, bounded retries, dead-letter queue.

MiniStack reads the stream, but delivers to topics and state machines only, without filters,
templates and roles. Records are delivered one by one, in the order of the stream: one that fails is
tried again before the next one (EventBridge User Guide, 'DynamoDB stream as a source for Pipes':
the order is kept).
"""

import json
import time
from typing import Any

from ministack.services import dynamodb_streams, pipes

from eventstacks.flow import graph, payload
from eventstacks.flow.targets import PIPES, Call, Target, kind_of
from eventstacks.local import deliveries
from eventstacks.local.ministack import AwsError, Json, Original, log, patch
from eventstacks.local.policies import check_permission, put_events_keys, role_allows
from eventstacks.patterns.matcher import Pattern

# AWS reads a stream about four times a second; here also the wait before a retry.
POLL_SECONDS = 0.2
IDLE_SECONDS = 1.0
STREAM = "DynamoDBStreamParameters"
UNLIMITED = -1  # of retries and ages, in the API
PARAMETERS = ("SourceParameters", "TargetParameters")
QUEUE = "SqsQueueParameters"
LISTS = ("lambda", "states")  # kinds of targets


def settings_of(pipe: Json, key: str) -> Json:
    """Return settings in the SourceParameters of a pipe."""
    return pipe.get("SourceParameters", {}).get(key) or {}


def is_wanted(pipe: Json, record: Json) -> bool:
    """Return True if a record passes one of the filters, or there are none."""
    filters = settings_of(pipe, "FilterCriteria").get("Filters") or []
    return not filters or any(Pattern(one["Pattern"]).matches(record) for one in filters)


def log_once(pipe: Json, problem: object) -> None:
    """Log why a pipe does not deliver, unless that was its last problem."""
    if pipe.get("Problem") != str(problem):
        pipe["Problem"] = str(problem)
        log.warning("not delivered by the pipe %s: %s", pipe["Name"], problem)


def deliver(pipe: Json, record: Json) -> None:
    """Send a record to the target, or to a bus the event that trace says. Raises AwsError.

    Functions and state machines get a list (EventBridge User Guide, 'Pipes batching').
    """
    rule = graph.Rule(pipe["Name"], pipe["Name"], pipe["Arn"], "", None)
    given, kind = pipe.get("TargetParameters", {}), kind_of(pipe["Target"]).name
    target = Target("", pipe["Target"], given)
    text = payload.build(rule, target, record).text
    event = payload.event_of(rule, target, record, text)
    entry = {"Source": event["source"], "DetailType": event["detail-type"]}
    settings = {"RoleArn": pipe["RoleArn"], "EventBridgeParameters": entry}
    receiver = Target("", pipe["Target"], settings | {"SqsParameters": given.get(QUEUE)})
    keys = put_events_keys(entry, is_forwarded=False) if kind == "event-bus" else {}
    check_permission(receiver, pipe["Arn"], PIPES, keys)
    deliveries.send_to(receiver, f"[{text}]" if kind in LISTS else text)


def exhausted(pipe: Json, record: Json) -> str:
    """Return the condition that ends the retries of a record, '' if none does yet."""
    age = time.time() - record["dynamodb"]["ApproximateCreationDateTime"]
    settings = settings_of(pipe, STREAM)
    if UNLIMITED < settings.get("MaximumRetryAttempts", UNLIMITED) < pipe["Attempts"]:
        return "RetryAttemptsExhausted"
    is_old = UNLIMITED < settings.get("MaximumRecordAgeInSeconds", UNLIMITED) < age
    return "RecordAgeExceeded" if is_old else ""


def give_up(pipe: Json, record: Json, condition: str) -> None:
    """Send the place of a record in its stream to the dead-letter queue.

    Not the record itself, as on AWS.

    The form of the message was published by users of Pipes; RecordAgeExceeded is a guess from
    Lambda's.
    """
    number = record["dynamodb"]["SequenceNumber"]
    created = time.gmtime(record["dynamodb"]["ApproximateCreationDateTime"])
    arrival = time.strftime("%FT%TZ", created)
    body = {
        "context": {"partnerResourceArn": pipe["Arn"], "condition": condition},
        "version": "1.0",
        "timestamp": time.strftime("%FT%TZ", time.gmtime()),
        "DDBStreamBatchInfo": {
            "shardId": dynamodb_streams._DEFAULT_SHARD_ID,
            "startSequenceNumber": number,
            "endSequenceNumber": number,
            "approximateArrivalOfFirstRecord": arrival,
            "approximateArrivalOfLastRecord": arrival,
            "batchSize": 1,
            "streamArn": pipe["Source"],
        },
    }
    queue = settings_of(pipe, STREAM).get("DeadLetterConfig", {}).get("Arn", "")
    role = {"RoleArn": pipe["RoleArn"]}
    deliveries.send_to_dlq(Target("", queue, role), json.dumps(body), {}, pipe["Arn"], PIPES)


def is_handled(pipe: Json, record: Json) -> bool:
    """Deliver a record or give it up; return False if it has to be tried again."""
    if is_wanted(pipe, record):
        try:
            deliver(pipe, record)
        except AwsError as failure:
            pipe["Attempts"] = pipe.get("Attempts", 0) + 1
            log_once(pipe, failure)
            if not (condition := exhausted(pipe, record)):
                return False
            give_up(pipe, record, condition)
    pipe["Attempts"] = 0
    return True


@patch("_deliver_batch", pipes)
def deliver_batch(_original: Original, pipe: Json, batch: list[Json]) -> bool:
    """Deliver new records of a stream; return True if none is left.

    MiniStack reads the stream, and keeps the position if one is left.
    """
    reads = [Call("dynamodb:GetRecords", pipe["Source"])]
    if not role_allows(pipe["RoleArn"], reads, pipe["Arn"], PIPES):
        log_once(pipe, f"{pipe['RoleArn']} does not allow dynamodb:GetRecords")
        return False
    for record in batch:
        if not is_handled(pipe, record):
            return False
        pipes._positions[pipe["Arn"]] += 1
    return True


@patch("_poll_pipe", pipes)
def poll_pipe(original: Original, dynamodb: Any, pipe: Json, account: str) -> None:
    """Read the stream of a pipe; name a source that the embedded AWS does not read."""
    if ":dynamodb:" not in pipe["Source"]:
        log_once(pipe, f"the embedded AWS does not read {pipe['Source']}")
    original(dynamodb, pipe, account)


@patch("_poll_loop", pipes)
def poll_loop(_original: Original) -> None:
    """Read the streams of all pipes for ever; MiniStack waits for a second, or for five."""
    while True:
        time.sleep(POLL_SECONDS if pipes._pipes.has_any() else IDLE_SECONDS)
        try:
            pipes._poll_once()
        except Exception:  # noqa: BLE001 - the next round may succeed
            log.exception("pipes")


@patch("_create_pipe", pipes)
@patch("_update_pipe", pipes)
def keep_parameters(original: Original, name: str, body: Json) -> Any:
    """Keep the parameters of a pipe that the API creates or updates."""
    answer = original(name, body)
    if answer[0] < 300:
        pipes._pipes[name] |= {key: body[key] for key in PARAMETERS if key in body}
    return answer


@patch("_describe_response", pipes)
def describe(original: Original, pipe: Json) -> Json:
    """Describe a pipe with its parameters."""
    return {**original(pipe), **{key: pipe[key] for key in PARAMETERS if pipe.get(key)}}
