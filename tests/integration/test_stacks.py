"""The three stacks of the article: events are delivered, or kept in the dead-letter queue."""

import json
import time

import pytest
from click.testing import CliRunner

from eventstacks import environment, rendering
from eventstacks.__main__ import cli
from eventstacks.aws import Aws
from eventstacks.cli import project, stacks
from eventstacks.cloudformation import delete, outputs
from eventstacks.cloudformation.deploy import deploy as deploy_stacks
from eventstacks.cloudformation.run import Scope
from eventstacks.local import server

REGION = "eu-central-1"
PATIENCE = 60.0  # seconds for what comes at once on a machine that has nothing else to do


@pytest.fixture(scope="module")
def templates():
    return rendering.render_all()


def make(endpoint, name, template=None, **parameters):
    """An environment with one stack, on the embedded AWS of the test run."""
    stack = environment.StackSettings(name, name, template or name, (REGION,), parameters)
    path = environment.PARAMETERS / "test.yaml"
    return environment.Environment("test", path, (REGION,), {name: stack}, endpoint="embedded")


@pytest.fixture
def deploy(endpoint, templates):
    """deploy(name, template, **parameters): the stack, until the end of the test.

    It has to go then: an account has room for ten resource policies of CloudWatch Logs,
    here as on AWS.
    """
    deployed = []

    def one(name, template, **parameters):
        aws = Aws(make(endpoint, name, template, **parameters), server.start)
        (result,) = deploy_stacks(Scope(aws, aws.environment.choose()), templates)
        assert result.ok, result.problem
        deployed.append(aws)
        return aws, outputs.read(aws, aws.environment.ref(name, REGION))

    yield one
    for aws in deployed:
        scope = Scope(aws, aws.environment.choose())
        (result,) = delete.delete(scope, delete.preview(scope), empty_buckets=True)
        assert result.ok, result.problem


def cause(aws, mark):
    """Do with the stack what the demo does.

    Return the log groups that receive it, and the messages in each.
    """
    (ref,) = aws.environment.choose()
    _, groups, count = project._cause(aws, ref, mark)
    return groups, count


def logged(aws, group, mark, count=1, wait=PATIENCE):
    """The messages with a mark, once ``count`` are there."""
    until = time.monotonic() + wait
    while True:
        events = aws.client("logs").filter_log_events(logGroupName=group)["events"]
        messages = [one["message"] for one in events if mark in one["message"]]
        if len(messages) >= count or time.monotonic() > until:
            return messages
        time.sleep(0.05)


def counts(aws, mark):
    """How many messages of one more event are in each log group."""
    groups, count = cause(aws, mark)
    return [len(logged(aws, group, mark, count)) for group in groups], count


def dead_letters(aws, url, count=1, wait=PATIENCE):
    """The messages of the queue with their attributes, once ``count`` are there."""
    sqs, found, until = aws.client("sqs"), [], time.monotonic() + wait
    while len(found) < count and time.monotonic() < until:
        answer = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        )
        found += answer.get("Messages", [])
    return found


def codes(messages):
    """Return the target ARNs and error codes of dead-letter messages."""
    attributes = [one["MessageAttributes"] for one in messages]
    return {
        (one["TARGET_ARN"]["StringValue"], one["ERROR_CODE"]["StringValue"]) for one in attributes
    }


# The stacks and the number of their log groups.
STACKS = {"custom-event-bus": 1, "s3-object-events": 2, "rds-snapshot-events": 1}


@pytest.mark.parametrize("scope", ["account", "log-group"])
@pytest.mark.parametrize("template", STACKS)
def test_every_event_is_delivered_to_every_target(deploy, unique, template, scope):
    aws, found = deploy(unique, template, LogsPolicyScope=scope, LogRetentionInDays="1")
    arrived, count = counts(aws, unique)
    assert arrived == [count] * STACKS[template]
    assert dead_letters(aws, found["DeadLetterQueueUrl"], wait=1) == []


@pytest.mark.parametrize("template", STACKS)
def test_without_a_log_group_policy_events_go_to_the_dead_letter_queue(deploy, unique, template):
    aws, found = deploy(unique, template, LogsPolicyScope="none")
    (group, *_), count = cause(aws, unique)
    messages = dead_letters(aws, found["DeadLetterQueueUrl"], count)
    assert len(messages) == count
    (target,) = {arn for arn, _ in codes(messages)}
    assert target.endswith(found["EventLogGroupName"])
    assert {code for _, code in codes(messages)} == {"NO_PERMISSIONS"}
    assert all(unique in one["Body"] for one in messages)
    assert logged(aws, group, unique, wait=0.5) == []


def test_without_a_permission_the_function_is_not_invoked(deploy, unique):
    aws, found = deploy(unique, "s3-object-events")
    function = aws.client("lambda")
    policy = json.loads(function.get_policy(FunctionName=found["FunctionArn"])["Policy"])
    for statement in policy["Statement"]:
        function.remove_permission(FunctionName=found["FunctionArn"], StatementId=statement["Sid"])
    (events, of_function), _ = cause(aws, unique)
    messages = dead_letters(aws, found["DeadLetterQueueUrl"])
    assert codes(messages) == {(found["FunctionArn"], "NO_PERMISSIONS")}
    assert len(logged(aws, events, unique)) == 1
    assert logged(aws, of_function, unique, wait=1) == []


def test_events_on_which_the_function_fails_go_to_the_dead_letter_queue(deploy, unique):
    aws, found = deploy(unique, "s3-object-events")
    aws.client("lambda").put_function_event_invoke_config(
        FunctionName=found["FunctionArn"],
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": found["DeadLetterQueueArn"]}},
    )
    event = {"detail-type": "Object Deleted", "detail": {"marker": unique}}
    aws.client("lambda").invoke(
        FunctionName=found["FunctionArn"], InvocationType="Event", Payload=json.dumps(event)
    )
    (letter,) = dead_letters(aws, found["DeadLetterQueueUrl"])
    assert unique in letter["Body"]


@pytest.mark.parametrize("call", ["PutObject", "CopyObject", "CompleteMultipartUpload"])
def test_every_api_call_that_creates_an_object_is_reported(deploy, unique, call):
    aws, found = deploy(unique, "s3-object-events")
    s3, bucket = aws.client("s3"), found["DataBucketName"]
    if call == "CompleteMultipartUpload":
        upload = s3.create_multipart_upload(Bucket=bucket, Key="new")["UploadId"]
        part = s3.upload_part(Bucket=bucket, Key="new", UploadId=upload, PartNumber=1, Body=b"x")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.complete_multipart_upload(
            Bucket=bucket, Key="new", UploadId=upload, MultipartUpload=parts
        )
    else:
        s3.put_object(Bucket=bucket, Key="old" if call == "CopyObject" else "new", Body=b"x")
    if call == "CopyObject":
        s3.copy_object(Bucket=bucket, Key="new", CopySource={"Bucket": bucket, "Key": "old"})
    messages = logged(aws, found["FunctionLogGroupName"], '"key": "new"')
    (line,) = map(json.loads, messages)
    assert (line["level"], line["message"], line["call"]) == ("INFO", "Object created", call)


def test_object_events_of_s3_need_no_trail(deploy, unique):
    aws, _ = deploy(unique, "s3-object-events", EventSource="s3")
    groups, _ = cause(aws, unique)
    (event,), (_,) = (logged(aws, group, unique) for group in groups)
    assert '"detail-type":"Object Created"' in event
    assert aws.client("cloudtrail").describe_trails(trailNameList=[unique])["trailList"] == []


def test_only_keys_with_the_prefix_are_reported(deploy, unique):
    aws, found = deploy(unique, "s3-object-events", ObjectKeyPrefix="in/")
    for key in ("out/marker", "in/marker"):
        aws.client("s3").put_object(Bucket=found["DataBucketName"], Key=key, Body=b"x")
    messages = logged(aws, found["EventLogGroupName"], "marker")
    keys = [json.loads(one)["detail"]["requestParameters"]["key"] for one in messages]
    assert keys == ["in/marker"]


def test_only_the_chosen_snapshot_events_are_reported(deploy, unique):
    aws, _ = deploy(unique, "rds-snapshot-events", EventIds="RDS-EVENT-0040")
    (group,), _ = cause(aws, unique)
    messages = logged(aws, group, unique)
    assert [json.loads(one)["detail"]["EventID"] for one in messages] == ["RDS-EVENT-0040"]


@pytest.mark.parametrize("template", STACKS)
def test_a_stack_can_be_deployed_twice(deploy, unique, template):
    deploy(unique, template)
    aws, _ = deploy(f"{unique}-second", template)
    arrived, count = counts(aws, unique)
    assert arrived == [count] * STACKS[template]


def test_retained_buckets_keep_their_policies(endpoint, templates, unique):
    aws = Aws(make(endpoint, unique, "s3-object-events"), server.start)
    pairs = aws.environment.choose()
    scope = Scope(aws, pairs)
    (result,) = deploy_stacks(scope, templates)
    assert result.ok, result.problem
    found = outputs.read(aws, pairs[0])
    (result,) = delete.delete(scope, delete.preview(scope))
    assert result.ok, result.problem
    for name in (found["DataBucketName"], found["TrailBucketName"]):
        policy = json.loads(aws.client("s3").get_bucket_policy(Bucket=name)["Policy"])
        assert policy["Statement"][0]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_a_bus_can_be_deployed_without_an_archive(deploy, unique):
    aws, found = deploy(unique, "custom-event-bus", KeepArchive="no")
    assert not {"ArchiveName", "ArchiveArn"} & found.keys()
    assert aws.client("events").list_archives(NamePrefix=unique)["Archives"] == []
    arrived, count = counts(aws, unique)
    assert arrived == [count]


def test_the_trail_records_only_the_calls_of_the_rule(deploy, unique):
    aws, found = deploy(unique, "s3-object-events")
    trail = aws.client("cloudtrail").get_event_selectors(TrailName=found["TrailArn"])
    names = [
        one["Equals"]
        for each in trail["AdvancedEventSelectors"]
        for one in each["FieldSelectors"]
        if one["Field"] == "eventName"
    ]
    name = found["ObjectCreatedRuleArn"].rsplit("/", 1)[1]
    rule = aws.client("events").describe_rule(Name=name)
    assert names == [json.loads(rule["EventPattern"])["detail"]["eventName"]]


def test_alarms_are_created_for_a_topic(endpoint, deploy, unique):
    sns = Aws(make(endpoint, unique), server.start).client("sns")
    topic = sns.create_topic(Name=unique)["TopicArn"]
    aws, found = deploy(unique, "custom-event-bus", AlarmTopicArn=topic)
    answer = aws.client("cloudwatch").describe_alarms(
        AlarmNamePrefix=unique, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    alarms, (composite,) = answer["MetricAlarms"], answer["CompositeAlarms"]
    assert composite["AlarmActions"] == composite["OKActions"] == [topic]
    assert not any(one["AlarmActions"] for one in alarms)
    assert all(f'ALARM("{one["AlarmName"]}")' in composite["AlarmRule"] for one in alarms)
    assert {one["MetricName"] for one in alarms} == {
        "FailedInvocations",
        "InvocationsSentToDlq",
        "InvocationsFailedToBeSentToDlq",
        "ThrottledRules",
        "IngestionToInvocationSuccessLatency",
        "ApproximateNumberOfMessagesVisible",
    }
    # A queue that is not used reports nothing after six hours (SQS guide, 'Monitoring'):
    # a full one must not look empty.
    missing = {one["MetricName"]: one["TreatMissingData"] for one in alarms}
    assert missing.pop("ApproximateNumberOfMessagesVisible") == "ignore"
    assert set(missing.values()) == {"notBreaching"}
    rule = found["CatchAllRuleArn"].rsplit("/", 1)[1]
    dimensions = {
        (d["Name"], d["Value"])
        for one in alarms
        for d in one["Dimensions"]
        if one["Namespace"] == "AWS/Events"
    }
    assert dimensions == {("EventBusName", found["EventBusName"]), ("RuleName", rule)}


def statements_of(aws, found):
    bus = aws.client("events").describe_event_bus(Name=found["EventBusName"])
    return {one["Sid"]: one for one in json.loads(bus["Policy"])["Statement"]}


def test_by_default_only_the_own_account_may_put_events(deploy, unique):
    aws, found = deploy(unique, "custom-event-bus")
    ((sid, own),) = statements_of(aws, found).items()
    assert (sid, own["Principal"]) == ("own-account", {"AWS": "arn:aws:iam::000000000000:root"})


def test_an_organization_and_accounts_may_put_events_of_their_sources(deploy, unique):
    aws, found = deploy(
        unique,
        "custom-event-bus",
        OrganizationId="o-a1b2c3d4e5",
        PublisherAccounts="111122223333,444455556666",
        PublisherSources="com.example.orders,com.example.stock.*",
    )
    statements = statements_of(aws, found)
    assert statements.keys() == {"own-account", "organization", "accounts"}
    assert statements["organization"]["Condition"]["StringEquals"] == {
        "aws:PrincipalOrgID": "o-a1b2c3d4e5"
    }
    assert statements["accounts"]["Principal"] == {"AWS": ["111122223333", "444455556666"]}
    for sid in ("organization", "accounts"):
        assert statements[sid]["Condition"]["ForAllValues:StringLike"] == {
            "events:source": ["com.example.orders", "com.example.stock.*"]
        }


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({"LogEvents": "none"}, 0),
        ({"LogSourcePrefix": "com.example"}, 1),
        ({"LogSourcePrefix": "com.other"}, 0),
    ],
)
def test_parameters_choose_which_events_are_logged(deploy, unique, parameters, count):
    aws, found = deploy(unique, "custom-event-bus", **parameters)
    entry = {
        "EventBusName": found["EventBusName"],
        "Source": "com.example.orders",
        "DetailType": "order placed",
        "Detail": json.dumps({"marker": unique}),
    }
    assert aws.client("events").put_events(Entries=[entry])["FailedEntryCount"] == 0
    messages = logged(aws, found["EventLogGroupName"], unique, wait=PATIENCE if count else 1)
    assert len(messages) == count


@pytest.mark.parametrize(
    ("level", "types"),
    [
        ("OFF", []),
        ("ERROR", ["ERROR_LOGS"]),
        ("TRACE", ["ERROR_LOGS", "INFO_LOGS", "TRACE_LOGS"]),
    ],
)
def test_the_bus_logs_at_its_level(deploy, unique, level, types):
    aws, found = deploy(unique, "custom-event-bus", BusLogLevel=level)
    bus = aws.client("events").describe_event_bus(Name=found["EventBusName"])
    assert bus["LogConfig"] == {"Level": level, "IncludeDetail": "NONE"}
    logs = aws.client("logs")
    sources = {
        one["name"]: one["logType"]
        for one in logs.describe_delivery_sources()["deliverySources"]
        if one["resourceArns"] == [bus["Arn"]]
    }
    deliveries = [
        one
        for one in logs.describe_deliveries()["deliveries"]
        if one["deliverySourceName"] in sources
    ]
    assert sorted(sources[one["deliverySourceName"]] for one in deliveries) == types
    destinations = {
        one["deliveryDestinationConfiguration"]["destinationResourceArn"]
        for one in logs.describe_delivery_destinations()["deliveryDestinations"]
        if one["arn"] in {each["deliveryDestinationArn"] for each in deliveries}
    }
    assert [arn.split(":")[6] for arn in destinations] == [
        found[key] for key in ("BusLogGroupName",) if types
    ]


@pytest.mark.parametrize(
    "refused",
    [
        ("PublisherAccounts", "12345", "custom-event-bus"),
        ("PublisherSources", "a b", "custom-event-bus"),
        ("MaximumEventAgeInSeconds", "59", "rds-snapshot-events"),
        ("MaximumEventAgeInSeconds", "86401", "rds-snapshot-events"),
        ("NoncurrentVersionRetentionInDays", "-1", "s3-object-events"),
        ("LogGroupClass", "DELIVERY", "custom-event-bus"),
        ("HubEventBusArn", "my-bus", "event-spoke"),
        ("Team1Accounts", "12345", "event-hub"),
        ("AcceptedSources", "com example", "event-hub"),
        ("ScheduleExpression", "every hour", "scheduled-task"),
        ("EventSource", "aws.health", "scheduled-task"),
        ("FlexibleWindowInMinutes", "1441", "scheduled-task"),
        ("TaskInput", "daily", "scheduled-task"),
        ("BusLogLevel", "DEBUG", "custom-event-bus"),
        ("BusLogDetail", "FULL", "custom-event-bus"),  # without a level
        # An execution must look at its snapshot before it fails.
        ("WaitTimeoutInSeconds", "3601", "rds-snapshot-workflow"),
        ("MaximumWaitInSeconds", "7199", "rds-snapshot-workflow"),
    ],
)
def test_the_error_of_an_invalid_value_names_the_parameter(endpoint, templates, unique, refused):
    parameter, value, template = refused
    aws = Aws(make(endpoint, unique, template, **{parameter: value}), server.start)
    (result,) = deploy_stacks(Scope(aws, aws.environment.choose()), templates)
    assert not result.ok
    assert parameter in str(result.problem)


def test_outputs_are_printed_as_text_and_json(deploy, unique, monkeypatch):
    aws, found = deploy(unique, "custom-event-bus")
    monkeypatch.setattr(stacks, "connect", lambda *_: (aws, aws.environment.choose()))
    text, data = (
        CliRunner().invoke(cli, arguments, catch_exceptions=False, standalone_mode=False).stdout
        for arguments in (["outputs"], ["outputs", "--json"])
    )
    assert text.splitlines()[0] == f"{unique} in {REGION}"
    assert f"EventBusName                 {found['EventBusName']}" in text
    assert json.loads(data) == [
        {"stack": unique, "stack_name": unique, "region": REGION, "outputs": found}
    ]
