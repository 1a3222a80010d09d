"""One stack set: what AWS has, what the environment wants, and the operations between the two.

It is managed in the environment's first Region. Stack sets have no change sets: a plan compares
settings. Source: API Reference of CreateStackSet, UpdateStackSet, CreateStackInstances.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from eventstacks import documents
from eventstacks.aws import RETRY_LONG, error_code
from eventstacks.cloudformation import failure, package
from eventstacks.cloudformation.noecho import MASK
from eventstacks.cloudformation.run import Plan, Result
from eventstacks.cloudformation.stack import StackClient
from eventstacks.errors import ErrorCode, ToolError, command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eventstacks.aws import Aws, Clock
    from eventstacks.environment import StackRef, StackSet
    from eventstacks.rendering import RenderedTemplate

Failures = dict[tuple[str, str], str]  # (account, Region) → reason
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_OUTCOMES = {"CREATE": "created", "UPDATE": "updated", "DELETE": "deleted"}  # by Action
# The roles of self-managed stack sets without others. Source: User Guide, 'Grant self-managed permissions'
_ADMINISTRATION = "AWSCloudFormationStackSetAdministrationRole"
_EXECUTION = "AWSCloudFormationStackSetExecutionRole"
_UNKNOWN_ACTION = ("InvalidAction", "UnknownOperationException", "NotImplemented")


class RefusedError(failure.DeploymentError):
    """Something that stack sets cannot do, or more than was asked for: nothing is changed."""

    default_code = ErrorCode.UNSUPPORTED


def _arguments(
    aws: Aws, template: RenderedTemplate, ref: StackRef, target: StackSet, clock: Clock
) -> dict[str, Any]:
    """Return the arguments of CreateStackSet and UpdateStackSet, without the roles."""
    arguments: dict[str, Any] = {
        "StackSetName": ref.stack_name,
        "PermissionModel": target.permissions,
        "Capabilities": package.capabilities(template.document),
        **package.body_arguments(aws, template, clock),
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": str(value)}
            for key, value in ref.values().items()
        ],
        "Tags": [{"Key": key, "Value": value} for key, value in ref.settings.tags.items()],
    }
    if target.permissions == "SERVICE_MANAGED":
        retention = {"RetainStacksOnAccountRemoval": False} if target.auto_deployment else {}
        arguments["AutoDeployment"] = {"Enabled": target.auto_deployment, **retention}
    return arguments


def _roles(target: StackSet, held: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of the roles of a self-managed stack set.

    AWS keeps the role of before if none is given, so its default has to be named then.
    """
    roles = {}
    deployed = str(held.get("AdministrationRoleARN") or "")
    by_unit = target.permissions == "SERVICE_MANAGED"
    default = f"{deployed.partition(':role/')[0]}:role/{_ADMINISTRATION}"
    reset = default if deployed and not by_unit and deployed != default else ""
    if role := target.administration_role or reset:
        roles["AdministrationRoleARN"] = role
    other = not by_unit and held.get("ExecutionRoleName", _EXECUTION) != _EXECUTION
    if name := target.execution_role or (_EXECUTION if other else ""):
        roles["ExecutionRoleName"] = name
    return roles


def _differences(
    held: Mapping[str, Any], wanted: Mapping[str, Any], template: RenderedTemplate, ref: StackRef
) -> list[str]:
    """Return the settings in which a stack set differs from the arguments of an update."""
    # AWS can return '?' for each character beyond ASCII (known of GetTemplate, not seen here:
    # aws-cloudformation/cloudformation-coverage-roadmap #814).
    bodies = (template.text, template.text.encode("ascii", "replace").decode())
    # AWS returns the template's defaults as if they had been given. Not seen on an account; source:
    # Terraform's documentation of aws_cloudformation_stack_set.
    declared = (template.document.get("Parameters") or {}).items()
    defaults = {
        name: documents.text_of(one["Default"]) for name, one in declared if "Default" in one
    }
    parameters = defaults | {name: str(value) for name, value in ref.values().items()}
    given = {
        one["ParameterKey"]: one.get("ParameterValue", "") for one in held.get("Parameters") or ()
    }
    # A secret is masked: that it has changed cannot be seen.
    given |= {name: parameters.get(name, "") for name, value in given.items() if value == MASK}
    tags = {one["Key"]: one["Value"] for one in held.get("Tags") or ()}
    by_unit, capabilities = "AutoDeployment" in wanted, set(wanted["Capabilities"])
    checks = {
        "template": held.get("TemplateBody") not in bodies,
        "parameters": defaults | given != parameters,
        "tags": tags != ref.settings.tags,
        # Some endpoints do not return capabilities: then there is nothing to compare.
        "capabilities": set(held.get("Capabilities", capabilities)) != capabilities,
        "auto deployment": by_unit
        and _automatic(held.get("AutoDeployment")) != _automatic(wanted["AutoDeployment"]),
    }
    if not by_unit:  # AWS has roles of its own for organizational units
        for name, key in (
            ("administration role", "AdministrationRoleARN"),
            ("execution role", "ExecutionRoleName"),
        ):
            checks[name] = key in wanted and wanted[key] != held.get(key)
    return [name for name, differs in checks.items() if differs]


def _automatic(given: Mapping[str, Any] | None) -> tuple[bool, bool]:
    """Return whether deployment is automatic, and keeps the stacks of accounts that leave."""
    enabled = bool((given or {}).get("Enabled"))
    return enabled, enabled and bool((given or {}).get("RetainStacksOnAccountRemoval"))


class StackSetClient:
    """One stack set, and the stacks that the environment wants of it."""

    def __init__(self, aws: Aws, refs: Sequence[StackRef], clock: Clock) -> None:
        self.aws, self.settings = aws, refs[0].settings
        self.target = cast("StackSet", aws.environment.stack_set)
        self.by_unit = self.target.permissions == "SERVICE_MANAGED"
        self.refs = {ref.region: ref for ref in refs}
        client = aws.client("cloudformation", aws.environment.regions[0])
        self.stack = StackClient(refs[0], client, clock)
        self.name = {"StackSetName": self.settings.stack_name}
        self.arguments: dict[str, Any] = {}
        self.exists = False
        self.differences: list[str] = []
        self.missing: dict[str, list[str]] = {}  # Region → accounts or organizational units
        self.left: list[dict[str, Any]] = []  # stacks that the file no longer names
        self.in_progress = False

    def command(self, verb: str, *options: str) -> str:
        """Return the command for all Regions: an update cannot be kept to one."""
        ref = self.stack.ref
        return command_line(verb, *options, env=ref.environment, stack=ref.stack)

    def describe(self) -> dict[str, Any] | None:
        """Return DescribeStackSet, or None if there is none."""
        try:
            return dict(self.stack.call("describe_stack_set", **self.name)["StackSet"])
        except ClientError as error:
            if error_code(error) == "StackSetNotFoundException":
                return None
            if error_code(error) in _UNKNOWN_ACTION:
                raise RefusedError(
                    "the endpoint does not support stack sets",
                    where=f"{self.aws.environment.path}: stack_set",
                    advice="Deploy to AWS, or remove stack_set to deploy single stacks.",
                ) from None
            raise

    def instances(self) -> list[dict[str, Any]]:
        """Return ListStackInstances: one per account and Region."""
        return list(self.stack.items("list_stack_instances", "Summaries", **self.name))

    # --- plan ------------------------------------------------------------------------------

    def compare(self, template: RenderedTemplate) -> None:
        """Compare what is deployed with the environment. Raises DeploymentError."""
        environment, ref = self.aws.environment, self.stack.ref
        others = [environment.ref(ref.stack, region) for region in self.settings.regions]
        if any(one.values() != ref.values() for one in others) or not all(
            isinstance(value, str) for value in ref.values().values()
        ):
            raise RefusedError(
                "with stack_set the value of a parameter must be in the file and the same everywhere",
                where=f"{environment.path}: stacks.{ref.stack}.parameters",
                advice="Import the value in the template, or derive it from AWS::Region there.",
            )
        package.check_paths(template)
        held = self.describe()
        self.arguments = _arguments(self.aws, template, ref, self.target, self.stack.clock)
        self.arguments |= _roles(self.target, held or {})
        instances = self.instances() if held else []
        self.exists = held is not None
        self.differences = _differences(held, self.arguments, template, ref) if held else []
        if outdated := sum(one.get("Status") != "CURRENT" for one in instances):
            self.differences.append(f"{outdated} stacks not current")
        unchosen = [one for one in self.settings.regions if one not in self.refs]
        if self.differences and unchosen:
            # With Regions, UpdateStackSet makes all other stacks OUTDATED.
            raise RefusedError(
                f"the stack set needs an update ({', '.join(self.differences)}), which also "
                f"updates {', '.join(unchosen)}",
                where=str(ref),
                advice=f"Without a Region: {self.command('deploy')}",
            )
        missing = {region: self._missing(region, instances, held or {}) for region in self.refs}
        self.missing = {region: found for region, found in missing.items() if found}
        self.left = [one for one in instances if not self._is_wanted(one)]

    def _missing(
        self, region: str, instances: Iterable[Mapping[str, Any]], held: Mapping[str, Any]
    ) -> list[str]:
        """Return the accounts, or without accounts the units, that have no stack in a Region.

        A unit without accounts has no stacks; the stack set knows it, and it is not missing.
        Source: API Reference of StackSet and StackInstanceSummary.
        """
        instances = list(instances)
        here = [one for one in instances if one["Region"] == region]
        if self.target.accounts:
            known = {one["Account"] for one in here}
            return [one for one in self.target.accounts if one not in known]
        units = {one.get("OrganizationalUnitId") for one in instances}
        known = {one.get("OrganizationalUnitId") for one in here}
        known |= set(held.get("OrganizationalUnitIds") or ()) - units
        return [one for one in self.target.organizational_units if one not in known]

    def _is_wanted(self, instance: Mapping[str, Any]) -> bool:
        target, unit = self.target, instance.get("OrganizationalUnitId")
        return (
            instance["Region"] in self.settings.regions
            and (not target.accounts or instance["Account"] in target.accounts)
            and (not unit or unit in target.organizational_units)
        )

    def _retained(self, ref: StackRef) -> tuple[str, ...]:
        """Return what stays though the file does not name it; Regions not in it are at the first ref."""
        regions = [ref.region]
        if ref is self.stack.ref:
            regions += sorted({one["Region"] for one in self.left} - set(self.settings.regions))
        accounts = {
            region: sorted({one["Account"] for one in self.left if one["Region"] == region})
            for region in regions
        }
        return tuple(
            f"the stacks in {', '.join(found)} in {region} stay: the file no longer names them"
            for region, found in accounts.items()
            if found
        )

    def plans(self) -> list[Plan]:
        """Return a plan per Region, after ``compare``."""
        name = f"stack set {self.settings.stack_name}"
        common = [] if self.exists else [name]
        common += [f"{name}: {', '.join(self.differences)}"] if self.differences else []
        plans = []
        for region, ref in self.refs.items():
            missing = self.missing.get(region, ())
            new = [f"stacks in {', '.join(missing)}"] if missing else []
            plans.append(Plan(ref, settings=(*common, *new), notes=self._retained(ref)))
        return plans

    # --- deploy and delete -----------------------------------------------------------------

    def deploy(self) -> list[Result]:
        """Create or update the stack set, then its missing stacks; return a result per Region."""
        failures: Failures = {}
        self._wait_for_others()
        if not self.exists:
            token = uuid.uuid4().hex
            self.stack.call("create_stack_set", ClientRequestToken=token, **self.arguments)
        elif self.differences:
            failures |= self._operate("update_stack_set", **self.arguments)
        for targets in {tuple(one) for one in self.missing.values()}:
            regions = [one for one, missing in self.missing.items() if tuple(missing) == targets]
            failures |= self._operate(
                "create_stack_instances", Regions=regions, **self.name, **self._targets(targets)
            )
        if self.by_unit and self.target.accounts and self.missing:
            failures = self._not_created() | failures
        outcome = "updated" if self.differences else "unchanged"
        outcomes = {one: "created" if one in self.missing else outcome for one in self.refs}
        results = self._results(outcomes, failures)
        for result in results:
            result.warnings = self._retained(result.ref)
        return results

    def _not_created(self) -> Failures:
        """Return the accounts without a stack: AWS skips an account outside of the units silently."""
        existing = {(one["Account"], one["Region"]) for one in self.instances()}
        units = " or ".join(self.target.organizational_units)
        return {
            (account, region): f"no stack was created; is the account in {units}?"
            for region, missing in self.missing.items()
            for account in missing
            if (account, region) not in existing
        }

    def _targets(self, targets: Sequence[str]) -> dict[str, Any]:
        """Return accounts, or units without accounts, as CreateStackInstances takes them."""
        if not self.by_unit:
            return {"Accounts": list(targets)}
        if not self.target.accounts:
            return {"DeploymentTargets": {"OrganizationalUnitIds": list(targets)}}
        return {
            "DeploymentTargets": {
                "OrganizationalUnitIds": list(self.target.organizational_units),
                "Accounts": list(targets),
                "AccountFilterType": "INTERSECTION",
            }
        }

    def delete(self) -> list[Result]:
        """Delete the stacks in the chosen Regions, and the stack set if none is left."""
        if self.describe() is None:
            return self._results(dict.fromkeys(self.refs, "unchanged"), {})
        self._wait_for_others()
        failures: Failures = {}
        if instances := [one for one in self.instances() if one["Region"] in self.refs]:
            # The targets of what is deployed, whatever the file names by now.
            key = "OrganizationalUnitId" if self.by_unit else "Account"
            targets = sorted({one[key] for one in instances})
            units = {"DeploymentTargets": {"OrganizationalUnitIds": targets}}
            failures = self._operate(
                "delete_stack_instances",
                Regions=sorted({one["Region"] for one in instances}),
                RetainStacks=False,
                **self.name,
                **(units if self.by_unit else {"Accounts": targets}),
            )
        results = self._results(dict.fromkeys(self.refs, "deleted"), failures)
        if left := sorted({one["Region"] for one in self.instances()}):
            results[0].warnings = (f"the stack set stays: it has stacks in {', '.join(left)}",)
        else:
            self.stack.call("delete_stack_set", **self.name)
        return results

    # --- operations ------------------------------------------------------------------------

    def _operate(self, method: str, **arguments: Any) -> Failures:
        """Start an operation, follow it and return its failures."""
        target = self.target
        # STRICT would lower the concurrency.
        mode = "SOFT" if target.concurrency > target.failure_tolerance + 1 else "STRICT"
        preferences = {
            "RegionConcurrencyType": "PARALLEL",
            "MaxConcurrentCount": target.concurrency,
            "FailureToleranceCount": target.failure_tolerance,
            "ConcurrencyMode": f"{mode}_FAILURE_TOLERANCE",
        }
        operation_id = str(uuid.uuid4())
        try:
            answer = self.stack.call(
                method, OperationId=operation_id, OperationPreferences=preferences, **arguments
            )
            operation_id = answer.get("OperationId") or operation_id
        except ClientError as error:  # the answer of the first call was lost
            if error_code(error) != "OperationIdAlreadyExistsException":
                raise
        return self._failures(self._wait(operation_id), operation_id)

    def _wait(self, operation_id: str) -> dict[str, Any]:
        """Return DescribeStackSetOperation after its end."""
        self.in_progress = True
        answer = self.stack.wait_for(
            lambda one: one["StackSetOperation"]["Status"] in _ENDED,
            "describe_stack_set_operation",
            longest=5.0,
            retry_for=RETRY_LONG,
            OperationId=operation_id,
            **self.name,
        )
        self.in_progress = False
        return dict(answer["StackSetOperation"])

    def _failures(self, ended: Mapping[str, Any], operation_id: str) -> Failures:
        """Return the failures; SUCCEEDED only means that they were within the tolerance."""
        results = self.stack.items(
            "list_stack_set_operation_results", "Summaries", OperationId=operation_id, **self.name
        )
        failures = {
            (one["Account"], one["Region"]): one.get("StatusReason") or one["Status"]
            for one in results
            if one["Status"] in ("FAILED", "CANCELLED")
        }
        if failures or ended["Status"] == "SUCCEEDED":
            return failures
        reason = ended.get("StatusReason") or ended["Status"]
        return {("all", region): reason for region in self.refs}

    def running(self) -> list[dict[str, Any]]:
        """Return the operations that have not ended."""
        if not self.describe():
            return []
        operations = self.stack.items("list_stack_set_operations", "Summaries", **self.name)
        return [one for one in operations if one["Status"] not in _ENDED]

    def _wait_for_others(self) -> None:
        """Wait for operations in progress: a stack set has one at a time."""
        for one in self.running():
            self._wait(one["OperationId"])

    def follow(self, *, stop: bool = False) -> list[Result]:
        """Follow the operations in progress, or ``stop`` them; return [] without any.

        A stopped operation finishes the stacks it has begun, rolls nothing back and begins no
        others. Source: API Reference of StopStackSetOperation.
        """
        outcome, failures, stopped = "", Failures(), Failures()
        for one in self.running():
            operation_id = one["OperationId"]
            if stop:
                which = {"OperationId": operation_id, **self.name}
                self.stack.call("stop_stack_set_operation", **which)
            ended = self._wait(operation_id)
            if stop and ended["Status"] == "STOPPED":
                outcome, stopped = "recovered", stopped | self._failures(ended, operation_id)
            else:
                outcome = _OUTCOMES.get(one.get("Action", ""), "unchanged")
                failures |= self._failures(ended, operation_id)
        results = self._results(dict.fromkeys(self.refs, outcome), failures) if outcome else []
        for result in results:
            result.warnings = tuple(self._texts(result.ref, stopped))
        return results

    def _texts(self, ref: StackRef, failures: Failures) -> list[str]:
        """Return the failures of a Region; those of Regions not chosen are at the first one."""
        here = [
            f"account {one}: {why}" for (one, where), why in failures.items() if where == ref.region
        ]
        elsewhere = [
            f"account {account} in {where}: {why}"
            for (account, where), why in failures.items()
            if where not in self.refs
        ]
        return here + (elsewhere if ref is self.stack.ref else [])

    def _results(self, outcomes: Mapping[str, str], failures: Failures) -> list[Result]:
        results = []
        for region, ref in self.refs.items():
            problem: ToolError | None = None
            if texts := self._texts(ref, failures):
                advice = f"Fix the cause, then run: {self.command('deploy')}"
                problem = failure.DeploymentError("; ".join(texts), where=str(ref), advice=advice)
            outcome = "failed" if problem else outcomes[region]
            results.append(Result(ref, outcome, problem=problem))
        return results
