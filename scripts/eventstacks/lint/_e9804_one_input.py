from eventstacks.flow.graph import INPUTS
from eventstacks.lint._rule import Findings, FlowRule, View


class OneInput(FlowRule):
    id = "E9804"
    shortdesc = "A target takes one of Input, InputPath and InputTransformer"
    description = (
        "PutTargets refuses a target with more than one of Input, InputPath and InputTransformer."
    )
    source_url = "https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_Target.html"

    def check(self, view: View) -> Findings:
        for target in view.targets:
            given = [key for key in INPUTS if key in target.node]
            if len(given) > 1:
                yield (
                    target.node,
                    f"PutTargets refuses a target with {' and '.join(given)}: keep one of them",
                )
