"""Rules on the policies that let EventBridge deliver.

Log groups, queues, topics, keys and functions.
"""

from functools import partial

from eventstacks.flow import permissions
from eventstacks.flow.graph import Flow, Rule
from eventstacks.flow.policies import evaluate
from eventstacks.flow.symbols import as_list
from eventstacks.flow.targets import EVENTS, Target, policy_calls, service_of
from eventstacks.lint.view import BUS, GUIDE, RULE, Findings, Node, View, flow_rule

PERMISSION = "AWS::Lambda::Permission"
LOG_TYPES = ("AWS::Logs::ResourcePolicy", "AWS::Logs::LogGroup")
# Condition keys that every caller can satisfy.
NOT_RESTRICTING = {"aws:securetransport", "aws:requestedregion"}
LOG_PRINCIPALS = (EVENTS, "delivery.logs.amazonaws.com")
POLICY_TYPES = (
    PERMISSION,
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
    "Without a resource policy for events.amazonaws.com a rule writes nothing to its log group, "
    "and no error is visible. The console creates such a policy, CloudFormation does not: add an "
    "AWS::Logs::ResourcePolicy that allows logs:PutLogEvents, and logs:CreateLogStream without a "
    "condition on aws:SourceArn, which that call does not send. The guide's example also names "
    "delivery.logs.amazonaws.com. A policy under a condition counts: it can be left out on "
    "purpose.",
    f"{GUIDE}eb-use-resource-based.html#eb-cloudwatchlogs-permissions",
    ("events", "targets", "logs"),
)
def logs_policy(view: View) -> Findings:
    for target in view.targets:
        arn = target.get("Arn")
        holds = partial(_cannot_log, target.rule, target.arn)
        if arn and ":logs:" in target.arn and view.holds_in_all_scenarios(holds, *LOG_TYPES):
            yield arn, f"no resource policy allows {EVENTS} to write to this log group"


def _cannot_log(rule: Rule, arn: str, flow: Flow) -> bool:
    """Return True if there is a call that neither principal may make.

    Which one AWS needs is not known.
    """
    policies = [one for one in flow.policies if ":logs:" in one.attached]
    return any(
        all(
            evaluate(policies, one, call.action, call.resource, call.context).allowed is False
            for one in LOG_PRINCIPALS
        )
        for call in policy_calls(arn, rule.arn)
    )


@flow_rule(
    "E9805",
    "Validate that a queue, a topic or a function allows EventBridge to send to it",
    "A queue or topic of the template that is a target, or the dead-letter queue of a target or a "
    "bus, needs a policy that allows events.amazonaws.com to send or publish, with the ARN of the "
    "rule as aws:SourceArn; a function needs an AWS::Lambda::Permission with it as SourceArn. So "
    "does a customer managed key of a queue or topic; the key alias/aws/sqs cannot allow it, "
    "SqsManagedSseEnabled needs no policy. Otherwise the events are lost.",
    f"{GUIDE}eb-use-resource-based.html#eb-sqs-permissions",
    ("events", "targets", "sqs", "sns", "kms"),
    types=(RULE, BUS),
)
def queue_policy(view: View) -> Findings:
    sent: list[tuple[Rule, Node | None]] = []
    for target in view.targets:
        own = target.get("Arn") if not target.get("RoleArn") else None
        sent += [(target.rule, own), (target.rule, target.get("DeadLetterConfig", "Arn"))]
    for name, bus in view.each(BUS):  # the bus sends with its own ARN
        arn = view.stack.resolve({"Fn::GetAtt": [name, "Arn"]})
        sent.append((Rule(name, name, arn, arn, None), bus.get("DeadLetterConfig", "Arn")))
    for rule, node in sent:
        resource = view.flow.resources.get(str(node.value)) if node else None
        if node and resource and service_of(resource.arn) in {"sqs", "sns", "lambda"}:
            judge = partial(permissions.of_target, rule=rule, target=Target("", resource.arn))
            if reason := view.why_denied(judge, *POLICY_TYPES):
                yield node, f"{resource.logical_id}: {reason}"


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
        principal, account = node.get("Principal"), node.get("SourceAccount")
        if principal and principal.value == EVENTS:
            if not node.get("SourceArn"):
                yield (
                    node,
                    "'SourceArn' is missing: any rule of any account can invoke the function",
                )
            if account:
                yield account, "'SourceAccount' is not sent by EventBridge: no rule can invoke it"


ALARMS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
ACTIONS = ("AlarmActions", "OKActions", "InsufficientDataActions")


@flow_rule(
    "E9824",
    "Validate that the topic of an alarm is not encrypted with alias/aws/sns",
    "CloudWatch cannot publish to an SNS topic encrypted with the key that AWS manages: its policy "
    "cannot allow cloudwatch.amazonaws.com, and no notification arrives. Use a customer managed "
    "key whose policy allows cloudwatch.amazonaws.com to call kms:Decrypt and kms:GenerateDataKey.",
    "https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html",
    ("alarms", "sns", "kms"),
    types=ALARMS,
)
def alarm_topic(view: View) -> Findings:
    alarms = [node for _, node in view.each(*ALARMS)]
    used = {str(one.value) for node in alarms for kind in ACTIONS for one in node.items(kind)}
    for name, node in view.each("AWS::SNS::Topic"):
        key = node.get("KmsMasterKeyId")
        if key and "alias/aws/sns" in str(key.value) and view.stack.resolve({"Ref": name}) in used:
            yield key, "CloudWatch cannot use the key 'alias/aws/sns': no alarm can publish"


@flow_rule(
    "E9807",
    "Validate that a bus policy does not allow every account",
    "A bus policy that allows Principal *, or everyone but a NotPrincipal, lets every AWS account "
    "send events to the bus, unless a condition restricts the caller: name accounts, or add "
    "aws:PrincipalOrgID. A condition on aws:SecureTransport or aws:RequestedRegion does not "
    "restrict the caller.",
    f"{GUIDE}eb-event-bus-perms.html",
    ("events", "buses", "iam"),
    types=("AWS::Events::EventBusPolicy", BUS),
)
def open_bus(view: View) -> Findings:
    for _, node in view.each("AWS::Events::EventBusPolicy", BUS):
        own = [node] if node.get("Principal") else node.items("Statement")
        for statement in own + node.items("Policy", "Statement"):
            effect, principal = statement.get("Effect"), statement.get("Principal")
            place = principal or statement.get("NotPrincipal")
            is_deny = effect is not None and effect.value != "Allow"
            if not place or is_deny or _restricts(statement.get("Condition")):
                continue
            named = place.value.get("AWS") if isinstance(place.value, dict) else place.value
            if ("*" in as_list(named)) is bool(principal):
                yield place, "every AWS account can send events to this bus"


def _restricts(condition: Node | None) -> bool:
    """Return True if a Condition can refuse a caller; a symbol can stand for one that does."""
    value = condition.value if condition else {}
    lines = value.values() if isinstance(value, dict) else [value]
    if not all(isinstance(line, dict) for line in lines):
        return True
    return any(str(key).lower() not in NOT_RESTRICTING for line in lines for key in line)
