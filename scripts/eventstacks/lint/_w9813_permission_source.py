from eventstacks.flow.permissions import EVENTS
from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View


class PermissionSource(FlowRule):
    id = "W9813"
    shortdesc = "A permission for EventBridge names its rule, and no account"
    description = (
        "Without SourceArn any rule of any account may invoke the function. With SourceAccount no rule may: "
        "EventBridge does not send it to Lambda."
    )
    source_url = f"{GUIDE}eb-troubleshooting.html#eb-lam-function-not-invoked"
    kinds = frozenset({"AWS::Lambda::Permission"})

    def check(self, view: View) -> Findings:
        for _, node in view.each(*self.kinds):
            principal = node.get("Principal")
            if principal and principal.value == EVENTS:
                if "SourceArn" not in node:
                    yield (
                        node,
                        "Any rule of any account may invoke the function: add SourceArn with the ARN of the rule",
                    )
                if account := node.get("SourceAccount"):
                    yield (
                        account,
                        "EventBridge sends Lambda no account, so no rule gets in: remove SourceAccount, keep SourceArn",
                    )
