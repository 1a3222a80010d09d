"""Refuse resources that name another one which does not exist: AWS does, MiniStack creates them.

Each check runs before MiniStack's own creation and update. A source is named if the text is known
from elsewhere than the API reference of the service.
"""

import functools
import json
import re
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudwatch_logs, eventbridge, iam, kms, s3, scheduler, sns, sqs
from ministack.services.cloudformation import provisioners

from eventstacks.flow.symbols import as_list
from eventstacks.local import resources, senders
from eventstacks.local.ministack import Json, Original, as_text, patch
from eventstacks.local.policies import policies_allow, role_policies_allow

KNOWN = resources.KNOWN  # with the types that MiniStack lacks
# Returns the wrong reference, or True, if AWS refuses the properties; and the refusal, whose {} is
# the reference.
Check = tuple[Callable[[Json], Any], str]

# As in hashicorp/terraform, issue 26654, and hashicorp/terraform-provider-aws, issue 14042.
NO_SOURCE = (
    "Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. "
    "SQS Error Message: The specified queue does not exist or you do not have access to it."
)
NOT_RECEIVED = "The provided {} role does not have permissions to call ReceiveMessage on SQS"
PIPE = "Input parameter is invalid from the request due to : "


def name_of(reference: str) -> str:
    """Return the name at the end of an ARN or of a queue's URL, or the name itself."""
    return re.split("[:/]", reference)[-1]


def trusts(arn: str, service: str) -> bool:
    """Return True if a role exists and its trust policy names the service.

    Its conditions are ignored.
    """
    role = iam._roles.get(name_of(arn)) or {}
    trust = json.loads(role.get("AssumeRolePolicyDocument") or "{}").get("Statement")
    policy = {
        "Statement": [
            {**one, "Condition": {}} for one in as_list(trust) if one["Effect"] == "Allow"
        ]
    }
    services = (f"{service}.amazonaws.com", f"{service}.{get_region()}.amazonaws.com")
    return any(policies_allow([policy], each, "sts:AssumeRole", arn, {}) for each in services)


def find_function(reference: str) -> Any:
    """Return a function by its name or ARN, with or without a version.

    None if it does not exist.
    """
    return provisioners._lambda_function_for_cfn_ref(reference)[0]


def is_missing(queue: str) -> bool:
    """Return True for a queue that does not exist; other sources are not checked."""
    return ":sqs:" in queue and not sqs._queue_by_arn(queue)


def is_closed(role: str, queue: str) -> bool:
    """Return True if a role cannot receive from a queue; other sources are not checked."""
    return ":sqs:" in queue and not role_policies_allow(role, "sqs:ReceiveMessage", queue)


def missing_bus(reference: str) -> str:
    """Return the name of an event bus, given by name or ARN, that this Region does not have."""
    name = reference.rpartition("event-bus/")[2]
    return "" if name in {"default", *eventbridge._event_buses} else name


def missing_group(group: str) -> str:
    """Return the name of a schedule group that does not exist."""
    scheduler._ensure_default_group()
    return "" if group in scheduler._schedule_groups else group


def first(references: Any) -> str:
    """Return the first of the wrong references, '' if there is none."""
    return next(filter(None, references), "")


FUNCTION: Check = (
    lambda p: "" if find_function(p["FunctionName"]) else p["FunctionName"],
    "Function not found: {} (Service: Lambda, Status Code: 404)",
)
# seen in localstack/localstack, issue 12174
TOPIC = "Topic does not exist (Service: Sns, Status Code: 404)"
LOG_GROUP: Check = (
    lambda p: p["LogGroupName"] not in cloudwatch_logs._log_groups,
    "The specified log group does not exist. (Service: CloudWatchLogs, Status Code: 400)",
)
# Sources of the refusals of roles: aws-samples/aws-ct-vpc-flowlogs, issue 1; lumigo-io/lumigo-CLI,
# issue 83; terraform-provider-aws, its Scheduler service;
# terraform-aws-modules/terraform-aws-eventbridge, PR 133, of which only the pipe's first half is
# known.
CHECKS: dict[str, list[Check]] = {
    "AWS::Lambda::Function": [
        (
            lambda p: not trusts(p["Role"], "lambda"),
            (
                "The role defined for the function cannot be assumed by Lambda. "
                "(Service: Lambda, Status Code: 400)"
            ),
        )
    ],
    # What PutRule and PutTargets check; MiniStack's provisioner skips it.
    "AWS::Events::Rule": [
        (
            lambda p: missing_bus(p.get("EventBusName") or "default"),
            "Event bus {} does not exist.",
        ),
        (
            lambda p: eventbridge._event_pattern_error(as_text(p.get("EventPattern") or "")),
            "Event pattern is not valid. Reason: {} (Service: EventBridge, Status Code: 400)",
        ),
        (
            lambda p: (
                p.get("ScheduleExpression")
                and not eventbridge._validate_schedule_expression(p["ScheduleExpression"])
            ),
            "Parameter ScheduleExpression is not valid. (Service: EventBridge, Status Code: 400)",
        ),
        (
            lambda p: len(p.get("Targets") or []) > 5,
            "The requested resource exceeds the maximum number allowed: 5 targets",
        ),
        (
            lambda p: first(
                json.loads(refusal[2])["message"]
                for refusal in map(eventbridge._validate_target_arn, p.get("Targets") or [])
                if refusal
            ),
            "{} (Service: EventBridge, Status Code: 400)",
        ),
    ],
    "AWS::Lambda::Alias": [FUNCTION],
    "AWS::Lambda::Permission": [FUNCTION],
    "AWS::Lambda::Version": [FUNCTION],
    "AWS::Lambda::EventSourceMapping": [
        FUNCTION,
        (lambda p: is_missing(p.get("EventSourceArn", "")), NO_SOURCE),
        (
            lambda p: is_closed(
                find_function(p["FunctionName"])["config"]["Role"], p.get("EventSourceArn", "")
            ),
            NOT_RECEIVED.format("execution"),
        ),
    ],
    "AWS::SQS::QueuePolicy": [
        (
            lambda p: any(name_of(url) not in sqs._queue_name_to_url for url in p["Queues"]),
            "The specified queue does not exist. (Service: Sqs, Status Code: 400)",
        )
    ],
    "AWS::SNS::TopicPolicy": [
        (lambda p: not all(map(sns.topic_policy_for_arn, p["Topics"])), TOPIC)
    ],
    "AWS::SNS::Subscription": [(lambda p: not sns.topic_policy_for_arn(p["TopicArn"]), TOPIC)],
    "AWS::S3::BucketPolicy": [
        (
            lambda p: p["Bucket"] not in s3._buckets,
            "The specified bucket does not exist (Service: S3, Status Code: 404)",
        )
    ],
    "AWS::Events::Archive": [
        (lambda p: missing_bus(p["SourceArn"]), "Event bus {} does not exist.")
    ],
    "AWS::Events::EventBusPolicy": [
        (
            lambda p: missing_bus(p.get("EventBusName") or "default"),
            "Event bus {} does not exist.",
        )
    ],
    # What a key's policy allows CloudWatch Logs is not checked.
    "AWS::Logs::LogGroup": [
        (
            lambda p: (
                p.get("KmsKeyId")
                and not kms._resolve_key(p["KmsKeyId"])
                and f"arn:aws:logs:{get_region()}:{get_account_id()}:log-group:"
                f"{p.get('LogGroupName', '*')}"
            ),
            "The specified KMS key does not exist or is not allowed to be used with Arn '{}'",
        )
    ],
    "AWS::Logs::LogStream": [LOG_GROUP],
    "AWS::Logs::MetricFilter": [LOG_GROUP],
    "AWS::Logs::SubscriptionFilter": [LOG_GROUP],
    "AWS::IAM::ManagedPolicy": [
        (
            lambda p: first(name for name in p.get("Roles") or [] if name not in iam._roles),
            "The role with name {} cannot be found. (Service: Iam, Status Code: 404)",
        )
    ],
    "AWS::IAM::Role": [
        (
            # AWS's own policies are assumed to exist.
            lambda p: first(
                arn
                for arn in p.get("ManagedPolicyArns") or []
                if "::aws:" not in arn and arn not in iam._policies
            ),
            "Policy {} does not exist or is not attachable. (Service: Iam, Status Code: 404)",
        )
    ],
    "AWS::KMS::Alias": [
        (
            lambda p: "" if kms._resolve_key(p["TargetKeyId"]) else p["TargetKeyId"],
            "Key '{}' does not exist (Service: Kms, Status Code: 400)",
        )
    ],
    # Whether a pipe's target exists shows with the first event.
    "AWS::Pipes::Pipe": [
        (
            lambda p: not trusts(p["RoleArn"], "pipes"),
            f"{PIPE}The provided customer role cannot be assumed by Pipes",
        ),
        (lambda p: is_missing(p["Source"]), PIPE + NO_SOURCE),
        (lambda p: is_closed(p["RoleArn"], p["Source"]), PIPE + NOT_RECEIVED.format("customer")),
        (  # the text is a guess
            lambda p: first(
                eventbridge._event_pattern_error(each["Pattern"])
                for each in p.get("SourceParameters", {})
                .get("FilterCriteria", {})
                .get("Filters", [])
            ),
            PIPE + "Event pattern is not valid. Reason: {}",
        ),
    ],
    # Scheduler does not check the target.
    "AWS::Scheduler::Schedule": [
        (senders.invalid, "Invalid Schedule Expression {}."),
        (
            lambda p: missing_group(p.get("GroupName") or "default"),
            "Schedule group {} does not exist. (Service: Scheduler, Status Code: 404)",
        ),
        (
            lambda p: not trusts(p["Target"]["RoleArn"], "scheduler"),
            (
                "The execution role you provide must allow AWS EventBridge Scheduler to assume the "
                "role."
            ),
        ),
    ],
    "AWS::StepFunctions::StateMachine": [
        (
            lambda p: not trusts(p["RoleArn"], "states"),
            (
                "Neither the global service principal states.amazonaws.com, nor the regional one "
                "is authorized to assume the provided role."
            ),
        )
    ],
}


def with_checks(checks: list[Check], position: int, original: Original, *arguments: Any) -> Any:
    """Create or update a resource unless its properties, at that position, fail a check."""
    for find_wrong, refusal in checks:
        try:
            wrong = find_wrong(arguments[position])
        except KeyError as missing:
            text = f"[#: required key [{missing.args[0]}] not found]"
            raise ValueError(f"Properties validation failed with message: {text}") from None
        if wrong:
            raise ValueError(refusal.format(wrong))
    return original(*arguments)


for _type, _checks in CHECKS.items():
    for _verb, _position in {"create": 1, "update": 2}.items():
        if _verb in KNOWN[_type]:
            patch(_verb, KNOWN[_type])(functools.partial(with_checks, _checks, _position))
