"""Deploy stacks: what happens, in the order in which it happens.

render    ``rendering.render_all()``: the caller passes the templates, the bytes of ``build/``
lint      ``eventstacks lint``, before or in CI: linting is a layer above this one
plan      a change set per stack and Region, all at once                   ``Planner.plan``
show      the listener gets all plans, and
confirm   asks; raises ToolError if the user declines                      ``Listener.confirm``
execute   exactly the change sets that were shown, each stack after those
          it depends on                                                    ``Deployment.execute``
follow    each operation by its events, until it ends                      ``operation.follow``
report    a Result per stack: its outputs, or the root cause of a failure  ``Deployment.report``

Nothing is left behind: a change set that was not executed is deleted, also after Ctrl-C.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from eventstacks.aws import AWS_ERRORS, error_code, error_message
from eventstacks.cloudformation import change_set, failure, operation, outputs
from eventstacks.cloudformation.change_set import ChangeSet, Options
from eventstacks.cloudformation.plan import Planner, check_losses
from eventstacks.cloudformation.run import Interrupted, Plan, Result, Scope, in_order
from eventstacks.cloudformation.stack import StackClient, is_missing, state_of
from eventstacks.errors import ErrorCode
from eventstacks.rendering import RenderedTemplate


def plan(
    scope: Scope, templates: Mapping[str, RenderedTemplate], options: Options | None = None
) -> list[Plan]:
    """Return what ``deploy`` would do; nothing is executed, and no change set is left behind.

    Raises ToolError for the wrong account, and Interrupted; the error of one stack is in its plan's
    ``problem``.
    """
    with _deployment(scope, templates, options) as run:
        return scope.for_each(run.planner.plan, Plan)


def deploy(
    scope: Scope, templates: Mapping[str, RenderedTemplate], options: Options | None = None
) -> list[Result]:
    """Create or update stacks; return a result per stack.

    A stack that fails keeps those that depend on it from being changed; all others go on. Raises
    ToolError for the wrong account, STACK_PROTECTED and DECLINED (before anything is changed), and
    Interrupted; the error of one stack is in its result.
    """
    with _deployment(scope, templates, options) as run:
        plans = scope.for_each(run.planner.plan, Plan)
        check_losses(scope.aws.environment, plans, run.planner.options.allow_replace)
        if any(one.changes for one in plans):
            scope.listener.confirm(plans)
        return scope.work(plans, run.deploy_stack, run.planner.before, "skipped: it depends on {}")


@contextmanager
def _deployment(
    scope: Scope, templates: Mapping[str, RenderedTemplate], options: Options | None
) -> Iterator["Deployment"]:
    """Yield a Deployment, and delete the change sets that it did not execute.

    Raises Interrupted after Ctrl-C, also if it comes a second time, in the deletion.
    """
    run = Deployment(scope, Planner(scope, templates, options or Options()))
    try:
        try:
            yield run
        finally:
            unused = run.planner.unused
            in_order(
                dict.fromkeys(unused, ()),
                lambda ref: change_set.discard(scope.stack(ref), unused[ref]),
                scope.clock,
            )
    except KeyboardInterrupt:
        raise Interrupted(scope.in_progress) from None


@dataclass(frozen=True)
class Deployment:
    """One call of ``plan`` or ``deploy``."""

    scope: Scope
    planner: Planner

    def deploy_stack(self, stack: StackClient, shown: Plan) -> Result:
        """Deploy one stack, when those before it are done."""
        found = self.current_plan(stack, shown)
        made, before = found.change_set, found.stack or {}
        if not made:
            _protect(stack, found, before["StackId"])
            outcome = "updated" if found.settings else "unchanged"
            return self.report(stack, outcome, before["StackStatus"], before)
        running = self.execute(stack, found, made)
        own = [one for one in made.changes if "/" not in one["LogicalResourceId"]]
        status = self.scope.follow_operation(stack, running, len(own))
        if not running.started:
            raise operation.LostSightError(
                f"the request was accepted but no events were received; the stack is in {status}",
                where=str(stack.ref),
                advice=f"See whether it was done: {stack.ref.command('plan')}",
            )
        if state_of(status).outcome not in ("created", "updated"):
            raise failure.of_operation(stack, running, status)
        description = operation.wait_until_visible(stack, made.stack_id, status, before)
        outcome = "created" if made.kind == "CREATE" else "updated"
        warnings = _finish(stack, running, found, made)
        return self.report(stack, outcome, status, description, warnings)

    def current_plan(self, stack: StackClient, shown: Plan) -> Plan:
        """Return the plan that was shown, or a new one if it no longer holds.

        It holds if the outputs that it uses are still the same now that the stacks before it are
        done. A new plan that does more than create a stack is shown and confirmed again.
        """
        planner = self.planner
        if not shown.waits_for and shown.values == planner.values.resolve(stack.ref):
            return shown
        old = planner.unused.pop(stack.ref, None)
        try:
            found = planner.plan(stack)
        finally:
            if old:  # after the new one, so that a stack in review is not deleted under it
                change_set.discard(stack, old, keep_stack=stack.ref in planner.unused)
        check_losses(
            self.scope.aws.environment,
            [found],
            planner.options.allow_replace,
            "this stack was not changed",
        )
        creates = found.change_set is not None and found.change_set.kind == "CREATE"
        if found.changes and not creates:
            self.scope.listener.confirm([found])
        return found

    def execute(self, stack: StackClient, found: Plan, made: ChangeSet) -> operation.Operation:
        """Execute a change set; a stack that exists is protected before."""

        def on_start() -> None:
            if made.kind == "UPDATE":
                _protect(stack, found, made.stack_id)
            self.scope.start(stack.ref)
            self.planner.unused.pop(stack.ref)

        try:
            return change_set.execute(stack, made, self.planner.options, on_start)
        except ClientError as error:
            # It was refused. After other errors it can be in progress: it is not deleted then.
            self.planner.unused[stack.ref] = made
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

    def report(
        self,
        stack: StackClient,
        outcome: str,
        status: str,
        description: Mapping[str, Any],
        warnings: tuple[str, ...] = (),
    ) -> Result:
        """Return the result of a stack; its outputs are then known to those that use them."""
        found = self.planner.values.known[stack.ref] = outputs.of(description)
        self.planner.pending.discard(stack.ref)
        return Result(stack.ref, outcome, status=status, outputs=found, warnings=warnings)


def _protect(stack: StackClient, found: Plan, stack_id: str) -> None:
    """Set what the plan found not to be set: the termination protection."""
    if found.settings:
        stack.clock.sleep(0)  # raises Cancelled after Ctrl-C
        stack.call(
            "update_termination_protection", StackName=stack_id, EnableTerminationProtection=True
        )


def _finish(
    stack: StackClient, running: operation.Operation, found: Plan, made: ChangeSet
) -> tuple[str, ...]:
    """Protect a stack that was created; return warnings."""
    warnings = [
        f"{one.logical_id} ({one.type}) was replaced or removed, but the old one could not be "
        f"deleted: {one.reason}"
        for one in running.events
        if one.status == "DELETE_FAILED" and not one.is_root
    ]
    try:
        if made.kind == "CREATE":
            _protect(stack, found, made.stack_id)
    except AWS_ERRORS as error:
        what = ", ".join(found.settings)
        warnings.append(f"deployed, but not set: {what}: {error_message(error)}")
    return tuple(warnings)
