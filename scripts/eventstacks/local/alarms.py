"""Notifications of CloudWatch alarms: only to topics whose policy and key allow CloudWatch.

MiniStack publishes to every topic that exists. On AWS a topic whose policy does not name CloudWatch
refuses the notification, and so does one whose key does not, such as alias/aws/sns; the alarm's
history tells (CloudWatch User Guide, 'Notifying users on alarm changes'; SNS Developer Guide, 'Key
management'). The text in the history is a guess.
"""

import time

from ministack.services import cloudwatch, kms, sns

from eventstacks.local.ministack import Json, Original, log, patch
from eventstacks.local.policies import policies_allow

CLOUDWATCH = "cloudwatch.amazonaws.com"
ACTIONS = {"ALARM": "AlarmActions", "OK": "OKActions"}


def refusal_of(arn: str, alarm: str) -> str | None:
    """Return why an alarm may not publish to a topic; None if it may."""
    if not (topic := sns._topics.get(arn)):
        return f"topic {arn} does not exist"
    attributes = topic["attributes"]
    keys = {"aws:sourcearn": alarm, "aws:sourceowner": attributes["Owner"]}
    questions = [("sns:Publish", arn, attributes.get("Policy"))]
    if name := attributes.get("KmsMasterKeyId"):
        key = kms._resolve_key(name) or {"Arn": name}
        calls = ("kms:Decrypt", "kms:GenerateDataKey")
        questions += [(call, key["Arn"], key.get("Policy")) for call in calls]
    for action, resource, policy in questions:
        if not policies_allow([policy or {}], CLOUDWATCH, action, resource, keys):
            return f"the policy of {resource} does not allow {CLOUDWATCH} to call {action}"
    return None


@patch("_dispatch_alarm_actions", cloudwatch)
def notify(original: Original, alarm: Json, old: str, new: str, reason: str) -> None:
    """Publish to the topics that allow it, and record the others in the alarm's history."""
    field, name = ACTIONS.get(new, "InsufficientDataActions"), alarm["AlarmName"]
    allowed = []
    for action in (alarm.get(field) or []) if alarm.get("ActionsEnabled", True) else []:
        is_topic = cloudwatch._is_sns_action_arn(action)
        if not is_topic or not (refusal := refusal_of(action, alarm["AlarmArn"])):
            allowed.append(action)
            continue
        log.warning("alarm %s: %s", name, refusal)
        entry = {
            "AlarmName": name,
            "AlarmType": "CompositeAlarm" if "AlarmRule" in alarm else "MetricAlarm",
            "HistoryData": "{}",
            "HistoryItemType": "Action",
            "HistorySummary": f"Failed to execute action {action}. Received error: {refusal}",
            "Timestamp": cloudwatch._ts_iso(time.time()),
        }
        cloudwatch._history_entries().append(entry)
    original({**alarm, field: allowed}, old, new, reason)
