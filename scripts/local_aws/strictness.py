"""What CloudFormation refuses and MiniStack lets pass, and two things that it answers and MiniStack does not."""

from __future__ import annotations

import functools
import json
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudformation, eventbridge, lambda_svc, s3
from ministack.services.cloudformation import changesets, drift, engine, helpers, provisioners

from scripts.local_aws.deliveries import admits

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripts.local_aws.announcements import Answer, Handler

Json = dict[str, Any]
# Type -> the property that names it, its physical id.
NAMED = {
    "AWS::Logs::LogGroup": ("LogGroupName", "{name}"),
    "AWS::Events::Rule": ("Name", "{name}"),
    "AWS::IAM::Role": ("RoleName", "{name}"),
    "AWS::Lambda::Function": ("FunctionName", "{name}"),
    "AWS::SQS::Queue": ("QueueName", "http://localhost:{port}/{account}/{name}"),
    "AWS::SNS::Topic": ("TopicName", "arn:aws:sns:{region}:{account}:{name}"),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", "arn:aws:states:{region}:{account}:stateMachine:{name}"),
}


def check_name(kind: str, props: Json) -> None:
    """A second resource under a name that is taken fails; MiniStack lets it take the first one over."""
    key, pattern = NAMED[kind]
    here = {"account": get_account_id(), "region": get_region(), "port": os.environ["GATEWAY_PORT"]}
    physical_id = pattern.format(name=props.get(key), **here)
    if props.get(key) and drift._DRIFT_READERS[kind][0](physical_id, props) is not None:
        text = f"Resource of type '{kind}' with identifier '{props[key]}' already exists."
        raise ValueError(f"{text} (HandlerErrorCode: AlreadyExists)")


def check_rule(props: Json) -> None:
    """What PutRule and PutTargets check; MiniStack's provisioner writes past them."""
    pattern, bus = props.get("EventPattern") or "", props.get("EventBusName", "default").rsplit("/", 1)[-1]
    wrong = eventbridge._event_pattern_error(pattern if isinstance(pattern, str) else json.dumps(pattern))
    problems = [f"Event pattern is not valid. Reason: {wrong}"] if wrong else []
    if len(props.get("Targets") or ()) > 5:
        problems += ["The requested resource exceeds the maximum number allowed: 5 targets"]
    refused = filter(None, map(eventbridge._validate_target_arn, props.get("Targets") or ()))
    problems += [json.loads(answer[2])["message"] for answer in refused]
    if bus != "default" and bus not in eventbridge._event_buses:
        problems += [f"Event bus {bus} does not exist."]
    if problems:
        raise ValueError(f"{problems[0]} (Service: EventBridge, Status Code: 400)")


def check_function(props: Json) -> None:
    """A permission needs its function."""
    name = props["FunctionName"]
    arn = name if name.startswith("arn:") else f"arn:aws:lambda:{get_region()}:{get_account_id()}:function:{name}"
    if lambda_svc.function_policy_for_arn(arn) is None:
        raise ValueError(f"Function not found: {arn} (Service: Lambda, Status Code: 404)")


def check_empty(name: str) -> None:
    """A bucket with objects in it is not deleted."""
    if (s3._buckets.get(name) or {}).get("objects"):
        raise ValueError("The bucket you tried to delete is not empty (Service: S3, Status Code: 409)")


def install() -> None:
    """Put the checks before the handlers; each takes one of (logical or physical id, properties …) by its place."""
    checks: list[tuple[str, str, int, Callable[[Any], None]]] = [
        *((kind, "create", 1, functools.partial(check_name, kind)) for kind in NAMED),
        ("AWS::Events::Rule", "create", 1, check_rule), ("AWS::Events::Rule", "update", 2, check_rule),
        ("AWS::Lambda::Permission", "create", 1, check_function), ("AWS::S3::Bucket", "delete", 0, check_empty),
    ]  # fmt: skip

    def checked(stock: Callable[..., Any], check: Callable[[Any], None], place: int, *arguments: Any) -> Any:
        check(arguments[place])
        return stock(*arguments)

    for kind, verb, place, check in checks:
        handler = provisioners._RESOURCE_HANDLERS[kind]
        handler[verb] = functools.partial(checked, handler[verb], check, place)


def resource_of(stock: Callable[..., str], service: str, *request: Any) -> str:
    """The ARN that a request is judged by, where MiniStack would refuse what AWS allows.

    That of a log group ends with ':*', as !GetAtt Arn does, except where tags are meant (service authorization
    reference of CloudWatch Logs). A change set named by its ARN is judged by that (seen on AWS by
    widdix/complete-aws-iam-reference, issue 6).
    """
    arn, tags = stock(service, *request), "Tag" in request[2].get("x-amz-target", "")
    if service == "cloudformation" and arn == "*":
        named = request[4].get("ChangeSetName") or "*"
        return str(named[0] if isinstance(named, list) else named)
    return f"{arn}:*" if service == "logs" and ":log-group:" in arn and not tags else arn


def resolve_url(stock: Callable[..., Any], params: Json, body_key: str, url_key: str, label: str) -> Any:
    """``https://bucket.s3.region.amazonaws.com/key`` is ``/bucket/key`` to MiniStack."""
    url = urlsplit((params.get(url_key) or [""])[0])
    host = re.fullmatch(r"(?P<bucket>.+)\.s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?", url.hostname or "")
    if host:
        params = {**params, url_key: [f"https://s3.amazonaws.com/{host['bucket']}{url.path}"]}
    return stock(params, body_key, url_key, label)


def evaluate_conditions(stock: Callable[..., Any], template: Json, params: Json) -> Any:
    """Conditions take pseudo parameters and Fn::FindInMap (user guide, 'Condition functions'); MiniStack does not."""

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(one) for one in value]
        if isinstance(value, dict) and not set(value) & {"Fn::And", "Fn::Or", "Fn::Not", "Fn::Equals", "Condition"}:
            return engine._resolve_refs(value, {}, params, {}, template.get("Mappings") or {}, "", "")
        return {key: resolve(one) for key, one in value.items()} if isinstance(value, dict) else value

    return stock({**template, "Conditions": resolve(template.get("Conditions") or {})}, params)


def resolve_for_diff(stock: Callable[..., Json], template: Json, params: Json, *rest: Any) -> Json:
    """A resource whose condition does not hold is in no change set; MiniStack counts it as an addition."""
    made, holds = stock(template, params, *rest), engine._evaluate_conditions(template or {}, params)
    there = {name: one for name, one in made.get("Resources", {}).items() if holds.get(one.get("Condition"), True)}
    return made and {"Resources": there}


def update_if_allowed(
    stock: Callable[..., Any], kind: str, name: str, old: Json, new: Json, stack: str, *rest: Any
) -> Any:
    """A stack policy keeps its resources from updates (user guide, 'Prevent updates to stack resources')."""
    policy = (cloudformation._stacks.get(stack) or {}).get("_stack_policy")
    action = "Update:Replace" if provisioners._replacing_change(kind, old, new) else "Update:Modify"
    what = f"LogicalResourceId/{rest[0]}"
    if (
        policy
        and old != new
        and not admits([policy], "cloudformation.amazonaws.com", action, what, {"resourcetype": kind})
    ):
        raise ValueError(f"Action denied by stack policy: Statement does not allow {action} on {what}")
    return stock(kind, name, old, new, stack, *rest)


async def with_property_values(stock: Handler, method: str, path: str, headers: Any, body: Any, query: Any) -> Answer:
    """DescribeChangeSet with IncludePropertyValues: each resource and property, before and after."""
    answer = await stock(method, path, headers, body, query)
    form = {key: value[0] for key, value in {**query, **parse_qs((body or b"").decode())}.items()}
    if form.get("Action") != "DescribeChangeSet" or form.get("IncludePropertyValues") != "true" or answer[0] >= 300:
        return answer
    _, of = changesets._find_change_set(form["ChangeSetName"], form.get("StackName", ""))
    made = of["_template"], of["_resolved_params"], of["StackName"], of["StackId"]
    sides = {"Before": (cloudformation._stacks.get(of["StackName"]) or {}).get("_resources", {})}
    sides["After"] = changesets._resolve_props_for_diff(*made)["Resources"]
    ET.register_namespace("", helpers.CFN_NS)
    root, ns = ET.fromstring(answer[2]), f"{{{helpers.CFN_NS}}}"  # noqa: S314 - MiniStack's own answer
    for change in root.iter(f"{ns}ResourceChange"):
        found = {side: there.get(change.findtext(f"{ns}LogicalResourceId"), {}) for side, there in sides.items()}
        known = {side: one["Properties"] for side, one in found.items() if one.get("Properties") is not None}
        for side, props in known.items():
            ET.SubElement(change, f"{ns}{side}Context").text = json.dumps({"Properties": props}, default=str)
        for target in change.iter(f"{ns}Target"):
            if key := target.findtext(f"{ns}Name"):
                ET.SubElement(target, f"{ns}Path").text = f"/Properties/{key}"
                for side in (side for side in known if key in known[side]):
                    value = known[side][key]
                    text = value if isinstance(value, str) else json.dumps(value, default=str)
                    ET.SubElement(target, f"{ns}{side}Value").text = text
    return answer[0], answer[1], ET.tostring(root)
