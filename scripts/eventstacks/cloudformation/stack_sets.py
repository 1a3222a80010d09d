"""Stacks in many accounts: one stack set per stack of the environment, all at once.

They are managed in the environment's first Region. Stack sets have no change sets: a plan compares
settings. Source: API Reference of CreateStackSet, UpdateStackSet and CreateStackInstances.
"""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from botocore.exceptions import ClientError

from eventstacks import documents
from eventstacks.aws import RETRY_LONG, error_code, suppress_aws_error
from eventstacks.cloudformation import failure
from eventstacks.cloudformation.change_set import Options
from eventstacks.cloudformation.plan import body_arguments, capabilities, check_losses
from eventstacks.cloudformation.run import Drift, Plan, Preview, Result, Scope, Status, Step
from eventstacks.cloudformation.stack import MASK, NOT_DEPLOYED, StackClient
from eventstacks.environment import Environment, StackRef, StackSet
from eventstacks.errors import ErrorCode, ToolError, command_line
from eventstacks.rendering import RenderedTemplate

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_OUTCOMES = {"CREATE": "created", "UPDATE": "updated", "DELETE": "deleted"}  # by Action
Calls = Sequence[tuple[str, dict[str, Any]]]  # methods and arguments, in order


class SetRef(StackRef):
    """A stack set, in the Region in which it is managed; its stacks are in all of its Regions."""

    def command(self, verb: str, *options: str) -> str:
        """Return the command that runs a verb for the stack set."""
        return command_line(verb, *options, env=self.environment, stack=self.stack)


@dataclass
class SetPlan(Plan):
    """What a deployment would do to one stack set; ``settings`` has it in words."""

    calls: Calls = ()


def choose(environment: Environment, refs: Sequence[StackRef]) -> list[StackRef]:
    """Return a reference per stack set. Raises ToolError if not all of its Regions are chosen."""
    region, found = environment.regions[0], list[StackRef]()
    for name in dict.fromkeys(ref.stack for ref in refs):
        settings = environment.stacks[name]
        if sum(ref.stack == name for ref in refs) < len(settings.regions):
            raise _refused(environment, "choosing a Region")
        found.append(SetRef(environment.name, name, settings.stack_name, region, settings))
    return found


def _refused(environment: Environment, what: str, advice: str = "") -> ToolError:
    where = f"{environment.path}: stack_set"
    what = f"{what} is not supported with stack_set"
    return ToolError(what, code=ErrorCode.UNSUPPORTED, where=where, advice=advice)


def _read(stack: StackClient) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return DescribeStackSet, or None if there is none, and ListStackInstances."""
    name = {"StackSetName": stack.ref.stack_name}
    try:
        answer = stack.call("describe_stack_set", **name)
    except ClientError as error:
        if error_code(error) != "StackSetNotFoundException":
            raise
        return None, []
    return dict(answer["StackSet"]), list(stack.items("list_stack_instances", "Summaries", **name))


def _target(instance: Mapping[str, Any]) -> str:
    """Return the organizational unit of a stack, or without one its account."""
    return str(instance.get("OrganizationalUnitId") or instance["Account"])


def _targets(names: Sequence[str]) -> dict[str, Any]:
    """Return the argument that names organizational units (ou-…, r-…) or accounts (digits)."""
    if names[0].isdigit():
        return {"Accounts": list(names)}
    return {"DeploymentTargets": {"OrganizationalUnitIds": list(names)}}


class StackSets(Scope):
    """A Deployer (see deployer.py) of an environment with ``stack_set``; refs from ``choose``."""

    @property
    def target(self) -> StackSet:
        """Return which accounts are deployed to, and how."""
        return cast("StackSet", self.aws.environment.stack_set)

    def plan(
        self, templates: Mapping[str, RenderedTemplate], options: Options | None = None
    ) -> list[Plan]:
        """Return a plan per stack set. Raises ToolError for options of change sets."""
        if options and (options.disable_rollback or not options.nested):
            raise _refused(self.aws.environment, "--disable-rollback or --no-nested")
        return self.for_each(
            lambda stack: self._plan(stack, templates[stack.ref.settings.template]), Plan
        )

    def _plan(self, stack: StackClient, template: RenderedTemplate) -> Plan:
        arguments, (held, instances) = self._arguments(stack, template), _read(stack)
        calls, settings, losses = list[Any](), list[str](), list[tuple[str, str, str]]()
        if not held:
            token = {"ClientRequestToken": uuid.uuid4().hex}  # the same in every retry
            calls.append(("create_stack_set", arguments | token))
            settings.append("stack set: new")
        elif differences := _differences(arguments, held, instances, template):
            calls.append(("update_stack_set", arguments))
            settings.append(f"stack set: {', '.join(differences)}")
            # Stack sets have no change sets: what is replaced or deleted cannot be seen before.
            how = "would be updated, and AWS does not tell what that replaces"
            losses.append((stack.ref.stack_name, "stack set", how))
        known = {(_target(one), one["Region"]) for one in instances}
        # A unit without accounts has no stacks; the stack set knows it, and it is not missing.
        empty = set((held or {}).get("OrganizationalUnitIds") or ()) - {one for one, _ in known}
        wanted = [*self.target.organizational_units, *self.target.accounts]
        missing = dict[tuple[str, ...], list[str]]()
        for region in stack.ref.settings.regions:
            targets = [one for one in wanted if (one, region) not in known and one not in empty]
            missing.setdefault(tuple(targets), []).append(region)
        missing.pop((), None)
        for names, regions in missing.items():
            where = {"StackSetName": stack.ref.stack_name, **_targets(names)}
            calls.append(("create_stack_instances", {**where, "Regions": regions}))
            settings.append(f"stacks of {', '.join(names)} in {', '.join(regions)}")
        return SetPlan(stack.ref, settings=tuple(settings), losses=tuple(losses), calls=calls)

    def _arguments(self, stack: StackClient, template: RenderedTemplate) -> dict[str, Any]:
        """Return the arguments of CreateStackSet and UpdateStackSet."""
        settings, target = stack.ref.settings, self.target
        first, *others = [settings.values(region) for region in settings.regions]
        if others.count(first) < len(others) or not all(isinstance(v, str) for v in first.values()):
            raise ToolError(
                "with stack_set the value of a parameter must be in the file and the same "
                "everywhere",
                code=ErrorCode.UNSUPPORTED,
                where=f"{self.aws.environment.path}: stacks.{settings.name}.parameters",
                advice="Import the value in the template, or derive it from AWS::Region there.",
            )
        model: dict[str, Any] = {"PermissionModel": "SELF_MANAGED"}
        if target.organizational_units:
            retention = {"RetainStacksOnAccountRemoval": False} if target.auto_deployment else {}
            joining = {"Enabled": target.auto_deployment, **retention}
            model = {"PermissionModel": "SERVICE_MANAGED", "AutoDeployment": joining}
        return {
            "StackSetName": settings.stack_name,
            "Capabilities": capabilities(template.document),
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in first.items()],
            "Tags": [{"Key": k, "Value": v} for k, v in settings.tags.items()],
            **body_arguments(self.aws, template, stack.clock),
            **model,
        }

    def deploy(
        self, templates: Mapping[str, RenderedTemplate], options: Options | None = None
    ) -> list[Result]:
        """Create or update the stack sets and their stacks.

        Raises ToolError before anything is changed, and Interrupted.
        """
        plans = self.plan(templates, options)
        check_losses(self.aws.environment, plans, options.allow_replace if options else ())
        if any(plan.changes for plan in plans) and not self.listener.confirm(plans):
            return []

        def job(stack: StackClient, plan: SetPlan) -> Result:
            self._carry_out(stack, plan.calls)
            is_new = plan.calls and plan.calls[0][0] == "create_stack_set"
            return Result(
                stack.ref, "created" if is_new else "updated" if plan.calls else "unchanged"
            )

        return self.work(plans, job)

    def _carry_out(self, stack: StackClient, calls: Calls) -> None:
        """Call methods, and wait for the operations that they start. Raises DeploymentError."""
        target = self.target
        # STRICT would lower the concurrency.
        mode = "SOFT" if target.concurrency > target.failure_tolerance + 1 else "STRICT"
        preferences = {
            "RegionConcurrencyType": "PARALLEL",
            "MaxConcurrentCount": target.concurrency,
            "FailureToleranceCount": target.failure_tolerance,
            "ConcurrencyMode": f"{mode}_FAILURE_TOLERANCE",
        }
        self.start(stack.ref)
        for method, arguments in calls:
            if method in ("create_stack_set", "delete_stack_set"):
                stack.call(method, **arguments)
                continue
            operation = str(uuid.uuid4())
            given = {"OperationId": operation, "OperationPreferences": preferences, **arguments}
            # Already exists: the answer of the first call was lost.
            with suppress_aws_error("OperationIdAlreadyExistsException"):
                operation = stack.call(method, **given).get("OperationId") or operation
            _finish(stack, operation)

    def follow(self) -> list[Result]:
        """Follow the operations in progress; return [] without any. Raises Interrupted."""

        def job(stack: StackClient, step: Step) -> Result:
            self.start(stack.ref)
            _finish(stack, step.arguments["OperationId"])
            return Result(stack.ref, _OUTCOMES.get(step.arguments["Action"], "unchanged"))

        found = self.for_each(_running, Step)
        return self.work([step for step in found if step.method or step.problem], job)

    def preview_deletion(self) -> list[Preview]:
        """Return what a deletion deletes: all stacks of each stack set."""

        def preview(stack: StackClient) -> Preview:
            held, instances = _read(stack)
            if held and self.aws.environment.protect:
                what, code = "the environment is protected", ErrorCode.STACK_PROTECTED
                raise ToolError(what, code=code, where=str(stack.ref))
            names = {f"{one['Account']} in {one['Region']}": "" for one in instances}
            return Preview(stack.ref, held, names)

        return self.for_each(preview, Preview)

    def delete(self, previews: Sequence[Preview], *, empty_buckets: bool = False) -> list[Result]:
        """Delete the stacks in every account, then the stack sets. Raises Interrupted."""
        if empty_buckets:
            raise _refused(self.aws.environment, "--empty-buckets")

        def job(stack: StackClient, found: Preview) -> Result:
            if not found.stack:
                return Result(stack.ref, "unchanged")
            name = {"StackSetName": stack.ref.stack_name}
            if instances := _read(stack)[1]:  # what is deployed, whatever the file names by now
                where = _targets(sorted(set(map(_target, instances))))
                regions = sorted({one["Region"] for one in instances})
                how = {**name, **where, "Regions": regions, "RetainStacks": False}
                self._carry_out(stack, [("delete_stack_instances", how)])
            self._carry_out(stack, [("delete_stack_set", name)])
            return Result(stack.ref, "deleted")

        return self.work(previews, job)

    def status(self) -> list[Status]:
        """Return for each stack set how many stacks are in which state."""

        def read(stack: StackClient) -> Status:
            held, instances = _read(stack)
            if not held:
                return Status(stack.ref, NOT_DEPLOYED)
            counts = Counter(one["Status"] for one in instances)
            text = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
            advice = stack.ref.command("deploy") if counts.keys() - {"CURRENT"} else ""
            return Status(stack.ref, text or "no stacks", advice=advice)

        return self.for_each(read, Status)

    def propose_recovery(self, **_: Any) -> list[Step]:
        """Raise ToolError: a failed stack is deployed again."""
        deploy = command_line("deploy", env=self.aws.environment.name)
        raise _refused(self.aws.environment, "recover", f"Fix the cause, then run: {deploy}")

    def recover(self, steps: Sequence[Step]) -> list[Result]:
        """Not reached: there are no steps."""
        raise NotImplementedError

    def drift(self) -> list[Drift]:
        """Raise ToolError with the command of AWS."""
        command = "aws cloudformation detect-stack-set-drift --stack-set-name NAME"
        raise _refused(self.aws.environment, "drift", command)


def _differences(
    arguments: Mapping[str, Any],
    held: Mapping[str, Any],
    instances: Sequence[Mapping[str, Any]],
    template: RenderedTemplate,
) -> list[str]:
    """Return the settings in which a stack set differs from the arguments of an update."""
    declared = (template.document.get("Parameters") or {}).items()
    defaults = {key: documents.text_of(one["Default"]) for key, one in declared if "Default" in one}

    def settings(given: Mapping[str, Any]) -> dict[str, Any]:
        listed = given.get("Parameters") or ()
        return {
            # AWS can return '?' for each character beyond ASCII (known of GetTemplate, not seen
            # here: aws-cloudformation/cloudformation-coverage-roadmap #814).
            "template": given["TemplateBody"].encode("ascii", "replace"),
            # AWS returns the template's defaults as if they had been given (not seen on an account;
            # source: Terraform's documentation of aws_cloudformation_stack_set).
            "parameters": defaults | {one["ParameterKey"]: one["ParameterValue"] for one in listed},
            "tags": {one["Key"]: one["Value"] for one in given.get("Tags") or ()},
            "auto deployment": (given.get("AutoDeployment") or {}).get("Enabled", False),
        }

    wanted, deployed = settings({**arguments, "TemplateBody": template.text}), settings(held)
    masked = {name for name, value in deployed["parameters"].items() if value == MASK}
    wanted["parameters"] |= dict.fromkeys(masked, MASK)
    differences = [name for name, value in wanted.items() if value != deployed[name]]
    if outdated := sum(one.get("Status") != "CURRENT" for one in instances):
        differences.append(f"{outdated} stacks not current")
    return differences


def _finish(stack: StackClient, operation_id: str) -> None:
    """Wait for the end of an operation. Raises DeploymentError with every account that failed.

    SUCCEEDED only means that the failures were within the tolerance.
    """
    which = {"OperationId": operation_id, "StackSetName": stack.ref.stack_name}
    answer = stack.wait_for(
        lambda one: one["StackSetOperation"]["Status"] in _ENDED,
        "describe_stack_set_operation",
        longest=5.0,
        retry_for=RETRY_LONG,
        **which,
    )
    ended = answer["StackSetOperation"]
    failures = [
        f"account {one['Account']} in {one['Region']}: {one.get('StatusReason') or one['Status']}"
        for one in stack.items("list_stack_set_operation_results", "Summaries", **which)
        if one["Status"] in ("FAILED", "CANCELLED")
    ]
    if failures or ended["Status"] != "SUCCEEDED":
        raise failure.DeploymentError(
            "; ".join(failures) or ended.get("StatusReason") or ended["Status"],
            where=str(stack.ref),
            advice=f"Fix the cause, then run: {stack.ref.command('deploy')}",
        )


def _running(stack: StackClient) -> Step:
    """Return the operation in progress: a stack set has one at a time."""
    name = stack.ref.stack_name
    if _read(stack)[0]:
        for one in stack.items("list_stack_set_operations", "Summaries", StackSetName=name):
            if one["Status"] not in _ENDED:
                return Step(stack.ref, "follow", arguments=one)
    return Step(stack.ref)
