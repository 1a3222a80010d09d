"""The embedded AWS against what is recorded of AWS: what arrives, and what does not."""

import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

FIXTURES = Path(__file__).parents[1] / "fixtures"
ACCOUNT = "000000000000"


def eventually(probe, seconds=15):
    """What the probe gives as soon as it gives something; its last answer when time is up."""
    deadline = time.monotonic() + seconds
    while not (found := probe()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


class Stack:
    def __init__(self, clients, name, body, region="eu-central-1", **parameters):
        self.name, self.region = name, region
        self.client = lambda service: clients(service, region)
        self.cloudformation = self.client("cloudformation")
        source = {"TemplateURL": body} if str(body).startswith("https://") else {"TemplateBody": text_of(body)}
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        self.cloudformation.create_stack(
            StackName=name, Parameters=given, Capabilities=["CAPABILITY_NAMED_IAM"], **source
        )
        self.settle()

    def settle(self):
        describe = self.cloudformation.describe_stacks
        eventually(lambda: not describe(StackName=self.name)["Stacks"][0]["StackStatus"].endswith("IN_PROGRESS"))
        self.status = describe(StackName=self.name)["Stacks"][0]["StackStatus"]
        found = self.cloudformation.describe_stack_resources(StackName=self.name)["StackResources"]
        self.ids = {one["LogicalResourceId"]: one.get("PhysicalResourceId") for one in found}
        return self.status

    def update(self, body):
        self.cloudformation.update_stack(
            StackName=self.name, TemplateBody=text_of(body), Capabilities=["CAPABILITY_NAMED_IAM"]
        )
        return self.settle()

    def reasons(self):
        events = self.cloudformation.describe_stack_events(StackName=self.name)["StackEvents"]
        return " ".join(event.get("ResourceStatusReason", "") for event in events)

    def put(self, bus=None, **detail):
        entry = {"Source": "test", "DetailType": "t", "Detail": json.dumps(detail)}
        answer = self.client("events").put_events(Entries=[{**entry, "EventBusName": bus or self.ids["Bus"]}])
        assert answer["FailedEntryCount"] == 0

    def messages(self, queue):
        receive = {"MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
        answer = self.client("sqs").receive_message(QueueUrl=self.ids[queue], **receive)
        return answer.get("Messages", [])

    def lines(self, group):
        found = self.client("logs").filter_log_events(logGroupName=group)["events"]
        return [event["message"] for event in found]


def text_of(body):
    if isinstance(body, Path):
        return body.read_text()
    return body if isinstance(body, str) else json.dumps(body)


@pytest.fixture
def deploy(clients, unique):
    def make(body, name=unique, **options):
        return Stack(clients, name, body if isinstance(body, dict) else FIXTURES / body, **options)

    return make


def resource(kind, **properties):
    return {"Type": kind, "Properties": properties}


def template(**resources):
    return {"Resources": resources}


# --- the article


def test_article_bus_deploys_and_its_log_group_stays_empty(deploy):
    stack = deploy("article/custom-event-bus.yaml")
    assert stack.status == "CREATE_COMPLETE"
    stack.put(f"{stack.name}-MyCustomEventBus", service="myapp")
    assert stack.lines(stack.ids["Log"]) == []


def test_article_s3_stack_reaches_its_function_and_not_its_log_group(deploy):
    stack = deploy("article/s3-object-events.yaml")
    assert stack.status == "CREATE_COMPLETE"
    stack.client("s3").put_object(Bucket=stack.ids["DataBucket"], Key="a.txt", Body=b"x")
    group = f"/aws/lambda/{stack.ids['Function']}"
    assert eventually(lambda: group in str(stack.client("logs").describe_log_groups(logGroupNamePrefix=group)))
    assert eventually(lambda: "PutObject" in str(stack.lines(group)))
    assert stack.lines(stack.ids["Log"]) == []


def test_article_rds_stack_deploys_and_its_log_group_stays_empty(deploy, unique):
    stack = deploy("article/rds-snapshot-events.yaml", region="eu-west-3")
    assert stack.status == "CREATE_COMPLETE"
    snapshot(stack.client("rds"), unique)
    assert stack.lines(stack.ids["Log"]) == []


# --- who may deliver


@pytest.mark.parametrize("permission", ["logs-group", "logs-account"])
def test_every_target_gets_the_event(deploy, permission):
    stack = deploy("local_aws/targets.yaml", Allow=f"{permission},lambda,sqs,sns,dlq")
    assert stack.status == "CREATE_COMPLETE", stack.reasons()
    stack.put(name="one")
    [line] = stack.lines(stack.ids["Log"])
    event = json.loads(line)
    assert (event["source"], event["detail"], event["account"]) == ("test", {"name": "one"}, ACCOUNT)
    assert json.loads(stack.messages("Queue")[0]["Body"])["detail"] == {"name": "one"}
    [note] = eventually(lambda: stack.messages("TopicQueue"))
    assert json.loads(json.loads(note["Body"])["Message"])["detail"] == {"name": "one"}
    assert eventually(lambda: "got one" in str(stack.lines(stack.ids["FunctionLog"])))
    assert stack.messages("DeadLetters") == []


def test_a_log_groups_policy_may_do_without_the_log_delivery_service(deploy):
    """A template that AWS publishes does (serverless-patterns, eventbridge-cloudwatch)."""
    stack = deploy("local_aws/targets.yaml", LogPrincipals="events.amazonaws.com")
    stack.put(name="one")
    assert eventually(lambda: stack.lines(stack.ids["Log"]))
    assert stack.messages("DeadLetters") == []


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        ("Log", {"Allow": "no,lambda,sqs,sns,dlq"}),
        ("Log", {"LogPrincipals": "delivery.logs.amazonaws.com"}),
        ("Log", {"LogActions": "logs:PutLogEvents"}),
        ("Log", {"LogActions": "logs:CreateLogStream"}),
        ("Log", {"SourceRule": "another"}),
        ("Function", {"Allow": "logs-group,no,sqs,sns,dlq"}),
        ("Queue", {"Allow": "logs-group,lambda,no,sns,dlq"}),
        ("Topic", {"Allow": "logs-group,lambda,sqs,no,dlq"}),
    ],
)
def test_without_its_permission_the_event_ends_in_the_dead_letter_queue(deploy, target, parameters):
    stack = deploy("local_aws/targets.yaml", **parameters)
    assert stack.status == "CREATE_COMPLETE", stack.reasons()
    stack.put(name="one")
    [letter] = stack.messages("DeadLetters")
    why = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    assert json.loads(letter["Body"])["detail"] == {"name": "one"}
    assert set(why) == {"RULE_ARN", "TARGET_ARN", "ERROR_CODE", "ERROR_MESSAGE"}
    assert why["ERROR_CODE"] == "NO_PERMISSIONS"
    assert why["RULE_ARN"].endswith(f":rule/{stack.name}-bus/{stack.name}-rule")
    assert stack.ids[target].rsplit("/", 1)[-1] in why["TARGET_ARN"]
    if target == "Log":
        assert stack.lines(stack.ids["Log"]) == []


def test_a_dead_letter_needs_permission_too(deploy):
    stack = deploy("local_aws/targets.yaml", Allow="no,lambda,sqs,sns,no")
    stack.put(name="one")
    assert stack.messages("DeadLetters") == []
    assert len(stack.messages("Queue")) == 1


def test_a_target_that_is_gone_is_a_dead_letter(deploy):
    stack = deploy("local_aws/targets.yaml")
    stack.client("sqs").delete_queue(QueueUrl=stack.ids["Queue"])
    stack.put(name="one")
    [letter] = stack.messages("DeadLetters")
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_RESOURCE"


def test_a_queue_of_another_region_is_not_reached(deploy, unique):
    there = deploy("local_aws/targets.yaml", name=f"{unique}-there", region="us-west-2")
    here = deploy("local_aws/targets.yaml")
    names = {key: stack.ids[key].rsplit("/", 1)[1] for key, stack in (("Queue", there), ("DeadLetters", here))}
    target = {"Id": "Far", "Arn": f"arn:aws:sqs:us-west-2:{ACCOUNT}:{names['Queue']}"}
    target["DeadLetterConfig"] = {"Arn": f"arn:aws:sqs:eu-central-1:{ACCOUNT}:{names['DeadLetters']}"}
    here.client("events").put_targets(**rule_of(here), Targets=[target])
    here.put(name="one")
    [letter] = here.messages("DeadLetters")
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_RESOURCE"
    assert there.messages("Queue") == []


def rule_of(stack):
    return {"Rule": f"{stack.name}-rule", "EventBusName": f"{stack.name}-bus"}


def log_target(stack, **more):
    return {"Id": "Log", "Arn": f"arn:aws:logs:eu-central-1:{ACCOUNT}:log-group:{stack.ids['Log']}", **more}


@pytest.mark.parametrize(
    ("text", "lines"),
    [('{"timestamp": <when>, "message": "<name> came"}', ["one came"]), ('{"name": <name>}', [])],
)
def test_a_transformer_for_a_log_group_makes_timestamp_and_message(deploy, text, lines):
    stack = deploy("local_aws/targets.yaml")
    paths = {"name": "$.detail.name", "when": "$.detail.when"}
    transformer = {"InputPathsMap": paths, "InputTemplate": text}
    dead = {"Arn": f"arn:aws:sqs:eu-central-1:{ACCOUNT}:{stack.ids['DeadLetters'].rsplit('/', 1)[1]}"}
    target = log_target(stack, InputTransformer=transformer, DeadLetterConfig=dead)
    stack.client("events").put_targets(**rule_of(stack), Targets=[target])
    stack.put(name="one", when=1_700_000_000_000)
    assert stack.lines(stack.ids["Log"]) == lines
    assert bool(stack.messages("DeadLetters")) is not bool(lines)


def test_a_log_group_takes_no_role(deploy):
    stack = deploy("local_aws/targets.yaml")
    target = log_target(stack, RoleArn=f"arn:aws:iam::{ACCOUNT}:role/any")
    with pytest.raises(ClientError, match="RoleArn is not supported"):
        stack.client("events").put_targets(**rule_of(stack), Targets=[target])
    rule = resource("AWS::Events::Rule", EventPattern={"source": ["x"]}, Targets=[target])
    failed = deploy(template(Rule=rule), name=f"{stack.name}-b")
    assert failed.status == "ROLLBACK_COMPLETE"
    assert "RoleArn is not supported" in failed.reasons()


# --- buses, archives


def test_a_bus_keeps_its_settings(deploy):
    stack = deploy("local_aws/targets.yaml")
    bus = stack.client("events").describe_event_bus(Name=stack.ids["Bus"])
    assert bus["DeadLetterConfig"]["Arn"].endswith(stack.ids["DeadLetters"].rsplit("/", 1)[1])
    assert bus["LogConfig"] == {"Level": "ERROR", "IncludeDetail": "NONE"}


@pytest.mark.parametrize(
    ("action", "trusted", "arrives"),
    [
        ("events:PutEvents", "events.amazonaws.com", True),
        ("events:PutRule", "events.amazonaws.com", False),
        ("events:PutEvents", "lambda.amazonaws.com", False),
    ],
)
def test_a_bus_of_another_region_is_reached_with_a_role_that_may(deploy, unique, action, trusted, arrives):
    there = deploy("local_aws/targets.yaml", name=f"{unique}-there", region="us-west-2")
    bus = f"arn:aws:events:us-west-2:{ACCOUNT}:event-bus/{there.ids['Bus']}"
    trust = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
    policy = {
        "PolicyName": "p",
        "PolicyDocument": {"Statement": [{"Effect": "Allow", "Action": action, "Resource": bus}]},
    }
    role = resource("AWS::IAM::Role", AssumeRolePolicyDocument={"Statement": [trust]}, Policies=[policy])
    target = {"Id": "Bus", "Arn": bus, "RoleArn": {"Fn::GetAtt": ["Role", "Arn"]}}
    rule = resource(
        "AWS::Events::Rule", EventPattern={"source": ["test"], "detail": {"name": [unique]}}, Targets=[target]
    )
    here = deploy(template(Role=role, Rule=rule), region="us-east-2")
    assert here.status == "CREATE_COMPLETE", here.reasons()
    here.put("default", name=unique)
    lines = there.lines(there.ids["Log"])
    assert [json.loads(line)["region"] for line in lines] == (["us-east-2"] if arrives else [])


def test_a_bus_policy_of_a_stack_is_the_buss(deploy):
    body = template(
        Bus=resource("AWS::Events::EventBus", Name={"Ref": "AWS::StackName"}),
        Policy=resource("AWS::Events::EventBusPolicy", EventBusName={"Ref": "Bus"}, StatementId="all", Statement={
            "Effect": "Allow", "Principal": {"AWS": "111111111111"}, "Action": "events:PutEvents",
            "Resource": {"Fn::GetAtt": ["Bus", "Arn"]}}),
    )  # fmt: skip
    stack = deploy(body)
    policy = json.loads(stack.client("events").describe_event_bus(Name=stack.name)["Policy"])
    assert [statement["Sid"] for statement in policy["Statement"]] == ["all"]
    del body["Resources"]["Policy"]
    assert stack.update(body) == "UPDATE_COMPLETE"
    assert "Policy" not in stack.client("events").describe_event_bus(Name=stack.name)


def test_an_archive_records_and_a_replay_replays(deploy):
    stack = deploy("local_aws/targets.yaml")
    events = stack.client("events")
    [archive] = [
        one for one in events.list_archives()["Archives"] if one["EventSourceArn"].endswith(f"/{stack.ids['Bus']}")
    ]
    stack.put(name="one")
    arn = f"arn:aws:events:eu-central-1:{ACCOUNT}:archive/{archive['ArchiveName']}"
    bus = f"arn:aws:events:eu-central-1:{ACCOUNT}:event-bus/{stack.ids['Bus']}"
    window = {"EventStartTime": time.time() - 600, "EventEndTime": time.time() + 600}
    events.start_replay(ReplayName=stack.name, EventSourceArn=arn, Destination={"Arn": bus}, **window)
    assert eventually(lambda: events.describe_replay(ReplayName=stack.name)["State"] == "COMPLETED")
    seen = [json.loads(line) for line in stack.lines(stack.ids["Log"])]
    assert [event.get("replay-name") for event in seen] == [None, stack.name]
    assert len({event["id"] for event in seen}) == len({event["detail"]["name"] for event in seen}) == 1
    assert len(archive["ArchiveName"]) <= 48


def replayed(stack, archive, bus, **destination):
    """The states of a replay of ten minutes, at its end."""
    events = stack.client("events")
    prefix = f"arn:aws:events:eu-central-1:{ACCOUNT}"
    window = {"EventStartTime": time.time() - 600, "EventEndTime": time.time() + 600}
    source = {"EventSourceArn": f"{prefix}:archive/{archive}"}
    events.start_replay(
        ReplayName=stack.name, **source, Destination={"Arn": f"{prefix}:event-bus/{bus}", **destination}, **window
    )
    return eventually(lambda: events.describe_replay(ReplayName=stack.name)["State"] == "COMPLETED")


def test_a_replay_goes_to_the_chosen_rules_only(deploy, unique):
    queue = {"Fn::GetAtt": ["Queue", "Arn"]}
    allow = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": queue}
    target = {"Id": "q", "Arn": queue, "Input": '{"by": "other"}'}
    pattern, bus = {"detail": {"name": ["one"]}}, {"Ref": "Bus"}
    body = template(
        Bus=resource("AWS::Events::EventBus", Name=unique),
        Archive=resource("AWS::Events::Archive", ArchiveName=unique, SourceArn={"Fn::GetAtt": ["Bus", "Arn"]}),
        Queue=resource("AWS::SQS::Queue"),
        Policy=resource("AWS::SQS::QueuePolicy", Queues=[{"Ref": "Queue"}], PolicyDocument={"Statement": [allow]}),
        Chosen=resource("AWS::Events::Rule", EventBusName=bus, EventPattern=pattern,
                        Targets=[{**target, "Input": '{"by": "chosen"}'}]),
        Other=resource("AWS::Events::Rule", EventBusName=bus, EventPattern=pattern, Targets=[target]),
    )  # fmt: skip
    stack = deploy(body)
    stack.put(name="one")
    assert sorted(json.loads(one["Body"])["by"] for one in stack.messages("Queue")) == ["chosen", "other"]
    rule = f"arn:aws:events:eu-central-1:{ACCOUNT}:rule/{unique}/{stack.ids['Chosen'].rsplit('|', 1)[-1]}"
    assert replayed(stack, unique, unique, FilterArns=[rule])
    assert [json.loads(one["Body"])["by"] for one in stack.messages("Queue")] == ["chosen"]


def test_the_archive_of_the_default_bus_has_the_events_of_services_once(deploy, unique):
    notify = {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    archive = resource(
        "AWS::Events::Archive",
        ArchiveName=unique,
        SourceArn=f"arn:aws:events:eu-central-1:{ACCOUNT}:event-bus/default",
        EventPattern={"source": ["aws.s3", "test"], "detail": {"bucket": {"name": [unique]}}},
    )
    bucket = resource("AWS::S3::Bucket", BucketName=unique, NotificationConfiguration=notify)
    stack = deploy(template(Archive=archive, Bucket=bucket))
    count = lambda: stack.client("events").describe_archive(ArchiveName=unique)["EventCount"]  # noqa: E731
    stack.client("s3").put_object(Bucket=unique, Key="a", Body=b"")
    assert eventually(count) == 1
    stack.put("default", bucket={"name": unique})
    assert count() == 2
    assert replayed(stack, unique, "default")
    assert count() == 2
    stack.client("s3").delete_object(Bucket=unique, Key="a")


# --- functions


def test_what_a_function_logs_has_the_runtimes_format(deploy):
    stack = deploy("local_aws/targets.yaml")
    stack.put(name="one")
    [line] = eventually(lambda: [line for line in stack.lines(stack.ids["FunctionLog"]) if "got one" in line])
    assert re.fullmatch(r"\[INFO\]\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t[0-9a-f-]{36}\tgot one", line)


def test_a_function_that_fails_for_a_rule_ends_in_its_failure_destination(deploy):
    stack = deploy("local_aws/targets.yaml")
    stack.put(name="one", ask="fail")
    [letter] = eventually(lambda: stack.messages("FunctionFailures"))
    assert json.loads(letter["Body"])["requestPayload"]["detail"] == {"name": "one", "ask": "fail"}


def test_a_function_acts_as_its_role(deploy):
    stack = deploy("local_aws/targets.yaml")
    stack.put(name="one", ask="buckets")
    [letter] = eventually(lambda: stack.messages("FunctionFailures"))
    assert "AccessDenied" in letter["Body"]


# --- S3, RDS


@pytest.mark.parametrize("selectors", ["advanced", "basic"])
def test_a_trail_tells_of_the_objects_that_it_selects(deploy, selectors):
    stack = deploy("local_aws/trail.yaml", Selectors=selectors)
    assert stack.status == "CREATE_COMPLETE", stack.reasons()
    s3, data = stack.client("s3"), stack.ids["Data"]
    s3.put_object(Bucket=data, Key="a b/c.txt", Body=b"12345")
    s3.copy_object(Bucket=data, Key="copy", CopySource={"Bucket": data, "Key": "a b/c.txt"})
    upload = s3.create_multipart_upload(Bucket=data, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=data, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    parts = {"Parts": [{"ETag": part, "PartNumber": 1}]}
    s3.complete_multipart_upload(Bucket=data, Key="parts", UploadId=upload, MultipartUpload=parts)
    s3.put_object(Bucket=data, Key="x.tmp", Body=b"")
    s3.get_object(Bucket=data, Key="copy")
    s3.put_object(Bucket=stack.ids["Logs"], Key="not selected", Body=b"")
    found = [json.loads(message["Body"]) for _ in range(3) for message in stack.messages("Queue")]
    trail = [event for event in found if event["detail-type"] == "AWS API Call via CloudTrail"]
    seen = [(event["detail"]["eventName"], event["detail"]["requestParameters"]["key"]) for event in trail]
    expected = [
        ("PutObject", "a b/c.txt"),
        ("CopyObject", "copy"),
        ("UploadPart", "parts"),
        ("CompleteMultipartUpload", "parts"),
    ]
    assert sorted(seen) == sorted(expected + ([("PutObject", "x.tmp")] if selectors == "basic" else []))
    assert {event["source"] for event in trail} == {"aws.s3"}
    assert all(event["resources"] == [] for event in trail)
    native = [event["detail"]["reason"] for event in found if event["detail-type"] == "Object Created"]
    assert sorted(native) == ["CompleteMultipartUpload", "CopyObject", "PutObject", "PutObject"]


def test_a_trail_that_does_not_log_tells_nothing(deploy):
    stack = deploy("local_aws/trail.yaml", IsLogging="false")
    stack.client("s3").put_object(Bucket=stack.ids["Data"], Key="a", Body=b"")
    assert [json.loads(one["Body"])["detail-type"] for one in stack.messages("Queue")] == ["Object Created"]


def test_a_trail_needs_its_buckets_leave(deploy):
    stack = deploy("local_aws/trail.yaml", TrustedTrail="another")
    assert stack.status == "ROLLBACK_COMPLETE"
    assert "Incorrect S3 bucket policy is detected for bucket" in stack.reasons()


def snapshot(rds, name):
    keys = {"Engine": "postgres", "DBInstanceClass": "db.t4g.micro", "AllocatedStorage": 20}
    user = {"MasterUsername": "someone", "MasterUserPassword": "made-up-words"}
    rds.create_db_instance(DBInstanceIdentifier=name, **keys, **user)
    rds.create_db_snapshot(DBInstanceIdentifier=name, DBSnapshotIdentifier=f"{name}-s")
    return rds.describe_db_snapshots(DBSnapshotIdentifier=f"{name}-s")["DBSnapshots"][0]["DBSnapshotArn"]


def rds_queue(name):
    arn = {"Fn::GetAtt": ["Queue", "Arn"]}
    allow = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
    }
    pattern = {"source": ["aws.rds"], "detail": {"SourceIdentifier": [{"prefix": name}]}}
    return template(
        Queue=resource("AWS::SQS::Queue"),
        Policy=resource("AWS::SQS::QueuePolicy", Queues=[{"Ref": "Queue"}], PolicyDocument={"Statement": [allow]}),
        Rule=resource("AWS::Events::Rule", EventPattern=pattern, Targets=[{"Id": "q", "Arn": arn}]),
    )


def test_snapshots_tell_of_themselves_and_of_their_copies(deploy, unique):
    here = deploy(rds_queue(unique), region="eu-north-1")
    there = deploy(rds_queue(unique), region="eu-south-1")
    arn = snapshot(here.client("rds"), unique)
    name = f"{unique}-copy"
    there.client("rds").copy_db_snapshot(SourceDBSnapshotIdentifier=arn, TargetDBSnapshotIdentifier=name)
    events = [json.loads(one["Body"]) for one in here.messages("Queue")]
    assert {event["detail-type"] for event in events} == {"RDS DB Snapshot Event"}
    assert {event["detail"]["EventID"] for event in events} == {"RDS-EVENT-0040", "RDS-EVENT-0042"}
    assert events[0]["resources"] == [arn]
    copied = [json.loads(one["Body"])["detail"] for one in there.messages("Queue")]
    assert {detail["EventID"] for detail in copied} == {"RDS-EVENT-0059", "RDS-EVENT-0060"}
    assert copied[0]["SourceArn"] == f"arn:aws:rds:eu-south-1:{ACCOUNT}:snapshot:{name}"
    again = {"SourceDBSnapshotIdentifier": arn, "TargetDBSnapshotIdentifier": name}
    with pytest.raises(ClientError, match="DBSnapshotAlreadyExists"):
        there.client("rds").copy_db_snapshot(**again)


def test_the_snapshot_of_a_cluster_tells_of_itself(deploy, unique):
    stack = deploy(rds_queue(unique), region="eu-west-2")
    rds, user = stack.client("rds"), {"MasterUsername": "someone", "MasterUserPassword": "made-up-words"}
    rds.create_db_cluster(DBClusterIdentifier=unique, Engine="aurora-postgresql", **user)
    made = rds.create_db_cluster_snapshot(DBClusterIdentifier=unique, DBClusterSnapshotIdentifier=f"{unique}-s")
    events = [json.loads(one["Body"]) for one in stack.messages("Queue")]
    assert {event["detail-type"] for event in events} == {"RDS DB Cluster Snapshot Event"}
    assert {event["detail"]["EventID"] for event in events} == {"RDS-EVENT-0074", "RDS-EVENT-0075"}
    [arn] = events[0]["resources"]
    assert arn == made["DBClusterSnapshot"]["DBClusterSnapshotArn"]
    detail = {"SourceArn": arn, "EventCategories": ["backup"], "SourceType": "CLUSTER_SNAPSHOT"}
    assert detail.items() <= events[0]["detail"].items()


# --- what stock MiniStack is too kind about


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        ("AWS::Logs::LogGroup", {"LogGroupName": "{}"}),
        ("AWS::SQS::Queue", {"QueueName": "{}"}),
        ("AWS::SNS::Topic", {"TopicName": "{}"}),
        ("AWS::Events::EventBus", {"Name": "{}"}),
        ("AWS::Events::Rule", {"Name": "{}", "EventPattern": {"source": ["x"]}}),
        ("AWS::IAM::Role", {"RoleName": "{}", "AssumeRolePolicyDocument": {"Statement": []}}),
    ],
)
def test_a_second_stack_does_not_take_over_a_name(deploy, unique, kind, properties):
    body = template(One={"Type": kind, "Properties": json.loads(json.dumps(properties).replace("{}", unique))})
    assert deploy(body, name=f"{unique}-a").status == "CREATE_COMPLETE"
    second = deploy(body, name=f"{unique}-b")
    assert second.status == "ROLLBACK_COMPLETE"
    assert "already exists" in second.reasons()


def test_a_bucket_with_an_object_is_not_deleted(deploy, unique):
    stack = deploy(template(Bucket=resource("AWS::S3::Bucket", BucketName=unique)))
    stack.client("s3").put_object(Bucket=unique, Key="a", Body=b"")
    stack.cloudformation.delete_stack(StackName=stack.name)
    assert stack.settle() == "DELETE_FAILED"
    stack.client("s3").delete_object(Bucket=unique, Key="a")
    stack.cloudformation.delete_stack(StackName=stack.name)


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"EventPattern": {"source": []}}, "Event pattern is not valid"),
        ({"EventPattern": {"source": ["x"]}, "EventBusName": "nowhere"}, "Event bus nowhere"),
        ({"EventPattern": {"source": ["x"]}, "Targets": [{"Id": str(n), "Arn": f"arn:aws:sqs:eu-central-1:{ACCOUNT}:q"}
                                                          for n in range(6)]}, "5 targets"),
    ],
)  # fmt: skip
def test_a_rule_that_aws_refuses_is_refused(deploy, properties, reason):
    stack = deploy(template(Rule=resource("AWS::Events::Rule", **properties)))
    assert stack.status == "ROLLBACK_COMPLETE"
    assert reason in stack.reasons()


def test_a_permission_needs_its_function(deploy):
    properties = {"FunctionName": "nobody", "Action": "lambda:InvokeFunction", "Principal": "events.amazonaws.com"}
    stack = deploy(template(Permission=resource("AWS::Lambda::Permission", **properties)))
    assert "Function not found" in stack.reasons()


def test_a_stack_policy_keeps_what_it_protects(deploy, unique):
    def body(display, retention):
        group = resource("AWS::Logs::LogGroup", LogGroupName=unique, RetentionInDays=retention)
        return template(Topic=resource("AWS::SNS::Topic", DisplayName=display), Log=group)

    stack = deploy(body("a", 7))
    rules = [{"Effect": "Allow", "Action": "Update:*", "Principal": "*", "Resource": "*"},
             {"Effect": "Deny", "Action": "Update:*", "Principal": "*", "Resource": "LogicalResourceId/Log"}]  # fmt: skip
    stack.cloudformation.set_stack_policy(StackName=stack.name, StackPolicyBody=json.dumps({"Statement": rules}))
    assert stack.update(body("b", 7)) == "UPDATE_COMPLETE"
    assert stack.update(body("b", 14)) == "UPDATE_ROLLBACK_COMPLETE"
    assert "Action denied by stack policy" in stack.reasons()


def test_a_change_set_shows_values_before_and_after(deploy):
    stack = deploy(template(Topic=resource("AWS::SNS::Topic", DisplayName="old")))
    body = json.dumps(template(Topic=resource("AWS::SNS::Topic", DisplayName="new")))
    stack.cloudformation.create_change_set(StackName=stack.name, ChangeSetName="c", TemplateBody=body)
    where = {"StackName": stack.name, "ChangeSetName": "c", "IncludePropertyValues": True}
    describe = stack.cloudformation.describe_change_set
    [change] = eventually(lambda: describe(**where)["Changes"])
    [detail] = change["ResourceChange"]["Details"]
    values = [detail["Target"][key] for key in ("Path", "BeforeValue", "AfterValue")]
    assert values == ["/Properties/DisplayName", "old", "new"]


def test_a_resource_whose_condition_does_not_hold_is_in_no_change_set(clients, unique):
    conditional = {**resource("AWS::SNS::Topic"), "Condition": "Never"}
    body = {
        **template(Topic=resource("AWS::SNS::Topic"), Other=conditional),
        "Conditions": {"Never": {"Fn::Equals": ["a", "b"]}},
    }
    cloudformation, where = clients("cloudformation"), {"StackName": unique, "ChangeSetName": "c"}
    cloudformation.create_change_set(**where, ChangeSetType="CREATE", TemplateBody=json.dumps(body))
    changes = eventually(lambda: cloudformation.describe_change_set(**where)["Changes"])
    cloudformation.delete_stack(StackName=unique)
    assert [one["ResourceChange"]["LogicalResourceId"] for one in changes] == ["Topic"]


def test_a_template_comes_from_a_buckets_regional_url(clients, unique):
    s3 = clients("s3")
    s3.create_bucket(Bucket=unique, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket=unique, Key="a/b.json", Body=json.dumps(template(Topic=resource("AWS::SNS::Topic"))))
    stack = Stack(clients, unique, f"https://{unique}.s3.eu-central-1.amazonaws.com/a/b.json")
    assert stack.status == "CREATE_COMPLETE"


# --- the guard


@pytest.mark.parametrize("header", ["Origin", "Sec-Fetch-Site"])
def test_browsers_are_refused(endpoint, header):
    request = urllib.request.Request(endpoint.url + "/_ministack/health", headers={header: "null"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)
    assert caught.value.code == 403


def test_the_partition_and_the_account(deploy):
    outputs = {name: {"Value": {"Ref": f"AWS::{name}"}} for name in ("Partition", "AccountId", "Region")}
    stack = deploy({**template(Topic=resource("AWS::SNS::Topic")), "Outputs": outputs}, region="eu-west-1")
    found = stack.cloudformation.describe_stacks(StackName=stack.name)["Stacks"][0]["Outputs"]
    values = {one["OutputKey"]: one["OutputValue"] for one in found}
    assert values == {"Partition": "aws", "AccountId": ACCOUNT, "Region": "eu-west-1"}
