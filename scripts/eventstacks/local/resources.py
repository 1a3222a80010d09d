"""CloudFormation resource types that MiniStack lacks, or knows by half.

Each ``put_*(verb, name, properties)`` does Create, Update or Delete and answers (physical id, attributes for
Fn::GetAtt).
"""

import contextlib
import json
from typing import Any
from urllib.parse import urlencode

from ministack.core.responses import get_account_id, get_region
from ministack.services import eventbridge, s3
from ministack.services.cloudformation import provisioners

from eventstacks.local.deliveries import policies_allow
from eventstacks.local.ministack import AwsError, Json, Original, call, patch, send

KNOWN = provisioners._RESOURCE_HANDLERS


def put_trail(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """A trail, its event selectors and whether it logs. CloudTrail tries first whether the bucket lets it in."""
    if verb == "Delete":
        return name, call("cloudtrail", "CloudTrail.DeleteTrail", Name=name)
    # YAML and parameters give either a boolean or its name.
    props = {
        key: {"true": True, "false": False}.get(str(value), value) for key, value in props.items()
    }
    bucket = f"arn:aws:s3:::{props['S3BucketName']}"
    trail_arn = f"arn:aws:cloudtrail:{get_region()}:{get_account_id()}:trail/{name}"
    key = "/".join(
        filter(
            None, (bucket, props.get("S3KeyPrefix"), "AWSLogs", get_account_id(), "CloudTrail/x")
        )
    )
    keys = {"s3:x-amz-acl": "bucket-owner-full-control", "aws:sourcearn": trail_arn}
    policies = list((s3.bucket_policy_for_arn(bucket) or ())[:1])
    asked = (("s3:GetBucketAcl", bucket), ("s3:PutObject", key))
    if not all(
        policies_allow(policies, "cloudtrail.amazonaws.com", action, arn, keys)
        for action, arn in asked
    ):
        text = f"Incorrect S3 bucket policy is detected for bucket: {props['S3BucketName']}"
        raise ValueError(
            f"{text} (Service: CloudTrail, Status Code: 400) (HandlerErrorCode: InvalidRequest)"
        )
    call(
        "cloudtrail",
        f"CloudTrail.{verb}Trail",
        **{**props, "Name": name, "KmsKeyId": props.get("KMSKeyId", "")},
    )
    if selectors := {
        key: props[key] for key in ("EventSelectors", "AdvancedEventSelectors") if props.get(key)
    }:
        call("cloudtrail", "CloudTrail.PutEventSelectors", TrailName=name, **selectors)
    call("cloudtrail", f"CloudTrail.{'Start' if props['IsLogging'] else 'Stop'}Logging", Name=name)
    return name, {"Arn": trail_arn}


def put_archive(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """An archive of a bus."""
    pattern = json.dumps(props["EventPattern"]) if props.get("EventPattern") else ""
    settings = {
        **props,
        "ArchiveName": name,
        "EventSourceArn": props["SourceArn"],
        "EventPattern": pattern,
    }
    made = call("eventbridge", f"AWSEvents.{verb}Archive", **settings)
    return name, {"Arn": made.get("ArchiveArn"), "ArchiveName": name}


def put_bus_policy(verb: str, _name: str, props: Json) -> tuple[str, Json]:
    """A statement, straight into the bus's policy: MiniStack's PutPermission knows no Statement."""
    bus, sid = props.get("EventBusName", "default"), props["StatementId"]
    call("eventbridge", "AWSEvents.RemovePermission", EventBusName=bus, StatementId=sid)
    if verb != "Delete":
        policy = eventbridge._event_bus_policies.setdefault(
            bus, {"Version": "2012-10-17", "Statement": []}
        )
        policy["Statement"].append({**props["Statement"], "Sid": sid})
    return f"{bus}|{sid}", {}


def put_identity_provider(verb: str, _name: str, props: Json) -> tuple[str, Json]:
    """An OpenID Connect provider of IAM; MiniStack has no call to change one."""
    arn = f"arn:aws:iam::{get_account_id()}:oidc-provider/{props['Url'].removeprefix('https://')}"
    form = {
        "Action": f"{verb}OpenIDConnectProvider",
        "Url": props["Url"],
        "OpenIDConnectProviderArn": arn,
    }
    for wire, key in (("ClientIDList", "ClientIdList"), ("ThumbprintList", "ThumbprintList")):
        form |= {f"{wire}.member.{number}": one for number, one in enumerate(props.get(key, []), 1)}
    status, answer = (
        send("iam", "POST", "/", {}, urlencode(form).encode()) if verb != "Update" else (200, b"")
    )
    if status >= 400:
        raise AwsError(answer.decode())
    return arn, {"Arn": arn}


@patch("create", KNOWN["AWS::Events::EventBus"])
@patch("update", KNOWN["AWS::Events::EventBus"])
def with_bus_settings(original: Original, *arguments: Any) -> Any:
    """A bus's dead-letter queue, log level and key, which MiniStack's provisioner drops (they are kept, not used)."""
    made, props = original(*arguments), arguments[-2]
    kept = ("DeadLetterConfig", "LogConfig", "KmsKeyIdentifier")
    eventbridge._event_buses[made[0]] |= {key: props[key] for key in kept if key in props}
    return made


def handlers(put: Original, key: str, limit: int) -> dict[str, Original]:
    """What MiniStack's CloudFormation calls; the property ``key`` names the resource, else a name of ``limit`` letters.

    A delete is content when the thing is gone already.
    """

    def delete(name: str, props: Json) -> None:
        with contextlib.suppress(AwsError):
            put("Delete", name, props)

    def create(logical_id: str, props: Json, stack: str) -> Any:
        return put(
            "Create",
            props.get(key) or provisioners._physical_name(stack, logical_id, max_len=limit),
            props,
        )

    def update(name: str, _old: Json, props: Json, _stack: str) -> Any:
        return put("Update", name, props)

    return {"create": create, "update": update, "delete": delete}


KNOWN["AWS::CloudTrail::Trail"] = handlers(put_trail, "TrailName", 128)
KNOWN["AWS::Events::Archive"] = handlers(put_archive, "ArchiveName", 48)
KNOWN["AWS::Events::EventBusPolicy"] = handlers(put_bus_policy, "", 64)
KNOWN["AWS::IAM::OIDCProvider"] = handlers(put_identity_provider, "", 64)
# Create-only properties, by the resource schemas; MiniStack calls every change of these types conditional.
provisioners._REPLACING_PROPERTIES.update(
    {
        "AWS::CloudTrail::Trail": ("TrailName",),
        "AWS::Events::Archive": ("ArchiveName", "SourceArn"),
        "AWS::Events::EventBusPolicy": ("EventBusName", "StatementId"),
        "AWS::Logs::LogGroup": ("LogGroupName",),
        "AWS::Events::EventBus": ("Name",),
        "AWS::Events::Rule": ("Name", "EventBusName"),
        "AWS::IAM::OIDCProvider": ("Url",),
        "AWS::IAM::Policy": (),
        "AWS::KMS::Key": (),
        "AWS::KMS::Alias": ("AliasName",),
        "AWS::SQS::QueuePolicy": (),
        "AWS::SNS::TopicPolicy": (),
        "AWS::SNS::Subscription": ("Endpoint", "Protocol", "TopicArn"),
        "AWS::Logs::ResourcePolicy": ("PolicyName",),
        "AWS::CloudWatch::Alarm": ("AlarmName",),
        "AWS::S3::Bucket": ("BucketName", "BucketNamePrefix", "BucketNamespace"),
        "AWS::S3::BucketPolicy": ("Bucket",),
        "AWS::Lambda::Permission": (
            "Action",
            "EventSourceToken",
            "FunctionName",
            "FunctionUrlAuthType",
            "InvokedViaFunctionUrl",
            "Principal",
            "PrincipalOrgID",
            "SourceAccount",
            "SourceArn",
        ),
    }
)
