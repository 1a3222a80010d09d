"""What an AWS holds, to compare before and after.

And the removal of buckets and tables that a stack keeps on purpose.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from deliveries import client

# Service, operation, key of its list, key of the name in it (none: the item is the name).
LISTS = (
    ("cloudformation", "describe_stacks", "Stacks", "StackName"),
    ("cloudtrail", "describe_trails", "trailList", "Name"),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
    ("dynamodb", "list_tables", "TableNames", ""),
    ("events", "list_archives", "Archives", "ArchiveName"),
    ("events", "list_event_buses", "EventBuses", "Name"),
    ("events", "list_rules", "Rules", "Name"),
    ("iam", "list_open_id_connect_providers", "OpenIDConnectProviderList", "Arn"),
    ("iam", "list_policies", "Policies", "PolicyName"),
    ("iam", "list_roles", "Roles", "RoleName"),
    ("kms", "list_aliases", "Aliases", "AliasName"),
    ("lambda", "list_functions", "Functions", "FunctionName"),
    ("logs", "describe_log_groups", "logGroups", "logGroupName"),
    ("logs", "describe_resource_policies", "resourcePolicies", "policyName"),
    ("pipes", "list_pipes", "Pipes", "Name"),
    ("rds", "describe_db_instances", "DBInstances", "DBInstanceIdentifier"),
    ("rds", "describe_db_snapshots", "DBSnapshots", "DBSnapshotIdentifier"),
    ("s3", "list_buckets", "Buckets", "Name"),
    ("scheduler", "list_schedules", "Schedules", "Name"),
    ("sns", "list_topics", "Topics", "TopicArn"),
    ("sqs", "list_queues", "QueueUrls", ""),
    ("stepfunctions", "list_state_machines", "stateMachines", "stateMachineArn"),
)
EVERYWHERE = ("iam", "s3")  # what is in one region is in all

Thing = tuple[str, str, str]  # region, kind, name


def inventory(regions: list[str]) -> set[Thing]:
    """All that the account holds in these regions, of the kinds in LISTS."""

    def names(region: str, service: str, operation: str, key: str, name: str) -> set[Thing]:
        there = client(service, region)
        pages = (
            there.get_paginator(operation).paginate()
            if there.can_paginate(operation)
            else [getattr(there, operation)()]
        )
        return {
            (region, f"{service} {key}", item[name] if name else item)
            for page in pages
            for item in page.get(key, [])
        }

    asked = [
        (region, *one)
        for region in regions
        for one in LISTS
        if one[0] not in EVERYWHERE or region == regions[0]
    ]
    with ThreadPoolExecutor(8) as pool:
        return set().union(*pool.map(lambda one: names(*one), asked))


def kept(stack: Any) -> list[Thing]:
    """The buckets and tables of a taskcat Stack that its template keeps when it is deleted."""
    resources = stack.template.template["Resources"]
    return [
        (stack.region_name, one.type, one.physical_id)
        for one in stack.resources(refresh=True)
        if one.type in REMOVERS
        and one.physical_id
        and str(resources[one.logical_id].get("DeletionPolicy", "")).startswith("Retain")
    ]


def remove_bucket(_region: str, name: str) -> bool:
    """Empty and delete a bucket, old versions too; False when it is not there."""
    bucket = boto3.resource("s3").Bucket(name)
    if not bucket.creation_date:
        return False
    bucket.object_versions.delete()
    bucket.delete()
    return True


def remove_table(region: str, name: str) -> bool:
    """Delete a table; False when it is not there."""
    dynamodb = client("dynamodb", region)
    with contextlib.suppress(dynamodb.exceptions.ResourceNotFoundException):
        dynamodb.delete_table(TableName=name)
        return True
    return False


REMOVERS = {"AWS::S3::Bucket": remove_bucket, "AWS::DynamoDB::Table": remove_table}


def remove(thing: Thing) -> bool:
    """Delete what a stack keeps; False when it is not there."""
    region, kind, name = thing
    return REMOVERS[kind](region, name)
