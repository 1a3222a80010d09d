"""Plan and deploy: change sets for every stack and region, shown, executed as shown, followed to the end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from eventstacks import documents
from eventstacks.aws import AWS_ERRORS, Clock, error_code, error_message
from eventstacks.cloudformation import (
    body,
    change_set,
    events,
    failure,
    noecho,
    operation,
    order,
    outputs,
    protection,
    schedule,
    stack_sets,
)
from eventstacks.cloudformation.options import Options
from eventstacks.cloudformation.parameters import Values
from eventstacks.cloudformation.results import Interrupted, Listener, Plan, Result, Run
from eventstacks.cloudformation.stack import is_missing
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eventstacks.aws import Aws
    from eventstacks.cloudformation.stack import Remote
    from eventstacks.cloudformation.stack_sets import Templates
    from eventstacks.environment import StackRef

__all__ = ["Interrupted", "Listener", "Plan", "Result", "deploy", "plan"]


def plan(
    aws: Aws,
    templates: Templates,
    refs: Sequence[StackRef],
    *,
    options: Options | None = None,
    listener: Listener | None = None,
    clock: Clock | None = None,
) -> list[Plan]:
    """What ``deploy`` would do; nothing is executed, and no change set is left behind.

    Raises aws.AccountError; what goes wrong with one stack stands in its plan's ``problem``.
    """
    how, time = options or Options(), clock or Clock()
    if aws.environment.stack_set:
        return stack_sets.plan(aws, refs, templates, how, time)
    return _Run(aws, templates, refs, how, listener, time).plan()


def deploy(
    aws: Aws,
    templates: Templates,
    refs: Sequence[StackRef],
    *,
    options: Options | None = None,
    listener: Listener | None = None,
    clock: Clock | None = None,
) -> list[Result]:
    """Creates or updates the stacks of ``refs`` (``environment.choose()``) from the bytes of ``build/``.

    ``templates``: ``rendering.render_all()``. Plans everything, asks ``listener.confirm`` when there is something to
    do ([] when it says no), executes exactly what was shown, and follows. A failed stack keeps those that need its
    outputs from being touched; all others go on. Raises aws.AccountError, protection.ProtectedError (before anything
    is changed) and Interrupted; what goes wrong with one stack stands in its result.
    """
    how, time = options or Options(), clock or Clock()
    if aws.environment.stack_set:
        return stack_sets.deploy(aws, refs, templates, how, listener or Listener(), time)
    return _Run(aws, templates, refs, how, listener, time).deploy()


class _Run(Run):
    """One call of ``plan`` or ``deploy``."""

    def __init__(
        self,
        aws: Aws,
        templates: Templates,
        refs: Sequence[StackRef],
        options: Options,
        listener: Listener | None,
        clock: Clock,
    ) -> None:
        super().__init__(schedule.remotes(aws, refs, clock), clock, listener)
        self.aws, self.templates, self.options = aws, templates, options
        self.stays = (
            options.disable_rollback or options.on_failure == "DO_NOTHING"
        )  # what fails is not rolled back
        self.refs = tuple(refs)
        self.before = order.predecessors(aws.environment, refs)
        self.values = Values(aws)
        self.plans: dict[StackRef, Plan] = {}
        self.executed: set[StackRef] = set()

    # --- planning --------------------------------------------------------------------------

    def plan(self) -> list[Plan]:
        try:
            return schedule.at_once(self.refs, self.plan_one, self.clock)
        except KeyboardInterrupt:
            raise Interrupted(()) from None
        finally:
            self.discard(self.plans.values())

    def plan_one(self, ref: StackRef, *, wait: bool = False, ours: bool = False) -> Plan:
        """``wait`` for an operation that is under way on the stack. ``ours``: this run has brought it into review."""
        remote = self.remotes[ref]
        try:
            made = self._plan_one(remote, wait=wait, ours=ours)
        except (ToolError, *AWS_ERRORS) as error:
            made = Plan(remote.ref, problem=failure.wrap(error, remote.ref, remote.mask))
        self.plans[ref] = made
        self.listener.planned(made)
        return made

    def _plan_one(self, remote: Remote, *, wait: bool, ours: bool) -> Plan:
        ref, stack = remote.ref, remote.stack()
        rendered = self.templates[ref.settings.template]
        template = rendered.document
        if stack and wait and operation.is_under_way(stack):
            status = self.follow(remote, operation.under_way(remote, stack["StackId"]))
            found = operation.settle(remote, stack["StackId"], status) or stack
            stack = None if status == "DELETE_COMPLETE" else found
        if stack and stack["StackStatus"] not in _FIT:
            status = stack["StackStatus"]
            raise failure.DeploymentError(
                f"the stack is in {status} and cannot be changed",
                where=str(ref),
                status=status,
                advice=failure.advice(status, ref),
            )
        if stack and stack["StackStatus"] in events.MAYBE_ENDS and not self.stays:
            raise failure.stays_failed(stack["StackStatus"], ref)
        try:
            values = self.values.resolve(ref)
        except outputs.NoStackError:
            taken = self.aws.environment.references(ref).values()
            coming = sorted(
                {giver for giver, _ in taken if giver in self.refs} - self.results.keys(), key=str
            )
            if not coming:
                raise
            for giver, name in taken:
                if giver not in coming:
                    self.values.output(
                        giver, name
                    )  # waiting would not help: it raises where this is not there either
            waits_for = tuple(
                one.stack if one.region == ref.region else f"{one.stack} in {one.region}"
                for one in coming
            )
            declared = {
                name: one
                for name, one in (template.get("Resources") or {}).items()
                if isinstance(one, dict)
            }
            resources = {name: str(one.get("Type")) for name, one in declared.items()}
            return Plan(
                ref, stack=stack, waits_for=waits_for, resources=resources if not stack else {}
            )
        secrets = self.secrets(remote, template, values, stack)
        arguments = change_set.request(
            self.aws.environment, ref.settings, template, values, stack, self.options
        )
        arguments |= body.arguments(self.aws, rendered, self.clock)
        changed = protection.differences(remote, self.aws.environment, ref.settings, stack)
        theirs = stack is not None and not change_set.sweep(remote, stack) and not ours
        # From here on nothing may fail: the change set would be left behind.
        made = change_set.make(remote, arguments, secrets, stack_was_there=theirs)
        if made.unchanged and made.kind == "CREATE":
            raise failure.DeploymentError(
                f"the template yields no resource, so there is no stack to make in {ref.region}",
                where=str(rendered.path),
                advice="It has none, or its conditions take all of them away.",
            )
        return Plan(ref, made, stack, values, settings=changed)

    def secrets(
        self, remote: Remote, template: Mapping[str, Any], values: Mapping[str, str], stack: Any
    ) -> noecho.Secrets:
        """Return what a plan must not show; remember it for the errors of this stack.

        The deployed template is read only if it has NoEcho parameters: AWS shows their values as ****.
        """
        held = (stack or {}).get("Parameters") or ()
        templates = [template]
        if any(one.get("ParameterValue") == noecho.MASK for one in held):
            body = remote.call("get_template", StackName=stack["StackId"])["TemplateBody"]
            is_text = isinstance(body, str)
            templates.append(documents.parse_template(body, str(remote.ref)) if is_text else body)
        found = noecho.Secrets.of(values, *templates)
        remote.secrets.update(found.values)
        return found

    def discard(self, plans: Iterable[Plan]) -> None:
        """Leaves no change set behind."""
        made = {
            one.ref: one.change_set
            for one in plans
            if one.change_set and not one.change_set.unchanged
        }
        schedule.at_once(
            made, lambda ref: change_set.discard(self.remotes[ref], made[ref]), self.clock
        )

    # --- executing -------------------------------------------------------------------------

    def deploy(self) -> list[Result]:
        try:
            schedule.at_once(self.refs, lambda ref: self.plan_one(ref, wait=True), self.clock)
            plans = [self.plans[ref] for ref in self.refs]
            protection.check(self.aws.environment, plans, self.options.allow_replace)
            if any(one.changes for one in plans) and not self.listener.confirm(plans):
                return []
            return self.in_order(self.execute, self.before, "not touched, since it needs {}")
        except KeyboardInterrupt:
            raise Interrupted(self.under_way) from None
        finally:
            self.discard(one for ref, one in self.plans.items() if ref not in self.executed)

    def execute(self, remote: Remote) -> Result:
        ref = remote.ref
        made, settings = self.current_plan(ref), ref.settings
        if made.problem or made.change_set is None:
            raise made.problem or AssertionError
        if made.change_set.unchanged:
            self.start(remote.ref)
            stack = dict(made.stack or {})
            protection.apply(remote, settings, made.change_set.stack_id, made.settings)
            return self._result(
                ref, "updated" if made.settings else "unchanged", stack["StackStatus"], stack
            )

        def begin() -> None:
            self.start(remote.ref)
            self.executed.add(ref)

        try:
            running = operation.execute(
                remote, made.change_set, self.options.executing(made.change_set.kind), begin
            )
        except ClientError as error:
            self.executed.discard(ref)  # refused; after anything else it may well be under way
            if (
                is_missing(error) or error_code(error) == "ChangeSetNotFound"
            ):  # executing one deletes the others
                raise failure.DeploymentError(
                    "what was planned is gone: another deployment of this stack is under way, or has just ended",
                    where=str(remote.ref),
                    advice=f"Wait for it, then deploy again: {remote.ref.command('follow')}",
                ) from None
            raise
        running.stays = self.stays
        running.deletes = self.options.on_failure == "DELETE" and made.change_set.kind == "CREATE"
        own = sum(
            "/" not in one["LogicalResourceId"] for one in made.change_set.changes
        )  # as its events have it
        status = self.follow(remote, running, own)
        if status in events.GOOD_ENDS and not running.started:
            raise operation.unseen(remote, status)
        if status not in events.GOOD_ENDS:
            raise failure.of_operation(remote, running, status)
        stack = operation.settle(remote, running.stack_id, status, made.stack)
        warnings = [
            f"{one.logical_id} ({one.type}) was replaced or removed, but the old one could not be deleted: {one.reason}"
            for one in running.events
            if one.status == "DELETE_FAILED" and not one.is_root
        ]
        try:
            protection.apply(remote, settings, running.stack_id, made.settings)
        except AWS_ERRORS as error:
            warnings.append(
                f"deployed, but not set: {', '.join(made.settings)}: {error_message(error)}"
            )
        return self._result(
            ref,
            "created" if made.change_set.kind == "CREATE" else "updated",
            status,
            stack,
            warnings,
        )

    def _result(
        self,
        ref: StackRef,
        outcome: str,
        status: str,
        stack: Mapping[str, Any],
        warnings: Sequence[str] = (),
    ) -> Result:
        found = outputs.of(stack)
        self.values.set(ref, found)
        return Result(
            self.remotes[ref].ref, outcome, status=status, outputs=found, warnings=tuple(warnings)
        )

    def current_plan(self, ref: StackRef) -> Plan:
        """The plan that was shown, when it still holds now that the stacks before it are done, or a new one.

        A new one that does more than create a new stack's resources is shown and asked for again.
        """
        shown = self.plans[ref]
        if shown.problem or (shown.change_set and dict(shown.values) == self.values.resolve(ref)):
            return shown
        old = shown.change_set
        made = self.plan_one(ref, ours=old is not None and old.made_stack)
        if old:  # after the new one, so that a stack in review is not deleted under it: its deletion takes a while
            replaced = made.change_set is not None and not made.change_set.unchanged
            self.discard(
                [
                    replace(
                        shown, change_set=replace(old, made_stack=old.made_stack and not replaced)
                    )
                ]
            )
        if made.problem or not made.changes:
            return made
        protection.check(
            self.aws.environment, [made], self.options.allow_replace, "this stack was not touched"
        )
        creates = made.change_set is not None and made.change_set.kind == "CREATE"
        if not creates and not self.listener.confirm([made]):
            raise failure.DeploymentError("not wanted", where=str(made.ref))
        return made


# A change set can be made for a stack in one of these.
_FIT = (
    events.GOOD_ENDS
    | events.MAYBE_ENDS
    | {
        "REVIEW_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
        "DELETE_COMPLETE",
    }
)
