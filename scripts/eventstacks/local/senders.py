"""Pipes and schedules: what calls a target of deliveries.SENDERS in a role of its own.

Pipes read a DynamoDB stream: filter, input template, bounded retries, dead-letter queue. MiniStack
reads the stream, but delivers to topics and state machines only, without filters, templates and
roles. Records are delivered one by one, in the order of the stream: one that fails is tried again
before the next one (EventBridge User Guide, 'DynamoDB stream as a source for Pipes': the order is
kept).

Schedules of EventBridge Scheduler run once, without retries. MiniStack fires them every ten
seconds, in UTC, without their role, and sends an event of its own. Scheduler calls the target with
the text of Input. Sources: EventBridge Scheduler User Guide, 'Schedule types', 'Adding context
attributes' and 'Configuring a dead-letter queue'.
"""

import functools
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from ministack.services import dynamodb_streams, eventbridge, pipes, scheduler

from eventstacks.flow import graph, payload
from eventstacks.flow.targets import PIPES, SCHEDULER, Call, Target, kind_of
from eventstacks.local import deliveries
from eventstacks.local.ministack import AwsError, Json, Original, in_region, log, patch
from eventstacks.local.policies import check_permission, put_events_keys, role_allows
from eventstacks.patterns.matcher import Pattern

STREAM = "DynamoDBStreamParameters"
PARAMETERS = ("SourceParameters", "TargetParameters")
UNLIMITED = -1  # of a pipe's retries and ages, in the API
LISTS = ("lambda", "states")  # kinds of targets that get a list of records
# How Scheduler words EventBridge's codes.
CODES = {"NO_PERMISSIONS": "AccessDeniedException", "NO_RESOURCE": "ResourceNotFoundException"}

scheduler._SCHEDULE_TICK_INTERVAL = 1  # seconds between looks at the schedules
_last_runs: dict[Any, float] = {}  # place and creation of a schedule -> time of its last run


def send(service: str, source: str, target: Target, text: str) -> None:
    """Send a text to a target in its role. Raises AwsError.

    ``source``: the ARN of a pipe or schedule group, for which ``service`` assumes the role.
    """
    keys = put_events_keys(target.settings["EventBridgeParameters"], is_forwarded=False)
    check_permission(target, source, service, keys)
    deliveries.send_to(target, text)


def settings_of(pipe: Json, key: str) -> Json:
    """Return settings in the SourceParameters of a pipe."""
    return pipe.get("SourceParameters", {}).get(key) or {}


def is_wanted(pipe: Json, record: Json) -> bool:
    """Return True if a record passes one of the filters, or there are none."""
    filters = settings_of(pipe, "FilterCriteria").get("Filters") or []
    return not filters or any(Pattern(one["Pattern"]).matches(record) for one in filters)


@functools.lru_cache
def log_once(pipe: str, problem: str) -> None:
    """Log why a pipe does not deliver, unless that was logged before."""
    log.warning("not delivered by the pipe %s: %s", pipe, problem)


def send_record(pipe: Json, record: Json) -> None:
    """Send a record to the target, or to a bus the event that trace says. Raises AwsError.

    Functions and state machines get a list (EventBridge User Guide, 'Pipes batching').
    """
    rule = graph.Rule(pipe["Name"], pipe["Name"], pipe["Arn"], "", None)
    given = pipe.get("TargetParameters", {})
    target = Target("", pipe["Target"], given)
    text = payload.build(rule, target, record).text
    event = payload.event_of(rule, target, record, text)
    settings = {
        "RoleArn": pipe["RoleArn"],
        "EventBridgeParameters": {"Source": event["source"], "DetailType": event["detail-type"]},
        "SqsParameters": given.get("SqsQueueParameters"),
    }
    body = f"[{text}]" if kind_of(target.arn).name in LISTS else text
    send(PIPES, pipe["Arn"], Target("", target.arn, settings), body)


def exhausted(pipe: Json, record: Json) -> str:
    """Return the condition that ends the retries of a record, '' if none does yet."""
    age = time.time() - record["dynamodb"]["ApproximateCreationDateTime"]
    settings = settings_of(pipe, STREAM)
    if UNLIMITED < settings.get("MaximumRetryAttempts", UNLIMITED) < pipe["Attempts"]:
        return "RetryAttemptsExhausted"
    is_old = UNLIMITED < settings.get("MaximumRecordAgeInSeconds", UNLIMITED) < age
    return "RecordAgeExceeded" if is_old else ""


def give_up_record(pipe: Json, record: Json, condition: str) -> None:
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
    settings = {**settings_of(pipe, STREAM), "RoleArn": pipe["RoleArn"]}
    deliveries.send_to_dlq(settings, json.dumps(body), {}, pipe["Arn"], PIPES)


def is_handled(pipe: Json, record: Json) -> bool:
    """Deliver a record or give it up; return False if it has to be tried again."""
    if is_wanted(pipe, record):
        try:
            send_record(pipe, record)
        except AwsError as failure:
            pipe["Attempts"] = pipe.get("Attempts", 0) + 1
            log_once(pipe["Arn"], str(failure))
            if not (condition := exhausted(pipe, record)):
                return False
            give_up_record(pipe, record, condition)
    pipe["Attempts"] = 0
    return True


@patch("_deliver_batch", pipes)
def deliver_batch(_original: Original, pipe: Json, batch: list[Json]) -> bool:
    """Deliver new records of a stream; return True if none is left.

    MiniStack reads the stream once a second, and keeps the position if one is left.
    """
    reads = [Call("dynamodb:GetRecords", pipe["Source"])]
    if not role_allows(pipe["RoleArn"], reads, pipe["Arn"], PIPES):
        log_once(pipe["Arn"], f"{pipe['RoleArn']} does not allow dynamodb:GetRecords")
        return False
    for record in batch:
        if not is_handled(pipe, record):
            return False
        pipes._positions[pipe["Arn"]] += 1
    return True


@patch("register_pipe", pipes)
def register_pipe(original: Original, **settings: Any) -> Json:
    """Create a pipe; name a source that the embedded AWS does not read."""
    pipe: Json = original(**settings)
    if ":dynamodb:" not in pipe["Source"]:
        log_once(pipe["Arn"], f"the embedded AWS does not read {pipe['Source']}")
    return pipe


@patch("_create_pipe", pipes)
@patch("_update_pipe", pipes)
def keep_parameters(original: Original, name: str, body: Json) -> Any:
    """Keep the filter, the template and the limits of a pipe that the API creates or updates."""
    answer = original(name, body)
    if answer[0] < 300:
        pipes._pipes[name] |= {key: body[key] for key in PARAMETERS if key in body}
    return answer


def occurrence(schedule: Json, last: float | None) -> float | None:
    """Return the time of the run after ``last``, None if there is no other; both in epoch seconds.

    ``last``: None if there was no run. An hour that daylight saving time repeats has its runs once
    (re:Post, 'How do I adjust for DST in EventBridge').
    """
    expression, created = schedule["ScheduleExpression"], float(schedule["CreationDate"])
    zone = ZoneInfo(schedule.get("ScheduleExpressionTimezone") or "UTC")
    start = scheduler._to_epoch(schedule.get("StartDate"))
    if expression.startswith("at("):
        found: float = datetime.fromisoformat(expression[3:-1]).replace(tzinfo=zone).timestamp()
        return found if last is None or last < found else None
    if interval := eventbridge._parse_rate_seconds(expression):
        found = (start or created) if last is None else last + interval
    else:
        after = datetime.fromtimestamp(max(last or 0, start - 1 if start else created), zone)
        fields = eventbridge._parse_cron_fields(expression)
        if (wall := eventbridge._cron_next_fire(fields, after)) is None:
            return None
        found = wall.timestamp()
    end = scheduler._to_epoch(schedule.get("EndDate"))
    return None if end is not None and found > end else found


def invalid(properties: Json) -> str:
    """Return an expression with its time zone that CreateSchedule refuses, '' for a valid one."""
    try:
        occurrence({**properties, "CreationDate": time.time()}, None)
    except (ValueError, LookupError, TypeError):
        keys = ("ScheduleExpression", "ScheduleExpressionTimezone")
        return " ".join(str(properties.get(key)) for key in keys)
    return ""


@patch("_create_schedule", scheduler)
@patch("_update_schedule", scheduler)
def check_schedule(original: Original, name: str, body: Json) -> Any:
    """Create or update a schedule by the API, unless its expression is not valid."""
    if refused := "ScheduleExpression" in body and invalid(body):
        return scheduler._error(
            400, "ValidationException", f"Invalid Schedule Expression {refused}."
        )
    return original(name, body)


@patch("_tick_schedules", scheduler)
def run_due(_original: Original, now: float | None = None) -> None:
    """Run what is due, by default now, in all accounts and Regions.

    A disabled schedule does not make up for its runs.
    """
    now = now or time.time()
    for place, schedule in list(scheduler._schedules._data.items()):
        key = (place, schedule["CreationDate"])  # one that was created again begins again
        moment = occurrence(schedule, _last_runs.get(key))
        if moment is None or moment > now:
            continue
        _last_runs[key] = moment
        if schedule.get("State") == "ENABLED":
            account, region, _ = place
            in_region(region, run, schedule, moment, account=account)
        is_last = occurrence(schedule, moment) is None
        if is_last and schedule.get("ActionAfterCompletion") == "DELETE":
            scheduler._schedules._data.pop(place, None)


def run(schedule: Json, moment: float) -> None:
    """Deliver one run. Raises nothing: what fails goes to the dead-letter queue."""
    iso = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    values = {
        "schedule-arn": schedule["Arn"],
        "scheduled-time": iso,
        "execution-id": uuid.uuid4().hex[:16],
        "attempt-number": "1",
    }
    settings = schedule["Target"]
    text = settings.get("Input") or "{}"
    for key, value in values.items():
        text = text.replace(f"<aws.scheduler.{key}>", value)
    group = scheduler._group_arn(schedule["GroupName"])
    entry = {"Source": "", "DetailType": "", **(settings.get("EventBridgeParameters") or {})}
    target = Target("", settings["Arn"], {**settings, "EventBridgeParameters": entry})

    def give_up(failure: AwsError) -> None:
        """Send the run to the dead-letter queue, with the attributes that the guide lists."""
        code, message = failure.args
        reasons = {
            "ERROR_CODE": CODES.get(code, code),
            "ERROR_MESSAGE": message,
            "EXECUTION_ID": values["execution-id"],
            "IS_PAYLOAD_TRUNCATED": "false",
            "RETRY_ATTEMPTS": "0",
            "SCHEDULED_TIME": iso,
            "SCHEDULE_ARN": schedule["Arn"],
            "TARGET_ARN": target.arn,
        }
        deliveries.send_to_dlq(settings, text, reasons, group, SCHEDULER)

    with deliveries.giving_up(schedule["Arn"], give_up):
        send(SCHEDULER, group, target, text)
