"""Plan one stack: its state, what is sent to CloudFormation, and what would change or be lost."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from eventstacks import documents
from eventstacks.aws import Aws, Clock, call, error_message
from eventstacks.cloudformation import change_set, failure, outputs
from eventstacks.cloudformation.operation import NESTED_STACK
from eventstacks.cloudformation.run import Plan, Scope
from eventstacks.cloudformation.stack import DELETED, IN_REVIEW, MASK, StackClient, state_of
from eventstacks.environment import Environment, StackRef, StackSettings
from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow.resolve import partition_of
from eventstacks.rendering import RenderedTemplate

_NESTED_TYPES = {NESTED_STACK, "AWS::Serverless::Application"}
IN_REQUEST = 51_200  # bytes: CloudFormation quota 'Template body size in a request'
# Of the bucket; the role of github-deploy-role can write there and nowhere else.
FOLDER = "templates"


class Planner:
    """Plans the stacks of one run; the outputs of other stacks are read once."""

    def __init__(
        self, scope: Scope, templates: Mapping[str, RenderedTemplate], options: change_set.Options
    ) -> None:
        self.aws, self.templates, self.options = scope.aws, templates, options
        self.pending = set(scope.refs)  # of this run, not deployed yet
        self.unused: dict[StackRef, change_set.ChangeSet] = {}  # created and not executed
        self.values = outputs.Values(scope.aws)
        self.uses = outputs.uses(scope.aws.environment, templates)
        self.before = outputs.predecessors(scope.aws.environment, scope.refs, self.uses)

    def plan(self, stack: StackClient) -> Plan:
        """Return the plan of a stack; ``unused`` has its change set.

        Raises ToolError and AWS's errors.
        """
        ref, template = stack.ref, self.templates[stack.ref.settings.template]
        description = stack.describe()
        self._check_state(ref, description["StackStatus"] if description else DELETED)
        if waits_for := self._waits_for(ref):
            return Plan(ref, stack=description, waits_for=waits_for)
        values = self.values.resolve(ref)
        held = description or {}
        known = templates_with_secrets(stack, held)
        secrets = change_set.Secrets(stack, values, template.document, *known)
        arguments = request(
            self.aws.environment, ref.settings, template.document, values, description, self.options
        ) | body_arguments(self.aws, template, stack.clock)
        made = change_set.create(stack, arguments, secrets)
        if made:
            self.unused[ref] = made
        elif arguments["ChangeSetType"] == "CREATE":
            raise failure.DeploymentError(
                "the template has no resources in this environment",
                code=ErrorCode.TEMPLATE_INVALID,
                where=str(template.path),
                advice="Add a resource, or check the conditions of those it has.",
            )
        losses = [
            (one["LogicalResourceId"], one["ResourceType"], how)
            for one in (made.changes if made else ())
            if (how := loss(one))
        ]
        is_protected = not self.aws.environment.protect or held.get("EnableTerminationProtection")
        return Plan(
            ref,
            made,
            description,
            values,
            settings=() if is_protected else ("termination protection",),
            outputs=_output_changes(template, held) if made else {},
            losses=tuple(losses),
        )

    def _check_state(self, ref: StackRef, status: str) -> None:
        """Raise DeploymentError if AWS would refuse a change set, or its execution.

        A failure that was not rolled back can only be continued without a rollback. Sources: User
        Guide, 'Choose how to handle failures when provisioning resources';
        github.com/ansible-collections/amazon.aws/issues/1655.
        """
        state = state_of(status)
        if not state.accepts_change_sets:
            raise failure.refused(f"the stack cannot be updated: it is in {status}", status, ref)
        if state.keeps_failure and not self.options.disable_rollback:
            raise failure.refused(
                f"the stack can only be updated without a rollback: it is in {status}", status, ref
            )

    def _waits_for(self, ref: StackRef) -> tuple[str, ...]:
        """Return the stacks of this run whose outputs have to exist first.

        Raises NotDeployedError if another stack's is missing: waiting would not help.
        """
        coming = set()
        for giver, name in self.uses.get(ref, ()):
            try:
                self.values.output(giver, name)
            except outputs.NotDeployedError:
                if giver not in self.pending:
                    raise
                coming.add(
                    giver.stack
                    if giver.region == ref.region
                    else f"{giver.stack} in {giver.region}"
                )
        return tuple(sorted(coming))


def deployed_template(stack: StackClient, stack_id: str, stage: str = "Original") -> dict[str, Any]:
    """Return the template of a deployed stack, parsed."""
    answer = stack.call("get_template", StackName=stack_id, TemplateStage=stage)
    body = answer["TemplateBody"]
    return documents.parse_template(body, str(stack.ref)) if isinstance(body, str) else dict(body)


def templates_with_secrets(stack: StackClient, held: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the template of a stack (DescribeStacks) that has NoEcho parameters, else nothing.

    AWS masks the values of these parameters, but not what is made from them.
    """
    is_masked = any(one.get("ParameterValue") == MASK for one in held.get("Parameters") or ())
    return [deployed_template(stack, held["StackId"])] if is_masked else []


def _output_changes(template: RenderedTemplate, held: Mapping[str, Any]) -> dict[str, str]:
    """Return the outputs of a stack that change: added, removed, or how.

    A change of a value that is not literal is not known. An output whose condition is false cannot
    be told from one that is added.
    """
    before = {one["OutputKey"]: one for one in held.get("Outputs") or ()}
    declared = {
        name: one
        for name, one in (template.document.get("Outputs") or {}).items()
        if isinstance(one, dict) and ("Condition" not in one or name in before)
    }
    changes = dict.fromkeys(sorted(declared.keys() - before.keys()), "added")
    for name in sorted(declared.keys() & before.keys()):
        old, value = before[name].get("OutputValue"), declared[name].get("Value")
        if isinstance(value, str) and value != old:
            changes[name] = f"{old} → {value}"
        elif ("Export" in declared[name]) != bool(before[name].get("ExportName")):
            changes[name] = "export added" if "Export" in declared[name] else "export removed"
    return changes | dict.fromkeys(sorted(before.keys() - declared.keys()), "removed")


# --- what is sent ------------------------------------------------------------------------------


def request(
    environment: Environment,
    settings: StackSettings,
    template: Mapping[str, Any],
    values: Mapping[str, str | None],
    stack: Mapping[str, Any] | None,
    options: change_set.Options,
) -> dict[str, Any]:
    """Return the arguments of CreateChangeSet without the template's body.

    Only values of the environment file are sent, UsePreviousValue for !Previous (None) alone: a
    parameter that the file leaves out gets the template's Default, also if the stack has an older
    value. Topics and alarms that the file no longer names are removed. Raises ToolError for
    !Previous where the stack has no such parameter yet: CloudFormation refuses it.
    """
    held = stack or {"StackStatus": DELETED}
    kind = "CREATE" if held["StackStatus"] in (IN_REVIEW, DELETED) else "UPDATE"
    arguments: dict[str, Any] = {
        "StackName": settings.stack_name,
        "ChangeSetType": kind,
        "Parameters": _parameters(values, held, settings.stack_name),
        "Tags": [{"Key": name, "Value": value} for name, value in settings.tags.items()],
        "Capabilities": capabilities(template),
    }
    if options.nested and _NESTED_TYPES & types(template):
        arguments["IncludeNestedStacks"] = True
    if settings.role:
        arguments["RoleARN"] = settings.role
    # Empty ones remove what the file no longer names.
    if environment.notifications or held.get("NotificationARNs"):
        arguments["NotificationARNs"] = list(environment.notifications)
    alarms, minutes = settings.rollback_alarms, settings.rollback_minutes
    if alarms or minutes or any((held.get("RollbackConfiguration") or {}).values()):
        arguments["RollbackConfiguration"] = {
            "RollbackTriggers": [{"Arn": arn, "Type": "AWS::CloudWatch::Alarm"} for arn in alarms],
            "MonitoringTimeInMinutes": minutes,
        }
    return arguments


def _parameters(
    values: Mapping[str, str | None], held: Mapping[str, Any], stack_name: str
) -> list[dict[str, Any]]:
    known = {one["ParameterKey"] for one in held.get("Parameters") or ()}
    if new := [name for name, value in values.items() if value is None and name not in known]:
        raise ToolError(
            f"!Previous: the stack has no value for {', '.join(new)} yet",
            code=ErrorCode.PARAMETER_INVALID,
            where=stack_name,
            advice="Deploy it with a value once, such as !Env NAME.",
        )
    return [
        {"ParameterKey": name, "UsePreviousValue": True}
        if value is None
        else {"ParameterKey": name, "ParameterValue": value}
        for name, value in values.items()
    ]


def types(template: Mapping[str, Any]) -> set[str]:
    """Return the types of a template's resources."""
    resources = (template.get("Resources") or {}).values()
    return {str(one.get("Type")) for one in resources if isinstance(one, dict)}


def capabilities(template: Mapping[str, Any]) -> list[str]:
    """Return the capabilities that a template needs; the plan shows what it does with them.

    What a macro, a module or a nested stack expands to can hold IAM resources, too.
    """
    found = types(template)
    expands = (
        "AWS::CloudFormation::Stack" in found
        or any(one.endswith("::MODULE") for one in found)
        or "Transform" in template
        or "Fn::Transform" in str(template)
    )
    iam = expands or any(one.startswith("AWS::IAM::") for one in found)
    return (["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"] if iam else []) + (
        ["CAPABILITY_AUTO_EXPAND"] if expands else []
    )


def body_arguments(aws: Aws, template: RenderedTemplate, clock: Clock) -> dict[str, str]:
    """Return TemplateBody, or TemplateURL after an upload. Raises ToolError."""
    body, where, bucket = template.text.encode(), str(template.path), aws.environment.bucket
    if len(body) <= IN_REQUEST:
        return {"TemplateBody": template.text}
    if not bucket:
        raise ToolError(
            f"{len(body):,} bytes: above {IN_REQUEST:,} a template needs a bucket",
            code=ErrorCode.TEMPLATE_INVALID,
            where=where,
            advice=f"Add 'bucket: <name>' to {aws.environment.path}.",
        )
    key = f"{FOLDER}/{template.name}-{hashlib.sha256(body).hexdigest()[:16]}.yaml"
    client = aws.client("s3")
    try:
        call(
            client.put_object,
            clock=clock,
            Bucket=bucket,
            Key=key,
            Body=body,
            ContentType="application/yaml",
        )
    except ClientError as error:
        raise ToolError(
            f"cannot write {key} to {bucket!r}: {error_message(error)}",
            code=ErrorCode.AWS_ERROR,
            where=f"{aws.environment.path}: bucket",
        ) from None
    address = client.meta.endpoint_url
    if not aws.environment.endpoint:  # not the client's own: a variable can set FIPS or another one
        _, suffix = partition_of(client.meta.region_name)
        address = f"https://s3.{client.meta.region_name}.{suffix}"
    return {"TemplateURL": f"{address}/{bucket}/{key}"}


# --- protection --------------------------------------------------------------------------------


def loss(change: Mapping[str, Any]) -> str:
    """Return how a ResourceChange can lose what a resource holds, or ''.

    A nested stack can lose anything if no change set of its own tells (ChangeSetId, missing
    without IncludeNestedStacks), or if AWS cannot tell what the change will be (Dynamic).
    Source: API Reference of ResourceChange.
    """
    if change["Action"] == "Remove":
        return "" if change.get("PolicyAction") == "Retain" else "would be deleted"
    if change.get("Replacement") in ("True", "Conditional"):
        return "would be replaced" if change["Replacement"] == "True" else "might be replaced"
    unknown = change["Action"] == "Dynamic" or (
        change["Action"] == "Modify" and not change.get("ChangeSetId")
    )
    if unknown and change.get("ResourceType") == NESTED_STACK:
        return "might lose resources: AWS does not tell what changes in this nested stack"
    return ""


def check_losses(
    environment: Environment,
    plans: Iterable[Plan],
    allowed: Collection[str],
    so_far: str = "nothing was changed",
) -> None:
    """Raise ToolError (STACK_PROTECTED) if a resource not in ``allowed`` would be lost.

    ``so_far`` says what was done until now.
    """
    losses = [(*loss, plan.ref) for plan in plans for loss in plan.losses if loss[0] not in allowed]
    if environment.protect and losses:
        texts = [f"{name} ({kind}) {how} in {ref}" for name, kind, how, ref in losses]
        names = sorted({*allowed, *(name for name, *_ in losses)})
        options = [word for name in names for word in ("--allow-replace", name)]
        raise ToolError(
            f"refused, {so_far}: {'; '.join(texts)}",
            code=ErrorCode.STACK_PROTECTED,
            where=f"{environment.path}: protect",
            advice=f"To allow it: {losses[0][3].command('deploy', *options)}",
        )
