"""CloudFormation resource types that MiniStack lacks, or knows by half.

A handler has ``create(logical_id, properties, stack name)``, ``update(physical id, old, new, stack name)`` and
``delete(physical id, properties)``; the first two answer (physical id, attributes for Fn::GetAtt).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import eventbridge, s3
from ministack.services.cloudformation import provisioners

from scripts.local_aws.deliveries import admits
from scripts.local_aws.ministack import AwsError, call

Json = dict[str, Any]
Made = tuple[str, Json]


def forget(service: str, target: str, **body: Any) -> None:
    """A delete that is content when the thing is gone already."""
    try:
        call(service, target, **body)
    except AwsError as error:
        if "NotFound" not in error.code:
            raise


def check_trail_bucket(bucket: str, prefix: str, trail_arn: str) -> None:
    """CloudTrail refuses a trail whose bucket does not let it in ('InsufficientS3BucketPolicyException')."""
    found = s3.bucket_policy_for_arn(f"arn:aws:s3:::{bucket}")
    key = f"arn:aws:s3:::{bucket}/{f'{prefix}/' if prefix else ''}AWSLogs/{get_account_id()}/CloudTrail/x"
    keys = {"s3_x-amz-acl": "bucket-owner-full-control", "aws_sourcearn": trail_arn}
    asked = (("s3:GetBucketAcl", f"arn:aws:s3:::{bucket}"), ("s3:PutObject", key))
    if not found or not all(admits([found[0]], "cloudtrail.amazonaws.com", what, arn, **keys) for what, arn in asked):
        raise ValueError(
            f"Incorrect S3 bucket policy is detected for bucket: {bucket} (Service: CloudTrail, Status Code: 400, "
            f"Request ID: {uuid.uuid4()}) (HandlerErrorCode: InvalidRequest)"
        )


def put_trail(operation: str, name: str, props: Json) -> Made:
    """CreateTrail or UpdateTrail, the event selectors, and logging as IsLogging says."""
    trail_arn = f"arn:aws:cloudtrail:{get_region()}:{get_account_id()}:trail/{name}"
    check_trail_bucket(props["S3BucketName"], props.get("S3KeyPrefix", ""), trail_arn)
    renamed = {"KMSKeyId": "KmsKeyId"}
    text = {key: props[key] for key in ("S3BucketName", "S3KeyPrefix", "SnsTopicName", "KMSKeyId") if key in props}
    flags = ("IncludeGlobalServiceEvents", "IsMultiRegionTrail", "EnableLogFileValidation")
    switches = {key: str(props[key]).lower() == "true" for key in flags if key in props}
    settings = {renamed.get(key, key): value for key, value in (text | switches).items()}
    call("cloudtrail", f"CloudTrail.{operation}", Name=name, **settings)
    selectors = {key: props[key] for key in ("EventSelectors", "AdvancedEventSelectors") if props.get(key)}
    if selectors:
        call("cloudtrail", "CloudTrail.PutEventSelectors", TrailName=name, **selectors)
    if props.get("Tags"):
        call("cloudtrail", "CloudTrail.AddTags", ResourceId=trail_arn, TagsList=props["Tags"])
    logs = str(props["IsLogging"]).lower() == "true"
    call("cloudtrail", "CloudTrail.StartLogging" if logs else "CloudTrail.StopLogging", Name=name)
    return name, {"Arn": trail_arn}


def put_archive(operation: str, name: str, props: Json) -> Made:
    """CreateArchive or UpdateArchive."""
    settings = {key: props[key] for key in ("Description", "RetentionDays", "KmsKeyIdentifier") if key in props}
    if operation == "CreateArchive":
        settings["EventSourceArn"] = props["SourceArn"]
    if props.get("EventPattern"):
        settings["EventPattern"] = json.dumps(props["EventPattern"])
    arn = call("eventbridge", f"AWSEvents.{operation}", ArchiveName=name, **settings)["ArchiveArn"]
    return name, {"Arn": arn, "ArchiveName": name}


def put_bus_policy(props: Json) -> Made:
    """Straight into the bus's policy: MiniStack's PutPermission knows no Statement."""
    bus, sid = props.get("EventBusName", "default"), props["StatementId"]
    arn = call("eventbridge", "AWSEvents.DescribeEventBus", Name=bus)["Arn"]
    principal, condition = props.get("Principal"), props.get("Condition")
    statement = props.get("Statement") or {
        "Effect": "Allow", "Action": props.get("Action", "events:PutEvents"), "Resource": arn,
        "Principal": principal if principal == "*" else {"AWS": f"arn:aws:iam::{principal}:root"},
        **({"Condition": {condition["Type"]: {condition["Key"]: condition["Value"]}}} if condition else {}),
    }  # fmt: skip
    policy = eventbridge._event_bus_policies.setdefault(bus, {"Version": "2012-10-17", "Statement": []})
    policy["Statement"] = [one for one in policy["Statement"] if one.get("Sid") != sid] + [{"Sid": sid, **statement}]
    return f"{bus}|{sid}", {}


def with_bus_settings(stock: Callable[..., Made], *arguments: Any) -> Made:
    """A bus's own dead-letter queue, log level and key, which MiniStack's provisioner drops (it only keeps them)."""
    made = stock(*arguments)
    props = arguments[-2]
    settings = {key: props.get(key) for key in ("DeadLetterConfig", "LogConfig", "KmsKeyIdentifier")}
    call("eventbridge", "AWSEvents.UpdateEventBus", Name=made[0], **{k: v for k, v in settings.items() if v})
    return made


def named(key: str, limit: int, put: Callable[[str, str, Json], Made], noun: str) -> dict[str, Callable[..., Made]]:
    """create and update of a thing whose name a template may leave to CloudFormation."""
    return {
        "create": lambda logical_id, props, stack: put(
            f"Create{noun}", props.get(key) or provisioners._physical_name(stack, logical_id, max_len=limit), props),
        "update": lambda name, _old, new, _stack: put(f"Update{noun}", name, new),
    }  # fmt: skip


TYPES: dict[str, dict[str, Callable[..., Any]]] = {
    "AWS::CloudTrail::Trail": {
        **named("TrailName", 128, put_trail, "Trail"),
        "delete": lambda name, _props: forget("cloudtrail", "CloudTrail.DeleteTrail", Name=name),
    },
    "AWS::Events::Archive": {
        **named("ArchiveName", 48, put_archive, "Archive"),
        "delete": lambda name, _props: forget("eventbridge", "AWSEvents.DeleteArchive", ArchiveName=name),
    },
    "AWS::Events::EventBusPolicy": {
        "create": lambda _logical_id, props, _stack: put_bus_policy(props),
        "update": lambda _name, _old, new, _stack: put_bus_policy(new),
        "delete": lambda name, _props: forget(
            "eventbridge", "AWSEvents.RemovePermission",
            EventBusName=name.split("|")[0], StatementId=name.split("|")[1]),
    },
}  # fmt: skip
# Create-only properties by the resource schemas; without them MiniStack calls every change of these types conditional.
REPLACING = {
    "AWS::CloudTrail::Trail": ("TrailName",),
    "AWS::Events::Archive": ("ArchiveName", "SourceArn"),
    "AWS::Events::EventBus": ("Name",),
    "AWS::Events::EventBusPolicy": ("EventBusName", "StatementId"),
    "AWS::Events::Rule": ("Name", "EventBusName"),
    "AWS::Logs::LogGroup": ("LogGroupName",),
}
