"""CloudFormation resource types that MiniStack lacks, or knows by half.

Each ``put_*(verb, name, properties)`` does Create, Update or Delete and answers (physical id, attributes for
Fn::GetAtt).
"""

from __future__ import annotations

import functools
import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ministack.core.responses import get_account_id, get_region
from ministack.services import eventbridge, s3
from ministack.services.cloudformation import provisioners

from scripts.local_aws.deliveries import admits
from scripts.local_aws.ministack import AwsError, call, send

if TYPE_CHECKING:
    from collections.abc import Callable

    Put = Callable[[str, str, "Json"], "Made"]
Json = dict[str, Any]
Made = tuple[str, Json]


def forget(service: str, target: str, **body: Any) -> Made:
    """A delete that is content when the thing is gone already."""
    try:
        call(service, target, **body)
    except AwsError as error:
        if "NotFound" not in str(error):
            raise
    return "", {}


def put_trail(verb: str, name: str, props: Json) -> Made:
    """A trail, its event selectors and whether it logs. CloudTrail tries first whether the bucket lets it in."""
    if verb == "Delete":
        return forget("cloudtrail", "CloudTrail.DeleteTrail", Name=name)
    # YAML and parameters give either a boolean or its name.
    props = {key: {"true": True, "false": False}.get(str(value), value) for key, value in props.items()}
    bucket = f"arn:aws:s3:::{props['S3BucketName']}"
    trail_arn = f"arn:aws:cloudtrail:{get_region()}:{get_account_id()}:trail/{name}"
    key = "/".join(filter(None, (bucket, props.get("S3KeyPrefix"), "AWSLogs", get_account_id(), "CloudTrail/x")))
    keys = {"s3:x-amz-acl": "bucket-owner-full-control", "aws:sourcearn": trail_arn}
    policies = [found[0]] if (found := s3.bucket_policy_for_arn(bucket)) else []
    asked = (("s3:GetBucketAcl", bucket), ("s3:PutObject", key))
    if not all(admits(policies, "cloudtrail.amazonaws.com", action, arn, keys) for action, arn in asked):
        raise ValueError(
            f"Incorrect S3 bucket policy is detected for bucket: {props['S3BucketName']} (Service: CloudTrail, "
            f"Status Code: 400, Request ID: {uuid.uuid4()}) (HandlerErrorCode: InvalidRequest)"
        )
    call("cloudtrail", f"CloudTrail.{verb}Trail", **{**props, "Name": name, "KmsKeyId": props.get("KMSKeyId", "")})
    if selectors := {key: props[key] for key in ("EventSelectors", "AdvancedEventSelectors") if props.get(key)}:
        call("cloudtrail", "CloudTrail.PutEventSelectors", TrailName=name, **selectors)
    call("cloudtrail", "CloudTrail.AddTags", ResourceId=trail_arn, TagsList=props.get("Tags", []))
    call("cloudtrail", f"CloudTrail.{'Start' if props['IsLogging'] else 'Stop'}Logging", Name=name)
    return name, {"Arn": trail_arn}


def put_archive(verb: str, name: str, props: Json) -> Made:
    """An archive of a bus."""
    if verb == "Delete":
        return forget("eventbridge", "AWSEvents.DeleteArchive", ArchiveName=name)
    pattern = json.dumps(props["EventPattern"]) if props.get("EventPattern") else ""
    settings = {**props, "ArchiveName": name, "EventSourceArn": props["SourceArn"], "EventPattern": pattern}
    return name, {"Arn": call("eventbridge", f"AWSEvents.{verb}Archive", **settings)["ArchiveArn"], "ArchiveName": name}


def put_bus_policy(verb: str, _name: str, props: Json) -> Made:
    """A statement, straight into the bus's policy: MiniStack's PutPermission knows no Statement."""
    bus, sid = props.get("EventBusName", "default"), props["StatementId"]
    if verb == "Delete":
        return forget("eventbridge", "AWSEvents.RemovePermission", EventBusName=bus, StatementId=sid)
    arn = call("eventbridge", "AWSEvents.DescribeEventBus", Name=bus)["Arn"]
    who, when = props.get("Principal"), props.get("Condition")
    statement = props.get("Statement") or {
        "Effect": "Allow", "Action": props.get("Action", "events:PutEvents"), "Resource": arn,
        "Principal": who if who == "*" else {"AWS": f"arn:aws:iam::{who}:root"},
        "Condition": {when["Type"]: {when["Key"]: when["Value"]}} if when else {},
    }  # fmt: skip
    policy = eventbridge._event_bus_policies.setdefault(bus, {"Version": "2012-10-17", "Statement": []})
    policy["Statement"] = [one for one in policy["Statement"] if one["Sid"] != sid] + [{**statement, "Sid": sid}]
    return f"{bus}|{sid}", {}


def put_identity_provider(verb: str, _name: str, props: Json) -> Made:
    """An OpenID Connect provider of IAM; MiniStack has no call to change one."""
    arn = f"arn:aws:iam::{get_account_id()}:oidc-provider/{props['Url'].removeprefix('https://')}"
    form = {"Action": f"{verb}OpenIDConnectProvider", "Url": props["Url"], "OpenIDConnectProviderArn": arn}
    for key in ("ClientIdList", "ThumbprintList"):
        wire = key.replace("Id", "ID")
        form |= {f"{wire}.member.{number}": one for number, one in enumerate(props.get(key, []), 1)}
    status, answer = send("iam", "POST", "/", {}, urlencode(form).encode()) if verb != "Update" else (200, b"")
    if status >= 400 and verb == "Create":
        raise ValueError(answer.decode())
    return arn, {"Arn": arn}


def with_bus_settings(stock: Callable[..., Made], *arguments: Any) -> Made:
    """A bus's dead-letter queue, log level and key, which MiniStack's provisioner drops (they are kept, not used)."""
    made, props = stock(*arguments), arguments[-2]
    settings = {key: props[key] for key in ("DeadLetterConfig", "LogConfig", "KmsKeyIdentifier") if key in props}
    call("eventbridge", "AWSEvents.UpdateEventBus", Name=made[0], **settings)
    return made


def install() -> None:
    """Put the types into CloudFormation: what makes one, the property that names it, the longest made-up name."""
    known = provisioners._RESOURCE_HANDLERS

    def create(put: Put, key: str, limit: int, logical_id: str, props: Json, stack: str) -> Made:
        return put("Create", props.get(key) or provisioners._physical_name(stack, logical_id, max_len=limit), props)

    for kind, put, key, limit in (
        ("AWS::CloudTrail::Trail", put_trail, "TrailName", 128),
        ("AWS::Events::Archive", put_archive, "ArchiveName", 48),
        ("AWS::Events::EventBusPolicy", put_bus_policy, "", 64),
        ("AWS::IAM::OIDCProvider", put_identity_provider, "", 64),
    ):
        known[kind] = {
            "create": functools.partial(create, put, key, limit),
            "update": lambda name, _old, new, _stack, put=put: put("Update", name, new),
            "delete": functools.partial(put, "Delete"),
        }
    bus = known["AWS::Events::EventBus"]
    bus |= {verb: functools.partial(with_bus_settings, bus[verb]) for verb in ("create", "update")}
    # Create-only properties, by the resource schemas; MiniStack calls every change of these types conditional.
    provisioners._REPLACING_PROPERTIES.update({
        "AWS::CloudTrail::Trail": ("TrailName",), "AWS::Events::Archive": ("ArchiveName", "SourceArn"),
        "AWS::Events::EventBusPolicy": ("EventBusName", "StatementId"), "AWS::Logs::LogGroup": ("LogGroupName",),
        "AWS::Events::EventBus": ("Name",), "AWS::Events::Rule": ("Name", "EventBusName"),
        "AWS::IAM::OIDCProvider": ("Url",),
    })  # fmt: skip
