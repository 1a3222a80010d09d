"""Stacks in many accounts: one stack set per stack of the environment, all at once."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

from eventstacks.aws import AWS_ERRORS
from eventstacks.cloudformation import failure, protection, states
from eventstacks.cloudformation.change_set import Options
from eventstacks.cloudformation.delete import Preview
from eventstacks.cloudformation.recover import Step
from eventstacks.cloudformation.run import Interrupted, Plan, Result, Run, Scope, at_once
from eventstacks.cloudformation.stack_set import RefusedError, StackSetClient
from eventstacks.cloudformation.status import Drift, Status
from eventstacks.errors import ErrorCode, ToolError, command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eventstacks.environment import Environment, StackRef
    from eventstacks.rendering import RenderedTemplate


class StackSets(Scope):
    """A Deployer (see deployer.py) of an environment with ``stack_set``."""

    @cached_property
    def sets(self) -> list[StackSetClient]:
        """Return a client per stack set. Raises aws.AccountError."""
        self.aws.guard()
        by_name: dict[str, list[StackRef]] = {}
        for ref in self.refs:
            by_name.setdefault(ref.stack, []).append(ref)
        return [StackSetClient(self.aws, refs, self.clock) for refs in by_name.values()]

    @property
    def environment(self) -> Environment:
        """Return the environment."""
        return self.aws.environment

    def _refused(self, what: str, advice: str = "") -> RefusedError:
        return RefusedError(what, where=f"{self.environment.path}: stack_set", advice=advice)

    def plan(
        self, templates: Mapping[str, RenderedTemplate], options: Options | None = None
    ) -> list[Plan]:
        """Return a plan per stack and Region. Raises RefusedError for unsupported options."""
        options = options or Options()
        names = ("express", "revert_drift", "import_existing", "on_failure", "disable_rollback")
        given = [
            f"--{one.replace('_', '-')}" for one in (*names, "recreate") if getattr(options, one)
        ]
        if given := [*given, *([] if options.nested else ["--no-nested"])]:
            raise self._refused(f"{', '.join(given)}: not supported with stack_set")
        return [plan for one in self.sets for plan in self._plan(one, templates)]

    def _plan(self, one: StackSetClient, templates: Mapping[str, RenderedTemplate]) -> list[Plan]:
        try:
            one.compare(templates[one.settings.template])
        except (ToolError, *AWS_ERRORS) as error:
            return [Plan(ref, problem=failure.wrap(error, ref)) for ref in one.refs.values()]
        return one.plans()

    def deploy(
        self, templates: Mapping[str, RenderedTemplate], options: Options | None = None
    ) -> list[Result]:
        """Create or update the stack sets and their stacks.

        Raises RefusedError and ProtectedError before anything is changed, and Interrupted.
        """
        plans = self.plan(templates, options)
        problems = {plan.ref.stack: plan.problem for plan in plans if plan.problem}
        for problem in problems.values():
            if isinstance(problem, RefusedError):
                raise problem
        self._check_protection((options or Options()).allow_replace)
        if any(plan.changes for plan in plans) and not self.listener.confirm(plans):
            return []

        def job(one: StackSetClient) -> list[Result]:
            if problem := problems.get(one.settings.name):
                raise problem
            return one.deploy()

        return self._each(job)

    def _check_protection(self, allowed: frozenset[str]) -> None:
        """Raise ProtectedError for an update that is not allowed by the stack set's name.

        What an update replaces or deletes cannot be seen before: stack sets have no change sets.
        """
        found = [
            one
            for one in self.sets
            if one.exists and one.differences and one.settings.stack_name not in allowed
        ]
        if self.environment.protect and found:
            texts = [f"{one.settings.stack_name} ({', '.join(one.differences)})" for one in found]
            options = [
                word for one in found for word in ("--allow-replace", one.settings.stack_name)
            ]
            command = command_line("deploy", *options, env=self.environment.name)
            raise protection.ProtectedError(
                f"refused, nothing was changed: {'; '.join(texts)}: a stack set does not tell what "
                "an update replaces",
                where=f"{self.environment.path}: protect",
                advice=f"To allow it, name the stack set: {command}",
            )

    def preview_deletion(self) -> list[Preview]:
        """Return a preview per stack and Region; other accounts cannot be looked into."""
        held = {"StackStatus": "", "StackId": ""}
        return [Preview(ref, held) for one in self.sets for ref in one.refs.values()]

    def delete(
        self,
        previews: Sequence[Preview],  # noqa: ARG002 - of the protocol
        *,
        empty_buckets: bool = False,  # noqa: ARG002
        retain: Sequence[str] = (),
        force: bool = False,
    ) -> list[Result]:
        """Delete the stacks in every account, then the stack sets. Raises Interrupted."""
        if retain or force:
            raise self._refused("--retain and --force: not supported with stack_set")

        def job(one: StackSetClient) -> list[Result]:
            if self.environment.protect and one.describe():
                raise failure.DeploymentError(
                    "the environment is protected",
                    code=ErrorCode.STACK_PROTECTED,
                    where=f"{self.environment.path}: protect",
                )
            return one.delete()

        return self._each(job)

    def status(self) -> list[Status]:
        """Return for each stack and Region how many stacks are in which state."""
        return [status for one in self.sets for status in self._status(one)]

    def _status(self, one: StackSetClient) -> list[Status]:
        try:
            instances = one.instances() if one.describe() else []
        except AWS_ERRORS as error:
            refs = one.refs.values()
            return [Status(ref, "UNKNOWN", problem=failure.wrap(error, ref)) for ref in refs]
        found = []
        for region, ref in one.refs.items():
            counts = Counter(
                each.get("Status", "") for each in instances if each["Region"] == region
            )
            text = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
            advice = one.command("deploy") if counts.keys() - {"CURRENT"} else ""
            found.append(Status(ref, text or states.NOT_DEPLOYED, advice=advice))
        return found

    def follow(self) -> list[Result]:
        """Follow the operations in progress; return [] without any. Raises Interrupted."""
        return self._each(StackSetClient.follow)

    def propose_recovery(
        self,
        *,
        skip: Sequence[str] = (),  # noqa: ARG002 - of the protocol
        retain: Sequence[str] = (),  # noqa: ARG002
        force: bool = False,  # noqa: ARG002
        cancel: bool = False,
    ) -> list[Step]:
        """Return the operations to stop. Raises RefusedError without ``cancel``."""
        if not cancel:
            name = self.environment.name
            raise self._refused(
                "recover is for single stacks, and this environment has stack_set",
                f"See which stacks failed: {command_line('status', env=name)}\n"
                f"Fix the cause and try them again: {command_line('deploy', env=name)}\n"
                f"Stop an operation: {command_line('recover', '--cancel', env=name)}",
            )
        return [
            Step(
                one.stack.ref,
                "stop_stack_set_operation",
                f"has an operation {each.get('Action', '')} in {each['Status']}: stop it in all "
                "accounts and Regions, without a rollback",
            )
            for one in self.sets
            for each in one.running()
        ]

    def recover(self, steps: Sequence[Step]) -> list[Result]:
        """Stop the operations in progress and follow them to their end. Raises Interrupted."""
        return self._each(lambda one: one.follow(stop=True)) if steps else []

    def drift(self) -> list[Drift]:
        """Raise RefusedError that says how AWS detects drift. Source: API Reference of DetectStackSetDrift."""
        where = f"--region {self.environment.regions[0]} --stack-set-name"
        names = [one.settings.stack_name for one in self.sets]
        lines = [
            "Let AWS detect it in all accounts:",
            *(f"aws cloudformation detect-stack-set-drift {where} {name}" for name in names),
            f"Wait for it: {command_line('follow', env=self.environment.name)}",
            "Then read DriftStatus of each stack:",
            *(f"aws cloudformation list-stack-instances {where} {name}" for name in names),
        ]
        raise self._refused("drift detection is not available with stack_set", "\n".join(lines))

    def _each(self, job: Callable[[StackSetClient], list[Result]]) -> list[Result]:
        """Run ``job`` for all stack sets at once; errors become results. Raises Interrupted."""
        run = Run(self, ())
        try:
            done = at_once(
                self.sets, lambda one: run.attempt(one.refs.values(), lambda: job(one)), self.clock
            )
        except KeyboardInterrupt:
            moving = [ref for one in self.sets if one.in_progress for ref in one.refs.values()]
            raise Interrupted(moving) from None
        return [result for results in done for result in results]
