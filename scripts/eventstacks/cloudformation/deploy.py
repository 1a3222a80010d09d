"""Deploy stacks: what happens, in the order in which it happens.

render    ``rendering.render_all()``: the caller passes the templates, the bytes of ``build/``
lint      ``eventstacks lint``, before or in CI: linting is a layer above this one
plan      a change set per stack and Region, all at once                   ``Deployment.plan``
show      the listener gets all plans, and
confirm   returns True to go on                                            ``Listener.confirm``
execute   exactly the change sets that were shown, each stack after those
          it depends on                                                    ``Deployment.execute``
follow    each operation by its events, until it ends                      ``operation.follow``
report    a Result per stack: its outputs, or the root cause of a failure  ``Deployment.report``

Nothing is left behind: a change set that was not executed is deleted, also after Ctrl-C.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from eventstacks.aws import AWS_ERRORS, error_code, error_message
from eventstacks.cloudformation import (
    change_set,
    failure,
    operation,
    order,
    outputs,
    protection,
    states,
)
from eventstacks.cloudformation.change_set import Options
from eventstacks.cloudformation.plan import Planner
from eventstacks.cloudformation.run import Interrupted, Plan, Result, Run, Scope, at_once
from eventstacks.cloudformation.stack import StackClient, is_missing
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from eventstacks.environment import StackRef
    from eventstacks.rendering import RenderedTemplate


def plan(
    scope: Scope, templates: Mapping[str, RenderedTemplate], options: Options | None = None
) -> list[Plan]:
    """Return what ``deploy`` would do; nothing is executed, and no change set is left behind.

    Raises ToolError for the wrong account; the error of one stack is in its plan's ``problem``.
    """
    run = Deployment(scope, templates, options or Options())
    try:
        return run.plan()
    except KeyboardInterrupt:
        raise Interrupted(()) from None
    finally:
        run.discard(run.plans.values())


def deploy(
    scope: Scope, templates: Mapping[str, RenderedTemplate], options: Options | None = None
) -> list[Result]:
    """Create or update stacks; return a result per stack.

    Returns [] if the listener declines. A stack that fails keeps those that depend on it from being
    changed; all others go on. Raises ToolError for the wrong account, protection.ProtectedError (before anything
    is changed) and Interrupted; the error of one stack is in its result.
    """
    run = Deployment(scope, templates, options or Options())
    try:
        plans = run.plan(wait=True)
        protection.check(run.environment, plans, run.options.allow_replace)
        if any(one.changes for one in plans) and not run.listener.confirm(plans):
            return []
        return run.work(run.deploy_stack, run.before, "skipped: it depends on {}")
    except KeyboardInterrupt:
        raise Interrupted(run.in_progress) from None
    finally:
        run.discard(one for ref, one in run.plans.items() if ref not in run.executed)


class Deployment(Run):
    """One call of ``plan`` or ``deploy``."""

    def __init__(
        self, scope: Scope, templates: Mapping[str, RenderedTemplate], options: Options
    ) -> None:
        super().__init__(scope)
        self.environment, self.options = scope.aws.environment, options
        self.before = order.predecessors(self.environment, scope.refs, templates)
        self.planner = Planner(scope, templates, options)
        self.plans: dict[StackRef, Plan] = {}
        self.executed: set[StackRef] = set()

    # --- plan ------------------------------------------------------------------------------

    def plan(self, *, wait: bool = False) -> list[Plan]:
        """Plan all stacks at once; ``wait`` for operations that are in progress on them."""
        stacks = list(self.stacks.values())
        return at_once(stacks, lambda stack: self.plan_stack(stack, wait=wait), self.clock)

    def plan_stack(
        self,
        stack: StackClient,
        *,
        wait: bool = False,
        created_by_run: bool = False,
    ) -> Plan:
        """Plan one stack; an error becomes the plan's ``problem``."""
        try:
            description = self.describe(stack, wait=wait)
            found = self.planner.plan(stack, description, created_by_run=created_by_run)
        except (ToolError, *AWS_ERRORS) as error:
            found = Plan(stack.ref, problem=failure.wrap(error, stack.ref, stack.mask))
        self.plans[stack.ref] = found
        self.listener.planned(found)
        return found

    def describe(self, stack: StackClient, *, wait: bool) -> dict[str, Any] | None:
        """Return DescribeStacks, after the end of an operation that is in progress."""
        found = stack.describe()
        if not (found and wait and states.in_progress(found["StackStatus"])):
            return found
        status = self.follow(stack, operation.in_progress(stack, found))
        if status == states.DELETED:
            return None
        return operation.wait_until_visible(stack, found["StackId"], status) or found

    def discard(self, plans: Iterable[Plan]) -> None:
        """Delete the change sets of plans that were not executed."""
        made = {one.ref: one.change_set for one in plans if one.change_set}
        made = {ref: one for ref, one in made.items() if not one.unchanged}
        at_once(made, lambda ref: change_set.discard(self.stacks[ref], made[ref]), self.clock)

    # --- execute, follow, report -----------------------------------------------------------

    def deploy_stack(self, stack: StackClient) -> Result:
        """Deploy one stack, when those before it are done."""
        found = self.current_plan(stack)
        if found.problem or found.change_set is None:
            raise found.problem or AssertionError
        if found.change_set.unchanged:
            self.start(stack.ref)
            protection.apply(stack, found.change_set.stack_id, found.settings)
            return self.report(stack, "updated" if found.settings else "unchanged", found.stack)
        running = self.execute(stack, found)
        own = [one for one in found.change_set.changes if "/" not in one["LogicalResourceId"]]
        status = self.follow(stack, running, len(own))
        if not running.started:
            raise operation.unseen(stack, status)
        if not states.of(status).is_sound:
            raise failure.of_operation(stack, running, status)
        description = operation.wait_until_visible(stack, running.stack_id, status, found.stack)
        warnings = self.protect(stack, running, found)
        outcome = "created" if found.change_set.kind == "CREATE" else "updated"
        return self.report(stack, outcome, {**description, "StackStatus": status}, warnings)

    def current_plan(self, stack: StackClient) -> Plan:
        """Return the plan that was shown, or a new one if it no longer holds.

        It holds if the outputs that it uses are still the same now that the stacks before it are
        done. A new plan that does more than create a stack is shown and confirmed again.
        """
        shown = self.plans[stack.ref]
        if shown.problem:
            return shown
        if shown.change_set and dict(shown.values) == self.planner.values.resolve(stack.ref):
            return shown
        old = shown.change_set
        found = self.plan_stack(stack, created_by_run=old is not None and old.created_stack)
        if old:  # after the new one, so that a stack in review is not deleted under it
            keeps = found.change_set is not None and not found.change_set.unchanged
            old = replace(old, created_stack=old.created_stack and not keeps)
            self.discard([replace(shown, change_set=old)])
        if found.problem or not found.changes:
            return found
        allowed = self.options.allow_replace
        protection.check(self.environment, [found], allowed, "this stack was not changed")
        creates = found.change_set is not None and found.change_set.kind == "CREATE"
        if not creates and not self.listener.confirm([found]):
            raise failure.DeploymentError("declined", code=ErrorCode.DECLINED, where=str(stack.ref))
        return found

    def execute(self, stack: StackClient, found: Plan) -> operation.Operation:
        """Execute the change set of a plan. A stack policy that allows more is set before it."""
        made = found.change_set
        if made is None:
            raise AssertionError

        def on_start() -> None:
            self.start(stack.ref)
            self.executed.add(stack.ref)
            if found.policy_first:
                protection.apply(stack, made.stack_id, [protection.POLICY])

        try:
            return change_set.execute(stack, made, self.options, on_start)
        except ClientError as error:
            self.executed.discard(stack.ref)  # refused; after other errors it can be in progress
            # Executing a change set deletes the others of the stack.
            if is_missing(error) or error_code(error) == "ChangeSetNotFound":
                raise failure.DeploymentError(
                    "the change set is no longer valid: another deployment of this stack is in "
                    "progress or has just ended",
                    code=ErrorCode.STACK_BUSY,
                    where=str(stack.ref),
                    advice=f"Wait for it, then deploy again: {stack.ref.command('follow')}",
                ) from None
            raise

    def protect(self, stack: StackClient, running: operation.Operation, found: Plan) -> list[str]:
        """Set the protection of a deployed stack; return warnings."""
        warnings = [
            f"{one.logical_id} ({one.type}) was replaced or removed, but the old one could not be "
            f"deleted: {one.reason}"
            for one in running.events
            if one.status == "DELETE_FAILED" and not one.is_root
        ]
        settings = [
            one for one in found.settings if not (found.policy_first and one == protection.POLICY)
        ]
        try:
            protection.apply(stack, running.stack_id, settings)
        except AWS_ERRORS as error:
            warnings.append(f"deployed, but not set: {', '.join(settings)}: {error_message(error)}")
        return warnings

    def report(
        self,
        stack: StackClient,
        outcome: str,
        description: Mapping[str, Any] | None,
        warnings: Sequence[str] = (),
    ) -> Result:
        """Return the result of a stack; its outputs are then known to those that use them."""
        held = description or {}
        found = outputs.of(held)
        self.planner.values.set(stack.ref, found)
        self.planner.pending.discard(stack.ref)
        return Result(
            stack.ref,
            outcome,
            status=held.get("StackStatus", ""),
            outputs=found,
            warnings=tuple(warnings),
        )
