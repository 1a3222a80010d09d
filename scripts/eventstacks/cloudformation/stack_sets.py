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
from eventstacks.cloudformation.stack_set import RefusedError, StackSet
from eventstacks.cloudformation.status import Drift, Status
from eventstacks.errors import ToolError, command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eventstacks.rendering import RenderedTemplate


class StackSets(Scope):
    """A Deployer (see deployer.py) of an environment with ``stack_set``."""

    @cached_property
    def sets(self) -> list[StackSet]:
        """Return the stack sets. Raises ToolError for the wrong account."""
        self.aws.guard()
        names = dict.fromkeys(ref.stack for ref in self.refs)
        return [StackSet(self, [ref for ref in self.refs if ref.stack == one]) for one in names]

    def _refused(self, what: str, *advice: str) -> RefusedError:
        where = f"{self.aws.environment.path}: stack_set"
        return RefusedError(
            f"{what} not supported with stack_set", where=where, advice="\n".join(advice)
        )

    def plan(
        self, templates: Mapping[str, RenderedTemplate], options: Options | None = None
    ) -> list[Plan]:
        """Return a plan per stack and Region. Raises RefusedError for unsupported options."""
        options = options or Options()
        if options.disable_rollback or not options.nested:
            raise self._refused("--disable-rollback and --no-nested:")
        return [plan for one in self.sets for plan in self._plan(one, templates)]

    def _plan(self, one: StackSet, templates: Mapping[str, RenderedTemplate]) -> list[Plan]:
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
        options = options or Options()
        plans = self.plan(templates, options)
        problems = {plan.ref.stack: plan.problem for plan in plans if plan.problem}
        if refused := next(
            (one for one in problems.values() if isinstance(one, RefusedError)), None
        ):
            raise refused
        self._check_protection(options.allow_replace)
        if any(plan.changes for plan in plans) and not self.listener.confirm(plans):
            return []

        def job(one: StackSet) -> list[Result]:
            if problem := problems.get(one.settings.name):
                raise problem
            return one.deploy()

        return self._each(job)

    def _check_protection(self, allowed: frozenset[str]) -> None:
        """Raise ProtectedError for an update that is not allowed by the stack set's name.

        What an update replaces or deletes cannot be seen before: stack sets have no change sets.
        """
        found = [
            one.settings.stack_name
            for one in self.sets
            if one.exists and one.differences and one.settings.stack_name not in allowed
        ]
        if self.aws.environment.protect and found:
            options = [word for name in found for word in ("--allow-replace", name)]
            command = command_line("deploy", *options, env=self.aws.environment.name)
            raise protection.ProtectedError(
                f"refused, nothing was changed: {', '.join(found)} would be updated, and a stack "
                "set does not tell what that replaces",
                where=f"{self.aws.environment.path}: protect",
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
            raise self._refused("--retain and --force:")

        def job(one: StackSet) -> list[Result]:
            if self.aws.environment.protect and one.describe():
                raise protection.ProtectedError(
                    "the environment is protected", where=str(one.stack.ref)
                )
            return one.delete()

        return self._each(job)

    def status(self) -> list[Status]:
        """Return for each stack and Region how many stacks are in which state."""
        found = []
        for one in self.sets:
            instances = one.instances() if one.describe() else []
            for region, ref in one.refs.items():
                counts = Counter(each["Status"] for each in instances if each["Region"] == region)
                text = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
                advice = one.command("deploy") if counts.keys() - {"CURRENT"} else ""
                found.append(Status(ref, text or states.NOT_DEPLOYED, advice=advice))
        return found

    def follow(self) -> list[Result]:
        """Follow the operations in progress; return [] without any. Raises Interrupted."""
        return self._each(StackSet.follow)

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
            name = self.aws.environment.name
            raise self._refused(
                "recovery of single stacks:",
                f"See which stacks failed: {command_line('status', env=name)}",
                f"Fix the cause and try them again: {command_line('deploy', env=name)}",
                f"Stop an operation: {command_line('recover', '--cancel', env=name)}",
            )
        text = "in all accounts and Regions, without a rollback"
        return [
            Step(
                one.stack.ref,
                "stop_stack_set_operation",
                f"has an operation {each.get('Action', '')} in {each['Status']}: stop it {text}",
            )
            for one in self.sets
            for each in one.running()
        ]

    def recover(self, steps: Sequence[Step]) -> list[Result]:
        """Stop the operations in progress and follow them to their end. Raises Interrupted."""
        return self._each(lambda one: one.follow(stop=True)) if steps else []

    def drift(self) -> list[Drift]:
        """Raise RefusedError with the way in which AWS detects drift (DetectStackSetDrift)."""
        where = f"--region {self.aws.environment.regions[0]} --stack-set-name"
        names = [one.settings.stack_name for one in self.sets]
        raise self._refused(
            "drift detection:",
            "Let AWS detect it in all accounts:",
            *(f"aws cloudformation detect-stack-set-drift {where} {name}" for name in names),
            f"Wait for it: {command_line('follow', env=self.aws.environment.name)}",
            "Then read DriftStatus of each stack:",
            *(f"aws cloudformation list-stack-instances {where} {name}" for name in names),
        )

    def _each(self, job: Callable[[StackSet], list[Result]]) -> list[Result]:
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
