from eventstacks.lint._rule import Findings, FlowRule, View
from eventstacks.lint._view import place_of, tests_of

# Only numbers that the page lists for one kind of source. The page has more kinds and more numbers.
NUMBERS = {
    "RDS DB Snapshot Event": "0040 0041 0042 0059 0060 0061 0090 0091 0159 0160 0161 0190 0196 0197",
    "RDS DB Cluster Snapshot Event": "0074 0075 0162 0163 0164 0168 0169",
    "RDS DB Cluster Event": "0069 0070 0071 0072 0073 0170 0171",
    "RDS DB Instance Event": "0003 0004 0005 0006 0007 0087 0088 0089",
    "RDS DB Parameter Group Event": "0037",
    "RDS DB Security Group Event": "0038 0039",
}
KINDS = {
    f"RDS-EVENT-{number}": kind for kind, numbers in NUMBERS.items() for number in numbers.split()
}


class RdsEventId(FlowRule):
    id = "W9820"
    shortdesc = "An RDS EventID must belong to the detail-type"
    description = "Each EventID of RDS comes with one detail-type; a pattern with another one never matches it."
    source_url = "https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html"

    def check(self, view: View) -> Findings:
        for properties, pattern in view.patterns:
            kinds = tests_of(pattern, "detail-type")
            if not kinds or not all(str(one) in NUMBERS for one in kinds):
                continue
            for test in tests_of(pattern, "detail", "EventID"):
                if isinstance(test, str) and KINDS.get(test, kinds[0]) not in kinds:
                    message = f"{test} comes with {KINDS[test]!r} only, so it never matches: add that, or remove it"
                    yield place_of(properties, "detail", "EventID", test=test), message
