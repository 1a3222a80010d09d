"""Rules on the policies that let EventBridge deliver: log groups, queues, topics, keys and functions."""

from functools import partial

from eventstacks.flow import permissions
from eventstacks.flow.graph import Flow, Rule
from eventstacks.flow.targets import EVENTS, Target, policy_calls
from eventstacks.lint.rule import GUIDE, Findings, flow_rule
from eventstacks.lint.view import BUS, RULE, Node, View

PERMISSION = "AWS::Lambda::Permission"
LOG_TYPES = ("AWS::Logs::ResourcePolicy", "AWS::Logs::LogGroup")
LOG_PRINCIPALS = (EVENTS, "delivery.logs.amazonaws.com")
POLICY_TYPES = (
    "AWS::SQS::QueuePolicy",
    "AWS::SQS::QueueInlinePolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SNS::TopicInlinePolicy",
    "AWS::KMS::Key",
    "AWS::KMS::ReplicaKey",
)


@flow_rule(
    "W9801",
    "Validate that a log group target has a Logs resource policy",
    "Without a resource policy for events.amazonaws.com a rule writes nothing to its log group, and "
    "no error is visible. The console creates such a policy, CloudFormation does not: add an "
    "AWS::Logs::ResourcePolicy that allows logs:PutLogEvents, and logs:CreateLogStream without a "
    "condition on aws:SourceArn, which that call does not send. The guide's example also names "
    "delivery.logs.amazonaws.com. A policy under a condition counts: it can be left out on purpose.",
    f"{GUIDE}eb-use-resource-based.html#eb-cloudwatchlogs-permissions",
    ("events", "targets", "logs"),
)
def logs_policy(view: View) -> Findings:
    for target in view.targets:
        rule = view.rule_of(target.rule)
        if target.service != "logs" or not rule:
            continue
        holds = partial(_cannot_log, rule, target.arn)
        if view.holds_in_all_scenarios(holds, *LOG_TYPES):
            node = target.node.get("Arn") or target.node
            yield node, f"no resource policy allows {EVENTS} to write to this log group"


def _cannot_log(rule: Rule, arn: str, flow: Flow) -> bool:
    """Return True if there is a call that neither principal may make; which one AWS needs is not known."""
    policies = [one for one in flow.policies if ":logs:" in one.attached]
    for call in policy_calls(arn, rule.arn):
        verdicts = [
            permissions.evaluate(policies, one, call.action, call.resource, call.context)
            for one in LOG_PRINCIPALS
        ]
        if all(verdict.allowed is False for verdict in verdicts):
            return True
    return False


@flow_rule(
    "E9805",
    "Validate that a queue or topic allows EventBridge to send to it",
    "A queue or topic of the template that is a target, or the dead-letter queue of a target or a "
    "bus, needs a policy that allows events.amazonaws.com to send or publish, with the ARN of the "
    "rule as aws:SourceArn. So does its customer managed key; the key alias/aws/sqs cannot allow it, "
    "SqsManagedSseEnabled needs no policy. Otherwise the events are lost.",
    f"{GUIDE}eb-use-resource-based.html#eb-sqs-permissions",
    ("events", "targets", "sqs", "sns", "kms"),
    types=(
        RULE,
        BUS,
    ),
)
def queue_policy(view: View) -> Findings:
    for target in view.targets:
        rule = view.rule_of(target.rule)
        own = target.node.get("Arn") if "RoleArn" not in target.node else None
        for node in filter(None, (own, target.node.get("DeadLetterConfig", "Arn"))):
            if rule:
                yield from _check_queue(view, rule, node)
    for name, node in view.each(BUS):
        queue = node.get("DeadLetterConfig", "Arn")
        arn = view.stack.resolve({"Fn::GetAtt": [name, "Arn"]})
        if queue:  # the bus sends with its own ARN
            yield from _check_queue(view, Rule(name, name, arn, arn, None), queue)


def _check_queue(view: View, rule: Rule, node: Node) -> Findings:
    arn = str(node.value)
    resource = view.flow.resources.get(arn)
    if not resource or resource.type not in {"AWS::SQS::Queue", "AWS::SNS::Topic"}:
        return
    if view.holds_in_all_scenarios(partial(_is_denied, rule, arn), *POLICY_TYPES):
        reason = permissions.of_target(view.flow, rule, Target("", arn)).reason
        yield node, f"{resource.logical_id}: {reason}"


def _is_denied(rule: Rule, arn: str, flow: Flow) -> bool:
    is_known = arn in flow.resources
    return is_known and permissions.of_target(flow, rule, Target("", arn)).allowed is False


@flow_rule(
    "W9805",
    "Validate that a function target has a permission for its rule",
    "A Lambda function of the template that is a target without a role needs an "
    "AWS::Lambda::Permission with Principal events.amazonaws.com and the ARN of the rule as SourceArn.",
    f"{GUIDE}eb-use-resource-based.html#eb-lambda-permissions",
    ("events", "targets", "lambda"),
)
def function_permission(view: View) -> Findings:
    for target in view.targets:
        arn, rule = target.node.get("Arn"), view.rule_of(target.rule)
        if not arn or not rule or "RoleArn" in target.node or target.service != "lambda":
            continue
        holds = partial(_is_denied, rule, target.arn)
        if view.holds_in_all_scenarios(holds, PERMISSION):
            yield arn, permissions.of_target(view.flow, rule, Target("", target.arn)).reason


@flow_rule(
    "W9813",
    "Validate the source of a Lambda permission for EventBridge",
    "Without SourceArn any rule of any account can invoke the function: add the ARN of the rule. "
    "With SourceAccount no rule can, because EventBridge does not send it to Lambda: remove it.",
    f"{GUIDE}eb-troubleshooting.html#eb-lam-function-not-invoked",
    ("events", "lambda"),
    types=(PERMISSION,),
)
def permission_source(view: View) -> Findings:
    for _, node in view.each(PERMISSION):
        principal = node.get("Principal")
        if principal and principal.value == EVENTS:
            if "SourceArn" not in node:
                yield (
                    node,
                    "'SourceArn' is missing: any rule of any account can invoke the function",
                )
            if account := node.get("SourceAccount"):
                yield (
                    account,
                    "'SourceAccount' is not sent by EventBridge: no rule can invoke it",
                )
