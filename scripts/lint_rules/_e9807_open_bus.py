from typing import Any

from scripts.flow.graph import as_list
from scripts.lint_rules._rule import GUIDE, Findings, FlowRule, View


class OpenBus(FlowRule):
    id = "E9807"
    shortdesc = "A bus must not be open to everyone"
    description = (
        "A bus policy that allows Principal * and has no condition lets every AWS account send events to the bus."
    )
    source_url = f"{GUIDE}eb-event-bus-perms.html"
    kinds = frozenset({"AWS::Events::EventBusPolicy", "AWS::Events::EventBus"})

    def check(self, view: View) -> Findings:
        for _, node in view.each(*self.kinds):
            document = node.get("Policy", "Statement") or node.get("Statement")
            for statement in [node] if "Principal" in node else document.items() if document else []:
                principal = statement.get("Principal")
                everyone = principal and any(one == "*" for one in _named(principal.value))
                allows = (effect := statement.get("Effect")) is None or effect.value == "Allow"
                if principal and everyone and allows and "Condition" not in statement:
                    yield (
                        principal,
                        ("Every AWS account may use this bus: name accounts, or add a Condition (aws:PrincipalOrgID)"),
                    )


def _named(principal: Any) -> list[Any]:
    return as_list(principal.get("AWS") if isinstance(principal, dict) else principal)
