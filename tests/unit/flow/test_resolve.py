"""What a template says, resolved; and what only AWS can know stays a symbol."""

import pytest

from eventstacks.documents import parse_template
from eventstacks.flow.resolve import Stack, partition_of
from eventstacks.flow.symbols import is_known

TEMPLATE = parse_template(
    """
Parameters:
  Name: {Type: String, Default: orders}
  Needed: {Type: String}
  Ids: {Type: CommaDelimitedList, Default: 'a, b'}
  Secret: {Type: 'AWS::SSM::Parameter::Value<String>', Default: /path}
  Flag: {Type: String, Default: true}
Mappings:
  Sizes: {eu-west-1: {small: s1}}
Conditions:
  IsOrders: !Equals [!Ref Name, orders]
  IsNeeded: !Equals [!Ref Needed, x]
  NotOrders: !Not [!Condition IsOrders]
  Both: !And [!Condition IsOrders, !Condition IsNeeded]
  Neither: !And [!Condition NotOrders, !Condition IsNeeded]
  Either: !Or [!Condition IsOrders, !Condition IsNeeded]
Resources:
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: !Sub '${AWS::StackName}-bus'}}
  Rule: {Type: AWS::Events::Rule, Properties: {EventBusName: !Ref Bus}}
  Named: {Type: AWS::Events::Rule, Properties: {Name: mine, EventBusName: !GetAtt Bus.Arn}}
  Plain: {Type: AWS::Events::Rule, Properties: {Name: plain}}
  Queue: {Type: AWS::SQS::Queue}
  Topic: {Type: AWS::SNS::Topic, Properties: {TopicName: t}}
  Group: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /aws/events/g}}
  Bucket: {Type: AWS::S3::Bucket}
  Role: {Type: AWS::IAM::Role, Properties: {RoleName: r, Path: /team/}}
  Loop: {Type: AWS::Events::EventBus, Properties: {Name: !Ref Loop}}
  Absent: {Type: AWS::SQS::Queue, Condition: NotOrders}
  Doubtful: {Type: AWS::SQS::Queue, Condition: IsNeeded}
Outputs:
  BusArn: {Value: !GetAtt Bus.Arn}
""",
    "test",
)


@pytest.fixture
def stack():
    return Stack(TEMPLATE, name="shop", region="eu-west-1", account="111122223333")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Name"}, "orders"),
        ({"Ref": "Ids"}, ["a", "b"]),
        ({"Ref": "Flag"}, "true"),
        ({"Ref": "Secret"}, "⟨shop.Secret?⟩"),
        ({"Ref": "Needed"}, "⟨shop.Needed?⟩"),
        ({"Ref": "AWS::Partition"}, "aws"),
        ({"Ref": "AWS::URLSuffix"}, "amazonaws.com"),
        ({"Ref": "AWS::StackId"}, "⟨AWS.StackId⟩"),
        ({"Ref": "Bus"}, "shop-bus"),
        ({"Ref": "Rule"}, "shop-bus|⟨shop.Rule⟩"),
        ({"Ref": "Plain"}, "plain"),
        ({"Ref": "Queue"}, "https://sqs.eu-west-1.amazonaws.com/111122223333/⟨shop.Queue⟩"),
        ({"Ref": "Topic"}, "arn:aws:sns:eu-west-1:111122223333:t"),
        (
            {"Fn::GetAtt": ["Named", "Arn"]},
            "arn:aws:events:eu-west-1:111122223333:rule/shop-bus/mine",
        ),
        ({"Fn::GetAtt": "Plain.Arn"}, "arn:aws:events:eu-west-1:111122223333:rule/plain"),
        ({"Fn::GetAtt": ["Named", "RuleName"]}, "mine"),
        (
            {"Fn::GetAtt": ["Group", "Arn"]},
            "arn:aws:logs:eu-west-1:111122223333:log-group:/aws/events/g:*",
        ),
        ({"Fn::GetAtt": ["Bucket", "Arn"]}, "arn:aws:s3:::⟨shop.Bucket⟩"),
        ({"Fn::GetAtt": ["Bucket", "DomainName"]}, "⟨shop.Bucket.DomainName⟩"),
        ({"Fn::GetAtt": ["Role", "Arn"]}, "arn:aws:iam::111122223333:role/team/r"),
        ({"Fn::Sub": "${Name}/${!Name}/${Bus}"}, "orders/${Name}/shop-bus"),
        ({"Fn::Sub": ["${a}-${Name}", {"a": {"Ref": "Bus"}}]}, "shop-bus-orders"),
        ({"Fn::Sub": "a${AWS::NoValue}b"}, "ab"),
        ({"Fn::Join": [",", {"Ref": "Ids"}]}, "a,b"),
        ({"Fn::Select": ["1", {"Ref": "Ids"}]}, "b"),
        ({"Fn::Select": ["7", {"Ref": "Ids"}]}, "⟨shop.Select?⟩"),
        ({"Fn::Split": ["-", "a-b"]}, ["a", "b"]),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "AWS::Region"}, "small"]}, "s1"),
        ({"Fn::FindInMap": ["Sizes", "nowhere", "small"]}, "⟨shop.FindInMap?⟩"),
        ({"Fn::Base64": "x"}, "eA=="),
        ({"Fn::ToJsonString": {"a": {"Ref": "Name"}}}, '{"a":"orders"}'),
        ({"Fn::ImportValue": "other-Out"}, "⟨shop.ImportValue other-Out?⟩"),
        ({"Fn::If": ["IsOrders", "yes", "no"]}, "yes"),
        ({"Fn::If": ["NotOrders", "yes", "no"]}, "no"),
        ({"Fn::If": ["IsNeeded", "yes", "no"]}, "⟨shop.If IsNeeded?⟩"),
        ({"Fn::If": ["IsNeeded", "same", "same"]}, "same"),
        ([1, {"Fn::If": ["NotOrders", 2, {"Ref": "AWS::NoValue"}]}], [1]),
        ({"a": {"Ref": "AWS::NoValue"}, "b": 1}, {"b": 1}),
    ],
)
def test_values(stack, value, expected):
    assert stack.resolve(value) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("IsOrders", True),
        ("NotOrders", False),
        ("IsNeeded", None),
        ("Both", None),
        ("Neither", False),
        ("Either", True),
    ],
)
def test_conditions_are_decided_as_far_as_they_can_be(stack, name, expected):
    assert stack.condition(name) is expected


def test_a_resource_whose_condition_is_false_is_left_out_and_one_in_doubt_is_not(stack):
    assert "Absent" not in stack.resources()
    assert "Doubtful" in stack.resources()


def test_a_given_value_beats_the_default_and_a_condition_can_be_decreed():
    given = Stack(TEMPLATE, {"Name": "other", "Needed": "x"}, conditions={"IsNeeded": False})
    assert given.resolve({"Ref": "Name"}) == "other"
    assert given.condition("IsNeeded") is False


def test_without_a_place_everything_of_it_is_a_symbol():
    nowhere = Stack(TEMPLATE)
    assert (
        nowhere.output("BusArn")
        == "arn:⟨AWS.Partition⟩:events:⟨AWS.Region⟩:⟨AWS.AccountId⟩:event-bus/⟨AWS.StackName⟩-bus"
    )
    assert nowhere.resolve({"Ref": "Bucket"}) == "⟨Bucket⟩"


def test_a_resource_that_names_itself_does_not_hang(stack):
    assert not is_known(stack.resources()["Loop"].name)


def test_conditions_that_hang_on_each_other_do_not_hang():
    circle = Stack(
        {
            "Conditions": {
                "A": {"Fn::Not": [{"Condition": "B"}]},
                "B": {"Fn::Not": [{"Condition": "A"}]},
            }
        }
    )
    assert circle.condition("A") is None


@pytest.mark.parametrize(
    ("region", "partition", "suffix"),
    [
        ("eu-west-1", "aws", "amazonaws.com"),
        ("cn-north-1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-west-1", "aws-us-gov", "amazonaws.com"),
        ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov"),
        ("eusc-de-east-1", "aws-eusc", "amazonaws.eu"),
        ("xx-new-1", "aws", "amazonaws.com"),
    ],
)
def test_partitions(region, partition, suffix):
    assert partition_of(region) == (partition, suffix)


def test_a_map_that_looks_itself_up_does_not_hang():
    lookup = {"Fn::FindInMap": ["M", "a", "b"]}
    made = Stack({"Mappings": {"M": {"a": {"b": lookup, "c": "x"}}}})
    assert made.resolve(lookup) == "⟨FindInMap?⟩"
    assert made.resolve({"Fn::FindInMap": ["M", "a", "c"]}) == "x"


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("length", "known"), [(40, True), (500, False)])
def test_names_and_conditions_that_hang_on_very_many_others_are_unknown(length, known):
    resources = {
        f"B{at}": {"Type": "AWS::Events::EventBus", "Properties": {"Name": {"Ref": f"B{at + 1}"}}}
        for at in range(length)
    } | {f"B{length}": {"Type": "AWS::Events::EventBus", "Properties": {"Name": "last"}}}
    conditions = {f"C{at}": {"Fn::Not": [{"Condition": f"C{at + 1}"}]} for at in range(length)}
    made = Stack(
        {
            "Resources": resources,
            "Conditions": conditions | {f"C{length}": {"Fn::Equals": ["a", "a"]}},
        }
    )
    assert (made.resources()["B0"].name == "last") is known
    assert (made.condition("C0") is not None) is known
