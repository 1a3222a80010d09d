from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View
from eventstacks.lint._view import RULE

MOST = 5  # "Targets per rule", a quota that cannot be raised


class TargetIds(FlowRule):
    id = "E9806"
    shortdesc = "A rule has up to five targets, each with an id of its own"
    description = "Of two targets with the same Id the later one replaces the other; a rule takes five targets at most."
    source_url = f"{GUIDE}eb-quota.html"

    def check(self, view: View) -> Findings:
        for _, rule in view.each(RULE):
            if not (targets := rule.get("Targets")) or not isinstance(targets.raw, list):
                continue
            entries, seen = targets.items(), set()
            if len(entries) > MOST:
                yield (
                    targets,
                    f"A rule takes {MOST} targets, and this has {len(entries)}: give the others to a second rule",
                )
            for node in (found for one in entries if (found := one.get("Id"))):
                if str(node.value) in seen:
                    yield (
                        node,
                        f"Another target of this rule has the id {node.value!r}, and one replaces the other: rename it",
                    )
                seen.add(str(node.value))
