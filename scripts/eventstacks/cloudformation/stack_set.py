"""One stack set: what AWS holds of it, what the environment wants, and the operations that lead from one to the other.

The administrator's region is the environment's first. StackSets have no change sets: a plan compares what the stack set
holds with what it should. Source: API reference of CreateStackSet, UpdateStackSet, CreateStackInstances.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from eventstacks import documents
from eventstacks.aws import RETRY_LONG, error_code
from eventstacks.cloudformation import body, change_set, failure
from eventstacks.cloudformation.results import Plan, Result
from eventstacks.cloudformation.stack import Remote
from eventstacks.environment import StackRef
from eventstacks.errors import command_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventstacks.aws import Aws, Clock
    from eventstacks.environment import StackRef, StackSet
    from eventstacks.rendering import RenderedTemplate

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_OUTCOMES = {
    "CREATE": "created",
    "UPDATE": "updated",
    "DELETE": "deleted",
}  # of an operation's Action


# The roles of self-managed stack sets, when none is named. Source: User Guide, 'Grant self-managed permissions'
_ADMINISTRATION, _EXECUTION = (
    "AWSCloudFormationStackSetAdministrationRole",
    "AWSCloudFormationStackSetExecutionRole",
)
_ROLES = (("administration role", "AdministrationRoleARN"), ("execution role", "ExecutionRoleName"))


class RefusedError(failure.DeploymentError):
    """What would be more than was asked for, or cannot be done with stack sets: refused before anything is changed."""


def command(ref: StackRef, verb: str) -> str:
    """What to type for a stack set: in all its regions, since an update cannot be kept to one."""
    return command_line(verb, env=ref.environment, stack=ref.stack)


def _defaults(template: Mapping[str, Any]) -> dict[str, str]:
    """The template's defaults: AWS gives them back as if they had been said.

    Not seen on an account. Source: Terraform's documentation of aws_cloudformation_stack_set, by which every parameter
    has to be configured, those with a default, too. Left out of the answer they are no change either.
    """
    declared = (template.get("Parameters") or {}).items()
    found = {name: one["Default"] for name, one in declared if "Default" in one}
    return {name: documents.text_of(one) for name, one in found.items()}


def _same_body(held: str | None, text: str) -> bool:
    """Whether a stack set has this template; AWS may give '?' in place of each character beyond ASCII.

    Not seen on an account: it is known of GetTemplate (aws-cloudformation/cloudformation-coverage-roadmap #814), not of
    DescribeStackSet. Where it is so, a change of nothing but such characters is not seen.
    """
    return held == text or held == text.encode("ascii", "replace").decode()


def _automatic(given: Mapping[str, Any] | None) -> tuple[bool, bool]:
    """AutoDeployment: whether, and whether it keeps the stacks of accounts that leave."""
    enabled = bool((given or {}).get("Enabled"))
    return enabled, enabled and bool((given or {}).get("RetainStacksOnAccountRemoval"))


class Set:
    """One stack set, and the stacks that the environment wants of it."""

    def __init__(self, aws: Aws, refs: Sequence[StackRef], clock: Clock) -> None:
        self.aws, self.settings = aws, refs[0].settings
        self.target = cast("StackSet", aws.environment.stack_set)  # whoever comes here has looked
        self.by_unit = self.target.permissions == "SERVICE_MANAGED"
        self.refs = {ref.region: ref for ref in refs}  # by region
        self.region = aws.environment.regions[0]
        self.remote = Remote(
            next(iter(self.refs.values())), aws.client("cloudformation", self.region), clock
        )
        self.name = {"StackSetName": self.settings.stack_name}
        self.arguments: dict[str, Any] = {}  # of CreateStackSet and UpdateStackSet
        self.exists = False
        self.differs: list[str] = []
        self.missing: dict[str, list[str]] = {}  # region → accounts or organisational units
        self.left: list[dict[str, Any]] = []  # stacks that the file does not name any more
        self.under_way = False

    # --- what is there ---------------------------------------------------------------------

    def held(self) -> dict[str, Any] | None:
        """DescribeStackSet, or None when there is none."""
        try:
            return dict(self.remote.call("describe_stack_set", **self.name)["StackSet"])
        except ClientError as error:
            if error_code(error) == "StackSetNotFoundException":
                return None
            raise

    def instances(self) -> list[dict[str, Any]]:
        """ListStackInstances: one per account and region."""
        pages = self.remote.pages("list_stack_instances", **self.name)
        return [one for page in pages for one in page.get("Summaries") or ()]

    # --- plan and deploy -------------------------------------------------------------------

    def compare(self, rendered: RenderedTemplate) -> None:
        """Holds what is there against the environment. Raises DeploymentError for what StackSets cannot do."""
        settings, target, template = self.settings, self.target, rendered.document
        values = settings.values(settings.regions[0])
        if any(
            not all(isinstance(value, str) for value in settings.values(region).values())
            or settings.values(region) != values
            for region in settings.regions
        ):
            raise failure.DeploymentError(
                "with stack_set, the value of a parameter must be in the file, and the same in all Regions",
                where=f"{self.aws.environment.path}: stacks.{settings.name}.parameters",
                advice="Import the value in the template, or let it depend on AWS::Region there.",
            )
        self.arguments = {
            **self.name,
            "PermissionModel": target.permissions,
            "Capabilities": change_set.capabilities(template),
            **body.arguments(self.aws, rendered, self.remote.clock),
            "Parameters": [
                {"ParameterKey": key, "ParameterValue": str(value)} for key, value in values.items()
            ],
            "Tags": [{"Key": key, "Value": value} for key, value in settings.tags.items()],
        }
        if self.by_unit:
            retention = {"RetainStacksOnAccountRemoval": False} if target.auto_deployment else {}
            self.arguments["AutoDeployment"] = {"Enabled": target.auto_deployment, **retention}
        held, there = self.held(), []
        self.arguments |= self._roles(held or {})
        self.exists, self.differs = held is not None, []
        if held:
            there = self.instances()
            given = {
                one["ParameterKey"]: one.get("ParameterValue", "")
                for one in held.get("Parameters") or ()
            }
            # AWS does not tell a secret: that it is another one now cannot be seen.
            defaults = _defaults(template)
            wanted = defaults | values
            given = {
                name: wanted.get(name, "") if value == "****" else value
                for name, value in given.items()
            }
            tags = {one["Key"]: one["Value"] for one in held.get("Tags") or ()}
            allowed = set(self.arguments["Capabilities"])
            stale = sum(one.get("Status") != "CURRENT" for one in there)
            self.differs = [
                name
                for name, differs in (
                    (
                        "template",
                        not _same_body(held.get("TemplateBody"), rendered.text),
                    ),
                    ("parameters", defaults | given != wanted),
                    ("tags", tags != settings.tags),
                    # Not told by everything that speaks for AWS: then there is nothing to compare.
                    ("capabilities", set(held.get("Capabilities", allowed)) != allowed),
                    (
                        "auto deployment",
                        self.by_unit
                        and _automatic(held.get("AutoDeployment"))
                        != _automatic(self.arguments["AutoDeployment"]),
                    ),
                    # AWS names its own default where none was given, and roles of its own for units.
                    *(
                        (words, key in self.arguments and self.arguments[key] != held.get(key))
                        for words, key in _ROLES
                        if not self.by_unit
                    ),
                    (f"{stale} stacks not current", stale),
                )
                if differs
            ]
        others = [one for one in settings.regions if one not in self.refs]
        if self.differs and others:
            # UpdateStackSet takes Regions, but with a new template or parameters all other stacks become OUTDATED.
            raise RefusedError(
                f"this stack set has to be updated ({', '.join(self.differs)}), which cannot be kept to "
                f"{', '.join(self.refs)}: it reaches {', '.join(others)}, too",
                where=str(self.remote.ref),
                advice=f"Without a region: {command(self.remote.ref, 'deploy')}",
            )
        missing = {region: self._missing(region, there, held or {}) for region in self.refs}
        self.missing = {region: found for region, found in missing.items() if found}
        self.left = [one for one in there if not self._is_wanted(one)]

    def _missing(
        self, region: str, there: Sequence[Mapping[str, Any]], held: Mapping[str, Any]
    ) -> list[str]:
        """The accounts, or the organisational units when no accounts are named, that have no stack in a region.

        A unit without accounts has stacks nowhere: the stack set knows it all the same, and it is not missing for ever.
        Source: API reference of StackSet (OrganizationalUnitIds) and StackInstanceSummary (OrganizationalUnitId).
        """
        target = self.target
        if target.accounts:
            known = {one["Account"] for one in there if one["Region"] == region}
            return [one for one in target.accounts if one not in known]
        full = {one.get("OrganizationalUnitId") for one in there}
        known = {one.get("OrganizationalUnitId") for one in there if one["Region"] == region}
        known |= set(held.get("OrganizationalUnitIds") or ()) - full
        return [one for one in target.organizational_units if one not in known]

    def _is_wanted(self, one: Mapping[str, Any]) -> bool:
        """Whether the file names a stack's region, account and organisational unit."""
        target, unit = self.target, one.get("OrganizationalUnitId")
        return (
            one["Region"] in self.settings.regions
            and (not target.accounts or one["Account"] in target.accounts)
            and (not unit or unit in target.organizational_units)
        )

    def _left(self, ref: StackRef) -> list[str]:
        """What stays in a region though the file does not name it; regions that it does not name stand at the first."""
        mine = [ref.region]
        if ref is self.remote.ref:
            mine += sorted({one["Region"] for one in self.left} - set(self.settings.regions))
        found = {
            region: sorted({one["Account"] for one in self.left if one["Region"] == region})
            for region in mine
        }
        return [
            f"the stacks in {', '.join(accounts)} in {region} stay, though the file does not name them any more"
            for region, accounts in found.items()
            if accounts
        ]

    def _roles(self, held: Mapping[str, Any]) -> dict[str, str]:
        """The roles' arguments. AWS keeps the role of before when none is given: its default has to be named then."""
        target, found = self.target, dict[str, str]()
        there = str(held.get("AdministrationRoleARN") or "")
        back = (
            ""
            if self.by_unit or not there
            else there.partition(":role/")[0] + f":role/{_ADMINISTRATION}"
        )
        if role := target.administration_role or (back if back != there else ""):
            found["AdministrationRoleARN"] = role
        other = not self.by_unit and held.get("ExecutionRoleName", _EXECUTION) != _EXECUTION
        if name := target.execution_role or (_EXECUTION if other else ""):
            found["ExecutionRoleName"] = name
        return found

    def plans(self) -> list[Plan]:
        """After ``compare``."""
        name = f"stack set {self.settings.stack_name}"
        common = [] if self.exists else [name]
        common += [f"{name}: {', '.join(self.differs)}"] if self.differs else []
        there = {
            region: [f"stacks in {', '.join(missing)}"] for region, missing in self.missing.items()
        }
        return [
            Plan(ref, settings=(*common, *there.get(region, ())), notes=tuple(self._left(ref)))
            for region, ref in self.refs.items()
        ]

    def deploy(self) -> list[Result]:
        """Does what ``plans`` shows: the set, then its missing stacks; a result per region."""
        failed: dict[tuple[str, str], str] = {}
        self._settle()
        if not self.exists:
            self.remote.call(
                "create_stack_set", ClientRequestToken=uuid.uuid4().hex, **self.arguments
            )
        elif self.differs:
            failed |= self._operate("update_stack_set", **self.arguments)
        for targets in {tuple(one) for one in self.missing.values()}:
            regions = [
                region for region, missing in self.missing.items() if tuple(missing) == targets
            ]
            failed |= self._operate(
                "create_stack_instances", Regions=regions, **self.name, **self.targets(targets)
            )
        if self.by_unit and self.target.accounts and self.missing:
            failed = self._nowhere() | failed
        outcome = "updated" if self.differs else "unchanged"
        results = self._results(
            {one: "created" if one in self.missing else outcome for one in self.refs}, failed
        )
        for result in results:
            result.warnings = tuple(self._left(result.ref))
        return results

    def _nowhere(self) -> dict[tuple[str, str], str]:
        """The accounts for which nothing was made: an account outside of the units is passed over without a word."""
        there = {(one["Account"], one["Region"]) for one in self.instances()}
        why = (
            f"no stack was made; is the account in {' or '.join(self.target.organizational_units)}?"
        )
        return {
            (one, region): why
            for region, missing in self.missing.items()
            for one in missing
            if (one, region) not in there
        }

    def targets(self, targets: Sequence[str]) -> dict[str, Any]:
        """Accounts, or organisational units without accounts, as CreateStackInstances takes them."""
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
        """Deletes the stacks in the regions that are meant, and the set when none is left."""
        if self.held() is None:
            return self._results(dict.fromkeys(self.refs, "unchanged"), {})
        self._settle()
        there = [one for one in self.instances() if one["Region"] in self.refs]
        key = "OrganizationalUnitId" if self.by_unit else "Account"
        targets = sorted(
            {one[key] for one in there}
        )  # of what is there, whatever the file names by now
        failed = (
            self._operate(
                "delete_stack_instances",
                Regions=sorted({one["Region"] for one in there}),
                RetainStacks=False,
                **self.name,
                **(
                    {"DeploymentTargets": {"OrganizationalUnitIds": targets}}
                    if self.by_unit
                    else {"Accounts": targets}
                ),
            )
            if there
            else {}
        )
        results = self._results(dict.fromkeys(self.refs, "deleted"), failed)
        if left := sorted({one["Region"] for one in self.instances()}):
            results[0].warnings = (f"the stack set stays, for its stacks in {', '.join(left)}",)
        else:
            self.remote.call("delete_stack_set", **self.name)
        return results

    # --- operations ------------------------------------------------------------------------

    def _operate(self, method: str, **arguments: Any) -> dict[tuple[str, str], str]:
        """Starts an operation and follows it; gives (account, region) → reason for those that failed."""
        target = self.target
        # STRICT would lower the concurrency.
        mode = "SOFT" if target.concurrency > target.failure_tolerance + 1 else "STRICT"
        preferences = {
            "RegionConcurrencyType": "PARALLEL",
            "MaxConcurrentCount": target.concurrency,
            "FailureToleranceCount": target.failure_tolerance,
            "ConcurrencyMode": f"{mode}_FAILURE_TOLERANCE",
        }
        operation = str(uuid.uuid4())
        try:
            answer = self.remote.call(
                method, OperationId=operation, OperationPreferences=preferences, **arguments
            )
            operation = answer.get("OperationId") or operation
        except ClientError as error:
            if (
                error_code(error) != "OperationIdAlreadyExistsException"
            ):  # the answer was lost; it has been started
                raise
        return self._failures(self._wait(operation), operation)

    def _wait(self, operation: str) -> dict[str, Any]:
        """DescribeStackSetOperation, once it has ended."""
        self.under_way = True
        found = self.remote.until(
            lambda answer: answer["StackSetOperation"]["Status"] in _ENDED,
            "describe_stack_set_operation",
            longest=5.0,
            retry_for=RETRY_LONG,
            OperationId=operation,
            **self.name,
        )["StackSetOperation"]
        self.under_way = False
        return dict(found)

    def _failures(self, found: Mapping[str, Any], operation: str) -> dict[tuple[str, str], str]:
        # SUCCEEDED, too, says only that no more failed than the failure tolerance allows (StackSetOperation.Status).
        failed = {
            (one["Account"], one["Region"]): one.get("StatusReason") or one["Status"]
            for page in self.remote.pages(
                "list_stack_set_operation_results", OperationId=operation, **self.name
            )
            for one in page.get("Summaries") or ()
            if one["Status"] in ("FAILED", "CANCELLED")
        }
        if failed or found["Status"] == "SUCCEEDED":
            return failed
        return {
            ("all", region): found.get("StatusReason") or found["Status"] for region in self.refs
        }

    def running(self) -> list[dict[str, Any]]:
        """ListStackSetOperations: those that have not ended."""
        pages = self.remote.pages("list_stack_set_operations", **self.name) if self.held() else ()
        return [
            one
            for page in pages
            for one in page.get("Summaries") or ()
            if one["Status"] not in _ENDED
        ]

    def _settle(self) -> None:
        """Waits for an operation that is under way: a stack set has one at a time."""
        for one in self.running():
            self._wait(one["OperationId"])

    def follow(self, *, stop: bool) -> list[Result]:
        """Follows what is under way to its end, or has it ``stop``; no results when there is nothing.

        What is being done to a stack is done to its end all the same, and nothing is rolled back; the others are not
        begun any more. Source: API reference of StopStackSetOperation.
        """
        outcome = ""
        failed, left = dict[tuple[str, str], str](), dict[tuple[str, str], str]()
        for one in self.running():  # there may be several: what failed in any of them has failed
            operation = one["OperationId"]
            if stop:
                self.remote.call("stop_stack_set_operation", OperationId=operation, **self.name)
            found = self._wait(operation)
            if stop and found["Status"] == "STOPPED":  # that was the purpose
                outcome, left = "recovered", left | self._failures(found, operation)
            else:
                outcome = _OUTCOMES.get(one.get("Action", ""), "unchanged")
                failed |= self._failures(found, operation)
        results = self._results(dict.fromkeys(self.refs, outcome), failed) if outcome else []
        for result in results:
            result.warnings = tuple(self._words(result.ref, left))
        return results

    def _words(self, ref: StackRef, failed: Mapping[tuple[str, str], str]) -> list[str]:
        """What failed in a region. Regions that are not looked at are told of at the first one: operations reach all."""
        here = [
            f"account {account}: {why}"
            for (account, where), why in failed.items()
            if where == ref.region
        ]
        elsewhere = [
            f"account {account} in {where}: {why}"
            for (account, where), why in failed.items()
            if where not in self.refs
        ]
        return here + (elsewhere if ref is self.remote.ref else [])

    def _results(
        self, outcomes: Mapping[str, str], failed: Mapping[tuple[str, str], str]
    ) -> list[Result]:
        results = []
        for region, ref in self.refs.items():
            result = Result(ref, outcomes[region])
            if here := self._words(ref, failed):
                result.outcome, advice = "failed", f"Mend it, then {command(ref, 'deploy')}"
                result.problem = failure.DeploymentError(
                    "; ".join(here), where=str(ref), advice=advice
                )
            results.append(result)
        return results
