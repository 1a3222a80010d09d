from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View
from eventstacks.lint._view import RULE, is_open


class ScheduleBus(FlowRule):
    id = "E9810"
    shortdesc = "Schedules run on the default bus only"
    description = "PutRule refuses a ScheduleExpression on a custom event bus."
    source_url = f"{GUIDE}eb-create-rule-schedule.html"

    def check(self, view: View) -> Findings:
        for _, node in view.each(RULE):
            schedule, bus = node.get("ScheduleExpression"), node.get("EventBusName")
            if (
                schedule
                and bus
                and not is_open(bus.value)
                and str(bus.value).rsplit("/", 1)[-1] != "default"
            ):
                message = "PutRule refuses a schedule on a custom bus: remove EventBusName, or use Scheduler"
                yield schedule, message
