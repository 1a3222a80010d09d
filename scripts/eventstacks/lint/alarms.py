"""Rules on alarms: where they send notifications."""

from eventstacks.lint.rule import Findings, flow_rule
from eventstacks.lint.view import View

ALARMS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
ACTIONS = ("AlarmActions", "OKActions", "InsufficientDataActions")


@flow_rule(
    "E9824",
    "Validate that the topic of an alarm is not encrypted with alias/aws/sns",
    "CloudWatch cannot publish to an SNS topic encrypted with the key that AWS manages: its policy "
    "cannot allow cloudwatch.amazonaws.com, and no notification arrives. Use a customer managed key "
    "whose policy allows cloudwatch.amazonaws.com to call kms:Decrypt and kms:GenerateDataKey.",
    "https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html",
    ("alarms", "sns", "kms"),
    types=ALARMS,
)
def alarm_topic(view: View) -> Findings:
    nodes = [node.get(kind) for _, node in view.each(*ALARMS) for kind in ACTIONS]
    used = {str(action.value) for node in nodes if node for action in node.items()}
    for name, node in view.each("AWS::SNS::Topic"):
        key = node.get("KmsMasterKeyId")
        is_managed = key is not None and "alias/aws/sns" in str(key.value)
        if key and is_managed and view.stack.resolve({"Ref": name}) in used:
            yield key, "CloudWatch cannot use the key 'alias/aws/sns': no alarm can publish"
