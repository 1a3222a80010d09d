from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View


class DeadLetters(FlowRule):
    id = "W9817"
    shortdesc = "A target needs a dead-letter queue"
    description = (
        "An event that cannot be delivered, at once or after a day of attempts, is lost unless the target "
        "has a DeadLetterConfig. One under a condition counts: it may be left out on purpose."
    )
    source_url = f"{GUIDE}eb-rule-dlq.html"

    def check(self, view: View) -> Findings:
        for target in view.targets:
            if "DeadLetterConfig" not in target.node.raw:
                yield (
                    target.node,
                    "Events that this target does not take are lost: give it a DeadLetterConfig with a standard queue",
                )
