"""EventBridge Pipes from a DynamoDB stream to an event bus.

Filter, input template, bounded retries, dead-letter queue.

MiniStack reads the stream, but delivers to topics and state machines only, without filters and
templates; for those targets it is left as it is. Records are delivered one by one, in the order of
the stream: one that fails is tried again before the next one (EventBridge User Guide, 'DynamoDB
stream as a source for Pipes': the order is kept).
"""

import json
import re
import time
from typing import Any

from ministack.core import iam_evaluator
from ministack.services import dynamodb, dynamodb_streams, pipes

from eventstacks.flow import graph, payload
from eventstacks.flow.targets import Call, Target, kind_of
from eventstacks.local import resources
from eventstacks.local.deliveries import NotDelivered
from eventstacks.local.ministack import AwsError, Json, Original, call, in_region, log, patch
from eventstacks.local.policies import role_allows
from eventstacks.patterns.matcher import Pattern

SERVICE = "pipes.amazonaws.com"
POLL_SECONDS = (
    0.2  # AWS reads a stream about four times a second; here also the wait before a retry
)
IDLE_SECONDS = 1.0
UNLIMITED = -1  # of retries and ages, in the API
LIMITS = {"Source": 256, "DetailType": 128}  # characters; MiniStack's PutEvents does not check them
PARAMETERS = ("SourceParameters", "TargetParameters")
_VARIABLE = re.compile(r"<(\$[^<>]*)>")


def parameters_of(pipe: Json) -> tuple[Json, Json]:
    """Return the SourceParameters and TargetParameters of a pipe."""
    source, target = (pipe.get(key) or {} for key in PARAMETERS)
    return source, target


def is_wanted(record: Json, source: Json) -> bool:
    """Return True if a record passes one of the filters, or there are none."""
    filters = (source.get("FilterCriteria") or {}).get("Filters") or []
    return not filters or any(Pattern(one["Pattern"]).matches(record) for one in filters)


def value_of(text: str, record: Json) -> str:
    """Return a parameter of the target, which can be a JSON path of the record.

    '' if that is not there.
    """
    value = payload.find(text, record) if text.startswith("$") else text
    return value if isinstance(value, str) else "" if value is None else payload.compact(value)


def entry_of(pipe: Json, record: Json) -> Json:
    """Return the entry of PutEvents for a record.

    Raises NotDelivered if the template does not make a JSON object.
    """
    _, target = parameters_of(pipe)
    bus = target.get("EventBridgeEventBusParameters") or {}
    detail = payload.compact(record)
    if template := target.get("InputTemplate"):
        names = {path: f"v{n}" for n, path in enumerate(_VARIABLE.findall(template))}
        transformer = {
            "InputPathsMap": {name: path for path, name in names.items()},
            "InputTemplate": _VARIABLE.sub(lambda match: f"<{names[match[1]]}>", template),
        }
        receiver = Target("pipe", "", {"InputTransformer": transformer})
        source = graph.Rule(pipe["Name"], pipe["Name"], pipe["Arn"], "", None)
        detail = payload.build(source, receiver, record).text
    if not payload.is_json(detail) or not detail.lstrip().startswith("{"):
        raise NotDelivered("INVALID_JSON", "the filled InputTemplate is not a JSON object")
    # What a pipe without these writes is a guess.
    entry = {
        "Source": value_of(bus.get("Source") or f"Pipe {pipe['Name']}", record),
        "DetailType": value_of(bus.get("DetailType") or "Event from aws:dynamodb", record),
    }
    for key, limit in LIMITS.items():
        if not 0 < len(entry[key]) <= limit:
            text = f"Parameter {key} is not valid: it must have 1 to {limit} characters"
            raise NotDelivered("InvalidArgument", text)
    return {**entry, "EventBusName": pipe["Target"], "Detail": detail}


def may(pipe: Json, action: str, resource: str) -> bool:
    """Return True if the role of a pipe can be assumed for it and allows the action."""
    return role_allows(pipe["RoleArn"], [Call(action, resource)], pipe["Arn"], SERVICE)


def put_events(entry: Json) -> Json:
    """Call PutEvents with one entry in the current Region."""
    return call("eventbridge", "AWSEvents.PutEvents", Entries=[entry])


def deliver(pipe: Json, record: Json) -> None:
    """Put a record on the bus. Raises NotDelivered."""
    if not may(pipe, "events:PutEvents", pipe["Target"]):
        raise NotDelivered("NO_PERMISSIONS", f"{pipe['RoleArn']} does not allow events:PutEvents")
    region = pipe["Target"].split(":")[3]
    entry = entry_of(pipe, record)
    answer = in_region(region, put_events, entry)
    if answer["FailedEntryCount"]:
        failed = answer["Entries"][0]
        raise NotDelivered(failed["ErrorCode"], failed["ErrorMessage"])


def exhausted(source: Json, attempts: int, record: Json) -> str:
    """Return the condition that ends the retries after so many attempts, '' if none does yet."""
    stream = source.get("DynamoDBStreamParameters") or {}
    retries = int(stream.get("MaximumRetryAttempts", UNLIMITED))
    oldest = int(stream.get("MaximumRecordAgeInSeconds", UNLIMITED))
    if UNLIMITED < retries < attempts:
        return "RetryAttemptsExhausted"
    age = time.time() - record["dynamodb"]["ApproximateCreationDateTime"]
    return "RecordAgeExceeded" if UNLIMITED < oldest < age else ""


def send_to_dlq(pipe: Json, record: Json, condition: str) -> None:
    """Send the place of a record in its stream to the dead-letter queue.

    Not the record itself, as on AWS.

    The form of the message was published by users of Pipes; RecordAgeExceeded is a guess from
    Lambda's.
    """
    source, _ = parameters_of(pipe)
    stream = source.get("DynamoDBStreamParameters") or {}
    arn = (stream.get("DeadLetterConfig") or {}).get("Arn", "")
    if not arn or not may(pipe, "sqs:SendMessage", arn):
        log.warning("lost by the pipe %s: %s", pipe["Name"], record["eventID"])
        return
    number = record["dynamodb"]["SequenceNumber"]
    arrival = time.strftime(
        "%FT%TZ", time.gmtime(record["dynamodb"]["ApproximateCreationDateTime"])
    )
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
    url = call("sqs", "AmazonSQS.GetQueueUrl", QueueName=arn.rsplit(":", 1)[1])["QueueUrl"]
    call("sqs", "AmazonSQS.SendMessage", QueueUrl=url, MessageBody=json.dumps(body))


def is_handled(pipe: Json, record: Json) -> bool:
    """Deliver a record or give it up; return False if it has to be tried again."""
    source, _ = parameters_of(pipe)
    if not is_wanted(record, source):
        return True
    try:
        deliver(pipe, record)
    except (NotDelivered, AwsError) as failure:
        attempts = pipe["Attempts"] = pipe.get("Attempts", 0) + 1
        log.warning("not delivered by the pipe %s: %s", pipe["Name"], failure)
        if not (condition := exhausted(source, attempts, record)):
            return False
        send_to_dlq(pipe, record, condition)
    pipe["Attempts"] = 0
    return True


@patch("_poll_pipe", pipes)
def poll(original: Original, ddb: Any, pipe: Json, account: str) -> None:
    """Deliver new records of a stream to a bus, as far as they can be delivered."""
    source, kind = pipes._dynamodb_stream_source(pipe.get("Source", "")), kind_of(pipe["Target"])
    if not source or not kind or kind.name != "event-bus":
        original(ddb, pipe, account)
        return
    if pipe["CurrentState"] != "RUNNING" or not may(pipe, "dynamodb:GetRecords", pipe["Source"]):
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
    iam_evaluator._request_origin.set(
        ("127.0.0.1", True)
    )  # policies that require TLS are satisfied
    while True:
        time.sleep(POLL_SECONDS if pipes._pipes.has_any() else IDLE_SECONDS)
        try:
            pipes._poll_once()
        except Exception:  # noqa: BLE001 - the next round may succeed
            log.exception("pipes")


@patch("create", resources.KNOWN["AWS::Pipes::Pipe"])
@patch("update", resources.KNOWN["AWS::Pipes::Pipe"])
def with_parameters(original: Original, *arguments: Any, **more: Any) -> Any:
    """Keep the parameters of a pipe, which MiniStack drops."""
    props = [one for one in arguments if isinstance(one, dict)][-1]  # an update has the old ones
    result = original(*arguments, **more)
    pipes._pipes[result[0]] |= {key: props.get(key) or {} for key in PARAMETERS}
    return result


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
