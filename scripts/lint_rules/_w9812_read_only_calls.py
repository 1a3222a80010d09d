import re

from scripts.lint_rules._rule import GUIDE, Findings, FlowRule, View
from scripts.lint_rules._view import place_of, tests_of

STATE = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
READS = re.compile(
    r"(Get|List|Describe)(?!(Object|Item|Records|Snapshot\w*Block|ChangedBlock|FederationToken|SessionToken))"
)


class ReadOnlyCalls(FlowRule):
    id = "W9812"
    shortdesc = "A rule on read-only calls needs a state of its own"
    description = (
        "A rule that is merely ENABLED gets no management events whose names begin with Get, List or Describe; "
        f"{STATE} does. Data events come either way."
    )
    source_url = f"{GUIDE}eb-service-event-cloudtrail-management.html"

    def check(self, view: View) -> Findings:
        for properties, pattern in view.patterns:
            state = properties.get("State")
            signs = [*tests_of(pattern, "detail-type"), *tests_of(pattern, "detail", "eventSource")]
            is_of_trail = any(str(one).endswith(("via CloudTrail", ".amazonaws.com")) for one in signs)
            if (state and state.value != "ENABLED") or not is_of_trail:
                continue
            for test in tests_of(pattern, "detail", "eventName"):
                name = test.get("prefix") if isinstance(test, dict) else test
                if isinstance(name, str) and READS.match(name):
                    message = f"Merely ENABLED, the rule gets no read-only calls such as {name}: set State to {STATE}"
                    yield place_of(properties, "detail", "eventName", test=test), message
