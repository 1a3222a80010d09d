"""Plan and deploy: change sets for every stack and region, shown, executed as shown, followed to the end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from scripts.cloudformation import (
    body,
    calls,
    change_set,
    events,
    failure,
    operation,
    order,
    outputs,
    protection,
    results,
    schedule,
)
from scripts.cloudformation.calls import Clock, Stopped
from scripts.cloudformation.options import Options
from scripts.cloudformation.parameters import Values
from scripts.cloudformation.place import Place
from scripts.cloudformation.results import Interrupted, Listener, Result, Tracker
from scripts.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.aws import Aws
    from scripts.cloudformation.change_set import ChangeSet
    from scripts.cloudformation.order import Key, Pair
    from scripts.environment import Environment

__all__ = ["Interrupted", "Listener", "Plan", "Result", "deploy", "plan"]


@dataclass
class Plan:
    """What a deployment would do to one stack in one region."""

    place: Place
    change_set: ChangeSet | None = None  # None: ``problem``, or ``waits_for``
    stack: Mapping[str, Any] | None = None  # DescribeStacks before the change
    values: Mapping[str, str] = field(default_factory=dict)
    waits_for: tuple[str, ...] = ()  # outputs of stacks that this run deploys first; the change set is made then
    resources: Mapping[str, str] = field(default_factory=dict)  # of a plan that waits: logical id → type, all new
    settings: tuple[str, ...] = ()  # what changes beside the change set: termination protection, stack policy
    problem: ToolError | None = None

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.waits_for or self.settings or (self.change_set and not self.change_set.unchanged))


def plan(
    aws: Aws, environment: Environment, templates: Mapping[str, Mapping[str, Any]], pairs: Sequence[Pair], *,
    options: Options | None = None, listener: Listener | None = None, clock: Clock | None = None,
) -> list[Plan]:  # fmt: skip
    """What ``deploy`` would do; nothing is executed, and no change set is left behind.

    Raises aws.AccountError; what goes wrong with one stack stands in its plan's ``problem``.
    """
    if environment.stack_set:
        from scripts.cloudformation.stack_set import Sets  # it stands on this module

        return Sets(aws, environment, pairs, templates=templates, options=options, clock=clock).plan()
    aws.guard()
    run = _Run(aws, environment, templates, pairs, options or Options(), listener or Listener(), clock or Clock())
    plans = run.plan_all()
    run.discard(plans.values())
    return [plans[order.key(pair)] for pair in pairs]


def deploy(
    aws: Aws, environment: Environment, templates: Mapping[str, Mapping[str, Any]], pairs: Sequence[Pair], *,
    options: Options | None = None, listener: Listener | None = None, clock: Clock | None = None,
) -> list[Result]:  # fmt: skip
    """Creates or updates the stacks of ``pairs`` (``environment.choose()``) from the bytes of ``build/``.

    ``templates``: ``rendering.render_all()``. Plans everything, asks ``listener.confirm`` when there is something to
    do ([] when it says no), executes exactly what was shown, and follows. A failed stack keeps those that need its
    outputs from being touched; all others go on. Raises aws.AccountError, protection.ProtectedError (before anything
    is changed) and Interrupted; what goes wrong with one stack stands in its result.
    """
    if environment.stack_set:
        from scripts.cloudformation.stack_set import Sets  # it stands on this module

        return Sets(
            aws, environment, pairs, templates=templates, options=options, listener=listener, clock=clock
        ).deploy()
    aws.guard()
    run = _Run(aws, environment, templates, pairs, options or Options(), listener or Listener(), clock or Clock())
    return run.deploy()


class _Run:
    """One call of ``plan`` or ``deploy``."""

    def __init__(
        self, aws: Aws, environment: Environment, templates: Mapping[str, Mapping[str, Any]], pairs: Sequence[Pair],
        options: Options, listener: Listener, clock: Clock,
    ) -> None:  # fmt: skip
        self.aws, self.environment, self.templates, self.options = aws, environment, templates, options
        self.listener, self.clock = listener, clock
        self.pairs = {order.key(pair): pair for pair in pairs}
        self.places = {key: Place.of(environment, pair) for key, pair in self.pairs.items()}
        self.before = order.predecessors(environment, pairs)
        self.values = Values(aws)
        self.plans: dict[Key, Plan] = {}
        self.results: dict[Key, Result] = {}
        self.under_way: dict[Key, Place] = {}  # executed, and no end seen
        self.executed: set[Key] = set()

    def client(self, key: Key) -> Any:
        return self.aws.client("cloudformation", key[1])

    # --- planning --------------------------------------------------------------------------

    def plan_all(self, *, wait: bool = False) -> dict[Key, Plan]:
        def job(key: Key) -> Plan:
            self.plans[key] = made = self.plan_one(key, wait=wait)
            self.listener.planned(made)
            return made

        try:
            return schedule.at_once(self.pairs, job, threads=self.options.threads, clock=self.clock)
        except BaseException:
            self.discard(self.plans.values())
            raise

    def plan_one(self, key: Key, *, wait: bool, now: bool = False) -> Plan:
        """``wait``: for an operation that is under way. ``now``: the stacks before it are done."""
        place = self.places[key]
        try:
            return self._plan_one(key, wait=wait, now=now)
        except Stopped:
            return Plan(place, problem=failure.DeploymentError("interrupted", where=str(place)))
        except (ToolError, *calls.TROUBLE) as error:
            return Plan(place, problem=failure.wrap(error, place))

    def _plan_one(self, key: Key, *, wait: bool, now: bool) -> Plan:
        pair, place, client = self.pairs[key], self.places[key], self.client(key)
        template = self.templates[pair[0].template]
        stack = calls.find_stack(client, pair[0].stack_name, clock=self.clock)
        if (
            stack
            and stack["StackStatus"].endswith("_IN_PROGRESS")
            and stack["StackStatus"] != "REVIEW_IN_PROGRESS"
            and wait
        ):
            running = operation.under_way(client, stack["StackId"], self.clock)
            status = operation.follow(client, running, place, self.clock, Tracker(place, 0, self.listener))
            stack = operation.settle(client, running, status, None, self.clock) or stack
            stack = None if status == "DELETE_COMPLETE" else stack
        if stack and (problem := _unfit(stack, place)):
            raise problem
        try:
            values = self.values.resolve(pair)
        except outputs.NoStackError:
            waits_for = [source for source, _ in order.references(pair).values() if source in self.pairs]
            if now or not waits_for:
                raise
            resources = {name: str(one.get("Type")) for name, one in (template.get("Resources") or {}).items()}
            names = tuple(dict.fromkeys(
                name if region == pair[1] else f"{name} in {region}" for name, region in waits_for))  # fmt: skip
            return Plan(place, stack=stack, waits_for=names, resources=resources if not stack else {})
        arguments = change_set.request(self.environment, pair, template, values, stack, self.options)
        arguments |= body.arguments(self.aws, self.options.build / f"{pair[0].template}.yaml", pair[1], self.clock)
        theirs = stack is not None and not change_set.sweep(client, stack, self.clock)
        made = change_set.make(client, arguments, place, stack_was_there=theirs, clock=self.clock)
        declared = template.get("Parameters") or {}
        secret = {name for name, one in declared.items() if str(one.get("NoEcho")).lower() == "true"}
        shown = {name: "****" if name in secret else value for name, value in (made.parameters or {}).items()}
        made = replace(made, parameters=shown)  # AWS hides them, too; whatever stands in for it may not
        settings = protection.differences(client, self.environment, pair[0], stack, self.clock)
        return Plan(place, made, stack, values, settings=settings)

    def discard(self, plans: Any) -> None:
        """Leaves no change set behind."""
        made = {one.place.key: one.change_set for one in plans if one.change_set and not one.change_set.unchanged}
        schedule.at_once(made, lambda key: change_set.discard(self.client(key), made[key]), clock=self.clock)

    # --- executing -------------------------------------------------------------------------

    def deploy(self) -> list[Result]:
        self.plan_all(wait=True)
        try:
            protection.check(self.environment, self.plans.values(), self.options.allow_replace)
            wanted = any(one.changes for one in self.plans.values())
            if wanted and not self.listener.confirm([self.plans[key] for key in self.pairs]):
                self.discard(self.plans.values())
                return []
        except BaseException:
            self.discard(self.plans.values())
            raise
        try:
            schedule.run(self.before, self.execute_one, threads=self.options.threads, clock=self.clock)
        except KeyboardInterrupt:
            raise Interrupted(list(self.under_way.values())) from None
        finally:
            self.discard(one for key, one in self.plans.items() if key not in self.results)
        return [self.results[key] for key in self.pairs]

    def execute_one(self, key: Key) -> Result:
        place = self.places[key]

        def work() -> Result:
            if self.clock.stopped:
                raise Stopped
            if failed := [one for one in self.before[key] if not self.results[one].ok]:
                names = ", ".join(str(self.places[one]) for one in sorted(failed))
                problem = failure.DeploymentError(f"not touched, since it needs {names}", where=str(place))
                return Result(place, "skipped", problem=problem)
            return self._execute_one(key)

        self.results[key] = results.attempt(place, work, self.under_way, clock=self.clock, listener=self.listener)
        if key not in self.executed:
            self.discard([self.plans[key]])
        return self.results[key]

    def _execute_one(self, key: Key) -> Result:
        made = self.current_plan(key)
        place, client, pair = self.places[key], self.client(key), self.pairs[key]
        if made.problem or made.change_set is None:
            raise made.problem or AssertionError
        if made.change_set.unchanged:
            found = dict(made.stack or {})
            protection.apply(client, self.environment, pair[0], made.change_set.stack_id, made.settings, self.clock)
            self.values.set(key, outputs.of(found))
            return Result(place, "updated" if made.settings else "unchanged", status=str(found.get("StackStatus", "")),
                          outputs=outputs.of(found))  # fmt: skip
        arguments = self.options.executing(made.change_set.kind)
        self.under_way[key] = place
        self.executed.add(key)
        try:
            running = operation.execute(client, made.change_set, arguments, self.clock)
        except ClientError:
            self.executed.discard(key)  # refused; after anything else it may well be under way
            raise
        running.stays = self.options.disable_rollback or self.options.on_failure == "DO_NOTHING"
        running.deletes = self.options.on_failure == "DELETE" and made.change_set.kind == "CREATE"
        heard = Tracker(place, len(made.change_set.changes), self.listener)
        status = operation.follow(client, running, place, self.clock, heard)
        if status not in events.GOOD_ENDS:
            raise failure.of_operation(client, running, status, place, self.clock)
        stack = operation.settle(client, running, status, made.stack, self.clock)
        self.values.set(key, outputs.of(stack))
        warnings = [
            f"{one.logical_id} ({one.type}) was replaced or removed, but the old one could not be deleted: {one.reason}"
            for one in running.events if one.status == "DELETE_FAILED" and not one.is_root
        ]  # fmt: skip
        try:
            protection.apply(client, self.environment, pair[0], running.stack_id, made.settings, self.clock)
        except calls.TROUBLE as error:
            warnings.append(f"deployed, but not set: {', '.join(made.settings)}: {calls.message(error)}")
        outcome = "created" if made.change_set.kind == "CREATE" else "updated"
        return Result(place, outcome, status=status, outputs=outputs.of(stack), warnings=tuple(warnings))

    def current_plan(self, key: Key) -> Plan:
        """The plan that was shown, when it still holds now that the stacks before it are done, or a new one.

        A new one that does more than create a new stack's resources is shown and asked for again.
        """
        shown = self.plans[key]
        if shown.problem:
            return shown
        if shown.change_set and dict(shown.values) == self.values.resolve(self.pairs[key]):
            return shown
        self.discard([shown])
        made = self.plans[key] = self.plan_one(key, wait=False, now=True)
        self.listener.planned(made)
        if made.problem or not made.changes:
            return made
        protection.check(self.environment, [made], self.options.allow_replace)
        creates = made.change_set is not None and made.change_set.kind == "CREATE"
        if not creates and not self.listener.confirm([made]):
            self.discard([made])
            raise failure.DeploymentError("not wanted", where=str(made.place))
        return made


_FIT = {"REVIEW_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE", "DELETE_COMPLETE"}


def _unfit(stack: Mapping[str, Any], place: Place) -> ToolError | None:
    """Why no change set can be made for a stack in its present state."""
    status = stack["StackStatus"]
    if status in events.GOOD_ENDS | events.MAYBE_ENDS | _FIT:
        return None
    return failure.DeploymentError(f"the stack is in {status} and cannot be changed", where=str(place), status=status,
                                   advice=failure.advice(status, place))  # fmt: skip
