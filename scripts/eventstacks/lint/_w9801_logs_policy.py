import json
from functools import partial

from eventstacks.flow.graph import Flow, Rule
from eventstacks.flow.permissions import EVENTS, evaluate, log_calls
from eventstacks.lint._rule import GUIDE, Findings, FlowRule, View
from eventstacks.lint._view import is_unread

POLICIES = ("AWS::Logs::ResourcePolicy", "AWS::Logs::LogGroup")
PRINCIPALS = (EVENTS, "delivery.logs.amazonaws.com")


class LogsPolicy(FlowRule):
    id = "W9801"
    shortdesc = "A log group that is a target needs a Logs policy"
    description = (
        "Without a resource policy for events.amazonaws.com a rule writes nothing to its log group, and nobody "
        "hears of it. The console makes such a policy, CloudFormation does not. It must allow logs:PutLogEvents, and "
        "logs:CreateLogStream without a condition on aws:SourceArn, which that call does not carry. "
        "A policy under a condition counts: it may be left out on purpose."
    )
    source_url = f"{GUIDE}eb-use-resource-based.html#eb-cloudwatchlogs-permissions"

    def check(self, view: View) -> Findings:
        targets = [
            (one, rule)
            for one in view.targets
            if one.service == "logs" and (rule := view.rule_of(one.rule))
        ]
        if not targets or "PutResourcePolicy" in json.dumps(
            view.resources, default=str
        ):  # a custom resource makes one
            return
        for target, rule in targets:
            if view.is_so_everywhere(
                partial(_is_shut, rule, target.arn.removesuffix(":*")), *POLICIES
            ):
                message = (
                    "No policy here lets EventBridge write to this log group, so events are lost in silence: add an "
                    "AWS::Logs::ResourcePolicy that allows logs:CreateLogStream, without a condition on aws:SourceArn, "
                    "and logs:PutLogEvents to events.amazonaws.com (the guide's example names "
                    "delivery.logs.amazonaws.com, too)"
                )
                yield target.node.get("Arn") or target.node, message


def _is_shut(rule: Rule, group: str, flow: Flow) -> bool:
    """Whether there is a call that neither principal may make: if AWS is content with one of them is not known."""
    if is_unread(flow, POLICIES):
        return False
    policies = [one for one in flow.policies if ":logs:" in one.attached]
    for action, context in log_calls(rule).items():
        found = [
            evaluate(policies, one, action, f"{group}:log-stream:x", context) for one in PRINCIPALS
        ]
        if all(one is None or one.allowed is False for one in found):
            return True
    return False
