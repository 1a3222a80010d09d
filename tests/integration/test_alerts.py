"""alerts on the embedded AWS: a failure of a stack reaches the topic once.

Only CloudWatch may publish to the topic.
"""

import json
import time

import pytest
from operators import open_queue
from raw_stacks import ACCOUNT, Stack
from waiting import eventually

from eventstacks import rendering
from eventstacks.local.policies import policies_allow

TEMPLATES = rendering.render_all()
REGION = "eu-central-1"


@pytest.fixture
def deploy(clients, unique):
    made = []

    def make(template, name=unique, region=REGION, **parameters):
        stack = Stack(clients, name, TEMPLATES[template].text, region=region, **parameters)
        assert stack.status == "CREATE_COMPLETE", stack.reasons()
        made.append(stack)
        return stack

    yield make
    for stack in reversed(made):
        stack.cloudformation.delete_stack(StackName=stack.name)


def listen(stack, topic):
    """A queue that is subscribed to the topic: messages() gives the notifications that arrived."""
    sqs = stack.client("sqs")
    url, arn = open_queue(sqs, f"{stack.name}-inbox", "sns.amazonaws.com")
    stack.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    received = []

    def messages():
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        for one in answer.get("Messages", []):
            received.append(json.loads(json.loads(one["Body"])["Message"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        return received

    return messages


def count(stack, metric, namespace="AWS/Events", value=1.0, **dimensions):
    named = [{"Name": key, "Value": text} for key, text in dimensions.items()]
    data = {"MetricName": metric, "Dimensions": named, "Value": value}
    stack.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[data])


def refusals(stack, alarm):
    items = stack.client("cloudwatch").describe_alarm_history(
        AlarmName=alarm, AlarmTypes=["CompositeAlarm"], HistoryItemType="Action"
    )["AlarmHistoryItems"]
    return [one["HistorySummary"] for one in items]


def test_one_failure_that_two_metrics_show_sends_one_notification_and_one_when_it_is_over(
    deploy, unique
):
    alerts = deploy("alerts")
    messages = listen(alerts, alerts.ids["Topic"])
    stack = deploy(
        "rds-snapshot-events",
        f"{unique}-snapshots",
        AlarmTopicArn=alerts.ids["Topic"],
        LogsPolicyScope="none",
    )
    for metric in ("InvocationsSentToDlq", "FailedInvocations"):
        count(stack, metric, RuleName=stack.ids["SnapshotRule"])
    assert eventually(lambda: len(messages()) == 2)
    for alarm in ("SnapshotRuleFailedAlarm", "SnapshotRuleDeadLetterAlarm"):
        stack.client("cloudwatch").set_alarm_state(
            AlarmName=stack.ids[alarm], StateValue="OK", StateReason="test"
        )
    assert eventually(lambda: len(messages()) == 3)
    # The first one is of its creation: its state changes from INSUFFICIENT_DATA to OK.
    assert [one["NewStateValue"] for one in messages()] == ["OK", "ALARM", "OK"]
    assert {one["AlarmName"] for one in messages()} == {f"{unique}-snapshots-alarm"}


# Metrics without dimensions are those of the account: each test counts in a Region of its own.
@pytest.mark.parametrize(("key", "region"), [("yes", "eu-west-1"), ("no", "eu-west-2")])
def test_the_alarm_of_the_account_notifies_above_its_limit(deploy, unique, key, region):
    alerts = deploy("alerts", region=region, CreateKey=key, InvocationsPerMinuteLimit="100")
    messages = listen(alerts, alerts.ids["Topic"])
    count(alerts, "InvocationsCreated", value=100)
    assert messages() == []
    count(alerts, "InvocationsCreated", value=1)
    assert [one["AlarmName"] for one in eventually(messages)] == [f"{unique}-alarm"]
    assert refusals(alerts, f"{unique}-alarm") == []


CLOSED = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.mark.parametrize(
    ("changed", "action", "region"),
    [
        (("KmsMasterKeyId", "alias/aws/sns"), "kms:Decrypt", "eu-north-1"),
        (("Policy", CLOSED), "sns:Publish", "eu-south-1"),
    ],
    ids=["key", "policy"],
)
def test_a_topic_that_refuses_cloudwatch_receives_no_alarm_and_the_alarm_tells(
    deploy, unique, changed, action, region
):
    """The traps that the stack's own key and policy avoid."""
    alerts = deploy("alerts", region=region)
    topic = alerts.ids["Topic"]
    messages = listen(alerts, topic)
    alerts.client("sns").set_topic_attributes(
        TopicArn=topic, AttributeName=changed[0], AttributeValue=changed[1]
    )
    count(alerts, "PutEventsApproximateThrottledCount")
    (refusal,) = eventually(lambda: refusals(alerts, f"{unique}-alarm"))
    assert action in refusal
    assert messages() == []


def test_only_alarms_of_this_account_and_region_may_publish_and_use_the_key(deploy):
    alerts = deploy("alerts")
    topic, key = alerts.ids["Topic"], alerts.ids["Key"]
    attributes = alerts.client("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    policies = {
        "sns:Publish": json.loads(attributes["Policy"]),
        "kms:Decrypt": json.loads(alerts.client("kms").get_key_policy(KeyId=key)["Policy"]),
    }
    assert attributes["KmsMasterKeyId"] == key

    def admitted(action, account=ACCOUNT, region=REGION, service="cloudwatch"):
        source = f"arn:aws:cloudwatch:{region}:{account}:alarm:x"
        keys = {"aws:sourcearn": source, "aws:sourceaccount": account}
        caller = f"{service}.amazonaws.com"
        return policies_allow([policies[action]], caller, action, topic, keys)

    for action in policies:
        assert admitted(action)
        assert not admitted(action, account="111122223333")
        assert not admitted(action, service="events")
    assert not admitted("sns:Publish", region="eu-west-1")


def test_rules_may_publish_only_if_they_are_allowed(deploy, unique):
    for name, given in ((f"{unique}-no", "no"), (f"{unique}-yes", "yes")):
        alerts = deploy("alerts", name, AllowEventBridge=given)
        messages, topic = listen(alerts, alerts.ids["Topic"]), alerts.ids["Topic"]
        events = alerts.client("events")
        events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))
        events.put_targets(Rule=name, Targets=[{"Id": "topic", "Arn": topic}])
        events.put_events(Entries=[{"Source": name, "DetailType": "probe", "Detail": "{}"}])
        if given == "yes":
            assert [one["source"] for one in eventually(messages)] == [name]
        else:
            time.sleep(1)
            assert messages() == []
        events.remove_targets(Rule=name, Ids=["topic"])
        events.delete_rule(Name=name)


def test_the_dashboard_searches_the_names_that_it_is_told(deploy, unique):
    alerts = deploy("alerts", DashboardNames="dev-", EmailAddress="team@example.com")
    (subscription,) = alerts.client("sns").list_subscriptions_by_topic(
        TopicArn=alerts.ids["Topic"]
    )["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "team@example.com")
    name = f"{unique}-eu-central-1"
    answer = alerts.client("cloudwatch").get_dashboard(DashboardName=name)
    widgets = json.loads(answer["DashboardBody"])["widgets"]
    searches = [
        metric[0]["expression"]
        for widget in widgets
        for metric in widget["properties"].get("metrics", ())
        if isinstance(metric[0], dict)
    ]
    assert (
        "SEARCH('{AWS/Events,RuleName} MetricName=\"FailedInvocations\" dev-', 'Sum')" in searches
    )
    assert all(" dev-'" in one for one in searches)
    places = [(one["x"], one["y"]) for one in widgets]
    assert len(set(places)) == len(places)


SLACK = {"SlackChannelId": "C0123ABCD", "SlackWorkspaceId": "T0123ABCD"}


@pytest.mark.parametrize(
    ("parameters", "region"),
    [
        (SLACK, "cn-north-1"),
        ({"KmsKeyArn": "alias/aws/sns"}, REGION),
        ({"SlackChannelId": "C0123ABCD"}, REGION),
        ({"SlackWorkspaceId": "T0123ABCD"}, REGION),
        ({"InvocationsPerMinuteLimit": "0"}, REGION),
        ({"EmailAddress": "team"}, REGION),
        ({"DashboardNames": "'x"}, REGION),
    ],
)
def test_wrong_parameters_are_refused_by_name(clients, unique, parameters, region):
    cloudformation = clients("cloudformation", region)
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    with pytest.raises(cloudformation.exceptions.ClientError) as refused:
        cloudformation.create_stack(
            StackName=unique,
            TemplateBody=TEMPLATES["alerts"].text,
            Parameters=given,
            Capabilities=["CAPABILITY_IAM"],
        )
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert next(iter(parameters)) in str(refused.value)
