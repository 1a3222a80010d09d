"""What a rule's target gets, and whether it may get it.

MiniStack delivers to any target that exists. EventBridge asks first: the target's resource policy (Lambda, SQS, SNS,
log groups) or its role (buses, state machines, and any target that names one). What is refused goes to the target's
dead-letter queue at once, without retries (EventBridge guide, 'Using dead-letter queues').
"""

from __future__ import annotations

import contextvars
import json
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ministack.core import iam_evaluator
from ministack.core.responses import get_account_id, get_region, set_request_account_id, set_request_region
from ministack.services import eventbridge, iam, lambda_svc, sns, sqs

from scripts.local_aws.ministack import AwsError, call, log, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Json = dict[str, Any]
EVENTS = "events.amazonaws.com"
POLICIES = {
    "lambda": lambda_svc.function_policy_for_arn, "sqs": sqs.queue_policy_for_arn, "sns": sns.topic_policy_for_arn,
}  # fmt: skip
ACTIONS = {
    "lambda": "lambda:InvokeFunction", "sqs": "sqs:SendMessage", "sns": "sns:Publish", "events": "events:PutEvents",
    "states": "states:StartExecution", "kinesis": "kinesis:PutRecord", "firehose": "firehose:PutRecord",
}  # fmt: skip

SLOTS = threading.BoundedSemaphore(2 * (os.cpu_count() or 2))


class NotDelivered(Exception):  # noqa: N818 - it is an answer, not a fault
    """A target took nothing: what EventBridge writes into the dead letter as ERROR_CODE and ERROR_MESSAGE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def admits(policies: Iterable[Any], principal: str, action: str, resource: str, keys: Json | None = None) -> bool:
    """Whether resource policies let a service or a role (an ARN) act on the resource; a Deny in any of them wins.

    ``keys`` are condition keys of the request, in lower case.
    """
    role, service = (principal, None) if principal.startswith("arn:") else ("", principal)
    question = iam_evaluator.EvalContext(
        role, "AssumedRole", get_account_id(), action, resource, get_region(), secure_transport=True,
        service_context={"aws:sourceaccount": get_account_id(), **(keys or {})},
    )  # fmt: skip
    results = [iam_evaluator.evaluate_resource_policy(policy, question, service=service) for policy in policies]
    return {result.decision for result in results} - {"ImplicitDeny"} == {"Allow"}


def role_allows(arn: str, action: str, resource: str, keys: Json) -> bool:
    """Whether EventBridge may assume the role, and the role's policies allow the action."""
    name, account = arn.rsplit("/", 1)[-1], arn.split(":")[4]
    role = iam._roles.get_scoped(account, None, name)
    if role is None or not admits([role["AssumeRolePolicyDocument"]], EVENTS, "sts:AssumeRole", arn, keys):
        return False
    question = iam_evaluator.EvalContext(arn, "AssumedRole", account, action, resource, get_region())
    return bool(
        iam_evaluator.evaluate(question, iam_evaluator._gather_role_policies(name, account)).decision == "Allow"
    )


def check_permission(arn: str, role: str | None, rule_arn: str) -> None:
    """Raise NotDelivered unless EventBridge may deliver to the target.

    A log group needs both actions for both principals, as the policy that the console makes has them; whether AWS is
    content with one principal was never tried. CreateLogStream carries no SourceArn (serverless-patterns PR 618).
    That a bus of the same account and region needs a role is a guess: the guide's examples all have one.
    """
    service, keys = arn.split(":")[2], {"aws:sourcearn": rule_arn}
    action = "events:InvokeApiDestination" if ":api-destination/" in arn else ACTIONS.get(service, "")
    if service == "logs":
        describe = "Logs_20140328.DescribeResourcePolicies"
        found = call("cloudwatch_logs", describe)["resourcePolicies"]
        found += call("cloudwatch_logs", describe, resourceArn=arn, policyScope="RESOURCE")["resourcePolicies"]
        allowed = all(
            admits([policy["policyDocument"] for policy in found], principal, action, f"{arn}:log-stream:x", given)
            for principal in (EVENTS, "delivery.logs.amazonaws.com")
            for action, given in (("logs:CreateLogStream", {}), ("logs:PutLogEvents", keys))
        )
    else:
        policy = POLICIES[service](arn) if service in POLICIES else ({}, "")
        if policy is None:
            raise NotDelivered("NO_RESOURCE", f"{arn} does not exist")
        given = json.loads(policy[0] or "{}") if isinstance(policy[0], str) else policy[0]
        # The statement that every topic is born with holds for its owner alone; the provisioner forgets to say so.
        own = [one for one in given.get("Statement", ()) if one.get("Sid") != "__default_statement_ID"]
        allowed = (
            role_allows(role, action, arn, keys) if role else admits([{"Statement": own}], EVENTS, action, arn, keys)
        )
    if not allowed and (action or service == "logs"):
        raise NotDelivered("NO_PERMISSIONS", f"{role or f'the policy of {arn}'} does not let {rule_arn} deliver")


def payload_of(target: Json, rule: Json, view: Any) -> str:
    """The event, or what the target's Input, InputPath or InputTransformer makes of it."""
    if target.get("InputTransformer"):
        return str(eventbridge._apply_input_transformer(target["InputTransformer"], rule, view))
    value = view.event_with_detail()
    for step in (target.get("InputPath") or "$").removeprefix("$").strip(".").split("."):
        value = value.get(step) if step and isinstance(value, dict) else value
    return target.get("Input") or json.dumps(value, separators=(",", ":"))


def to_log_group(target: Json, rule: Json, view: Any) -> None:
    """One log event per delivery; an InputTransformer has to make ``{"timestamp": ms, "message": text}``."""
    message, when = payload_of(target, rule, view), int(time.time() * 1000)
    if target.get("InputTransformer"):
        try:
            made = json.loads(message)
            message, when = made["message"], int(made["timestamp"])
        except (ValueError, KeyError, TypeError) as error:  # the code is a guess
            raise NotDelivered("INVALID_PARAMETER", f"a log group takes timestamp and message: {message}") from error
    where = {
        "logGroupName": target["Arn"].removesuffix(":*").split(":log-group:", 1)[1],
        "logStreamName": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{rule['Arn']}/{target['Id']}")),  # AWS: some UUID
    }
    try:
        call("cloudwatch_logs", "Logs_20140328.CreateLogStream", **where)
    except AwsError as error:
        if "ResourceAlreadyExists" not in str(error):
            raise NotDelivered("NO_RESOURCE", str(error)) from error
    text = message if isinstance(message, str) else json.dumps(message)
    call("cloudwatch_logs", "Logs_20140328.PutLogEvents", **where, logEvents=[{"timestamp": when, "message": text}])


def to_bus(target: Json, rule: Json, view: Any, event: Json) -> None:
    """Hand the event, its own account and region kept, to another bus, of another region or account too."""
    (region, account), bus = target["Arn"].split(":")[3:5], target["Arn"].rsplit("/", 1)[1]
    here, there = (get_account_id(), get_region()), (account, region)
    if here not in ((event["Account"], event["Region"]), there):
        hop = "ACCOUNT" if account != here[0] else "REGION"
        raise NotDelivered(f"THIRD_{hop}_HOP_DETECTED", f"{target['Arn']}: an event crosses one border only")
    # MiniStack keeps the keys of rules to stop loops; they mean something within one account and region only.
    path = [*(event.get("_DispatchPath") or []), eventbridge._rule_key(rule["Name"], rule["EventBusName"])]
    given = {"Detail": payload_of(target, rule, view)} if any(key.startswith("Input") for key in target) else {}

    def arrive() -> None:
        set_request_account_id(account)
        set_request_region(region)
        if bus not in eventbridge._event_buses:
            raise NotDelivered("NO_RESOURCE", f"{target['Arn']} does not exist")
        policy = eventbridge._event_bus_policies.get(bus)
        if account != here[0] and not admits([policy], target["RoleArn"], "events:PutEvents", target["Arn"]):
            raise NotDelivered("NO_PERMISSIONS", f"the policy of {target['Arn']} does not admit {here[0]}")
        passed = {**event, **given, "EventBusName": bus}
        eventbridge._dispatch_event({**passed, "_DispatchPath": path if here == there else []})
        eventbridge._archive_event(passed)

    contextvars.copy_context().run(arrive)


def bury(target: Json, rule: Json, view: Any, failure: NotDelivered) -> None:
    """Put the event on the target's dead-letter queue, with the four attributes that say why."""
    log.warning("not delivered: %s -> %s: %s %s", rule["Arn"], target["Arn"], failure.code, failure)
    if not (arn := (target.get("DeadLetterConfig") or {}).get("Arn")):
        return
    if arn.endswith(".fifo") or arn.split(":")[3] != get_region():
        raise NotDelivered("NO_STANDARD_QUEUE", f"{arn} is not a standard queue of this region")
    check_permission(arn, None, rule["Arn"])
    why = {"RULE_ARN": rule["Arn"], "TARGET_ARN": target["Arn"], "ERROR_CODE": failure.code}
    why["ERROR_MESSAGE"] = str(failure)
    attributes = {key: {"DataType": "String", "StringValue": text} for key, text in why.items()}
    url = call("sqs", "AmazonSQS.GetQueueUrl", QueueName=arn.rsplit(":", 1)[1])["QueueUrl"]
    body = json.dumps(view.event_with_detail())
    call("sqs", "AmazonSQS.SendMessage", QueueUrl=url, MessageBody=body, MessageAttributes=attributes)


def deliver(stock: Callable[..., None], target: Json, event: Json, rule: Json, view: Any = None) -> None:
    """In place of MiniStack's own delivery: ask, deliver, and bury what was not taken. Raises nothing."""
    view, arn = view or eventbridge._pattern_event_view(event), target["Arn"]
    service, region = arn.split(":")[2:4]
    try:
        try:
            if region != get_region() and service in (*POLICIES, "logs"):
                raise NotDelivered("NO_RESOURCE", f"{arn} is in another region")  # noqa: TRY301 - one way to the queue
            if ":rule/" in rule["Arn"]:  # a schedule of Scheduler acts as its own role instead
                check_permission(arn.removesuffix(":*"), target.get("RoleArn"), rule["Arn"])
            if service == "logs":
                to_log_group(target, rule, view)
            elif ":event-bus/" in arn:
                to_bus(target, rule, view, event)
            elif service == "lambda":  # an asynchronous invocation: the function's EventInvokeConfig counts
                path, headers = (
                    f"/2015-03-31/functions/{quote(arn, safe='')}/invocations",
                    {"x-amz-invocation-type": "Event"},
                )
                status, answer = send("lambda_svc", "POST", path, headers, payload_of(target, rule, view).encode())
                if status >= 300:
                    raise NotDelivered("ERROR_FROM_TARGET", f"{arn}: {answer!r}")  # noqa: TRY301
            else:
                stock(target, event, rule, view)
        except NotDelivered as failure:
            bury(target, rule, view, failure)
    except (NotDelivered, AwsError) as second:
        log.warning("nor to its dead-letter queue: %s", second)
    except Exception:  # noqa: BLE001 - one target must not take the others' events with it
        log.exception("delivery to %s", arn)


def check_target(stock: Callable[[Json], Any], target: Json) -> Any:
    """PutTargets refuses a role on a log group (terraform-aws-eventbridge issue 136; the wording is from there)."""
    if target.get("RoleArn") and ":log-group:" in target["Arn"]:
        text = f"RoleArn is not supported for target {target['Arn']}."
        return 400, {}, json.dumps({"__type": "ValidationException", "message": text}).encode()
    return stock(target)


def in_turn(stock: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function when few others run: a burst of events queues, as on AWS, and starts no interpreter for each."""
    taken = SLOTS.acquire(timeout=5)  # no longer: a function that waits for another one would hold up itself
    try:
        return stock(*arguments)
    finally:
        if taken:
            SLOTS.release()
