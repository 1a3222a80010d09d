from functools import partial

from eventstacks.flow import permissions
from eventstacks.flow.graph import Flow, Rule, Target
from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View


class FunctionPermission(FlowRule):
    id = "W9805"
    shortdesc = "A function that is a target needs a permission"
    description = (
        "A Lambda function of the template that is a target without a role needs an AWS::Lambda::Permission that lets "
        "events.amazonaws.com invoke it for this rule."
    )
    source_url = f"{GUIDE}eb-use-resource-based.html#eb-lambda-permissions"

    def check(self, view: View) -> Findings:
        for target in view.targets:
            arn, rule = target.node.get("Arn"), view.rule_of(target.rule)
            if not arn or not rule or "RoleArn" in target.node or target.service != "lambda":
                continue
            if view.is_so_everywhere(
                partial(_is_shut, rule, target.arn), "AWS::Lambda::Permission"
            ):
                message = (
                    f"No permission here lets {rule.label} invoke the function: add an AWS::Lambda::Permission with "
                    "Principal events.amazonaws.com and the rule's ARN as SourceArn"
                )
                yield arn, message


def _is_shut(rule: Rule, arn: str, flow: Flow) -> bool:
    return (
        arn in flow.resources
        and permissions.of_target(flow, rule, Target("", arn)).allowed is False
    )
