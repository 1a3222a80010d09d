"""One stack set: what AWS has, what the environment wants, and the operations between the two.

It is managed in the environment's first Region. Stack sets have no change sets: a plan compares
settings. Source: API Reference of CreateStackSet, UpdateStackSet, CreateStackInstances and
StopStackSetOperation.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from eventstacks import documents
from eventstacks.aws import RETRY_LONG, error_code
from eventstacks.cloudformation import failure, package
from eventstacks.cloudformation.noecho import MASK
from eventstacks.cloudformation.run import Plan, Result, Scope
from eventstacks.cloudformation.stack import StackClient
from eventstacks.errors import ErrorCode, ToolError, command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eventstacks.environment import StackRef
    from eventstacks.environment import StackSet as Target
    from eventstacks.rendering import RenderedTemplate

Failures = dict[tuple[str, str], str]  # (account, Region) → reason
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_OUTCOMES = {"CREATE": "created", "UPDATE": "updated", "DELETE": "deleted"}  # by Action
_ROLES = {"administration_role": "AdministrationRoleARN", "execution_role": "ExecutionRoleName"}


class RefusedError(failure.DeploymentError):
    """Something that stack sets cannot do, or more than was asked for: nothing is changed."""

    default_code = ErrorCode.UNSUPPORTED


class StackSet:
    """One stack set, and the stacks that the environment wants of it."""

    def __init__(self, scope: Scope, refs: Sequence[StackRef]) -> None:
        self.environment, self.settings = scope.aws.environment, refs[0].settings
        self.aws, self.target = scope.aws, cast("Target", self.environment.stack_set)
        self.by_unit = self.target.permissions == "SERVICE_MANAGED"
        self.refs = {ref.region: ref for ref in refs}
        client = scope.aws.client("cloudformation", self.environment.regions[0])
        self.stack = StackClient(refs[0], client, scope.clock)
        self.name = {"StackSetName": self.settings.stack_name}
        self.arguments: dict[str, Any] = {}
        self.exists = self.in_progress = False
        self.differences: list[str] = []
        self.missing: dict[str, list[str]] = {}  # Region → accounts or organizational units
        self.notes: tuple[str, ...] = ()

    def command(self, verb: str) -> str:
        """Return the command for all Regions: an update cannot be kept to one."""
        return command_line(verb, env=self.environment.name, stack=self.stack.ref.stack)

    def describe(self) -> dict[str, Any] | None:
        """Return DescribeStackSet, or None if there is none."""
        try:
            return dict(self.stack.call("describe_stack_set", **self.name)["StackSet"])
        except ClientError as error:
            if error_code(error) == "StackSetNotFoundException":
                return None
            if error_code(error) != "InvalidAction":
                raise
            raise RefusedError(
                "the endpoint does not support stack sets",
                where=f"{self.environment.path}: stack_set",
                advice="Deploy to AWS, or remove stack_set to deploy single stacks.",
            ) from None

    def instances(self) -> list[dict[str, Any]]:
        """Return ListStackInstances: one per account and Region."""
        return list(self.stack.items("list_stack_instances", "Summaries", **self.name))

    # --- plan ------------------------------------------------------------------------------

    def compare(self, template: RenderedTemplate) -> None:
        """Compare what is deployed with the environment. Raises DeploymentError."""
        ref = self.stack.ref
        values = self._values()
        package.check_paths(template)
        held = self.describe()
        self.arguments = self._arguments(template, values)
        instances = self.instances() if held else []
        self.exists = held is not None
        self.differences = list(self._differences(held, template)) if held else []
        if outdated := sum(one.get("Status") != "CURRENT" for one in instances):
            self.differences.append(f"{outdated} stacks not current")
        unchosen = [one for one in self.settings.regions if one not in self.refs]
        if self.differences and unchosen:  # with Regions, UpdateStackSet makes all others OUTDATED
            raise RefusedError(
                f"the stack set needs an update ({', '.join(self.differences)}), which also "
                f"updates {', '.join(unchosen)}",
                where=str(ref),
                advice=f"Without a Region: {self.command('deploy')}",
            )
        missing = {region: self._missing(region, instances, held or {}) for region in self.refs}
        self.missing = {region: found for region, found in missing.items() if found}
        if left := sum(not self._is_wanted(one) for one in instances):
            self.notes = (f"{left} stacks stay that the file no longer names",)

    def _arguments(self, template: RenderedTemplate, values: Mapping[str, Any]) -> dict[str, Any]:
        target = self.target
        roles = {key: getattr(target, key) for key in _ROLES}
        arguments = {
            **self.name,
            "PermissionModel": target.permissions,
            "Capabilities": package.capabilities(template.document),
            **package.body_arguments(self.aws, template, self.stack.clock),
            "Parameters": [
                {"ParameterKey": key, "ParameterValue": value} for key, value in values.items()
            ],
            "Tags": [{"Key": key, "Value": value} for key, value in self.settings.tags.items()],
            **{_ROLES[key]: role for key, role in roles.items() if role},
        }
        if self.by_unit:
            retention = {"RetainStacksOnAccountRemoval": False} if target.auto_deployment else {}
            automatic = {"Enabled": target.auto_deployment, **retention}
            arguments["AutoDeployment"] = automatic
        return arguments

    def _values(self) -> Mapping[str, Any]:
        values = [self.settings.values(region) for region in self.settings.regions]
        if any(one != values[0] for one in values) or not all(
            isinstance(value, str) for value in values[0].values()
        ):
            raise RefusedError(
                "with stack_set the value of a parameter must be in the file and the same everywhere",
                where=f"{self.environment.path}: stacks.{self.stack.ref.stack}.parameters",
                advice="Import the value in the template, or derive it from AWS::Region there.",
            )
        return values[0]

    def _differences(self, held: Mapping[str, Any], template: RenderedTemplate) -> Iterable[str]:
        """Yield the settings in which the stack set differs from the arguments of an update."""
        # AWS can return '?' for each character beyond ASCII (known of GetTemplate, not seen here:
        # aws-cloudformation/cloudformation-coverage-roadmap #814).
        bodies = (template.text, template.text.encode("ascii", "replace").decode())
        # AWS returns the template's defaults as if they had been given (not seen on an account;
        # source: Terraform's documentation of aws_cloudformation_stack_set), and masks secrets.
        declared = (template.document.get("Parameters") or {}).items()
        defaults = {
            key: documents.text_of(one["Default"]) for key, one in declared if "Default" in one
        }
        wanted = defaults | self.settings.values(self.stack.ref.region)
        listed = {
            one["ParameterKey"]: one["ParameterValue"] for one in held.get("Parameters") or ()
        }
        given = {key: wanted.get(key) if one == MASK else one for key, one in listed.items()}
        capabilities, roles = self.arguments["Capabilities"], _ROLES if not self.by_unit else {}
        automatic = {"Enabled": False} | (held.get("AutoDeployment") or {})
        checks = {
            "template": held.get("TemplateBody") not in bodies,
            "parameters": defaults | given != wanted,
            "tags": {one["Key"]: one["Value"] for one in held.get("Tags") or ()}
            != self.settings.tags,
            # Some endpoints do not return capabilities.
            "capabilities": set(held.get("Capabilities", capabilities)) != set(capabilities),
            "auto deployment": self.by_unit and self.arguments["AutoDeployment"] != automatic,
            **{
                name.replace("_", " "): self.arguments.get(key, held.get(key)) != held.get(key)
                for name, key in roles.items()
            },
        }
        return (name for name, differs in checks.items() if differs)

    def _missing(
        self, region: str, instances: Sequence[Mapping[str, Any]], held: Mapping[str, Any]
    ) -> list[str]:
        """Return the accounts, or without accounts the units, that have no stack in a Region.

        A unit without accounts has no stacks; the stack set knows it, and it is not missing.
        """
        key, wanted = "Account", self.target.accounts
        if not wanted:
            key, wanted = "OrganizationalUnitId", self.target.organizational_units
        known = {one.get(key) for one in instances if one["Region"] == region}
        if not self.target.accounts:
            used = {one.get(key) for one in instances}
            known |= set(held.get("OrganizationalUnitIds") or ()) - used
        return [one for one in wanted if one not in known]

    def _is_wanted(self, instance: Mapping[str, Any]) -> bool:
        target, unit = self.target, instance.get("OrganizationalUnitId")
        return (
            instance["Region"] in self.settings.regions
            and (not target.accounts or instance["Account"] in target.accounts)
            and (not unit or unit in target.organizational_units)
        )

    def plans(self) -> list[Plan]:
        """Return a plan per Region, after ``compare``."""
        name = f"stack set {self.settings.stack_name}"
        common = [] if self.exists else [name]
        common += [f"{name}: {', '.join(self.differences)}"] if self.differences else []
        new = {region: [f"stacks in {', '.join(found)}"] for region, found in self.missing.items()}
        return [
            Plan(ref, settings=(*common, *new.get(region, ())), notes=self.notes)
            for region, ref in self.refs.items()
        ]

    # --- deploy, delete, follow ------------------------------------------------------------

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
            where: dict[str, Any] = {"Accounts": list(targets)}
            if self.by_unit:
                where = {"DeploymentTargets": self._unit_targets(targets)}
            failures |= self._operate(
                "create_stack_instances", Regions=regions, **self.name, **where
            )
        if self.by_unit and self.target.accounts and self.missing:
            created = {(one["Account"], one["Region"]) for one in self.instances()}
            # AWS skips an account that is in none of the units, and reports success.
            failures |= {
                (account, region): "no stack was created; is it in the organizational units?"
                for region, accounts in self.missing.items()
                for account in accounts
                if (account, region) not in created
            }
        outcome = "updated" if self.differences else "unchanged"
        outcomes = {one: "created" if one in self.missing else outcome for one in self.refs}
        return self._results(outcomes, failures, self.notes)

    def _unit_targets(self, targets: Sequence[str]) -> dict[str, Any]:
        """Return organizational units; ``targets`` are accounts in them, or without accounts units."""
        if not self.target.accounts:
            return {"OrganizationalUnitIds": list(targets)}
        units = list(self.target.organizational_units)
        narrowed = {"Accounts": list(targets), "AccountFilterType": "INTERSECTION"}
        return {"OrganizationalUnitIds": units, **narrowed}

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
        left = sorted({one["Region"] for one in self.instances()})
        if not left:
            self.stack.call("delete_stack_set", **self.name)
        stays = (f"the stack set stays: it has stacks in {', '.join(left)}",) if left else ()
        return self._results(dict.fromkeys(self.refs, "deleted"), failures, stays)

    def follow(self, *, stop: bool = False) -> list[Result]:
        """Follow the operations in progress, or ``stop`` them; return [] without any.

        A stopped operation finishes the stacks it has begun, rolls nothing back and begins no others.
        """
        outcome, failures, stopped = "", Failures(), Failures()
        for one in self.running():
            which = {"OperationId": one["OperationId"], **self.name}
            if stop:
                self.stack.call("stop_stack_set_operation", **which)
            ended, failed = self._failures(one["OperationId"])
            is_stopped = stop and ended == "STOPPED"
            (stopped if is_stopped else failures).update(failed)
            other = _OUTCOMES.get(one.get("Action", ""), "unchanged")
            outcome = "recovered" if is_stopped else other
        if not outcome:
            return []
        return self._results(dict.fromkeys(self.refs, outcome), failures, self._texts(stopped))

    def _operate(self, method: str, **arguments: Any) -> Failures:
        """Start an operation, follow it and return its failures."""
        target, operation_id = self.target, str(uuid.uuid4())
        # STRICT would lower the concurrency.
        mode = "SOFT" if target.concurrency > target.failure_tolerance + 1 else "STRICT"
        preferences = {
            "RegionConcurrencyType": "PARALLEL",
            "MaxConcurrentCount": target.concurrency,
            "FailureToleranceCount": target.failure_tolerance,
            "ConcurrencyMode": f"{mode}_FAILURE_TOLERANCE",
        }
        try:
            answer = self.stack.call(
                method, OperationId=operation_id, OperationPreferences=preferences, **arguments
            )
            operation_id = answer.get("OperationId") or operation_id
        except ClientError as error:  # the answer of the first call was lost
            if error_code(error) != "OperationIdAlreadyExistsException":
                raise
        return self._failures(operation_id)[1]

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

    def _failures(self, operation_id: str) -> tuple[str, Failures]:
        """Return the status of an operation after its end, and its failures.

        SUCCEEDED only means that they were within the tolerance.
        """
        ended, which = self._wait(operation_id), {"OperationId": operation_id, **self.name}
        failures = {
            (one["Account"], one["Region"]): one.get("StatusReason") or one["Status"]
            for one in self.stack.items("list_stack_set_operation_results", "Summaries", **which)
            if one["Status"] in ("FAILED", "CANCELLED")
        }
        if not failures and ended["Status"] != "SUCCEEDED":
            reason = ended.get("StatusReason") or ended["Status"]
            failures = {("all", region): reason for region in self.refs}
        return ended["Status"], failures

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

    def _texts(self, failures: Failures) -> tuple[str, ...]:
        return tuple(f"account {one} in {where}: {why}" for (one, where), why in failures.items())

    def _results(
        self, outcomes: Mapping[str, str], failures: Failures, warnings: tuple[str, ...] = ()
    ) -> list[Result]:
        """Return a result per Region; failures of Regions that were not chosen are at the first."""
        results, first = [], self.stack.ref.region
        for region, ref in self.refs.items():
            here = {
                place: why
                for place, why in failures.items()
                if place[1] == region or (region == first and place[1] not in self.refs)
            }
            problem: ToolError | None = None
            if here:
                advice, text = (
                    f"Fix the cause, then run: {self.command('deploy')}",
                    self._texts(here),
                )
                problem = failure.DeploymentError("; ".join(text), where=str(ref), advice=advice)
            outcome = "failed" if problem else outcomes[region]
            results.append(Result(ref, outcome, problem=problem, warnings=warnings))
        return results
