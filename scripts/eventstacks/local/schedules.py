"""EventBridge Scheduler: when a schedule is due, and what it delivers.

MiniStack fires schedules every ten seconds, in UTC, without their role, and sends an event of its
own. Scheduler calls the target in the role of the schedule, with the text of Input, and sends what
it cannot deliver to the dead-letter queue in the same role. Sources: EventBridge Scheduler User
Guide, 'Schedule types', 'Adding context attributes' and 'Configuring a dead-letter queue'. As
everywhere here, there are no retries.
"""

import functools
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from ministack.services import eventbridge, scheduler

from eventstacks.flow.targets import SCHEDULER, Target
from eventstacks.local import deliveries
from eventstacks.local.ministack import AwsError, Json, Original, in_region, log, patch
from eventstacks.local.policies import check_permission, put_events_keys

INVALID = (ValueError, LookupError, TypeError)  # of an expression or a time zone
# How Scheduler words EventBridge's codes.
CODES = {"NO_PERMISSIONS": "AccessDeniedException", "NO_RESOURCE": "ResourceNotFoundException"}

scheduler._SCHEDULE_TICK_INTERVAL = 1  # seconds between looks at the schedules


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
    expression, created = schedule["ScheduleExpression"], float(schedule["CreationDate"])
    zone = ZoneInfo(schedule.get("ScheduleExpressionTimezone") or "UTC")
    start = scheduler._to_epoch(schedule.get("StartDate"))
    if expression.startswith("at("):
        wall = datetime.fromisoformat(expression[3:-1].strip())
        found: float | None = wall.replace(tzinfo=zone).timestamp()
        return found if last is None or last < (found or 0) else None
    if interval := eventbridge._parse_rate_seconds(expression):
        found = (start or created) if last is None else last + interval
    else:
        after = max(last or 0, start - 1 if start else created)
        found = next_cron(expression, zone, after)
    end = scheduler._to_epoch(schedule.get("EndDate"))
    return None if found is None or (end is not None and found > end) else found


def invalid(properties: Json) -> str:
    """Return an expression with its time zone that CreateSchedule refuses, '' for a valid one."""
    try:
        occurrence({**properties, "CreationDate": time.time()}, None)
    except INVALID:
        return f"{properties['ScheduleExpression']} {properties.get('ScheduleExpressionTimezone')}"
    return ""


@patch("_tick_schedules", scheduler)
def run_due(_original: Original, now: float | None = None) -> None:
    """Run what is due, by default now, in all accounts and Regions.

    A disabled schedule does not make up for its runs.
    """
    now = now or time.time()
    fired: dict[Any, float] = scheduler._schedule_last_fired
    for place, schedule in list(scheduler._schedules._data.items()):
        last = fired.get(place)
        if last is not None and last < float(schedule["CreationDate"]) - 1:
            last = None  # of a schedule with this name that was deleted
        try:
            moment = occurrence(schedule, last)
        except INVALID as error:
            log.warning("%s does not run: %s", schedule["Arn"], error)
            continue
        if moment is None or moment > now:
            continue
        fired[place] = moment
        if schedule.get("State") == "ENABLED":
            account, region, _ = place
            in_region(region, _run, schedule, moment, account=account)
        is_last = occurrence(schedule, moment) is None
        if is_last and schedule.get("ActionAfterCompletion") == "DELETE":
            scheduler._schedules._data.pop(place, None)


def _run(schedule: Json, moment: float) -> None:
    """Deliver one run. Raises nothing: what fails goes to the dead-letter queue."""
    iso = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    values = {
        "schedule-arn": schedule["Arn"],
        "scheduled-time": iso,
        "execution-id": uuid.uuid4().hex[:16],
        "attempt-number": "1",
    }
    text = schedule["Target"].get("Input") or "{}"
    for key, value in values.items():
        text = text.replace(f"<aws.scheduler.{key}>", value)
    group, settings = scheduler._group_arn(schedule["GroupName"]), schedule["Target"]
    empty = {"Source": "", "DetailType": ""}
    entry = {**empty, **(settings.get("EventBridgeParameters") or {})}
    target = Target("", settings["Arn"], {**settings, "EventBridgeParameters": entry})
    keys = put_events_keys(entry, is_forwarded=False)
    with deliveries.giving_up(
        schedule["Arn"], functools.partial(give_up, schedule, values, text, group)
    ):
        check_permission(target, group, SCHEDULER, keys)
        deliveries.send_to(target, text)


def give_up(schedule: Json, values: Json, text: str, group: str, failure: AwsError) -> None:
    """Send a run to the dead-letter queue, with the attributes that the guide lists."""
    target = schedule["Target"]
    code, message = failure.args
    reasons = {
        "ERROR_CODE": CODES.get(code, code),
        "ERROR_MESSAGE": message,
        "EXECUTION_ID": values["execution-id"],
        "IS_PAYLOAD_TRUNCATED": "false",
        "RETRY_ATTEMPTS": "0",
        "SCHEDULED_TIME": values["scheduled-time"],
        "SCHEDULE_ARN": schedule["Arn"],
        "TARGET_ARN": target["Arn"],
    }
    queue = (target.get("DeadLetterConfig") or {}).get("Arn", "")
    role = {"RoleArn": target["RoleArn"]}
    deliveries.send_to_dlq(Target("", queue, role), text, reasons, group, SCHEDULER)
