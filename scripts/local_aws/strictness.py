"""Refusals of CloudFormation that MiniStack leaves out, and what else it answers differently."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudformation, cloudwatch, eventbridge, kms, lambda_svc, s3
from ministack.services.cloudformation import changesets, drift, helpers, provisioners

from scripts.local_aws.announcements import Answer, Handler
from scripts.local_aws.resources import with_bus_settings

Json = dict[str, Any]
NAMED = {  # type: (property that names it, its physical id)
    "AWS::Logs::LogGroup": ("LogGroupName", "{name}"),
    "AWS::Events::Rule": ("Name", "{name}"),
    "AWS::IAM::Role": ("RoleName", "{name}"),
    "AWS::Lambda::Function": ("FunctionName", "{name}"),
    "AWS::SQS::Queue": ("QueueName", "http://localhost:{port}/{account}/{name}"),
    "AWS::SNS::Topic": ("TopicName", "arn:aws:sns:{region}:{account}:{name}"),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", "arn:aws:states:{region}:{account}:stateMachine:{name}"),
}


def create_once(kind: str, stock: Callable[..., Any], logical_id: str, props: Json, stack: str) -> Any:
    """A second resource under a name that is taken fails; MiniStack lets it take the first one over."""
    key, pattern = NAMED[kind]
    if props.get(key):
        port = os.environ["GATEWAY_PORT"]
        physical_id = pattern.format(name=props[key], account=get_account_id(), region=get_region(), port=port)
        if drift._DRIFT_READERS[kind][0](physical_id, props) is not None:
            text = f"Resource of type '{kind}' with identifier '{props[key]}' already exists."
            raise ValueError(f"{text} (HandlerErrorCode: AlreadyExists)")
    return stock(logical_id, props, stack)


def check_rule(stock: Callable[..., Any], *arguments: Any) -> Any:
    """What PutRule and PutTargets check; MiniStack's provisioner writes past them."""
    props = arguments[-2] if isinstance(arguments[-2], dict) else arguments[-3]
    pattern = props.get("EventPattern") or ""
    wrong = eventbridge._event_pattern_error(pattern if isinstance(pattern, str) else json.dumps(pattern))
    if wrong:
        raise ValueError(f"Event pattern is not valid. Reason: {wrong} (Service: EventBridge, Status Code: 400)")
    targets = props.get("Targets") or []
    if len(targets) > 5:
        raise ValueError("The requested resource exceeds the maximum number allowed: 5 targets (Service: EventBridge)")
    for target in targets:
        if refused := eventbridge._validate_target_arn(target):
            raise ValueError(f"{json.loads(refused[2])['message']} (Service: EventBridge, Status Code: 400)")
    bus = props.get("EventBusName", "default").rsplit("/", 1)[-1]
    if bus != "default" and bus not in eventbridge._event_buses:
        raise ValueError(f"Event bus {bus} does not exist. (Service: EventBridge, Status Code: 400)")
    return stock(*arguments)


def check_function(stock: Callable[..., Any], logical_id: str, props: Json, stack: str) -> Any:
    """A permission needs its function."""
    name = props["FunctionName"]
    arn = name if name.startswith("arn:") else f"arn:aws:lambda:{get_region()}:{get_account_id()}:function:{name}"
    if lambda_svc.function_policy_for_arn(arn) is None:
        raise ValueError(f"Function not found: {arn} (Service: Lambda, Status Code: 404)")
    return stock(logical_id, props, stack)


def check_empty(stock: Callable[..., Any], name: str, props: Json) -> None:
    """A bucket with objects in it is not deleted."""
    if (s3._buckets.get(name) or {}).get("objects"):
        raise ValueError("The bucket you tried to delete is not empty (Service: S3, Status Code: 409)")
    stock(name, props)


def mend(handlers: dict[str, Json]) -> None:
    """Put the checks before the handlers of the resource types."""
    before: list[tuple[str, str, Callable[..., Any]]] = [
        *((kind, "create", partial(create_once, kind)) for kind in NAMED),
        ("AWS::Events::Rule", "create", check_rule), ("AWS::Events::Rule", "update", check_rule),
        ("AWS::Lambda::Permission", "create", check_function), ("AWS::S3::Bucket", "delete", check_empty),
        ("AWS::Events::EventBus", "create", with_bus_settings), ("AWS::Events::EventBus", "update", with_bus_settings),
    ]  # fmt: skip
    for kind, verb, check in before:
        handlers[kind][verb] = partial(check, handlers[kind][verb])


def resolve_url(stock: Callable[..., Any], params: Json, body_key: str, url_key: str, label: str) -> Any:
    """``https://bucket.s3.region.amazonaws.com/key`` is ``/bucket/key`` to MiniStack."""
    value = params.get(url_key) or ""
    url = urlsplit(value[0] if isinstance(value, list) else value)
    host = re.fullmatch(r"(?P<bucket>.+)\.s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?", url.hostname or "")
    if host:
        params = {**params, url_key: [f"https://s3.amazonaws.com/{host['bucket']}{url.path}"]}
    return stock(params, body_key, url_key, label)


def covers(statement: Json, key: str, value: str) -> bool:
    """Whether a statement's Action or Resource (or NotAction, NotResource) takes in the value."""
    listed = statement.get(key, statement.get(f"Not{key}", []))
    hit = any(fnmatchcase(value, pattern) for pattern in ([listed] if isinstance(listed, str) else listed))
    return hit if key in statement else not hit


def update_if_allowed(
    stock: Callable[..., Any], kind: str, physical_id: str, old: Json, new: Json, stack: str, *rest: Any
) -> Any:
    """A stack policy keeps its resources from updates (user guide, 'Prevent updates to stack resources')."""
    policy = (cloudformation._stacks.get(stack) or {}).get("_stack_policy")
    if policy and old != new:
        replaces = provisioners._replacing_change(kind, old, new)
        action, resource = f"Update:{'Replace' if replaces else 'Modify'}", f"LogicalResourceId/{rest[0]}"
        statements = json.loads(policy)["Statement"]
        effects = {s["Effect"] for s in statements if covers(s, "Action", action) and covers(s, "Resource", resource)}
        if effects != {"Allow"}:
            raise ValueError(f"Action denied by stack policy: Statement does not allow {action} on {resource}")
    return stock(kind, physical_id, old, new, stack, *rest)


async def with_property_values(
    stock: Handler, method: str, path: str, headers: Any, body: Any, query: Any
) -> Answer:
    """DescribeChangeSet with IncludePropertyValues: each resource and property, before and after."""
    answer = await stock(method, path, headers, body, query)
    form = {k: v[0] for k, v in {**query, **parse_qs((body or b"").decode())}.items()}
    if form.get("Action") != "DescribeChangeSet" or form.get("IncludePropertyValues") != "true" or answer[0] >= 300:
        return answer
    _, change_set = changesets._find_change_set(form["ChangeSetName"], form.get("StackName", ""))
    stack = cloudformation._stacks.get(change_set["StackName"]) or {}
    after = changesets._resolve_props_for_diff(
        change_set["_template"], change_set["_resolved_params"], change_set["StackName"], change_set["StackId"]
    )["Resources"]
    before = stack.get("_resources", {})
    ET.register_namespace("", helpers.CFN_NS)
    root, ns = ET.fromstring(answer[2]), f"{{{helpers.CFN_NS}}}"
    for change in root.iter(f"{ns}ResourceChange"):
        name = change.findtext(f"{ns}LogicalResourceId")
        for side, there in (("Before", before), ("After", after)):
            props = there.get(name, {}).get("Properties")
            if props is None:
                continue
            ET.SubElement(change, f"{ns}{side}Context").text = json.dumps({"Properties": props}, default=str)
            for target in change.iter(f"{ns}Target"):
                key = target.findtext(f"{ns}Name")
                if key:
                    value = props.get(key)
                    text = value if isinstance(value, str) else json.dumps(value, default=str)
                    ET.SubElement(target, f"{ns}{side}Value").text = text
        for target in change.iter(f"{ns}Target"):
            if (key := target.findtext(f"{ns}Name")) and target.find(f"{ns}Path") is None:
                ET.SubElement(target, f"{ns}Path").text = f"/Properties/{key}"
    return answer[0], answer[1], ET.tostring(root)
