"""Stacks in many accounts: one stack set per stack of the environment, kept by CloudFormation StackSets.

The administrator's region is the environment's first. StackSets have no change sets: a plan compares what the stack set
holds with what it should. Source: API reference of CreateStackSet, UpdateStackSet, CreateStackInstances.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from scripts.cloudformation import body, calls, change_set, failure, order, schedule
from scripts.cloudformation.calls import Clock, Stopped
from scripts.cloudformation.deployment import Plan
from scripts.cloudformation.options import Options
from scripts.cloudformation.place import Place
from scripts.cloudformation.results import Interrupted, Listener, Result
from scripts.cloudformation.status import Status
from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scripts.aws import Aws
    from scripts.cloudformation.order import Key, Pair
    from scripts.environment import Environment, StackSet

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass
class _Change:
    """What one stack set needs."""

    arguments: dict[str, Any]
    exists: bool
    differs: tuple[str, ...] = ()
    missing: dict[str, list[str]] = field(default_factory=dict)  # region → accounts or organisational units

    def words(self, region: str) -> tuple[str, ...]:
        found = [] if self.exists else [f"stack set {self.arguments['StackSetName']}"]
        found += [f"stack set {self.arguments['StackSetName']}: {', '.join(self.differs)}"] if self.differs else []
        return (*found, *([f"stacks in {', '.join(self.missing[region])}"] if region in self.missing else ()))


class Sets:
    """The stack sets of an environment; ``plan``, ``deploy``, ``delete`` and ``status`` as for stacks."""

    def __init__(
        self, aws: Aws, environment: Environment, pairs: Sequence[Pair], *,
        templates: Mapping[str, Mapping[str, Any]] | None = None,
        options: Options | None = None, listener: Listener | None = None, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        if environment.stack_set is None:
            raise AssertionError
        self.aws, self.environment, self.templates = aws, environment, templates or {}
        self.target: StackSet = environment.stack_set
        self.options, self.listener, self.clock = options or Options(), listener or Listener(), clock or Clock()
        self.client = aws.client("cloudformation", environment.regions[0])
        self.pairs = {order.key(pair): pair for pair in pairs}
        self.places = {key: Place.of(environment, pair) for key, pair in self.pairs.items()}
        self.stacks = {pair[0].name: pair[0] for pair in pairs}
        self.under_way: set[str] = set()
        aws.guard()

    def regions(self, name: str) -> list[str]:
        """Where the stacks of one stack set go."""
        return [region for stack, region in self.pairs if stack == name]

    # --- what is there ---------------------------------------------------------------------

    def held(self, name: str) -> dict[str, Any] | None:
        """DescribeStackSet, or None when there is none."""
        try:
            answer = calls.call(
                self.client.describe_stack_set, clock=self.clock, StackSetName=self.stacks[name].stack_name
            )
        except ClientError as error:
            if calls.code(error) == "StackSetNotFoundException":
                return None
            raise
        return dict(answer["StackSet"])

    def instances(self, name: str) -> list[dict[str, Any]]:
        """ListStackInstances: one per account and region."""
        pages = self.client.get_paginator("list_stack_instances").paginate(StackSetName=self.stacks[name].stack_name)
        return [one for page in pages for one in page.get("Summaries") or ()]

    def change(self, name: str) -> _Change:
        """Compares the stack set with the environment. Raises DeploymentError for what StackSets cannot do."""
        settings, target = self.stacks[name], self.target
        first = self.environment.regions[0]
        values = settings.values(first)
        if any(
            order.references((settings, region)) or settings.values(region) != values for region in settings.regions
        ):
            raise failure.DeploymentError(
                "in many accounts a parameter can neither take another stack's output nor differ between regions",
                where=f"{self.environment.path}: stacks.{name}.parameters",
                advice="Import the value in the template, or let it depend on AWS::Region there.")  # fmt: skip
        source = body.arguments(self.aws, self.options.build / f"{settings.template}.yaml", first, self.clock)
        arguments: dict[str, Any] = {
            "StackSetName": settings.stack_name, **source, "PermissionModel": target.permissions,
            "Capabilities": change_set.capabilities(self.templates[settings.template]),
            "Parameters": [{"ParameterKey": key, "ParameterValue": str(value)} for key, value in values.items()],
            "Tags": [{"Key": key, "Value": value} for key, value in settings.tags.items()],
        }  # fmt: skip
        if target.permissions == "SERVICE_MANAGED":
            arguments["AutoDeployment"] = {"Enabled": target.auto_deployment}
            if target.auto_deployment:
                arguments["AutoDeployment"]["RetainStacksOnAccountRemoval"] = False
        if target.administration_role:
            arguments["AdministrationRoleARN"] = target.administration_role
        if target.execution_role:
            arguments["ExecutionRoleName"] = target.execution_role
        held = self.held(name)
        found = _Change(arguments, held is not None)
        there = self.instances(name) if held else []
        if held:
            text = (self.options.build / f"{settings.template}.yaml").read_text(encoding="utf-8")
            compared = (
                ("template", held.get("TemplateBody"), text),
                ("parameters", _pairs(held.get("Parameters"), "ParameterKey", "ParameterValue"), dict(values)),
                ("tags", _pairs(held.get("Tags"), "Key", "Value"), dict(settings.tags)),
            )  # fmt: skip
            stale = sum(one.get("Status") != "CURRENT" for one in there)
            found.differs = tuple(what for what, old, new in compared if old != new) + (
                (f"{stale} stacks not current",) if stale else ()
            )
        by_unit = target.permissions == "SERVICE_MANAGED"
        known = {(one.get("OrganizationalUnitId") if by_unit else one["Account"], one["Region"]) for one in there}
        for region in self.regions(name):
            if missing := [one for one in target.organizational_units if (one, region) not in known] if by_unit else \
                    [one for one in target.accounts if (one, region) not in known]:  # fmt: skip
                found.missing[region] = missing
        return found

    # --- plan and deploy -------------------------------------------------------------------

    def plan(self) -> list[Plan]:
        """What ``deploy`` would do: a plan per stack and region, without change sets."""
        return [plan for plans, _ in (self._plan(name) for name in self.stacks) for plan in plans]

    def _plan(self, name: str) -> tuple[list[Plan], _Change | None]:
        places = [self.places[name, region] for region in self.regions(name)]
        try:
            found = self.change(name)
        except (ToolError, *calls.TROUBLE) as error:
            return [Plan(place, problem=failure.wrap(error, place)) for place in places], None
        return [Plan(place, settings=found.words(place.region)) for place in places], found

    def deploy(self) -> list[Result]:
        """Creates or updates the stack sets and their stacks; a result per stack and region. Raises Interrupted."""
        planned = {name: self._plan(name) for name in self.stacks}
        plans = [plan for found, _ in planned.values() for plan in found]
        if any(plan.changes for plan in plans) and not self.listener.confirm(plans):
            return []

        def work(name: str) -> dict[str, Result]:
            found, change = planned[name]
            if change is None:
                return {plan.place.region: Result(plan.place, "failed", problem=plan.problem) for plan in found}
            return self._change(name, change)

        return self._each(work)

    def _change(self, name: str, change: _Change) -> dict[str, Result]:
        arguments, failed = change.arguments, dict[str, str]()
        self._settle(name)
        if not change.exists:
            calls.call(self.client.create_stack_set, clock=self.clock, ClientRequestToken=uuid.uuid4().hex, **arguments)
        elif change.differs:
            failed |= self._operate(name, self.client.update_stack_set, **arguments)
        for targets in {tuple(one) for one in change.missing.values()}:
            regions = [region for region, wanted in change.missing.items() if tuple(wanted) == targets]
            failed |= self._operate(name, self.client.create_stack_instances, StackSetName=arguments["StackSetName"],
                                    Regions=regions, **self._targets(targets))  # fmt: skip
        results = {}
        for region in self.regions(name):
            outcome = "created" if region in change.missing else "updated" if change.differs else "unchanged"
            results[region] = self._result(name, region, outcome, failed)
        return results

    def _targets(self, targets: Sequence[str]) -> dict[str, Any]:
        if self.target.permissions == "SELF_MANAGED":
            return {"Accounts": list(targets)}
        found: dict[str, Any] = {"OrganizationalUnitIds": list(targets)}
        if self.target.accounts:  # only these accounts of the units
            found |= {"Accounts": list(self.target.accounts), "AccountFilterType": "INTERSECTION"}
        return {"DeploymentTargets": found}

    # --- delete and status -----------------------------------------------------------------

    def delete(self) -> list[Result]:
        """Deletes the stacks in every account, then the stack sets. Raises Interrupted."""
        return self._each(self._delete)

    def _delete(self, name: str) -> dict[str, Result]:
        if self.held(name) is None:
            return {region: Result(self.places[name, region], "unchanged") for region in self.regions(name)}
        if self.environment.protect:
            raise failure.DeploymentError("this environment is protected", where=f"{self.environment.path}: protect")
        self._settle(name)
        there = [one for one in self.instances(name) if one["Region"] in self.regions(name)]
        field_ = "Account" if self.target.permissions == "SELF_MANAGED" else "OrganizationalUnitId"
        failed: dict[str, str] = {}
        if there:
            failed = self._operate(
                name, self.client.delete_stack_instances, StackSetName=self.stacks[name].stack_name, RetainStacks=False,
                Regions=sorted({one["Region"] for one in there}),
                **self._targets(sorted({one[field_] for one in there})))  # fmt: skip
        if not self.instances(name):
            calls.call(self.client.delete_stack_set, clock=self.clock, StackSetName=self.stacks[name].stack_name)
        return {region: self._result(name, region, "deleted", failed) for region in self.regions(name)}

    def status(self) -> list[Status]:
        """Per stack and region how many stacks are in which state."""
        found = []
        for (name, region), place in self.places.items():
            counts = Counter(
                one.get("Status", "")
                for one in (self.instances(name) if self.held(name) else ())
                if one["Region"] == region
            )
            words = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "NOT_DEPLOYED"
            found.append(Status(place, words, advice=place.command("deploy") if set(counts) - {"CURRENT"} else ""))
        return found

    # --- operations ------------------------------------------------------------------------

    def _each(self, work: Callable[[str], dict[str, Result]]) -> list[Result]:
        done: dict[Key, Result] = {}

        def job(key: Key) -> None:
            name, begun = key[0], self.clock.now()
            try:
                results = work(name)
            except Stopped:
                results = {region: Result(self.places[name, region], "interrupted") for region in self.regions(name)}
            except (ToolError, *calls.TROUBLE) as error:
                results = {
                    place.region: Result(place, "failed", problem=failure.wrap(error, place))
                    for place in self.places.values() if place.stack == name
                }  # fmt: skip
            for region, result in results.items():
                result.seconds = self.clock.now() - begun
                done[name, region] = result
                self.listener.finished(result)

        try:
            schedule.run(
                {(name, ""): set() for name in self.stacks}, job, threads=self.options.threads, clock=self.clock
            )
        except KeyboardInterrupt:
            raise Interrupted([one for one in self.places.values() if one.stack in self.under_way]) from None
        return [done[key] for key in self.pairs]

    def _operate(self, name: str, method: Callable[..., Any], **arguments: Any) -> dict[str, str]:
        """Starts an operation and follows it; gives 'account region' → reason for those that failed."""
        target = self.target
        mode = (
            "SOFT" if target.concurrency > target.failure_tolerance + 1 else "STRICT"
        )  # STRICT would lower the concurrency
        preferences = {
            "RegionConcurrencyType": "PARALLEL", "MaxConcurrentCount": target.concurrency,
            "FailureToleranceCount": target.failure_tolerance, "ConcurrencyMode": f"{mode}_FAILURE_TOLERANCE",
        }  # fmt: skip
        operation = str(uuid.uuid4())
        try:
            operation = calls.call(method, clock=self.clock, OperationId=operation, OperationPreferences=preferences,
                                   **arguments).get("OperationId") or operation  # fmt: skip
        except ClientError as error:
            if calls.code(error) != "OperationIdAlreadyExistsException":  # the answer was lost; it has been started
                raise
        return self._follow(name, operation)

    def _follow(self, name: str, operation: str) -> dict[str, str]:
        where = {"StackSetName": self.stacks[name].stack_name, "OperationId": operation}
        self.under_way.add(name)
        pause = 0.5
        while True:
            found = calls.call(
                self.client.describe_stack_set_operation, clock=self.clock, patience=calls.LONG, **where
            )["StackSetOperation"]
            if found["Status"] in _ENDED:
                break
            self.clock.sleep(pause)
            pause = min(pause * 1.3, 5.0)
        self.under_way.discard(name)
        if found["Status"] == "SUCCEEDED":
            return {}
        pages = self.client.get_paginator("list_stack_set_operation_results").paginate(**where)
        failed = {
            f"{one['Account']} {one['Region']}": one.get("StatusReason") or one["Status"]
            for page in pages for one in page.get("Summaries") or () if one["Status"] in ("FAILED", "CANCELLED")
        }  # fmt: skip
        return failed or {
            f"all {region}": found.get("StatusReason") or found["Status"] for region in self.regions(name)
        }

    def _settle(self, name: str) -> None:
        """Waits for an operation that is under way: a stack set has one at a time."""
        try:
            found = calls.call(
                self.client.list_stack_set_operations, clock=self.clock, StackSetName=self.stacks[name].stack_name
            )
        except ClientError as error:
            if calls.code(error) == "StackSetNotFoundException":
                return
            raise
        for one in found.get("Summaries") or ():
            if one["Status"] not in _ENDED:
                self._follow(name, one["OperationId"])

    def _result(self, name: str, region: str, outcome: str, failed: Mapping[str, str]) -> Result:
        place = self.places[name, region]
        here = {key.split()[0]: reason for key, reason in failed.items() if key.split()[1] == region}
        if not here:
            return Result(place, outcome)
        reasons = "; ".join(f"account {account}: {reason}" for account, reason in here.items())
        problem = failure.DeploymentError(reasons, where=str(place), advice=f"Mend it, then {place.command('deploy')}")
        return Result(place, "failed", problem=problem)


def _pairs(found: Sequence[Mapping[str, str]] | None, key: str, value: str) -> dict[str, str]:
    return {one[key]: one.get(value, "") for one in found or ()}
