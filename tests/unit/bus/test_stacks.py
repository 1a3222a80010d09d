# ruff: noqa: N803 - the arguments of AWS's operations
from __future__ import annotations

from pathlib import Path

from tests.unit.bus.operations import FakeAws, Service

from eventstacks.bus import stacks
from eventstacks.environment import Environment, StackSettings


class CloudFormation(Service):
    """A stack that failed while it was made: most of it was removed again."""

    def describe_stacks(self, StackName):
        return {"Stacks": [{"StackStatus": "ROLLBACK_COMPLETE"}]}

    def get_paginator(self, _name):
        return self

    def paginate(self, StackName):
        return [
            {
                "StackResourceSummaries": [
                    {
                        "LogicalResourceId": one,
                        "ResourceType": f"AWS::{kind}",
                        "PhysicalResourceId": one,
                        "ResourceStatus": status,
                    }
                    for one, kind, status in (
                        ("Archive", "Events::Archive", "DELETE_COMPLETE"),
                        ("Rule", "Events::Rule", "DELETE_COMPLETE"),
                        ("Bus", "Events::EventBus", "DELETE_COMPLETE"),
                        ("Group", "Logs::LogGroup", "DELETE_SKIPPED"),
                        ("Queue", "SQS::Queue", "CREATE_COMPLETE"),
                    )
                ]
            }
        ]


def test_resources_that_a_rollback_removed_are_left_out():
    bus = StackSettings("bus", "dev-bus", "bus", ("us-east-1",))
    aws = FakeAws(cloudformation=CloudFormation(), events=None)
    aws.environment = Environment("dev", Path("dev.yaml"), ("us-east-1",), {"bus": bus})
    (found,) = stacks.find(aws, aws.environment.choose(), required=True)
    assert [logical for logical, _, _ in found.resources] == ["Group", "Queue"]
    assert found.of_type("AWS::Events::Rule") == {}
