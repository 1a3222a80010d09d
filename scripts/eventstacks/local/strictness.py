"""What CloudFormation refuses and MiniStack lets pass, and two things that it answers and MiniStack does not."""

import contextlib
import copy
import functools
import json
import os
import re
from collections.abc import Collection
from typing import Any
from xml.etree import ElementTree as ET

from ministack.core import iam_actions, responses
from ministack.core.responses import get_account_id, get_region
from ministack.services import cloudformation, eventbridge, s3
from ministack.services.cloudformation import (
    changesets,
    drift,
    engine,
    handlers,
    helpers,
    provisioners,
    stacks,
)

from eventstacks.local.deliveries import policies_allow
from eventstacks.local.ministack import Json, Original, patch

KNOWN = provisioners._RESOURCE_HANDLERS
NAMED = {  # type -> the property that names it
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SNS::Topic": "TopicName",
}

LATER = (
    "{{changeSet:KNOWN_AFTER_APPLY}}"  # what AWS says of a value that only the execution will tell
)

RULED = (
    "EventBus can't be deleted since it has rules."  # AWS's words as in anomalyco/sst, issue 4325
)


def check_name(kind: str, original: Original, logical_id: str, props: Json, stack: str) -> Any:
    """A second resource under a name that is taken fails; MiniStack lets it take the first one over."""
    name, account, port = props.get(NAMED[kind]), get_account_id(), os.environ["GATEWAY_PORT"]
    ids = (
        name,
        f"http://localhost:{port}/{account}/{name}",
        f"arn:aws:sns:{get_region()}:{account}:{name}",
    )
    if name and any(drift._DRIFT_READERS[kind][0](one, props) is not None for one in ids):
        text = f"Resource of type '{kind}' with identifier '{name}' already exists."
        raise ValueError(f"{text} (HandlerErrorCode: AlreadyExists)")
    return original(logical_id, props, stack)


for _kind in NAMED:
    patch("create", KNOWN[_kind])(functools.partial(check_name, _kind))


@patch("create", KNOWN["AWS::Events::Rule"])
def check_rule(original: Original, logical_id: str, props: Json, stack: str) -> Any:
    """What PutRule and PutTargets check; MiniStack's provisioner writes past them when it makes a rule."""
    pattern, targets = props.get("EventPattern") or "", props.get("Targets") or []
    if (bus := provisioners._eb_rule_bus_name(props)) not in {"default", *eventbridge._event_buses}:
        raise ValueError(f"Event bus {bus} does not exist.")
    if wrong := eventbridge._event_pattern_error(
        pattern if isinstance(pattern, str) else json.dumps(pattern)
    ):
        raise ValueError(
            f"Event pattern is not valid. Reason: {wrong} (Service: EventBridge, Status Code: 400)"
        )
    if len(targets) > 5:
        raise ValueError("The requested resource exceeds the maximum number allowed: 5 targets")
    for refused in filter(None, map(eventbridge._validate_target_arn, targets)):
        raise ValueError(
            f"{json.loads(refused[2])['message']} (Service: EventBridge, Status Code: 400)"
        )
    return original(logical_id, props, stack)


@patch("delete", KNOWN["AWS::S3::Bucket"])
def check_empty(original: Original, name: str, props: Json) -> None:
    """A bucket with objects in it is not deleted."""
    if (s3._buckets.get(name) or {}).get("objects"):
        raise ValueError(
            "The bucket you tried to delete is not empty (Service: S3, Status Code: 409)"
        )
    original(name, props)


def has_rules(bus: str) -> bool:
    """Whether a bus has rules: then it is not deleted (EventBridge API, DeleteEventBus). MiniStack takes them along."""
    return any(rule["EventBusName"] == bus for rule in eventbridge._rules.values())


@patch("_delete_event_bus", eventbridge)
def check_bus(original: Original, data: Json) -> Any:
    """DeleteEventBus itself."""
    if has_rules(data.get("Name", "")):
        return responses.error_response_json("ValidationException", RULED, 400)
    return original(data)


@patch("delete", KNOWN["AWS::Events::EventBus"])
def check_bus_of_stack(original: Original, name: str, props: Json) -> None:
    """A stack's bus, on which other stacks may have rules."""
    if has_rules(name):
        raise ValueError(
            f"{RULED} (Service: EventBridge, Status Code: 400)"
        )  # the end is as elsewhere, a guess here
    original(name, props)


@patch("extract_resource_arn", iam_actions)
def resource_of(original: Original, service: str, *request: Any) -> str:
    """The ARN that a request is judged by, where MiniStack would refuse what AWS allows.

    That of a log group ends with ':*', as !GetAtt Arn does, except where tags are meant (service authorization
    reference of CloudWatch Logs). A change set named by its ARN is judged by that (seen on AWS by
    widdix/complete-aws-iam-reference, issue 6).
    """
    arn, tags = original(service, *request), "Tag" in request[2].get("x-amz-target", "")
    if service == "cloudformation" and arn == "*":
        return str(request[4].get("ChangeSetName", ["*"])[0])
    return f"{arn}:*" if service == "logs" and ":log-group:" in arn and not tags else arn


@patch("_resolve_document", helpers)
def resolve_url(original: Original, params: Json, body_key: str, url_key: str, label: str) -> Any:
    """``https://bucket.s3.region.amazonaws.com/key`` is ``/bucket/key`` to MiniStack."""
    virtual = r"https://([^/]+)\.s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?/"
    urls = [
        re.sub(virtual, r"https://s3.amazonaws.com/\1/", one) for one in params.get(url_key, [""])
    ]
    return original({**params, url_key: urls}, body_key, url_key, label)


@patch("_evaluate_conditions", changesets, engine, handlers, stacks)
def evaluate_conditions(original: Original, template: Json, params: Json) -> Any:
    """Conditions take pseudo parameters and Fn::FindInMap (user guide, 'Condition functions'); MiniStack does not."""
    mappings = template.get("Mappings") or {}

    def prepared(expression: Any) -> Any:
        """Resolve values, and leave {"Condition": name} to MiniStack, which knows the other conditions."""
        if not isinstance(expression, dict):
            return expression
        if "Condition" in expression:
            return expression
        for function in ("Fn::And", "Fn::Or", "Fn::Not"):
            if function in expression:
                return {function: [prepared(one) for one in expression[function]]}
        return engine._resolve_refs(expression, {}, params, {}, mappings, "", "")

    conditions = {name: prepared(one) for name, one in (template.get("Conditions") or {}).items()}
    return original({**template, "Conditions": conditions}, params)


class Attributes(dict[str, Any]):
    """The attributes of a resource; one that is not there will be known later."""

    def __contains__(self, _name: object) -> bool:
        return True

    def __missing__(self, _name: str) -> str:
        return LATER


def resolved(
    template: Json, params: Json, stack: str, stack_id: str, replaced: Collection[str] = ()
) -> Json:
    """The template's resources, whose conditions hold, with the values that references to them have at present.

    What is new or replaced has values that nobody knows yet. MiniStack takes every Fn::GetAtt for '', so that one that
    reads another resource than before is no change to it.
    """
    conditions, mappings = (
        engine._evaluate_conditions(template, params),
        template.get("Mappings") or {},
    )
    held = (cloudformation._stacks.get(stack) or {}).get("_resources", {})
    known: Json = {}
    for name in template.get("Resources", {}):
        there: Json = (
            held[name] if name in held and name not in replaced else {"PhysicalResourceId": LATER}
        )
        known[name] = {**there, "Attributes": Attributes(there.get("Attributes") or {})}
    found = {}
    for name, one in template.get("Resources", {}).items():
        if conditions.get(one.get("Condition"), True):
            props = copy.deepcopy(one.get("Properties") or {})
            with contextlib.suppress(
                Exception
            ):  # as MiniStack does: what cannot be resolved stays as it is written
                props = engine._resolve_refs(
                    props, known, params, conditions, mappings, stack, stack_id
                )
            found[name] = {**one, "Properties": props}
    return found


@patch("_resolve_props_for_diff", changesets)
def resolve_for_diff(_stock: Original, template: Json, *rest: Any) -> Json:
    """What a change set compares."""
    return {"Resources": resolved(template, *rest)} if template else {}


@patch("_reference_details", stacks)
def reference_details(
    original: Original, definition: Json, replacements: dict[str, str], *rest: Any
) -> Any:
    """Who reads an attribute of a resource that changes in place does not change with it.

    AWS does not know that beforehand and lists such readers as well, with an AfterValue of KNOWN_AFTER_APPLY (seen in
    aws-cloudformation/cloudformation-coverage-roadmap, issue 2113); docs/local-aws.md says that this is quieter.
    """
    return original(
        definition, {name: one for name, one in replacements.items() if one != "False"}, *rest
    )


@patch("_update_resource", stacks)
def update_if_allowed(
    original: Original, kind: str, name: str, old: Json, new: Json, stack: str, *rest: Any
) -> Any:
    """A stack policy keeps its resources from updates (user guide, 'Prevent updates to stack resources')."""
    policy = (cloudformation._stacks.get(stack) or {}).get("_stack_policy")
    action = "Update:Replace" if provisioners._replacing_change(kind, old, new) else "Update:Modify"
    what, keys = f"LogicalResourceId/{rest[0]}", {"resourcetype": kind}
    if (
        policy
        and old != new
        and not policies_allow([policy], "cloudformation.amazonaws.com", action, what, keys)
    ):
        raise ValueError(
            f"Action denied by stack policy: Statement does not allow {action} on {what}"
        )
    return original(kind, name, old, new, stack, *rest)


CONTEXT_KEYS = ("DeletionPolicy", "UpdateReplacePolicy")


@patch("DescribeChangeSet", handlers._ACTION_HANDLERS)
def with_property_values(original: Original, params: dict[str, list[str]]) -> Any:
    """DescribeChangeSet with IncludePropertyValues: each property before and after."""
    answer = original(params)
    _, of = changesets._find_change_set(
        params["ChangeSetName"][0], params.get("StackName", [""])[0]
    )
    if params.get("IncludePropertyValues") != ["true"] or not of:
        return answer
    made = of["_template"], of["_resolved_params"], of["StackName"], of["StackId"]
    sides = {"Before": (cloudformation._stacks.get(of["StackName"]) or {}).get("_resources", {})}
    moving = [
        one["ResourceChange"]
        for one in of["Changes"]
        if one["ResourceChange"].get("Replacement") != "False"
    ]
    sides["After"] = resolved(*made, replaced={one["LogicalResourceId"] for one in moving})
    ET.register_namespace("", helpers.CFN_NS)
    root, ns = ET.fromstring(answer[2]), f"{{{helpers.CFN_NS}}}"  # noqa: S314 - MiniStack's own answer
    templates = {
        "Before": (cloudformation._stacks.get(of["StackName"]) or {}).get("_template") or {},
        "After": of["_template"],
    }
    for change in root.iter(f"{ns}ResourceChange"):
        name = change.findtext(f"{ns}LogicalResourceId")
        for side, template in templates.items():  # AWS's contexts have Properties, too
            declared = (template.get("Resources") or {}).get(name) or {}
            context = {key: declared[key] for key in CONTEXT_KEYS if key in declared}
            ET.SubElement(change, f"{ns}{side}Context").text = json.dumps(context, default=str)
        found = {side: there.get(name, {}).get("Properties") or {} for side, there in sides.items()}
        for target in change.iter(f"{ns}Target"):
            if key := target.findtext(f"{ns}Name"):
                values = {
                    f"{side}Value": props[key] for side, props in found.items() if key in props
                }
                for tag, value in {"Path": f"/Properties/{key}", **values}.items():
                    text = value if isinstance(value, str) else json.dumps(value, default=str)
                    ET.SubElement(target, f"{ns}{tag}").text = text
    return answer[0], answer[1], ET.tostring(root)


def stack_names() -> list[str]:
    """The stacks of all accounts that are there, as 'region/name'."""
    there = (
        one
        for one in cloudformation._stacks._data.values()
        if one["StackStatus"] != "DELETE_COMPLETE"
    )
    return sorted(f"{one['StackId'].split(':')[3]}/{one['StackName']}" for one in there)
