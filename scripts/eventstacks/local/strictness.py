"""CloudFormation refusals and answers that MiniStack lacks.

Names in use, deletions, change sets.
"""

import contextlib
import copy
import functools
import os
import re
from collections.abc import Collection
from typing import Any
from xml.etree import ElementTree as ET

from ministack.core.responses import error_response_json, get_account_id, get_region
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

from eventstacks.local.ministack import Json, Original, as_text, call, patch

KNOWN = provisioners._RESOURCE_HANDLERS
NAMED = {  # type -> the property that names it
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::Role": "RoleName",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SNS::Topic": "TopicName",
}
# AWS's value for what is known only after the execution.
LATER = "{{changeSet:KNOWN_AFTER_APPLY}}"


def check_name(kind: str, original: Original, logical_id: str, props: Json, stack: str) -> Any:
    """Refuse a second resource with the same name; MiniStack lets it take over the first one."""
    name, account, port = props.get(NAMED[kind]), get_account_id(), os.environ["GATEWAY_PORT"]
    ids = (
        name,
        f"http://localhost:{port}/{account}/{name}",
        f"arn:aws:sns:{get_region()}:{account}:{name}",
    )
    if name and any(drift._DRIFT_READERS[kind][0](each, props) is not None for each in ids):
        raise ValueError(
            f"Resource of type '{kind}' with identifier '{name}' already exists. "
            "(HandlerErrorCode: AlreadyExists)"
        )
    return original(logical_id, props, stack)


for _kind in NAMED:
    patch("create", KNOWN[_kind])(functools.partial(check_name, _kind))


@patch("delete", KNOWN["AWS::S3::Bucket"])
def check_empty(original: Original, name: str, props: Json) -> None:
    """Refuse to delete a bucket that has objects."""
    if (s3._buckets.get(name) or {}).get("objects"):
        raise ValueError(
            "The bucket you tried to delete is not empty (Service: S3, Status Code: 409)"
        )
    original(name, props)


@patch("_delete_event_bus", eventbridge)
def check_bus(original: Original, data: Json) -> Any:
    """Refuse to delete a bus that has rules (text: anomalyco/sst, issue 4325).

    MiniStack deletes them too.
    """
    if any(rule["EventBusName"] == data.get("Name") for rule in eventbridge._rules.values()):
        return error_response_json(
            "ValidationException", "EventBus can't be deleted since it has rules.", 400
        )
    return original(data)


KNOWN["AWS::Events::EventBus"]["delete"] = lambda name, _props: call(
    "eventbridge", "AWSEvents.DeleteEventBus", Name=name
)


@patch("_parse_template", changesets, handlers, engine)
def parse_template(original: Original, text: str) -> Any:
    """Read booleans in parameters and conditions as the strings 'true' and 'false'.

    Source: localstack/localstack issue 11164.
    """

    def with_strings(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_strings(each) for key, each in value.items()}
        if isinstance(value, list):
            return [with_strings(each) for each in value]
        return str(value).lower() if isinstance(value, bool) else value

    sections = ("Parameters", "Conditions")
    return {key: with_strings(v) if key in sections else v for key, v in original(text).items()}


@patch("CreateChangeSet", handlers._ACTION_HANDLERS)
def with_outputs(original: Original, params: dict[str, list[str]]) -> Any:
    """Create a change set for a change of outputs alone, as AWS does (aws/aws-cdk issue 778)."""
    response, stack_name = original(params), params["StackName"][0]
    _, change_set = changesets._find_change_set(params["ChangeSetName"][0], stack_name)
    if change_set and "didn't contain changes" in change_set["StatusReason"]:
        deployed = (cloudformation._stacks.get(stack_name) or {}).get("_template") or {}
        if deployed.get("Outputs") != change_set["_template"].get("Outputs"):
            change_set |= {
                "Status": "CREATE_COMPLETE",
                "ExecutionStatus": "AVAILABLE",
                "StatusReason": "",
            }
    return response


@patch("_resolve_document", helpers)
def resolve_url(original: Original, params: Json, body_key: str, url_key: str, label: str) -> Any:
    """Accept ``https://bucket.s3.region.amazonaws.com/key``, which MiniStack takes for ``/key``.

    taskcat sends templates with such URLs.
    """
    host = r"https://([^/]+)\.s3([.-][a-z0-9-]+)?\.amazonaws\.com(\.cn)?/"
    path = r"https://s3.amazonaws.com/\1/"
    urls = [re.sub(host, path, one) for one in params.get(url_key, [""])]
    return original({**params, url_key: urls}, body_key, url_key, label)


@patch("_evaluate_conditions", changesets, engine, handlers, stacks)
def evaluate_conditions(_original: Original, template: Json, params: Json) -> dict[str, bool]:
    """Evaluate pseudo parameters and Fn::FindInMap in conditions, too.

    Source: CloudFormation User Guide, 'Condition functions'.
    """
    conditions, mappings = template.get("Conditions") or {}, template.get("Mappings") or {}
    values: dict[str, bool] = {}
    for _ in conditions:  # each round knows the conditions that those of the round before name
        known = values
        values = {
            name: bool(engine._resolve_refs(each, {}, params, known, mappings, "", ""))
            for name, each in conditions.items()
        }
    return values


class Attributes(dict[str, Any]):
    """Attributes of a resource; one that is missing is known after the execution."""

    def __contains__(self, _name: object) -> bool:
        return True

    def __missing__(self, _name: str) -> str:
        return LATER


def resolved(
    template: Json, params: Json, stack: str, stack_id: str, replaced: Collection[str] = ()
) -> Json:
    """Return the resources whose conditions hold, with the present values of their references.

    Values of new and replaced resources are not known. MiniStack resolves every Fn::GetAtt to '',
    so that reading another resource than before would not be a change.
    """
    definitions, mappings = template.get("Resources", {}), template.get("Mappings") or {}
    conditions = engine._evaluate_conditions(template, params)
    deployed = (cloudformation._stacks.get(stack) or {}).get("_resources", {})
    known: Json = {}
    for name in definitions:
        is_known = name in deployed and name not in replaced
        present: Json = deployed[name] if is_known else {"PhysicalResourceId": LATER}
        known[name] = {**present, "Attributes": Attributes(present.get("Attributes") or {})}
    resources = {}
    for name, definition in definitions.items():
        if conditions.get(definition.get("Condition"), True):
            props = copy.deepcopy(definition.get("Properties") or {})
            with contextlib.suppress(Exception):  # as in MiniStack: it stays as it is written
                props = engine._resolve_refs(
                    props, known, params, conditions, mappings, stack, stack_id
                )
            resources[name] = {**definition, "Properties": props}
    return resources


@patch("_resolve_props_for_diff", changesets)
def resolve_for_diff(_original: Original, template: Json, *rest: Any) -> Json:
    """Return what a change set compares."""
    return {"Resources": resolved(template, *rest)} if template else {}


@patch("_reference_details", stacks)
def reference_details(
    original: Original, definition: Json, replacements: dict[str, str], *rest: Any
) -> Any:
    """Leave out resources that read an attribute of a resource that is updated in place.

    AWS does not know in advance whether the attribute changes and lists them, with an AfterValue of
    KNOWN_AFTER_APPLY (seen in aws-cloudformation/cloudformation-coverage-roadmap, issue 2113).
    docs/local-aws.md names the difference.
    """
    return original(
        definition, {name: one for name, one in replacements.items() if one != "False"}, *rest
    )


CONTEXT_KEYS = ("DeletionPolicy", "UpdateReplacePolicy")


@patch("DescribeChangeSet", handlers._ACTION_HANDLERS)
def with_property_values(original: Original, params: dict[str, list[str]]) -> Any:
    """Implement IncludePropertyValues of DescribeChangeSet: each property before and after."""
    status, headers, body = original(params)
    _, change_set = changesets._find_change_set(
        params["ChangeSetName"][0], params.get("StackName", [""])[0]
    )
    if params.get("IncludePropertyValues") != ["true"] or not change_set:
        return status, headers, body
    deployed = cloudformation._stacks.get(change_set["StackName"]) or {}
    replaced = {
        change["ResourceChange"]["LogicalResourceId"]
        for change in change_set["Changes"]
        if change["ResourceChange"].get("Replacement") != "False"
    }
    stack = (change_set["StackName"], change_set["StackId"])
    old = (deployed.get("_template") or {}, deployed.get("_resolved_params") or {})
    new = (change_set["_template"], change_set["_resolved_params"])
    sides = {"Before": resolved(*old, *stack), "After": resolved(*new, *stack, replaced)}
    ET.register_namespace("", helpers.CFN_NS)
    root, ns = ET.fromstring(body), f"{{{helpers.CFN_NS}}}"  # noqa: S314 - MiniStack's own answer
    for change in root.iter(f"{ns}ResourceChange"):
        name = change.findtext(f"{ns}LogicalResourceId")
        for side, resources in sides.items():
            resource = resources.get(str(name)) or {}
            context = {key: resource[key] for key in CONTEXT_KEYS if key in resource}
            ET.SubElement(change, f"{ns}{side}Context").text = as_text(context)
            properties = resource.get("Properties") or {}
            for target in change.iter(f"{ns}Target"):
                if (key := target.findtext(f"{ns}Name")) in properties:
                    ET.SubElement(target, f"{ns}{side}Value").text = as_text(properties[key])
    for target in root.iter(f"{ns}Target"):
        if key := target.findtext(f"{ns}Name"):
            ET.SubElement(target, f"{ns}Path").text = f"/Properties/{key}"
    return status, headers, ET.tostring(root)


def stack_names() -> list[str]:
    """Return the existing stacks of all accounts as 'region/name'."""
    existing = (
        stack
        for stack in cloudformation._stacks._data.values()
        if stack["StackStatus"] != "DELETE_COMPLETE"
    )
    return sorted(f"{stack['StackId'].split(':')[3]}/{stack['StackName']}" for stack in existing)
