"""A resource that names another one which is not there: AWS refuses it, MiniStack creates it.

Each check stands before MiniStack's own creation and update. Where AWS's words are known from elsewhere than the API
reference of the service, the source stands beside them.
"""

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch_logs, eventbridge, iam, kms, s3, scheduler, sns, sqs
from ministack.services.cloudformation import provisioners

from eventstacks.local import resources
from eventstacks.local.deliveries import role_policies_allow
from eventstacks.local.ministack import Json, Original, patch

KNOWN = resources.KNOWN  # with the types that MiniStack lacks
Refusal = str | None  # why AWS refuses; None where it does not

NO_QUEUE = "The specified queue does not exist. (Service: Sqs, Status Code: 400)"
NO_TOPIC = "Topic does not exist (Service: Sns, Status Code: 404)"  # seen in localstack/localstack, issue 12174
NO_BUCKET = "The specified bucket does not exist (Service: S3, Status Code: 404)"
NO_GROUP = "The specified log group does not exist. (Service: CloudWatchLogs, Status Code: 400)"
# As in hashicorp/terraform, issue 26654, and hashicorp/terraform-provider-aws, issue 14042.
NO_SOURCE = (
    "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
    "SQS Error Message: The specified queue does not exist or you do not have access to it."
)
NOT_RECEIVED = "The provided {} role does not have permissions to call ReceiveMessage on SQS"
# aws-samples/aws-ct-vpc-flowlogs, issue 1; lumigo-io/lumigo-CLI, issue 83; terraform-provider-aws, its Scheduler
# service; terraform-aws-modules/terraform-aws-eventbridge, PR 133, of which the pipe's first half is known only.
NOT_ASSUMED = {
    "lambda": "The role defined for the function cannot be assumed by Lambda. (Service: Lambda, Status Code: 400)",
    "scheduler": "The execution role you provide must allow AWS EventBridge Scheduler to assume the role.",
    "states": "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume "
    "the provided role.",
    "pipes": "The provided customer role cannot be assumed by Pipes",
}
NO_PIPE = "Input parameter is invalid from the request due to : {}"


def name_of(reference: str) -> str:
    """The name at the end of an ARN or of a queue's URL, or the name itself."""
    return re.split("[:/]", reference)[-1]


def listed(value: Any) -> list[Any]:
    """A policy writes one thing without a list patch it."""
    return value if isinstance(value, list) else [value]


def check_role(service: str, arn: str) -> Refusal:
    """A role has to be there and to name the service in its trust policy; conditions there are not looked at."""
    role = iam._roles.get(name_of(arn)) or {}
    trust = json.loads(role.get("AssumeRolePolicyDocument") or "{}")
    trusted = [
        principal
        for statement in listed(trust.get("Statement", []))
        if statement.get("Effect") == "Allow" and isinstance(statement.get("Principal"), dict)
        for principal in listed(statement["Principal"].get("Service", []))
    ]
    names = {f"{service}.amazonaws.com", f"{service}.{get_region()}.amazonaws.com"}
    return None if names & set(trusted) else NOT_ASSUMED[service]


def check_source(role: str, kind: str, queue: str) -> Refusal:
    """A queue that is read from has to be there, and the reader's role to allow it; other sources are not looked at."""
    if ":sqs:" not in queue:
        return None
    if not sqs._queue_by_arn(queue):
        return NO_SOURCE
    return (
        None
        if role_policies_allow(role, "sqs:ReceiveMessage", queue)
        else NOT_RECEIVED.format(kind)
    )


def check_function(reference: str) -> Refusal:
    """A function, by its name or ARN, with or without a version."""
    there = provisioners._lambda_function_for_cfn_ref(reference)[0]
    return None if there else f"Function not found: {reference} (Service: Lambda, Status Code: 404)"


def check_mapping(props: Json) -> Refusal:
    """An event source mapping: the function first, then what it reads with the function's role."""
    function = provisioners._lambda_function_for_cfn_ref(props["FunctionName"])[0]
    if not function:
        return check_function(props["FunctionName"])
    return check_source(function["config"]["Role"], "execution", props.get("EventSourceArn", ""))


def check_pipe(props: Json) -> Refusal:
    """A pipe's role, and its source when that is a queue; whether the target is there shows with the first event."""
    refused = check_role("pipes", props["RoleArn"])
    refused = refused or check_source(props["RoleArn"], "customer", props["Source"])
    return NO_PIPE.format(refused) if refused else None


def check_schedule(props: Json) -> Refusal:
    """A schedule's group and its role. Scheduler does not ask for the target."""
    scheduler._ensure_default_group()
    if (group := props.get("GroupName") or "default") not in scheduler._schedule_groups:
        return f"Schedule group {group} does not exist. (Service: Scheduler, Status Code: 404)"
    return check_role("scheduler", props["Target"]["RoleArn"])


def check_bus(reference: str) -> Refusal:
    """An event bus of this region, by its name or ARN."""
    name = reference.rpartition("event-bus/")[2]
    return (
        None
        if name in {"default", *eventbridge._event_buses}
        else f"Event bus {name} does not exist."
    )


def check_key(arn: str) -> Refusal:
    """A key of KMS, or the alias of one."""
    return (
        None
        if kms._resolve_key(arn)
        else f"Key '{arn}' does not exist (Service: Kms, Status Code: 400)"
    )


def check_log_key(props: Json) -> Refusal:
    """A log group's key; what its policy lets CloudWatch Logs do is not looked at."""
    arn = (
        f"arn:aws:logs:{get_region()}:{get_account_id()}:log-group:{props.get('LogGroupName', '*')}"
    )
    wrong = props.get("KmsKeyId") and check_key(props["KmsKeyId"])
    return (
        f"The specified KMS key does not exist or is not allowed to be used with Arn '{arn}'"
        if wrong
        else None
    )


def check_roles(props: Json) -> Refusal:
    """The roles that a policy is attached to."""
    gone = [one for one in props.get("Roles") or [] if one not in iam._roles]
    return (
        f"The role with name {gone[0]} cannot be found. (Service: Iam, Status Code: 404)"
        if gone
        else None
    )


def check_managed_policies(props: Json) -> Refusal:
    """The account's own managed policies of a role; AWS's are taken to be there."""
    gone = [
        one
        for one in props.get("ManagedPolicyArns") or []
        if "::aws:" not in one and one not in iam._policies
    ]
    return (
        f"Policy {gone[0]} does not exist or is not attachable. (Service: Iam, Status Code: 404)"
        if gone
        else None
    )


def check_log_group(props: Json) -> Refusal:
    """The log group of a filter or stream."""
    return None if props["LogGroupName"] in cloudwatch_logs._log_groups else NO_GROUP


def check_topics(topics: list[str]) -> Refusal:
    """Topics, of any region."""
    return None if all(map(sns.topic_policy_for_arn, topics)) else NO_TOPIC


CHECKS: dict[str, Callable[[Json], Refusal]] = {
    "AWS::Lambda::Function": lambda props: check_role("lambda", props["Role"]),
    "AWS::Lambda::Alias": lambda props: check_function(props["FunctionName"]),
    "AWS::Lambda::Permission": lambda props: check_function(props["FunctionName"]),
    "AWS::Lambda::Version": lambda props: check_function(props["FunctionName"]),
    "AWS::Lambda::EventSourceMapping": check_mapping,
    "AWS::SQS::QueuePolicy": lambda props: (
        None if all(name_of(url) in sqs._queue_name_to_url for url in props["Queues"]) else NO_QUEUE
    ),
    "AWS::SNS::TopicPolicy": lambda props: check_topics(props["Topics"]),
    "AWS::SNS::Subscription": lambda props: check_topics([props["TopicArn"]]),
    "AWS::S3::BucketPolicy": lambda props: None if props["Bucket"] in s3._buckets else NO_BUCKET,
    "AWS::Events::Archive": lambda props: check_bus(props["SourceArn"]),
    "AWS::Events::EventBusPolicy": lambda props: check_bus(props.get("EventBusName") or "default"),
    "AWS::Logs::LogGroup": check_log_key,
    "AWS::Logs::LogStream": check_log_group,
    "AWS::Logs::MetricFilter": check_log_group,
    "AWS::Logs::SubscriptionFilter": check_log_group,
    "AWS::IAM::ManagedPolicy": check_roles,
    "AWS::IAM::Role": check_managed_policies,
    "AWS::KMS::Alias": lambda props: check_key(props["TargetKeyId"]),
    "AWS::Pipes::Pipe": check_pipe,
    "AWS::Scheduler::Schedule": check_schedule,
    "AWS::StepFunctions::StateMachine": lambda props: check_role("states", props["RoleArn"]),
}


def ask(
    check: Callable[[Json], Refusal], position: int, original: Original, *arguments: Any
) -> Any:
    """Create or update a resource, unless its properties, at that position, name what is not there."""
    try:
        refused = check(arguments[position])
    except KeyError as missing:
        refused = f"Properties validation failed with message: [#: required key [{missing.args[0]}] not found]"
    if refused:
        raise ValueError(refused)
    return original(*arguments)


for _kind, _check in CHECKS.items():
    for _verb, _position in {"create": 1, "update": 2}.items():
        if _verb in KNOWN[_kind]:
            patch(_verb, KNOWN[_kind])(functools.partial(ask, _check, _position))
