import re

from eventstacks.lint._rule import GUIDE, RULE, Findings, FlowRule, View
from eventstacks.lint._view import pattern_of, place_of, tests_of
from eventstacks.patterns.grammar import PatternError, parse_pattern
from eventstacks.patterns.operators import Comparison

TEXTS = frozenset(
    {"version", "id", "detail-type", "source", "account", "time", "region", "resources"}
)
ENVELOPE = TEXTS | {"detail", "replay-name"}  # the last: what a replay adds


class NeverMatches(FlowRule):
    id = "W9803"
    shortdesc = "A pattern must be one that an event can match"
    description = (
        "Outside of detail an event has version, id, detail-type, source, account, time, region and resources, "
        "all of them text: detailType, a field of detail at the top, or an account number without quotes never match."
    )
    source_url = f"{GUIDE}eb-events-structure.html"
    kinds = frozenset({RULE, "AWS::Events::Archive"})

    def check(self, view: View) -> Findings:
        for properties in (node for _, node in view.each(*self.kinds)):
            if not (pattern := pattern_of(properties)):
                continue
            try:
                alternatives = parse_pattern(pattern)
            except PatternError:
                continue  # E9803 says so
            fields = {
                path
                for one in alternatives
                for path, tests in one.items()
                if not _may_be_missing(tests)
            }
            for name in {path.split(".", maxsplit=1)[0] for path in fields} - ENVELOPE:
                message = (
                    f"No event has {name!r} at its top, so the rule never matches: {_mend(name)}"
                )
                yield place_of(properties, name), message
            for name in TEXTS & pattern.keys():
                for test in (
                    one for one in tests_of(pattern, name) if isinstance(one, int | float)
                ):
                    message = f"{name} is text in every event, and this is not: put it in quotes, or it never matches"
                    yield place_of(properties, name, test=test), message


def _may_be_missing(tests: tuple[Comparison, ...]) -> bool:
    return any(one.kind == "absent" for one in tests)


def _mend(name: str) -> str:
    known = {one.replace("-", ""): one for one in ENVELOPE}.get(re.sub("[-_ ]", "", name.lower()))
    return f"write {known}" if known else "put it below detail, or leave it out"
