from functools import partial

from eventstacks.flow import permissions
from eventstacks.flow.graph import Flow, Rule, Target
from eventstacks.lint._rule import GUIDE, RULE, Findings, FlowRule, Node, View
from eventstacks.lint._view import is_unread

BUS = "AWS::Events::EventBus"
POLICIES = (
    "AWS::SQS::QueuePolicy",
    "AWS::SQS::QueueInlinePolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SNS::TopicInlinePolicy",
    "AWS::KMS::Key",
)


class QueuePolicy(FlowRule):
    id = "E9805"
    shortdesc = "A queue or topic must let EventBridge in"
    description = (
        "A queue or topic of the template that is a target, or the dead-letter queue of a target or a bus, needs a "
        "policy that lets events.amazonaws.com send or publish, and so does its customer key. Otherwise what goes "
        "there is lost."
    )
    source_url = f"{GUIDE}eb-use-resource-based.html#eb-sqs-permissions"
    kinds = frozenset({RULE, BUS})

    def check(self, view: View) -> Findings:
        for target in view.targets:
            places = (
                target.node.get("Arn") if "RoleArn" not in target.node else None,
                target.node.get("DeadLetterConfig", "Arn"),
            )
            if rule := view.rule_of(target.rule):
                for node in filter(None, places):
                    yield from self._check_one(view, rule, node)
        for name, node in view.each(BUS):
            if queue := node.get("DeadLetterConfig", "Arn"):
                arn = view.stack.resolve({"Fn::GetAtt": [name, "Arn"]})
                yield from self._check_one(
                    view, Rule(name, name, arn, arn, None), queue
                )  # the bus asks by its ARN

    def _check_one(self, view: View, rule: Rule, node: Node) -> Findings:
        arn = str(node.value)
        resource = view.flow.resources.get(arn)
        if not resource or resource.type not in ("AWS::SQS::Queue", "AWS::SNS::Topic"):
            return
        if view.is_so_everywhere(partial(_is_shut, rule, arn), *POLICIES):
            reason = permissions.of_target(view.flow, rule, Target("", arn)).reason
            message = f"{resource.logical_id}: {reason}, so what is sent there is lost. Allow it to events.amazonaws.com"
            yield node, f"{message}, with the ARN of {rule.label} as aws:SourceArn"


def _is_shut(rule: Rule, arn: str, flow: Flow) -> bool:
    verdict = permissions.of_target(flow, rule, Target("", arn))
    if verdict.allowed is not False or is_unread(flow, POLICIES):
        return False
    if not verdict.reason.startswith("the key") or "alias/aws/" in verdict.reason:
        return True
    queue = flow.resources[arn]
    key = permissions.key_of(flow, queue.properties.get("KmsMasterKeyId"), queue.region)
    return (
        key is not None and key.type == "AWS::KMS::Key"
    )  # the policy of a replica is not read here
