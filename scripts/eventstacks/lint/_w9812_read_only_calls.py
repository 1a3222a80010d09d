import re

from eventstacks.flow.graph import Json
from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View
from eventstacks.lint._view import VIA_TRAIL, may_be, place_of, tests_of

STATE = "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"
READS = re.compile(  # but names of data events
    r"(Get|List|Describe)(?!(Object|Parts|MultipartUploads|Item|Records|ShardIterator|Snapshot\w*Block|ChangedBlock"
    r"|FederationToken|SessionToken))"
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
            if (state and state.value != "ENABLED") or not _is_of_management(pattern):
                continue
            for test in tests_of(pattern, "detail", "eventName"):
                name = test.get("prefix") if isinstance(test, dict) else test
                if isinstance(name, str) and READS.match(name):
                    message = f"Merely ENABLED, the rule gets no read-only calls such as {name}: set State to {STATE}"
                    yield place_of(properties, "detail", "eventName", test=test), message


def _is_of_management(pattern: Json) -> bool:
    """Whether the pattern is on calls that CloudTrail reports, and lets management events through.

    Of 'AWS Service Event via CloudTrail' the guide does not say whether the state keeps it out: a doubt.
    """
    kinds, sources = tests_of(pattern, "detail-type"), tests_of(pattern, "detail", "eventSource")
    named = VIA_TRAIL in kinds or any(str(one).endswith(".amazonaws.com") for one in sources)
    category, flag = (
        tests_of(pattern, "detail", key) for key in ("eventCategory", "managementEvent")
    )
    return (
        named
        and may_be(kinds, VIA_TRAIL)
        and may_be(category, "Management")
        and may_be(flag, value=True)
    )
