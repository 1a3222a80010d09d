from typing import Any

from eventstacks.flow.graph import as_list
from eventstacks.lint._rule import GUIDE, Findings, FlowRule, Node, View

NOBODY = {"aws:securetransport", "aws:requestedregion"}  # keys whose values whoever asks can have


class OpenBus(FlowRule):
    id = "E9807"
    shortdesc = "A bus must not be open to everyone"
    description = (
        "A bus policy that allows Principal *, or everyone but a NotPrincipal, lets every AWS account send events to "
        "the bus unless a condition says who: one on aws:SecureTransport keeps nobody out."
    )
    source_url = f"{GUIDE}eb-event-bus-perms.html"
    kinds = frozenset({"AWS::Events::EventBusPolicy", "AWS::Events::EventBus"})

    def check(self, view: View) -> Findings:
        for _, node in view.each(*self.kinds):
            document = node.get("Policy", "Statement") or node.get("Statement")
            for statement in (
                [node] if "Principal" in node else document.items() if document else []
            ):
                allows = (effect := statement.get("Effect")) is None or effect.value == "Allow"
                if (
                    allows
                    and (place := _everyone(statement))
                    and not _restricts(statement.get("Condition"))
                ):
                    yield (
                        place,
                        (
                            "Every AWS account may use this bus: name accounts, or add a Condition (aws:PrincipalOrgID)"
                        ),
                    )


def _everyone(statement: Node) -> Node | None:
    """Where the statement says that it is for everyone: Principal *, or everyone but some."""
    if principal := statement.get("Principal"):
        return principal if "*" in _named(principal.value) else None
    excepted = statement.get("NotPrincipal")
    return None if excepted is None or "*" in _named(excepted.value) else excepted


def _restricts(condition: Node | None) -> bool:
    """Whether a Condition may keep somebody out; only AWS knows what a symbol stands for."""
    if condition is None:
        return False
    lines = condition.value if isinstance(condition.value, dict) else {"": {"": ""}}
    keys = {
        str(key).lower()
        for line in lines.values()
        for key in (line if isinstance(line, dict) else [""])
    }
    return not keys <= NOBODY


def _named(principal: Any) -> list[Any]:
    return as_list(principal.get("AWS") if isinstance(principal, dict) else principal)
