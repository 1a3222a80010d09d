"""Rules on schedules: of rules, and of EventBridge Scheduler."""

from functools import partial

from eventstacks.flow import permissions
from eventstacks.flow.graph import Flow
from eventstacks.flow.permissions import Verdict
from eventstacks.flow.symbols import is_open
from eventstacks.lint.rule import GUIDE, Findings, flow_rule
from eventstacks.lint.targets import ROLE_TYPES
from eventstacks.lint.view import RULE, SCHEDULE, View


@flow_rule(
    "E9810",
    "Validate that a rule with a schedule is on the default bus",
    "PutRule refuses a ScheduleExpression on a custom event bus: remove EventBusName, or use "
    "EventBridge Scheduler.",
    f"{GUIDE}eb-create-rule-schedule.html",
    ("events", "schedules"),
)
def schedule_bus(view: View) -> Findings:
    for _, node in view.each(RULE):
        schedule, bus = node.get("ScheduleExpression"), node.get("EventBusName")
        if not schedule or not bus or is_open(bus.value):
            continue
        if str(bus.value).rsplit("/", 1)[-1] != "default":
            yield schedule, "'ScheduleExpression' is not supported on a custom event bus"


@flow_rule(
    "E9823",
    "Validate the role of a schedule",
    "EventBridge Scheduler calls the target and writes to the dead-letter queue in the role of the "
    "schedule. The role has to trust scheduler.amazonaws.com, and to allow the target's action and "
    "sqs:SendMessage on the dead-letter queue; a queue policy is not enough.",
    "https://docs.aws.amazon.com/scheduler/latest/UserGuide/setting-up.html",
    ("scheduler", "schedules", "iam"),
    types=(SCHEDULE,),
)
def schedule_role(view: View) -> Findings:
    for name, node in view.each(SCHEDULE):
        target = node.get("Target")
        for key, verdict in _verdicts(view.flow, name).items():
            holds = partial(_is_denied, name, key)
            place = target.get(key) if target else None
            if place and view.holds_in_all_scenarios(holds, SCHEDULE, *ROLE_TYPES):
                yield place, verdict.reason


def _verdicts(flow: Flow, name: str) -> dict[str, Verdict]:
    schedules = [one for one in flow.schedules if one.label == name]
    return dict(permissions.of_schedule(flow, schedules[0])) if schedules else {}


def _is_denied(name: str, key: str, flow: Flow) -> bool:
    verdict = _verdicts(flow, name).get(key)
    return verdict is not None and verdict.allowed is False
