"""What a rule's target gets, and whether it may get it.

MiniStack delivers to any target that exists. EventBridge asks first: the target's resource policy (Lambda, SQS, SNS,
log groups) or the target's role (buses, state machines, and any target that names one). What is refused goes to the
target's dead-letter queue at once, without retries (EventBridge guide, 'Using dead-letter queues').
"""

from __future__ import annotations

import contextvars
import json
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from ministack.core.iam_evaluator import EvalContext, evaluate, evaluate_resource_policy
from ministack.core.responses import get_account_id, get_region, set_request_account_id, set_request_region
from ministack.services import cloudwatch_logs, eventbridge, iam, lambda_svc, sns, sqs  # noqa: F401 - loads the logs

from scripts.local_aws.ministack import AwsError, call, log, module, send

Json = dict[str, Any]
EVENTS = "events.amazonaws.com"
POLICIES: dict[str, Callable[[str], tuple[Any, str] | None]] = {
    "lambda": lambda_svc.function_policy_for_arn,
    "sqs": sqs.queue_policy_for_arn,
    "sns": sns.topic_policy_for_arn,
}
ACTIONS = {
    "lambda": "lambda:InvokeFunction", "sqs": "sqs:SendMessage", "sns": "sns:Publish", "events": "events:PutEvents",
    "states": "states:StartExecution", "kinesis": "kinesis:PutRecord", "firehose": "firehose:PutRecord",
}  # fmt: skip


class NotDelivered(Exception):  # noqa: N818 - it is an answer, not a fault
    """A target took nothing; ``code`` is what EventBridge writes into the dead letter as ERROR_CODE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def admits(policies: Iterable[Any], principal: str, action: str, resource: str, **keys: str) -> bool:
    """Whether resource policies let an AWS service or a role (an ARN) act on the resource; a Deny in any wins."""
    context = {"aws:sourceaccount": get_account_id(), **{key.replace("_", ":"): value for key, value in keys.items()}}
    is_role = principal.startswith("arn:")
    question = EvalContext(
        principal if is_role else "", "AssumedRole" if is_role else "Service", get_account_id(), action, resource,
        get_region(), secure_transport=True, service_context=context,
    )  # fmt: skip
    service = None if is_role else principal
    decisions = [evaluate_resource_policy(policy, question, service=service).decision for policy in policies]
    return "Allow" in decisions and "Deny" not in decisions


def role_allows(role_arn: str, principal: str, action: str, resource: str, **keys: str) -> bool:
    """Whether the service may assume the role and the role's policies allow the action."""
    name, account = role_arn.rsplit("/", 1)[-1], role_arn.split(":")[4]
    role = iam._roles.get_scoped(account, None, name)
    if role is None or not admits([role["AssumeRolePolicyDocument"]], principal, "sts:AssumeRole", role_arn, **keys):
        return False
    question = EvalContext(role_arn, "AssumedRole", account, action, resource, get_region())
    policies = module("core.iam_evaluator")._gather_role_policies(name, account)
    return bool(evaluate(question, policies).decision == "Allow")


def check_permission(target: Json, rule_arn: str) -> None:
    """Raise NotDelivered unless EventBridge may deliver to the target."""
    arn, role = target["Arn"], target.get("RoleArn")
    service = arn.split(":")[2]
    if service == "logs":
        return check_log_group(arn.removesuffix(":*"), rule_arn)
    if service not in ACTIONS:
        return None
    found = POLICIES[service](arn) if service in POLICIES else ({}, "")
    if found is None:
        raise NotDelivered("NO_RESOURCE", f"{arn} does not exist")
    action = "events:InvokeApiDestination" if ":api-destination/" in arn else ACTIONS[service]
    # That a bus of the same account and region needs a role as well is a guess: the guide's examples all have one.
    keys = {"aws_sourcearn": rule_arn}
    if not (role_allows(role, EVENTS, action, arn, **keys) if role else admits([found[0]], EVENTS, action, arn, **keys)):
        raise NotDelivered("NO_PERMISSIONS", f"{role or f'the policy of {arn}'} does not allow {action} from {rule_arn}")
    return None


def check_log_group(arn: str, rule_arn: str) -> None:
    """Both actions for both principals, as the policy has it that the console makes.

    Seen in public reports only: whether AWS would be content with one of the two principals was never tried. A
    CreateLogStream request carries no aws:SourceArn (serverless-patterns pull request 618).
    """
    describe = "Logs_20140328.DescribeResourcePolicies"
    found = call("cloudwatch_logs", describe)["resourcePolicies"]
    found += call("cloudwatch_logs", describe, resourceArn=arn, policyScope="RESOURCE")["resourcePolicies"]
    policies = [policy["policyDocument"] for policy in found]
    for principal in (EVENTS, "delivery.logs.amazonaws.com"):
        for action, keys in (("logs:CreateLogStream", {}), ("logs:PutLogEvents", {"aws_sourcearn": rule_arn})):
            if not admits(policies, principal, action, f"{arn}:log-stream:events", **keys):
                raise NotDelivered("NO_PERMISSIONS", f"no logs resource policy lets {principal} do {action} on {arn}")


def payload_of(target: Json, rule: Json, view: Any) -> str:
    """The event, or what the target's Input, InputPath or InputTransformer makes of it."""
    if target.get("InputTransformer"):
        return str(eventbridge._apply_input_transformer(target["InputTransformer"], rule, view))
    if target.get("Input"):
        return str(target["Input"])
    value = view.event_with_detail()
    for step in (target.get("InputPath") or "$").removeprefix("$").strip(".").split("."):
        value = value.get(step) if step and isinstance(value, dict) else value
    return json.dumps(value, separators=(",", ":"))


def to_log_group(target: Json, rule: Json, view: Any) -> None:
    """One log event per delivery; an InputTransformer has to make ``{"timestamp": ms, "message": text}``."""
    message, when = payload_of(target, rule, view), int(time.time() * 1000)
    if target.get("InputTransformer"):
        try:
            made = json.loads(message)
            message, when = made["message"], int(made["timestamp"])
        except (ValueError, KeyError, TypeError) as error:
            text = f"a log group takes {{timestamp, message}}, not {message}"
            raise NotDelivered("INVALID_PARAMETER", text) from error  # the code is a guess
        message = message if isinstance(message, str) else json.dumps(message)
    group = target["Arn"].removesuffix(":*").split(":log-group:", 1)[1]
    stream = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{rule['Arn']}/{target['Id']}"))  # AWS: a UUID; how chosen is unknown
    where = {"logGroupName": group, "logStreamName": stream}
    try:
        call("cloudwatch_logs", "Logs_20140328.CreateLogStream", **where)
    except AwsError as error:
        if "AlreadyExists" not in error.code:
            raise NotDelivered("NO_RESOURCE", str(error)) from error
    call("cloudwatch_logs", "Logs_20140328.PutLogEvents", **where, logEvents=[{"timestamp": when, "message": message}])


def to_bus(target: Json, rule: Json, view: Any, event: Json) -> None:
    """Hand the event, its own account and region kept, to another bus, of another region or account too."""
    account, region, bus = (parts := target["Arn"].split(":"))[4], parts[3], parts[5].removeprefix("event-bus/")
    here = get_account_id(), get_region()
    if (event["Account"], event["Region"]) != here and (account, region) != here:
        hop = "ACCOUNT" if account != here[0] else "REGION"
        raise NotDelivered(f"THIRD_{hop}_HOP_DETECTED", f"{target['Arn']}: events cross one border only")
    path = [*(event.get("_DispatchPath") or []), eventbridge._rule_key(rule["Name"], rule["EventBusName"])]
    given = {"Detail": payload_of(target, rule, view)} if any(key.startswith("Input") for key in target) else {}

    def there() -> None:
        set_request_account_id(account)
        set_request_region(region)
        if bus not in eventbridge._event_buses:
            raise NotDelivered("NO_RESOURCE", f"{target['Arn']} does not exist")
        policy = eventbridge._event_bus_policies.get(bus)
        if account != here[0] and not admits([policy], target.get("RoleArn", ""), "events:PutEvents", target["Arn"]):
            raise NotDelivered("NO_PERMISSIONS", f"the policy of {target['Arn']} does not admit {here[0]}")
        # MiniStack keeps rule keys to stop loops; they mean something within one account and region only.
        passed = {**event, **given, "EventBusName": bus, "_DispatchPath": path if (account, region) == here else []}
        eventbridge._dispatch_event(passed)
        eventbridge._archive_event({key: value for key, value in passed.items() if key != "_DispatchPath"})

    contextvars.copy_context().run(there)


def to_function(target: Json, rule: Json, view: Any) -> None:
    """An asynchronous invocation, so that the function's EventInvokeConfig (retries, destinations) counts."""
    path = f"/2015-03-31/functions/{quote(target['Arn'], safe='')}/invocations"
    headers = {"x-amz-invocation-type": "Event", "content-type": "application/json"}
    status, answer = send("lambda_svc", "POST", path, headers, payload_of(target, rule, view).encode())
    if status >= 300:
        raise NotDelivered("ERROR_FROM_TARGET", f"{target['Arn']}: {answer.decode(errors='replace')}")


def bury(target: Json, rule: Json, view: Any, failure: NotDelivered) -> None:
    """Put the event on the target's dead-letter queue, with the four attributes that say why."""
    log.warning("not delivered: %s -> %s: %s %s", rule["Arn"], target["Arn"], failure.code, failure)
    arn = (target.get("DeadLetterConfig") or {}).get("Arn")
    if not arn:
        return
    if arn.endswith(".fifo") or arn.split(":")[3] != get_region():
        raise NotDelivered("NO_STANDARD_QUEUE", f"{arn} is not a standard queue of this region")
    check_permission({"Arn": arn}, rule["Arn"])
    why = {"RULE_ARN": rule["Arn"], "TARGET_ARN": target["Arn"], "ERROR_CODE": failure.code, "ERROR_MESSAGE": str(failure)}
    url = call("sqs", "AmazonSQS.GetQueueUrl", QueueName=arn.rsplit(":", 1)[1])["QueueUrl"]
    call("sqs", "AmazonSQS.SendMessage", QueueUrl=url, MessageBody=json.dumps(view.event_with_detail()),
         MessageAttributes={key: {"DataType": "String", "StringValue": text} for key, text in why.items()})  # fmt: skip


def deliver(stock: Callable[..., None], target: Json, event: Json, rule: Json, view: Any = None) -> None:
    """In place of MiniStack's own delivery: ask, deliver, and bury what was not taken. Raises nothing."""
    view = view or eventbridge._pattern_event_view(event)
    service, region = target["Arn"].split(":")[2:4]
    try:
        try:
            if ":rule/" in rule.get("Arn", ""):  # a schedule of Scheduler acts as its own role instead
                if service in (*POLICIES, "logs") and region != get_region():
                    raise NotDelivered("NO_RESOURCE", f"{target['Arn']} is in another region")
                check_permission(target, rule["Arn"])
            if service == "logs":
                to_log_group(target, rule, view)
            elif ":event-bus/" in target["Arn"]:
                to_bus(target, rule, view, event)
            elif service == "lambda":
                to_function(target, rule, view)
            else:
                stock(target, event, rule, view)
        except NotDelivered as failure:
            bury(target, rule, view, failure)
    except (NotDelivered, AwsError) as second:
        log.warning("nor to its dead-letter queue: %s", second)
    except Exception:  # one target must not take the others' events with it
        log.exception("delivery to %s", target["Arn"])


def check_target(stock: Callable[[Json], Any], target: Json) -> Any:
    """PutTargets refuses a role on a log group (terraform-aws-eventbridge issue 136; the wording is from there)."""
    refused = stock(target)
    if refused is None and target.get("RoleArn") and target["Arn"].split(":")[2] == "logs":
        text = f"RoleArn is not supported for target {target['Arn']}."
        refused = 400, {}, json.dumps({"__type": "ValidationException", "message": text}).encode()
    return refused
