"""Refusals and answers of CloudFormation on the embedded AWS."""

import json
import re
import textwrap

import pytest
from botocore.exceptions import ClientError
from raw_stacks import ACCOUNT, Stack, resource, template, text_of
from waiting import eventually

from eventstacks import rendering

QUEUE = f"arn:aws:sqs:eu-central-1:{ACCOUNT}:q"


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
def test_a_name_of_another_stack_is_refused(deploy, unique, kind, properties):
    body = template(
        One={"Type": kind, "Properties": json.loads(json.dumps(properties).replace("{}", unique))}
    )
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


def test_a_bus_with_a_rule_of_another_stack_is_not_deleted(deploy, unique):
    stack = deploy(
        template(Bus=resource("AWS::Events::EventBus", Name=unique)), name=f"{unique}-bus"
    )
    deploy(
        template(
            Rule=resource("AWS::Events::Rule", EventBusName=unique, EventPattern={"source": ["x"]})
        ),
        name=f"{unique}-rule",
    )
    events = stack.client("events")
    with pytest.raises(ClientError, match="EventBus can't be deleted since it has rules") as caught:
        events.delete_event_bus(Name=unique)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    stack.cloudformation.delete_stack(StackName=stack.name)
    assert stack.settle() == "DELETE_FAILED"
    assert "EventBus can't be deleted since it has rules" in stack.reasons()
    assert len(events.list_rules(EventBusName=unique)["Rules"]) == 1
    stack.cloudformation.delete_stack(StackName=f"{unique}-rule")
    eventually(lambda: not events.list_rules(EventBusName=unique)["Rules"])
    stack.cloudformation.delete_stack(StackName=stack.name)
    assert eventually(
        lambda: unique not in [one["Name"] for one in events.list_event_buses()["EventBuses"]]
    )


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"EventPattern": {"source": []}}, "Event pattern is not valid"),
        ({"ScheduleExpression": "daily"}, "Parameter ScheduleExpression is not valid"),
        ({"EventPattern": {"source": ["x"]}, "EventBusName": "nowhere"}, "Event bus nowhere"),
        (
            {
                "EventPattern": {"source": ["x"]},
                "Targets": [{"Id": str(n), "Arn": QUEUE} for n in range(6)],
            },
            "5 targets",
        ),
        *(
            ({"EventPattern": {"source": ["x"]}, "Targets": [{"Id": "t", **target}]}, reason)
            for target, reason in (
                ({"Arn": QUEUE, "Input": "text"}, "Input is not valid JSON"),
                (
                    {"Arn": QUEUE, "InputTransformer": {"InputTemplate": "<name>"}},
                    "InputPathsMap does not define <name>",
                ),
                ({"Arn": f"{QUEUE}.fifo"}, "SqsParameters, with a MessageGroupId"),
            )
        ),
    ],
)
def test_a_rule_that_aws_refuses_is_refused(deploy, properties, reason):
    stack = deploy(template(Rule=resource("AWS::Events::Rule", **properties)))
    assert stack.status == "ROLLBACK_COMPLETE"
    assert reason in stack.reasons()


def test_a_permission_needs_its_function(deploy):
    properties = {
        "FunctionName": "missing",
        "Action": "lambda:InvokeFunction",
        "Principal": "events.amazonaws.com",
    }
    stack = deploy(template(Permission=resource("AWS::Lambda::Permission", **properties)))
    assert "Function not found" in stack.reasons()


def test_a_change_set_shows_values_before_and_after(deploy):
    stack = deploy(template(Topic=resource("AWS::SNS::Topic", DisplayName="old")))
    body = json.dumps(template(Topic=resource("AWS::SNS::Topic", DisplayName="new")))
    stack.cloudformation.create_change_set(
        StackName=stack.name, ChangeSetName="c", TemplateBody=body
    )
    where = {"StackName": stack.name, "ChangeSetName": "c", "IncludePropertyValues": True}
    describe = stack.cloudformation.describe_change_set
    [change] = eventually(lambda: describe(**where)["Changes"])
    [detail] = change["ResourceChange"]["Details"]
    values = [detail["Target"][key] for key in ("Path", "BeforeValue", "AfterValue")]
    assert values == ["/Properties/DisplayName", "old", "new"]


def planned(stack, body, name="c", **parameters):
    """{logical id: (Replacement, {property: (before, after)})} of a change set, not executed."""
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    where = {"StackName": stack.name, "ChangeSetName": name}
    stack.cloudformation.create_change_set(
        **where, TemplateBody=text_of(body), Parameters=given, Capabilities=["CAPABILITY_NAMED_IAM"]
    )
    answer = stack.cloudformation.describe_change_set(**where, IncludePropertyValues=True)
    assert answer["Changes"] or "didn't contain changes" in answer["StatusReason"]
    found = {}
    for change in (one["ResourceChange"] for one in answer["Changes"]):
        targets = [one["Target"] for one in change["Details"]]
        values = {one["Name"]: (one.get("BeforeValue"), one.get("AfterValue")) for one in targets}
        found[change["LogicalResourceId"]] = change.get("Replacement"), values
    return found


def test_a_change_set_lists_only_what_changes(deploy):
    text = rendering.render("s3-object-events").text
    stack = deploy(text)
    try:
        assert planned(stack, text, "nothing") == {}
        words = re.search(r"ObjectCreatedRule:.*?Description: (.*?)\n", text, re.DOTALL)[1]
        assert planned(stack, text.replace(words, "Objects."), "words") == {
            "ObjectCreatedRule": ("False", {"Description": (words, "Objects.")})
        }
        assert planned(stack, text, "days", LogRetentionInDays="7") == {
            group: ("False", {"RetentionInDays": ("30", "7")})
            for group in ("ObjectLogGroup", "ObjectFunctionLogGroup")
        }
    finally:  # an account has room for ten resource policies of CloudWatch Logs, here as on AWS
        stack.cloudformation.delete_stack(StackName=stack.name)


def test_a_reference_to_another_resource_is_a_change(deploy):
    def body(queue):
        target = {"Protocol": "sqs", "Endpoint": {"Fn::GetAtt": [queue, "Arn"]}}
        topic = resource("AWS::SNS::Topic", Subscription=[target])
        return template(A=resource("AWS::SQS::Queue"), B=resource("AWS::SQS::Queue"), Topic=topic)

    stack = deploy(body("A"))
    [(name, (replacement, values))] = planned(stack, body("B")).items()
    assert (name, replacement) == ("Topic", "False")
    before, after = (
        json.loads(one)[0]["Endpoint"].rsplit(":", 1)[-1] for one in values["Subscription"]
    )
    assert (before, after) == tuple(stack.ids[one].rsplit("/", 1)[-1] for one in "AB")


def test_values_of_a_replacement_are_known_after_apply(deploy, unique):
    def body(name):
        reads = resource("AWS::SNS::Topic", DisplayName={"Fn::Sub": "${Queue.QueueName}"})
        return template(Queue=resource("AWS::SQS::Queue", QueueName=name), Topic=reads)

    stack = deploy(body(f"{unique}-a"))
    assert planned(stack, body(f"{unique}-b")) == {
        "Queue": ("True", {"QueueName": (f"{unique}-a", f"{unique}-b")}),
        "Topic": ("False", {"DisplayName": (f"{unique}-a", "{{changeSet:KNOWN_AFTER_APPLY}}")}),
    }


def test_a_change_set_has_the_deletion_policy_before_and_after(deploy):
    def body(policy):
        return template(Queue={**resource("AWS::SQS::Queue"), "DeletionPolicy": policy})

    stack = deploy(body("Delete"))
    where = {"StackName": stack.name, "ChangeSetName": "policy"}
    stack.cloudformation.create_change_set(**where, TemplateBody=text_of(body("Retain")))
    read = {**where, "IncludePropertyValues": True}
    (change,) = eventually(lambda: stack.cloudformation.describe_change_set(**read)["Changes"])
    contexts = [
        json.loads(change["ResourceChange"][f"{one}Context"]) for one in ("Before", "After")
    ]
    assert [one["DeletionPolicy"] for one in contexts] == ["Delete", "Retain"]


def test_a_resource_with_a_false_condition_is_in_no_change_set(clients, unique):
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
    """As taskcat sends it."""
    s3 = clients("s3")
    place = {"LocationConstraint": "eu-central-1"}
    s3.create_bucket(Bucket=unique, CreateBucketConfiguration=place)
    body = json.dumps(template(Topic=resource("AWS::SNS::Topic")))
    s3.put_object(Bucket=unique, Key="a/b.json", Body=body)
    stack = Stack(clients, unique, f"https://{unique}.s3.eu-central-1.amazonaws.com/a/b.json")
    assert stack.status == "CREATE_COMPLETE"


def test_the_partition_and_the_account(deploy):
    outputs = {
        name: {"Value": {"Ref": f"AWS::{name}"}} for name in ("Partition", "AccountId", "Region")
    }
    stack = deploy(
        {**template(Topic=resource("AWS::SNS::Topic")), "Outputs": outputs}, region="eu-west-1"
    )
    found = stack.cloudformation.describe_stacks(StackName=stack.name)["Stacks"][0]["Outputs"]
    values = {one["OutputKey"]: one["OutputValue"] for one in found}
    assert values == {"Partition": "aws", "AccountId": ACCOUNT, "Region": "eu-west-1"}


def test_booleans_of_parameters_and_conditions_are_strings(deploy):
    stack = deploy(
        textwrap.dedent("""
        Parameters: {Enabled: {Type: String, AllowedValues: [true, false], Default: true}}
        Conditions:
          Text: !Equals [!Ref Enabled, 'true']
          Boolean: !Equals [!Ref Enabled, true]
        Resources:
          One: {Type: AWS::SNS::Topic, Condition: Text}
          Two: {Type: AWS::SNS::Topic, Condition: Boolean}
        Outputs: {Value: {Value: !Ref Enabled}}
        """)
    )
    (found,) = stack.cloudformation.describe_stacks(StackName=stack.name)["Stacks"]
    assert found["Outputs"][0]["OutputValue"] == "true"
    resources = stack.cloudformation.describe_stack_resources(StackName=stack.name)
    assert len(resources["StackResources"]) == 2


def test_a_change_of_outputs_alone_is_a_change_set(deploy):
    topic = resource("AWS::SNS::Topic")
    stack = deploy(template(Topic=topic))
    body = {**template(Topic=topic), "Outputs": {"Arn": {"Value": {"Ref": "Topic"}}}}
    names = {"StackName": stack.name, "ChangeSetName": "outputs"}
    stack.cloudformation.create_change_set(**names, TemplateBody=json.dumps(body))
    assert stack.cloudformation.describe_change_set(**names)["ExecutionStatus"] == "AVAILABLE"
    stack.cloudformation.execute_change_set(**names)
    assert stack.settle() == "UPDATE_COMPLETE"
    (found,) = stack.cloudformation.describe_stacks(StackName=stack.name)["Stacks"]
    assert [one["OutputKey"] for one in found["Outputs"]] == ["Arn"]


def test_a_rule_on_a_custom_bus_is_identified_by_bus_and_name(deploy, unique):
    def body(name, source):
        rule = {"EventBusName": {"Ref": "Bus"}, "EventPattern": {"source": [source]}, "Name": name}
        return template(
            Bus=resource("AWS::Events::EventBus", Name=unique),
            Rule=resource("AWS::Events::Rule", **rule),
        )

    stack = deploy(body("first", "x"))
    assert stack.ids["Rule"] == f"{unique}|first"
    assert stack.update(body("first", "y")) == "UPDATE_COMPLETE"
    assert stack.ids["Rule"] == f"{unique}|first"
    detection = stack.cloudformation.detect_stack_resource_drift(
        StackName=stack.name, LogicalResourceId="Rule"
    )
    assert detection["StackResourceDrift"]["StackResourceDriftStatus"] == "IN_SYNC"
    assert stack.update(body("second", "y")) == "UPDATE_COMPLETE"
    assert stack.ids["Rule"] == f"{unique}|second"
    rules = stack.client("events").list_rules(EventBusName=unique)["Rules"]
    assert [(rule["Name"], rule["EventPattern"]) for rule in rules] == [
        ("second", '{"source": ["y"]}')
    ]
    stack.cloudformation.delete_stack(StackName=stack.name)
    buses = stack.client("events").list_event_buses
    assert eventually(lambda: unique not in [one["Name"] for one in buses()["EventBuses"]])
