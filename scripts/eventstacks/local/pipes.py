"""EventBridge Pipes from a DynamoDB stream to an event bus.

Filter, input template, bounded retries, dead-letter queue.

MiniStack reads the stream, but delivers to topics and state machines only, without filters and
templates; for those targets it is left as it is. Records are delivered one by one, in the order of
the stream: one that fails is tried again before the next one (EventBridge User Guide, 'DynamoDB
stream as a source for Pipes': the order is kept).
"""

import json
import time
from typing import Any

from ministack.services import dynamodb, dynamodb_streams, pipes

from eventstacks.flow import graph, payload
from eventstacks.flow.targets import Call, Target, kind_of
from eventstacks.local import deliveries
from eventstacks.local.ministack import AwsError, Json, NotDelivered, Original, log, patch
from eventstacks.local.policies import check_permission, put_events_keys, role_allows
from eventstacks.patterns.matcher import Pattern

SERVICE = "pipes.amazonaws.com"
# AWS reads a stream about four times a second; here also the wait before a retry.
POLL_SECONDS = 0.2
IDLE_SECONDS = 1.0
STREAM = "DynamoDBStreamParameters"
UNLIMITED = -1  # of retries and ages, in the API
LIMITS = {"Source": 256, "DetailType": 128}  # characters; MiniStack's PutEvents does not check them
PARAMETERS = ("SourceParameters", "TargetParameters")


def settings_of(pipe: Json, kind: str, key: str) -> Json:
    """Return settings in the SourceParameters or TargetParameters of a pipe."""
    return pipe.get(f"{kind}Parameters", {}).get(key) or {}


def is_wanted(pipe: Json, record: Json) -> bool:
    """Return True if a record passes one of the filters, or there are none."""
    filters = settings_of(pipe, "Source", "FilterCriteria").get("Filters") or []
    return not filters or any(Pattern(one["Pattern"]).matches(record) for one in filters)


def value_of(text: str, record: Json) -> str:
    """Return a parameter of the target, which can be a JSON path of the record.

    '' if that is not there.
    """
    value = payload.find(text, record) if text.startswith("$") else text
    return value if isinstance(value, str) else "" if value is None else payload.compact(value)


def target_of(pipe: Json, record: Json) -> Target:
    """Return the bus with Source and DetailType for a record. Raises NotDelivered."""
    bus = settings_of(pipe, "Target", "EventBridgeEventBusParameters")
    # What a pipe without these writes is a guess.
    entry = {
        "Source": value_of(bus.get("Source") or f"Pipe {pipe['Name']}", record),
        "DetailType": value_of(bus.get("DetailType") or "Event from aws:dynamodb", record),
    }
    for key, limit in LIMITS.items():
        if not 0 < len(entry[key]) <= limit:
            text = f"Parameter {key} is not valid: it must have 1 to {limit} characters"
            raise NotDelivered("InvalidArgument", text)
    settings = {"RoleArn": pipe["RoleArn"], "EventBridgeParameters": entry}
    return Target("", pipe["Target"], settings)


def detail_of(pipe: Json, record: Json) -> str:
    """Return the detail for a record. Raises NotDelivered if the template makes no JSON object."""
    receiver = Target("pipe", "", pipe.get("TargetParameters") or {})
    source = graph.Rule(pipe["Name"], pipe["Name"], pipe["Arn"], "", None)
    detail = payload.build(source, receiver, record).text
    if not payload.is_json(detail) or not detail.lstrip().startswith("{"):
        raise NotDelivered("INVALID_JSON", "the filled InputTemplate is not a JSON object")
    return detail


def deliver(pipe: Json, record: Json) -> None:
    """Put a record on the bus. Raises AwsError."""
    target = target_of(pipe, record)
    keys = put_events_keys(target.settings["EventBridgeParameters"], is_forwarded=False)
    check_permission(target, pipe["Arn"], SERVICE, keys)
    deliveries.send_to(target, detail_of(pipe, record))


def exhausted(pipe: Json, record: Json) -> str:
    """Return the condition that ends the retries of a record, '' if none does yet."""
    age = time.time() - record["dynamodb"]["ApproximateCreationDateTime"]
    settings = settings_of(pipe, "Source", STREAM)
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
    queue = settings_of(pipe, "Source", STREAM).get("DeadLetterConfig", {}).get("Arn", "")
    role = {"RoleArn": pipe["RoleArn"]}
    deliveries.send_to_dlq(Target("", queue, role), json.dumps(body), {}, pipe["Arn"], SERVICE)


def is_handled(pipe: Json, record: Json) -> bool:
    """Deliver a record or give it up; return False if it has to be tried again."""
    if is_wanted(pipe, record):
        try:
            deliver(pipe, record)
        except AwsError as failure:
            pipe["Attempts"] = pipe.get("Attempts", 0) + 1
            log.warning("not delivered by the pipe %s: %s", pipe["Name"], failure)
            if not (condition := exhausted(pipe, record)):
                return False
            give_up(pipe, record, condition)
    pipe["Attempts"] = 0
    return True


@patch("_poll_pipe", pipes)
def poll(original: Original, ddb: Any, pipe: Json, account: str) -> None:
    """Deliver new records of a stream to a bus, as far as they can be delivered."""
    source = pipes._dynamodb_stream_source(pipe.get("Source", ""))
    if not source or kind_of(pipe["Target"]).name != "event-bus":
        original(ddb, pipe, account)
        return
    reads = [Call("dynamodb:GetRecords", pipe["Source"])]
    is_running = pipe["CurrentState"] == "RUNNING"
    if not is_running or not role_allows(pipe["RoleArn"], reads, pipe["Arn"], SERVICE):
        return
    spec, table = source
    scope = {"account_id": account, "region": spec.region}
    start = dynamodb.stream_start_position(table, **scope)
    position = max(int(pipes._positions.get(pipe["Arn"], 0)), start)
    count = dynamodb.stream_end_position(table, **scope) - position
    for record in dynamodb.stream_records_since(table, position, count, **scope):
        if not is_handled(pipe, record):
            return
        position += 1
        pipes._positions[pipe["Arn"]] = position


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
