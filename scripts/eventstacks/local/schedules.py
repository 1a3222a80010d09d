"""EventBridge Scheduler: when a schedule is due, and what it delivers.

MiniStack fires schedules every ten seconds, in UTC, without their role, and sends an event of its
own. Scheduler calls the target in the role of the schedule, with the text of Input, and sends what
it cannot deliver to the dead-letter queue in the same role. Sources: EventBridge Scheduler User
Guide, 'Schedule types', 'Adding context attributes' and 'Configuring a dead-letter queue'. As
everywhere here, there are no retries.
"""

import contextvars
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from ministack.core import iam_evaluator
from ministack.core.responses import set_request_account_id, set_request_region
from ministack.services import eventbridge, scheduler
from ministack.services.cloudformation import provisioners

from eventstacks.flow.targets import SCHEDULER, Call, kind_of
from eventstacks.local.deliveries import NotDelivered, resource_policies, to_function
from eventstacks.local.ministack import AwsError, Json, Original, call, log, patch
from eventstacks.local.policies import decisions, role_allows

SECONDS = 1  # between looks at the schedules
NUMBERS = ("MaximumWindowInMinutes", "MaximumEventAgeInSeconds", "MaximumRetryAttempts")


def zone_of(schedule: Json) -> ZoneInfo:
    """Return the time zone of a schedule."""
    return ZoneInfo(schedule.get("ScheduleExpressionTimezone") or "UTC")


def next_cron(expression: str, zone: ZoneInfo, after: float) -> float | None:
    """Return the next time of a cron expression as epoch seconds, None if there is none.

    An hour that daylight saving time skips has no runs, one that it repeats has them once (re:Post,
    'How do I adjust for DST in EventBridge').
    """
    wall = datetime.fromtimestamp(after, zone).replace(tzinfo=UTC, fold=0)
    while found := eventbridge._cron_next_fire(eventbridge._parse_cron_fields(expression), wall):
        wall = found
        moment: float = found.replace(tzinfo=zone).timestamp()
        exists = datetime.fromtimestamp(moment, zone).replace(tzinfo=UTC, fold=0) == found
        if exists and moment > after:
            return float(moment)
    return None


def occurrence(schedule: Json, last: float | None) -> float | None:
    """Return the time of the run after ``last``, None if there is no other; both in epoch seconds.

    ``last``: None if there was no run.
    """
    expression = schedule["ScheduleExpression"]
    created = float(schedule["CreationDate"])
    start = scheduler._to_epoch(schedule.get("StartDate"))
    if expression.startswith("at("):
        wall = datetime.fromisoformat(expression[3:-1].strip())
        found: float | None = wall.replace(tzinfo=zone_of(schedule)).timestamp()
        return found if last is None or last < (found or 0) else None
    if interval := eventbridge._parse_rate_seconds(expression):
        found = (start or created) if last is None else last + interval
    else:
        after = max(last or 0, start - 1 if start else created)
        found = next_cron(expression, zone_of(schedule), after)
    end = scheduler._to_epoch(schedule.get("EndDate"))
    return None if found is None or (end is not None and found > end) else found


@patch("_tick_schedules", scheduler)
def tick(_original: Original) -> None:
    """Run the enabled schedules of all accounts and Regions that are due."""
    run_due(time.time())


def run_due(now: float) -> None:
    """Run what is due at a time in epoch seconds.

    A disabled schedule does not make up for its runs.
    """
    fired: dict[Any, float] = scheduler._schedule_last_fired
    for place, schedule in list(scheduler._schedules._data.items()):
        last = fired.get(place)
        if last is not None and last < float(schedule["CreationDate"]) - 1:
            last = None  # of a schedule with this name that was deleted
        try:
            moment = occurrence(schedule, last)
        except (ValueError, LookupError, TypeError) as error:  # CreateSchedule would refuse it
            log.warning("%s does not run: %s", schedule["Arn"], error)
            continue
        if moment is None or moment > now:
            continue
        fired[place] = moment
        if schedule.get("State") == "ENABLED":
            context = contextvars.copy_context()
            context.run(_run, place[0], place[1], schedule, moment)
        is_last = occurrence(schedule, moment) is None
        if is_last and schedule.get("ActionAfterCompletion") == "DELETE":
            scheduler._schedules._data.pop(place, None)


def _run(account: str, region: str, schedule: Json, moment: float) -> None:
    """Deliver one run in its account and Region. Raises nothing.

    What fails goes to the dead-letter queue.
    """
    set_request_account_id(account)
    set_request_region(region)
    iam_evaluator.pin_request_origin(
        "127.0.0.1", secure_transport=True
    )  # services call each other over TLS
    target = schedule["Target"]
    iso = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    values = {
        "schedule-arn": schedule["Arn"],
        "scheduled-time": iso,
        "execution-id": uuid.uuid4().hex[:16],
        "attempt-number": "1",
    }
    text = target.get("Input") or "{}"
    for key, value in values.items():
        text = text.replace(f"<aws.scheduler.{key}>", value)
    try:
        try:
            deliver({**target, "Input": text}, schedule)
        except NotDelivered as failure:
            send_to_dlq(schedule, values, text, *failure.args)
        except AwsError as failure:
            code, _, message = str(failure).partition(": ")
            send_to_dlq(schedule, values, text, code, message)
    except Exception:  # noqa: BLE001 - a failure of one schedule must not affect the others
        log.exception("%s: not delivered, nor to its dead-letter queue", schedule["Arn"])


def check(schedule: Json, action: str, arn: str) -> None:
    """Raise NotDelivered unless Scheduler may call an action in the role of the schedule."""
    role = schedule["Target"]["RoleArn"]
    group = scheduler._group_arn(schedule["GroupName"])
    if not role_allows(role, [Call(action, arn)], group, SCHEDULER):
        raise NotDelivered("AccessDeniedException", f"{role} may not call {action} on {arn}")


def deliver(target: Json, schedule: Json) -> None:
    """Call the target. Raises NotDelivered; codes other than AccessDeniedException are guesses."""
    arn = target["Arn"]
    kind = kind_of(arn)
    if not kind or kind.name not in SENDERS:
        raise NotDelivered("UnsupportedTarget", f"the embedded AWS does not call {arn}")
    check(schedule, kind.action, arn)
    policies = resource_policies(kind.name, arn)  # also checks that the target exists
    if "Deny" in decisions(policies, "", kind.action, arn, {}, target["RoleArn"]):
        raise NotDelivered("AccessDeniedException", f"the policy of {arn} denies {kind.action}")
    SENDERS[kind.name](target)


def _put_event(target: Json) -> None:
    bus = target["Arn"].partition(":event-bus/")[2]
    if bus not in {"default", *eventbridge._event_buses}:
        raise NotDelivered("ResourceNotFoundException", f"{target['Arn']} does not exist")
    given = target.get("EventBridgeParameters") or {}
    entry = {
        "EventBusName": bus,
        "Source": given.get("Source", ""),
        "DetailType": given.get("DetailType", ""),
        "Detail": target["Input"],
    }
    answer = call("eventbridge", "AWSEvents.PutEvents", Entries=[entry])
    if answer["FailedEntryCount"]:
        [refused] = answer["Entries"]
        raise NotDelivered(refused["ErrorCode"], refused["ErrorMessage"])


def _send_message(target: Json) -> None:
    send_message(target["Arn"], target["Input"], **(target.get("SqsParameters") or {}))


def _start_execution(target: Json) -> None:
    call(
        "stepfunctions",
        "AWSStepFunctions.StartExecution",
        stateMachineArn=target["Arn"],
        input=target["Input"],
    )


# Kinds of targets; another one goes to the dead-letter queue.
SENDERS: dict[str, Original] = {
    "event-bus": _put_event,
    "lambda": lambda target: to_function(target, {}, {}, None),
    "sqs": _send_message,
    "states": _start_execution,
}


def send_message(arn: str, text: str, **options: Any) -> None:
    """Send a message to a queue given by its ARN. Raises AwsError."""
    url = call("sqs", "AmazonSQS.GetQueueUrl", QueueName=arn.rsplit(":", 1)[1])["QueueUrl"]
    call("sqs", "AmazonSQS.SendMessage", QueueUrl=url, MessageBody=text, **options)


def send_to_dlq(schedule: Json, values: Json, text: str, code: str, message: str) -> None:
    """Send a run to the dead-letter queue, with the attributes that the guide lists."""
    target = schedule["Target"]
    log.warning("not delivered: %s -> %s: %s %s", schedule["Arn"], target["Arn"], code, message)
    if not (arn := (target.get("DeadLetterConfig") or {}).get("Arn")):
        return
    check(schedule, "sqs:SendMessage", arn)
    attributes = {
        "ERROR_CODE": code,
        "ERROR_MESSAGE": message,
        "EXECUTION_ID": values["execution-id"],
        "IS_PAYLOAD_TRUNCATED": "false",
        "RETRY_ATTEMPTS": "0",
        "SCHEDULED_TIME": values["scheduled-time"],
        "SCHEDULE_ARN": schedule["Arn"],
        "TARGET_ARN": target["Arn"],
    }
    texts = {key: {"DataType": "String", "StringValue": one} for key, one in attributes.items()}
    send_message(arn, text, MessageAttributes=texts)


def put_schedule(original: Original, *arguments: Any) -> Any:
    """Keep the properties that MiniStack's CloudFormation drops.

    Numbers that come from parameters become numbers. An update has the old properties too.
    """
    props = [one for one in arguments if isinstance(one, dict)][-1]
    for part in (props["FlexibleTimeWindow"], props["Target"].get("RetryPolicy") or {}):
        part.update({key: int(part[key]) for key in NUMBERS if key in part})
    name, attributes = original(*arguments)
    schedule = scheduler._schedules[f"{props.get('GroupName') or 'default'}/{name}"]
    kept = ("ScheduleExpressionTimezone", "StartDate", "EndDate", "KmsKeyArn")
    schedule.update({key: props.get(key) for key in kept})
    return name, attributes


scheduler._SCHEDULE_TICK_INTERVAL = SECONDS
for _verb in ("create", "update"):
    patch(_verb, provisioners._RESOURCE_HANDLERS["AWS::Scheduler::Schedule"])(put_schedule)
