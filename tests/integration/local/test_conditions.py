"""MiniStack evaluates conditions that name others, pseudo parameters and mappings."""

import json

import pytest

CONDITIONS = {
    "Here": {"Fn::Equals": [{"Ref": "AWS::Region"}, "eu-central-1"]},
    "Never": {"Fn::Equals": [{"Ref": "P"}, "x"]},
    "Either": {"Fn::Or": [{"Condition": "Here"}, {"Condition": "Never"}]},
    "Both": {"Fn::And": [{"Condition": "Here"}, {"Condition": "Never"}]},
    "Not": {"Fn::Not": [{"Condition": "Never"}]},
    "Nested": {"Fn::Not": [{"Fn::Or": [{"Condition": "Never"}, {"Condition": "Both"}]}]},
}
TRUE = {"Here", "Either", "Not", "Nested"}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_can_refer_to_another_one(clients, unique, name):
    cloudformation = clients("cloudformation")
    topic = {"Type": "AWS::SNS::Topic"}
    template = {
        "Parameters": {"P": {"Type": "String", "Default": "y"}},
        "Conditions": CONDITIONS,
        "Resources": {"Always": topic, "Topic": {**topic, "Condition": name}},
    }
    cloudformation.create_stack(StackName=unique, TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=unique, WaiterConfig={"Delay": 0.1}
    )
    made = cloudformation.describe_stack_resources(StackName=unique)["StackResources"]
    cloudformation.delete_stack(StackName=unique)
    assert ("Topic" in {one["LogicalResourceId"] for one in made}) == (name in TRUE)
