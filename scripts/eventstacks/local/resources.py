"""CloudFormation resource types that MiniStack lacks or implements in part.

To add a type, write ``put_*(verb, name, properties)``, which does Create or Update and returns
(physical ID, attributes for Fn::GetAtt), and add it to TYPES; add its create-only properties to
REPLACING. To keep more properties of a type that MiniStack has, add them to KEPT.
"""

import contextlib
import functools
import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_account_id, get_region, now_iso
from ministack.services import eventbridge, iam, pipes, s3, scheduler, sns
from ministack.services.cloudformation import drift, provisioners

from eventstacks.local.ministack import AwsError, Json, Original, call, patch
from eventstacks.local.policies import policies_allow

KNOWN = provisioners._RESOURCE_HANDLERS
Put = Callable[..., tuple[str, Json]]
Delete = Callable[[str], Any]
GRANITE = "GraniteServiceVersion20100801"  # CloudWatch's name in its protocol
# Properties that a parameter gives as text, and CloudFormation passes on as numbers.
NUMBERS = (
    "BatchSize",
    "InvocationRateLimitPerSecond",
    "MaximumBatchingWindowInSeconds",
    "MaximumConcurrency",
    "MaximumEventAgeInSeconds",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "MaximumWindowInMinutes",
)


def make_numbers(props: Json) -> None:
    """Turn the texts of NUMBERS, at any depth of the properties, into numbers, in place."""

    def with_numbers(found: Json) -> Json:
        return {key: int(each) if key in NUMBERS else each for key, each in found.items()}

    props |= json.loads(json.dumps(props, default=str), object_hook=with_numbers)


def arn_of(service: str, resource: str) -> str:
    """Return an ARN in the current account and Region."""
    return f"arn:aws:{service}:{get_region()}:{get_account_id()}:{resource}"


def put_trail(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put a trail, its event selectors and its status, if the bucket policy allows CloudTrail."""
    # YAML and parameters give either a boolean or its name.
    names = {"true": True, "false": False}
    props = {key: names.get(str(value), value) for key, value in props.items()}
    bucket, arn = f"arn:aws:s3:::{props['S3BucketName']}", arn_of("cloudtrail", f"trail/{name}")
    prefix = f"{props['S3KeyPrefix']}/" if props.get("S3KeyPrefix") else ""
    key = f"{bucket}/{prefix}AWSLogs/{get_account_id()}/CloudTrail/x"
    keys = {"s3:x-amz-acl": "bucket-owner-full-control", "aws:sourcearn": arn}
    policies = list((s3.bucket_policy_for_arn(bucket) or ())[:1])
    calls = (("s3:GetBucketAcl", bucket), ("s3:PutObject", key))
    if not all(policies_allow(policies, "cloudtrail.amazonaws.com", *one, keys) for one in calls):
        raise ValueError(
            f"Incorrect S3 bucket policy is detected for bucket: {props['S3BucketName']} "
            "(Service: CloudTrail, Status Code: 400) (HandlerErrorCode: InvalidRequest)"
        )
    settings = {**props, "Name": name, "KmsKeyId": props.get("KMSKeyId", "")}
    call("cloudtrail", f"CloudTrail.{verb}Trail", **settings)
    kinds = ("EventSelectors", "AdvancedEventSelectors")
    if selectors := {kind: props[kind] for kind in kinds if props.get(kind)}:
        call("cloudtrail", "CloudTrail.PutEventSelectors", TrailName=name, **selectors)
    call("cloudtrail", f"CloudTrail.{'Start' if props['IsLogging'] else 'Stop'}Logging", Name=name)
    return name, {"Arn": arn}


def events(operation: str, **arguments: object) -> Json:
    """Call an operation of EventBridge."""
    return call("eventbridge", f"AWSEvents.{operation}", **arguments)


def put_archive(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put an archive of a bus."""
    settings = {
        **props,
        "ArchiveName": name,
        "EventSourceArn": props["SourceArn"],
        "EventPattern": json.dumps(props["EventPattern"]) if props.get("EventPattern") else "",
        "RetentionDays": int(props.get("RetentionDays", 0)),  # a parameter's value is a string
    }
    archive = events(f"{verb}Archive", **settings)
    return name, {"Arn": archive["ArchiveArn"], "ArchiveName": name}


def put_connection(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put a connection.

    Its access token is not asked for before the first event; AWS asks at once.
    """
    events(f"{verb}Connection", **{**props, "Name": name})
    arn = arn_of("events", f"connection/{name}")
    return name, {"Arn": arn, "ArnForPolicy": arn}


def put_api_destination(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put an API destination, whose ARN ends with an ID, as on AWS.

    MiniStack has none. The ARN without the ID is for policies (ArnForPolicy).
    """
    make_numbers(props)
    events(f"{verb}ApiDestination", **{**props, "Name": name})
    record, arn = eventbridge._api_destinations[name], arn_of("events", f"api-destination/{name}")
    if verb == "Create":
        record["ApiDestinationArn"] = f"{arn}/{uuid.uuid4()}"
    return name, {"Arn": record["ApiDestinationArn"], "ArnForPolicy": arn}


def put_bus_policy(_verb: str, _name: str, props: Json) -> tuple[str, Json]:
    """Put a statement into the bus's policy: MiniStack's PutPermission has no Statement."""
    bus, sid = props.get("EventBusName", "default"), props["StatementId"]
    events("RemovePermission", EventBusName=bus, StatementId=sid)
    empty: Json = {"Version": "2012-10-17", "Statement": []}
    policy = eventbridge._event_bus_policies.setdefault(bus, empty)
    policy["Statement"].append({**props["Statement"], "Sid": sid})
    return f"{bus}|{sid}", {}


def put_identity_provider(verb: str, _name: str, props: Json) -> tuple[str, Json]:
    """Put an OpenID Connect provider of IAM; MiniStack has no call to update one."""
    host = props["Url"].removeprefix("https://")
    arn = f"arn:aws:iam::{get_account_id()}:oidc-provider/{host}"
    if verb == "Create" and arn in iam._oidc_providers:
        raise ValueError(f"Provider with url {props['Url']} already exists.")
    iam._oidc_providers[arn] = {
        "Arn": arn,
        "Url": props["Url"],
        "ClientIDList": props.get("ClientIdList", []),
        "ThumbprintList": props.get("ThumbprintList", []),
        "CreateDate": now_iso(),
        "Tags": props.get("Tags", []),
    }
    return arn, {"Arn": arn}


def put_composite_alarm(_verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put a composite alarm. CloudWatch refuses one that names an alarm which does not exist."""
    call("cloudwatch", f"{GRANITE}.PutCompositeAlarm", **{**props, "AlarmName": name})
    return name, {"Arn": arn_of("cloudwatch", f"alarm:{name}")}


def logs(operation: str, **arguments: object) -> Json:
    """Call an operation of CloudWatch Logs, which has log delivery, and delivers nothing."""
    return call("cloudwatch_logs", f"Logs_20140328.{operation}", **arguments)


def put_source(_verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put the source of a log delivery: one type of log of a resource."""
    answer = logs(
        "PutDeliverySource",
        name=name,
        resourceArn=props["ResourceArn"],
        logType=props["LogType"],
    )
    return name, {"Arn": answer["deliverySource"]["arn"]}


def put_destination(_verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Put the destination of a log delivery."""
    answer = logs(
        "PutDeliveryDestination",
        name=name,
        outputFormat=props.get("OutputFormat", "json"),
        deliveryDestinationConfiguration={
            "destinationResourceArn": props["DestinationResourceArn"]
        },
    )
    return name, {"Arn": answer["deliveryDestination"]["arn"]}


def put_delivery(verb: str, name: str, props: Json) -> tuple[str, Json]:
    """Connect a source to a destination. ``name``: the ID of the delivery once it exists."""
    if verb == "Create":  # an update of tags or record fields changes nothing here
        answer = logs(
            "CreateDelivery",
            deliverySourceName=props["DeliverySourceName"],
            deliveryDestinationArn=props["DeliveryDestinationArn"],
        )
        name = answer["delivery"]["id"]
    return name, {"DeliveryId": name, "Arn": arn_of("logs", f"delivery:{name}")}


# Type -> properties that MiniStack drops, and the record that keeps them.
KEPT: dict[str, tuple[tuple[str, ...], Callable[[str, Json], Json]]] = {
    # They have no effect.
    "AWS::Events::EventBus": (
        ("DeadLetterConfig", "LogConfig", "KmsKeyIdentifier"),
        lambda name, _props: eventbridge._event_buses[name],
    ),
    "AWS::Events::Rule": ((), lambda _name, _props: {}),
    "AWS::Lambda::EventSourceMapping": ((), lambda _name, _props: {}),
    "AWS::Pipes::Pipe": (
        ("SourceParameters", "TargetParameters"),
        lambda name, _props: pipes._pipes[name],
    ),
    "AWS::Scheduler::Schedule": (
        ("ScheduleExpressionTimezone", "StartDate", "EndDate", "KmsKeyArn"),
        lambda name, props: scheduler._schedules[f"{props.get('GroupName') or 'default'}/{name}"],
    ),
    # services.py checks the policy of the key.
    "AWS::SNS::Topic": (("KmsMasterKeyId",), lambda arn, _props: sns._topics[arn]["attributes"]),
}


def keep(kind: str, original: Original, *arguments: Any, **more: Any) -> Any:
    """Create or update a resource with numbers, and with the properties that MiniStack drops."""
    *_, props = (one for one in arguments if isinstance(one, dict))  # an update has the old ones
    make_numbers(props)
    result = original(*arguments, **more)
    keys, record_of = KEPT[kind]
    record = record_of(result[0], props)
    for key in keys:
        record.pop(key, None)
    record |= {key: props[key] for key in keys if key in props}
    return result


for _type in KEPT:
    for _verb in ("create", "update"):
        patch(_verb, KNOWN[_type])(functools.partial(keep, _type))


@patch("create", KNOWN["AWS::SNS::Topic"])
def create_topic(original: Original, *arguments: Any) -> Any:
    """Limit the default policy of a topic to its owner, as CreateTopic does."""
    result = original(*arguments)
    attributes = sns._topics[result[0]]["attributes"]
    policy = json.loads(attributes["Policy"])
    policy["Statement"][0]["Condition"] = {"StringEquals": {"AWS:SourceOwner": get_account_id()}}
    attributes["Policy"] = json.dumps(policy)
    return result


@patch("_physical_name", provisioners)
def physical_name(original: Original, stack: str, logical_id: str, **options: Any) -> str:
    """Generate a name that differs between Regions.

    The roles of one stack in two Regions are two roles.
    """
    name: str = original(stack, logical_id, **options)
    suffix = hashlib.sha256(f"{name} {get_region()}".encode()).hexdigest()[:13]
    return name[:-13] + (suffix if options.get("lowercase") else suffix.upper())


def with_bus(original: Original, name: str, *arguments: Any, **more: Any) -> Any:
    """Create, update or delete a rule, whose physical ID on a custom bus is ``bus|name`` on AWS.

    ``name``: its logical ID, or its physical ID. Source: CloudFormation reference, Ref of
    AWS::Events::Rule.
    """
    result = original(name.rpartition("|")[2], *arguments, **more)
    if result:
        path = result[1]["Arn"].partition(":rule/")[2]
        result = "|".join(path.rsplit("/", 1)), result[1]
    return result


for _verb in ("create", "update", "delete"):
    patch(_verb, KNOWN["AWS::Events::Rule"])(with_bus)
_read_rule, *_rest = drift._DRIFT_READERS["AWS::Events::Rule"]
drift._DRIFT_READERS["AWS::Events::Rule"] = (
    lambda name, props: _read_rule(name.rpartition("|")[2], props),
    *_rest,
)


def create(put: Put, key: str, limit: int, logical_id: str, props: Json, stack: str) -> Any:
    """Create a resource.

    The property ``key`` names it, else a generated name of ``limit`` characters.
    """
    name = props.get(key) or provisioners._physical_name(stack, logical_id, max_len=limit)
    return put("Create", name, props)


def delete(delete: Delete, name: str, _props: Json) -> None:
    """Delete a resource; one that does not exist is deleted already."""
    with contextlib.suppress(AwsError):
        delete(name)


# Type -> put, delete, property that names the resource, length of a generated name.
TYPES: dict[str, tuple[Put, Delete, str, int]] = {
    "AWS::CloudTrail::Trail": (
        put_trail,
        lambda name: call("cloudtrail", "CloudTrail.DeleteTrail", Name=name),
        "TrailName",
        128,
    ),
    "AWS::CloudWatch::CompositeAlarm": (
        put_composite_alarm,
        lambda name: call("cloudwatch", f"{GRANITE}.DeleteAlarms", AlarmNames=[name]),
        "AlarmName",
        255,
    ),
    "AWS::Events::ApiDestination": (
        put_api_destination,
        lambda name: events("DeleteApiDestination", Name=name),
        "Name",
        64,
    ),
    "AWS::Events::Archive": (
        put_archive,
        lambda name: events("DeleteArchive", ArchiveName=name),
        "ArchiveName",
        48,
    ),
    "AWS::Events::Connection": (
        put_connection,
        lambda name: events("DeleteConnection", Name=name),
        "Name",
        64,
    ),
    "AWS::Events::EventBusPolicy": (
        put_bus_policy,
        lambda name: events(
            "RemovePermission",
            **dict(zip(("EventBusName", "StatementId"), name.split("|"), strict=True)),
        ),
        "",
        64,
    ),
    "AWS::IAM::OIDCProvider": (
        put_identity_provider,
        lambda arn: iam._oidc_providers.pop(arn, None),
        "",
        64,
    ),
    "AWS::Logs::Delivery": (put_delivery, lambda name: logs("DeleteDelivery", id=name), "", 60),
    "AWS::Logs::DeliveryDestination": (
        put_destination,
        lambda name: logs("DeleteDeliveryDestination", name=name),
        "Name",
        60,
    ),
    "AWS::Logs::DeliverySource": (
        put_source,
        lambda name: logs("DeleteDeliverySource", name=name),
        "Name",
        60,
    ),
}


for _type, (_put, _delete, _key, _limit) in TYPES.items():
    KNOWN[_type] = {
        "create": functools.partial(create, _put, _key, _limit),
        "update": lambda name, _old, props, _stack, put=_put: put("Update", name, props),
        "delete": functools.partial(delete, _delete),
    }
# Create-only properties, by the resource schemas; MiniStack calls every change of these types
# conditional.
REPLACING = {
    "AWS::CloudTrail::Trail": ("TrailName",),
    "AWS::Events::Archive": ("ArchiveName", "SourceArn"),
    "AWS::Events::EventBusPolicy": ("EventBusName", "StatementId"),
    "AWS::Logs::Delivery": ("DeliveryDestinationArn", "DeliverySourceName"),
    "AWS::Logs::DeliveryDestination": ("DestinationResourceArn", "Name", "OutputFormat"),
    "AWS::Logs::DeliverySource": ("Name",),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    "AWS::Events::ApiDestination": ("Name",),
    "AWS::Events::Connection": ("Name",),
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
    "AWS::CloudWatch::CompositeAlarm": ("AlarmName",),
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
provisioners._REPLACING_PROPERTIES.update(REPLACING)
