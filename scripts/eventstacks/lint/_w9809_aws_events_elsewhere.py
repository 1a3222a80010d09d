from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View
from eventstacks.lint._view import is_open, place_of, tests_of


class AwsEventsElsewhere(FlowRule):
    id = "W9809"
    shortdesc = "Events of AWS services arrive on the default bus"
    description = (
        "A rule on a custom bus sees no aws.* source unless a rule on the default bus forwards to it. A bus of the "
        "template with a bus policy counts as fed from elsewhere: by another account or region."
    )
    source_url = f"{GUIDE}eb-service-event.html"

    def check(self, view: View) -> Findings:
        for properties, pattern in view.patterns:
            rule = view.rule_of(properties) if "EventBusName" in properties else None
            bus = view.flow.buses.get(rule.bus) if rule else None
            if (
                not bus
                or not bus.resource
                or not view.is_whole
                or "EventSourceName" in bus.resource.properties
            ):
                continue
            fed = {target.arn for one in view.flow.rules for target in one.targets}
            if bus.arn in fed or any(map(is_open, fed)) or view.flow.policies_of(bus.arn):
                continue
            for test in tests_of(pattern, "source"):
                text = test.get("prefix") if isinstance(test, dict) else test
                if (
                    isinstance(text, str)
                    and text.startswith("aws.")
                    and not text.startswith("aws.partner/")
                ):
                    message = (
                        f"Events of {text} arrive on the default bus, and no rule here forwards them to {bus.label}: "
                        "put the rule on the default bus, or forward from there"
                    )
                    yield place_of(properties, "source", test=test), message
