"""Events and logs of functions, S3, CloudTrail and RDS on the embedded AWS."""

import json
import re

import pytest
from botocore.exceptions import ClientError
from raw_stacks import ACCOUNT, resource, snapshot, template
from waiting import eventually


def test_logs_of_a_function_have_the_format_of_the_runtime(deploy):
    stack = deploy("local/targets.yaml")
    stack.put(name="one")
    [line] = eventually(
        lambda: [line for line in stack.lines(stack.ids["FunctionLog"]) if "got one" in line]
    )
    assert re.fullmatch(
        r"\[INFO\]\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t[0-9a-f-]{36}\tgot one", line
    )


def test_events_that_a_function_fails_on_go_to_its_failure_destination(deploy):
    stack = deploy("local/targets.yaml")
    stack.put(name="one", ask="fail")
    [letter] = eventually(lambda: stack.messages("FunctionFailures"))
    assert json.loads(letter["Body"])["requestPayload"]["detail"] == {"name": "one", "ask": "fail"}


def test_a_function_acts_as_its_role(deploy):
    stack = deploy("local/targets.yaml")
    stack.put(name="one", ask="buckets")
    [letter] = eventually(lambda: stack.messages("FunctionFailures"))
    assert "AccessDenied" in letter["Body"]


def test_messages_are_moved_to_the_queue_that_is_named(deploy):
    stack = deploy(template(Source=resource("AWS::SQS::Queue"), Other=resource("AWS::SQS::Queue")))
    sqs, names = stack.client("sqs"), {"AttributeNames": ["QueueArn"]}
    source, other = (
        sqs.get_queue_attributes(QueueUrl=stack.ids[one], **names)["Attributes"]["QueueArn"]
        for one in ("Source", "Other")
    )
    sqs.send_message(QueueUrl=stack.ids["Source"], MessageBody="one")
    for wrong in (
        {"SourceArn": f"{source}x"},
        {"SourceArn": source, "DestinationArn": f"{other}x"},
    ):
        with pytest.raises(ClientError, match="ResourceNotFoundException"):
            sqs.start_message_move_task(**wrong)
    sqs.start_message_move_task(SourceArn=source)  # it did not come from a queue
    assert stack.messages("Other") == []
    sqs.start_message_move_task(SourceArn=source, DestinationArn=other)
    assert [one["Body"] for one in stack.messages("Other")] == ["one"]
    assert stack.messages("Source") == []


@pytest.mark.parametrize("selectors", ["advanced", "basic"])
def test_a_trail_reports_calls_on_the_objects_that_it_selects(deploy, selectors):
    stack = deploy("local/trail.yaml", Selectors=selectors)
    assert stack.status == "CREATE_COMPLETE", stack.reasons()
    s3, data = stack.client("s3"), stack.ids["Data"]
    s3.put_object(Bucket=data, Key="a b/c.txt", Body=b"12345")
    s3.copy_object(Bucket=data, Key="copy", CopySource={"Bucket": data, "Key": "a b/c.txt"})
    upload = s3.create_multipart_upload(Bucket=data, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=data, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")[
        "ETag"
    ]
    parts = {"Parts": [{"ETag": part, "PartNumber": 1}]}
    s3.complete_multipart_upload(Bucket=data, Key="parts", UploadId=upload, MultipartUpload=parts)
    s3.put_object(Bucket=data, Key="x.tmp", Body=b"")
    s3.get_object(Bucket=data, Key="copy")
    s3.put_object(Bucket=stack.ids["Logs"], Key="not selected", Body=b"")
    found = [json.loads(message["Body"]) for _ in range(3) for message in stack.messages("Queue")]
    trail = [event for event in found if event["detail-type"] == "AWS API Call via CloudTrail"]
    seen = [
        (event["detail"]["eventName"], event["detail"]["requestParameters"]["key"])
        for event in trail
    ]
    expected = [
        ("PutObject", "a b/c.txt"),
        ("CopyObject", "copy"),
        ("UploadPart", "parts"),
        ("CompleteMultipartUpload", "parts"),
    ]
    assert sorted(seen) == sorted(
        expected + ([("PutObject", "x.tmp")] if selectors == "basic" else [])
    )
    assert {event["source"] for event in trail} == {"aws.s3"}
    assert all(event["resources"] == [] for event in trail)
    native = [
        event["detail"]["reason"] for event in found if event["detail-type"] == "Object Created"
    ]
    assert sorted(native) == ["CompleteMultipartUpload", "CopyObject", "PutObject", "PutObject"]


def test_a_trail_that_is_not_logging_reports_nothing(deploy):
    stack = deploy("local/trail.yaml", IsLogging="false")
    stack.client("s3").put_object(Bucket=stack.ids["Data"], Key="a", Body=b"")
    found = eventually(lambda: stack.messages("Queue"))
    assert [json.loads(one["Body"])["detail-type"] for one in found] == ["Object Created"]


def test_a_trail_needs_a_bucket_policy(deploy):
    stack = deploy("local/trail.yaml", TrustedTrail="another")
    assert stack.status == "ROLLBACK_COMPLETE"
    assert "Incorrect S3 bucket policy is detected for bucket" in stack.reasons()


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
        Policy=resource(
            "AWS::SQS::QueuePolicy",
            Queues=[{"Ref": "Queue"}],
            PolicyDocument={"Statement": [allow]},
        ),
        Rule=resource("AWS::Events::Rule", EventPattern=pattern, Targets=[{"Id": "q", "Arn": arn}]),
    )


def test_snapshots_and_their_copies_send_events(deploy, unique):
    here = deploy(rds_queue(unique), region="eu-north-1")
    there = deploy(rds_queue(unique), region="eu-south-1")
    arn = snapshot(here.client("rds"), unique)
    name = f"{unique}-copy"
    there.client("rds").copy_db_snapshot(
        SourceDBSnapshotIdentifier=arn, TargetDBSnapshotIdentifier=name
    )
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


def test_cluster_snapshots_send_events(deploy, unique):
    stack = deploy(rds_queue(unique), region="eu-west-2")
    rds, user = (
        stack.client("rds"),
        {"MasterUsername": "someone", "MasterUserPassword": "made-up-words"},
    )
    rds.create_db_cluster(DBClusterIdentifier=unique, Engine="aurora-postgresql", **user)
    made = rds.create_db_cluster_snapshot(
        DBClusterIdentifier=unique, DBClusterSnapshotIdentifier=f"{unique}-s"
    )
    events = [json.loads(one["Body"]) for one in stack.messages("Queue")]
    assert {event["detail-type"] for event in events} == {"RDS DB Cluster Snapshot Event"}
    assert {event["detail"]["EventID"] for event in events} == {"RDS-EVENT-0074", "RDS-EVENT-0075"}
    [arn] = events[0]["resources"]
    assert arn == made["DBClusterSnapshot"]["DBClusterSnapshotArn"]
    detail = {"SourceArn": arn, "EventCategories": ["backup"], "SourceType": "CLUSTER_SNAPSHOT"}
    assert detail.items() <= events[0]["detail"].items()


CALLBACK = """
import json, os, urllib.error, urllib.request
import boto3
def handler(event, context):
    try:
        urllib.request.urlopen(os.environ["AWS_ENDPOINT_URL"] + "/?Action=ListStacks")
        bare = 200
    except urllib.error.HTTPError as error:
        bare = error.code
    found = boto3.client("sts").get_caller_identity()
    data = {"Arn": found["Arn"], "Bare": bare}
    answer = {"Status": "SUCCESS", "PhysicalResourceId": "x", "Data": data}
    answer |= {key: event[key] for key in ("StackId", "RequestId", "LogicalResourceId")}
    body = json.dumps(answer).encode()
    request = urllib.request.Request(event["ResponseURL"], body, method="PUT")
    urllib.request.urlopen(request)
"""


def test_a_custom_resource_calls_aws_in_its_role_and_answers(deploy):
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}}
    role = resource(
        "AWS::IAM::Role",
        AssumeRolePolicyDocument={"Statement": [{**trust, "Action": "sts:AssumeRole"}]},
    )
    function = resource(
        "AWS::Lambda::Function",
        Role={"Fn::GetAtt": ["Role", "Arn"]},
        Handler="index.handler",
        Runtime="python3.13",
        Timeout=30,
        Code={"ZipFile": CALLBACK},
    )
    custom = resource("Custom::Call", ServiceToken={"Fn::GetAtt": ["Function", "Arn"]})
    outputs = {key: {"Value": {"Fn::GetAtt": ["Custom", key]}} for key in ("Arn", "Bare")}
    stack = deploy({**template(Role=role, Function=function, Custom=custom), "Outputs": outputs})
    assert stack.status == "CREATE_COMPLETE", stack.reasons()
    found = stack.cloudformation.describe_stacks(StackName=stack.name)["Stacks"][0]["Outputs"]
    values = {one["OutputKey"]: one["OutputValue"] for one in found}
    assert ":assumed-role/" in values["Arn"]
    assert values["Bare"] == "403"


def test_a_connection_does_not_show_its_secrets(clients, unique):
    events, parameters = clients("events"), [("h", "hidden", True), ("o", "open", False)]
    keys = ("Key", "Value", "IsValueSecret")
    headers = [dict(zip(keys, values, strict=True)) for values in parameters]
    own = {"ApiKeyName": "k", "ApiKeyValue": "hidden"}
    given = {
        "ApiKeyAuthParameters": own,
        "InvocationHttpParameters": {"HeaderParameters": headers},
    }
    events.create_connection(Name=unique, AuthorizationType="API_KEY", AuthParameters=given)
    found = events.describe_connection(Name=unique)["AuthParameters"]
    assert found["ApiKeyAuthParameters"] == {"ApiKeyName": "k"}
    assert [one.get("Value") for one in found["InvocationHttpParameters"]["HeaderParameters"]] == [
        None,
        "open",
    ]
