"""scheduled-task on the embedded AWS: runs arrive with their keys.

What fails is kept, by the permission of the role.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from raw_stacks import ACCOUNT, refusal, resource, template
from waiting import eventually

from eventstacks import environment, rendering
from eventstacks.aws import Aws
from eventstacks.bus import dead_letters
from eventstacks.local import server

REGION = "eu-central-1"
CODE = "def handler(event, context):\n    print('ran', event['idempotencyKey'], event['task'])\n"


@pytest.fixture
def bus(start):
    return start("custom-event-bus", "bus")


@pytest.fixture
def task(start, bus):
    """task(**parameters): a stack of scheduled-task that sends to the bus."""
    return lambda **parameters: start(
        "scheduled-task", "task", EventBusName=bus.ids["EventBus"], **parameters
    )


def runs(bus):
    """The events of schedules in the log of a bus, once there is one."""
    find = lambda: [  # noqa: E731
        json.loads(line)
        for line in bus.lines(bus.ids["EventLogGroup"])
        if "com.example.schedule" in line
    ]
    return eventually(find, seconds=20)


def kept(stack):
    """The message in the dead-letter queue: its attributes and body."""
    (message,) = eventually(lambda: stack.messages("DeadLetterQueue"), seconds=20)
    attributes = {key: one["StringValue"] for key, one in message["MessageAttributes"].items()}
    return attributes, json.loads(message["Body"])


def change(stack, **target):
    """Change the target of the schedule, which then runs again two seconds later."""
    scheduler = stack.client("scheduler")
    name = {"Name": stack.ids["Schedule"], "GroupName": stack.ids["ScheduleGroup"]}
    found = scheduler.get_schedule(**name)
    moment = datetime.now(UTC) + timedelta(seconds=2)
    scheduler.update_schedule(
        **name,
        FlexibleTimeWindow=found["FlexibleTimeWindow"],
        ScheduleExpression=f"at({moment:%Y-%m-%dT%H:%M:%S})",
        Target={**found["Target"], **target},
    )


def test_a_function_and_a_bus_are_refused_together(clients, unique):
    body = rendering.render("scheduled-task").text
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
    said = refusal(clients, unique, body, FunctionArn=arn, EventBusName="orders")
    assert "EventBusName" in said


def test_a_run_arrives_on_the_bus_with_its_keys(task, bus):
    stack = task(TaskInput='{"report": "daily"}')
    (event,) = runs(bus)
    detail = event["detail"]
    arn = (
        f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/{stack.name}-tasks/{stack.ids['Schedule']}"
    )
    assert (event["source"], event["detail-type"]) == ("com.example.schedule", "Scheduled Task")
    assert detail["idempotencyKey"] == f"{arn}@{detail['scheduledTime']}"
    assert (len(detail["executionId"]), detail["attempt"]) == (16, "1")
    assert detail["task"] == {"report": "daily"}
    assert abs(datetime.fromisoformat(detail["scheduledTime"]) - datetime.now(UTC)) < timedelta(
        minutes=1
    )
    assert stack.messages("DeadLetterQueue") == []


def test_a_time_is_of_the_time_zone_and_once(task, bus):
    moment = datetime.now(ZoneInfo("Asia/Tokyo")) + timedelta(seconds=2)
    task(ScheduleExpression=f"at({moment:%Y-%m-%dT%H:%M:%S})", TimeZone="Asia/Tokyo")
    (event,) = runs(bus)
    expected = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert event["detail"]["scheduledTime"] == expected


def test_a_function_is_invoked(start):
    role = {
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ]
    }
    function = start(
        template(
            Role=resource("AWS::IAM::Role", AssumeRolePolicyDocument=role),
            Log=resource("AWS::Logs::LogGroup", LogGroupName={"Ref": "AWS::StackName"}),
            Function=resource(
                "AWS::Lambda::Function",
                Code={"ZipFile": CODE},
                Handler="index.handler",
                Runtime="python3.14",
                Role={"Fn::GetAtt": ["Role", "Arn"]},
                LoggingConfig={"LogGroup": {"Ref": "Log"}},
            ),
        ),
        "function",
    )
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function.ids['Function']}"
    task = start("scheduled-task", "task", FunctionArn=arn, TaskInput='{"report": "daily"}')
    said = eventually(
        lambda: [one for one in function.lines(function.ids["Log"]) if one.startswith("ran ")],
        seconds=30,
    )
    assert f":schedule/{task.name}-tasks/{task.name}-task@" in said[0]
    assert "{'report': 'daily'}" in said[0]


def test_a_disabled_schedule_does_not_run(task, bus):
    stack = task(ScheduleState="DISABLED")
    # The embedded AWS looks once a second:
    # what comes after it shows that the schedule above was passed over.
    change(stack)
    stack.client("scheduler").get_schedule(
        Name=stack.ids["Schedule"], GroupName=stack.ids["ScheduleGroup"]
    )
    assert len(runs(bus)) == 1  # UpdateSchedule without State enables it


def test_a_run_for_a_bus_that_is_deleted_is_kept(start):
    stack = start("scheduled-task", "task", EventBusName="no-such-bus", TaskInput='{"n": 1}')
    attributes, body = kept(stack)
    assert set(attributes) == {
        "ERROR_CODE",
        "ERROR_MESSAGE",
        "EXECUTION_ID",
        "IS_PAYLOAD_TRUNCATED",
        "RETRY_ATTEMPTS",
        "SCHEDULED_TIME",
        "SCHEDULE_ARN",
        "TARGET_ARN",
    }
    assert attributes["ERROR_CODE"] == "ResourceNotFoundException"
    assert attributes["TARGET_ARN"].endswith(":event-bus/no-such-bus")
    assert body["task"] == {"n": 1}
    assert body["executionId"] == attributes["EXECUTION_ID"]


def test_a_run_that_was_kept_is_redelivered(start, endpoint, unique):
    name = f"{unique}-late"
    stack = start("scheduled-task", "task", EventBusName=name, TaskInput='{"n": 1}')
    (raw,) = eventually(lambda: stack.messages("DeadLetterQueue"), seconds=20)
    message = dead_letters.parse(raw)
    assert message.names() == (
        f"{stack.name}-tasks/{stack.name}-task",
        f"event-bus/{name}",
        "ResourceNotFoundException",
    )
    aws = Aws(
        environment.Environment("test", Path("test.yaml"), (REGION,), {}, endpoint="embedded"),
        server.start,
    )
    late = start(
        template(
            Bus=resource("AWS::Events::EventBus", Name=name),
            Archive=resource("AWS::Events::Archive", SourceArn={"Fn::GetAtt": ["Bus", "Arn"]}),
        ),
        "late-bus",
    )
    dead_letters.Redelivery(aws, to_bus=False).deliver(message)
    archive = late.client("events").describe_archive(ArchiveName=late.ids["Archive"])
    assert archive["EventCount"] == 1


def test_the_role_sends_to_its_bus_only(task, start, bus):
    stack = task(ScheduleState="DISABLED")
    other = start(template(Bus=resource("AWS::Events::EventBus", Name=f"{bus.name}-other")), "o")
    change(stack, Arn=f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{other.ids['Bus']}")
    attributes, _ = kept(stack)
    assert attributes["ERROR_CODE"] == "AccessDeniedException"


def test_a_bus_that_does_not_accept_the_source_keeps_the_run_in_the_queue(start):
    hub = start("event-hub", "hub", AcceptedSources="com.example.orders")
    stack = start("scheduled-task", "task", EventBusName=hub.ids["EventBus"])
    attributes, _ = kept(stack)
    assert attributes["ERROR_CODE"] == "AccessDeniedException"


def test_schedules_of_another_group_cannot_use_the_role(task, bus, unique):
    stack = task(ScheduleState="DISABLED")
    scheduler = stack.client("scheduler")
    found = scheduler.get_schedule(Name=stack.ids["Schedule"], GroupName=stack.ids["ScheduleGroup"])
    scheduler.create_schedule(
        Name=unique,
        FlexibleTimeWindow={"Mode": "OFF"},
        ScheduleExpression="rate(1 hour)",
        Target={**found["Target"], "Input": '{"of": "another group"}'},
    )
    change(stack)  # it runs after the one above
    assert [one["detail"].get("of") for one in runs(bus)] == [None]
    assert stack.messages("DeadLetterQueue") == []  # the role may not be used for that either
    scheduler.delete_schedule(Name=unique)


def test_the_parameters_reach_the_schedule(task):
    stack = task(
        ScheduleExpression="cron(0 8 ? * MON-FRI *)",
        TimeZone="Europe/Berlin",
        FlexibleWindowInMinutes="15",
        MaximumRetryAttempts="3",
        MaximumEventAgeInSeconds="600",
        EventSource="com.example.reports",
        EventDetailType="Report Due",
    )
    found = stack.client("scheduler").get_schedule(
        Name=stack.ids["Schedule"], GroupName=stack.ids["ScheduleGroup"]
    )
    assert found["ScheduleExpressionTimezone"] == "Europe/Berlin"
    assert found["FlexibleTimeWindow"] == {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}
    target = found["Target"]
    assert target["RetryPolicy"] == {"MaximumRetryAttempts": 3, "MaximumEventAgeInSeconds": 600}
    assert target["EventBridgeParameters"] == {
        "Source": "com.example.reports",
        "DetailType": "Report Due",
    }


def test_alarms_watch_the_group(start, bus, clients):
    topic = clients("sns", REGION).create_topic(Name=bus.name)["TopicArn"]
    stack = start("scheduled-task", "task", AlarmTopicArn=topic, SilentHours="25")
    answer = stack.client("cloudwatch").describe_alarms(
        AlarmNamePrefix=stack.name, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    alarms, (composite,) = answer["MetricAlarms"], answer["CompositeAlarms"]
    assert composite["AlarmActions"] == [topic]
    assert {one["MetricName"] for one in alarms} == {
        "ApproximateNumberOfMessagesVisible",
        "InvocationAttemptCount",
        "InvocationDroppedCount",
        "InvocationThrottleCount",
        "InvocationsFailedToBeSentToDeadLetterCount",
        "InvocationsSentToDeadLetterCount",
        "TargetErrorCount",
    }
    groups = {
        (one["Name"], one["Value"])
        for alarm in alarms
        if alarm["Namespace"] == "AWS/Scheduler"
        for one in alarm["Dimensions"]
    }
    assert groups == {("ScheduleGroup", f"{stack.name}-tasks")}
    (silence,) = [one for one in alarms if one["MetricName"] == "InvocationAttemptCount"]
    assert (silence["EvaluationPeriods"], silence["TreatMissingData"]) == (25, "breaching")
    assert silence["ComparisonOperator"] == "LessThanThreshold"


def test_a_second_copy_fits_beside_the_first(start, bus):
    for number in (1, 2):
        start("scheduled-task", f"task-{number}", EventBusName=bus.ids["EventBus"])
    assert eventually(lambda: len(runs(bus)) == 2, seconds=20)
