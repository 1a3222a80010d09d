"""Stacks in many accounts: one stack set per stack of the environment, all at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from eventstacks.aws import AWS_ERRORS
from eventstacks.cloudformation import failure, protection, schedule
from eventstacks.cloudformation.results import Interrupted, Plan, Result, Run
from eventstacks.cloudformation.stack_set import RefusedError, Set
from eventstacks.environment import StackRef
from eventstacks.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from eventstacks.aws import Aws, Clock
    from eventstacks.cloudformation.options import Options
    from eventstacks.cloudformation.results import Listener
    from eventstacks.environment import StackRef
    from eventstacks.rendering import RenderedTemplate

    Templates = Mapping[str, RenderedTemplate]  # rendering.render_all()


def _sets(aws: Aws, refs: Sequence[StackRef], clock: Clock) -> list[Set]:
    aws.guard()
    by_name: dict[str, list[StackRef]] = {}
    for ref in refs:
        by_name.setdefault(ref.settings.name, []).append(ref)
    return [Set(aws, mine, clock) for mine in by_name.values()]


def _each(
    sets: Sequence[Set], work: Callable[[Set], list[Result]], listener: Listener, clock: Clock
) -> list[Result]:
    """``work`` for all at once; what goes wrong becomes results. Raises Interrupted."""
    run = Run((), clock, listener)
    try:
        done = schedule.at_once(
            sets, lambda one: run.attempt(one.refs.values(), lambda: work(one)), clock
        )
    except KeyboardInterrupt:
        raise Interrupted(
            ref for one in sets if one.under_way for ref in one.refs.values()
        ) from None
    return [result for results in done for result in results]


def _refuse(aws: Aws, options: Options) -> None:
    """Raises RefusedError for options that mean change sets, or stacks one by one: StackSets know nothing like them."""
    names = ("express", "revert_drift", "import_existing", "on_failure", "disable_rollback")
    given = [f"--{one.replace('_', '-')}" for one in names if getattr(options, one)]
    given += [] if options.nested else ["--no-nested"]
    if given:
        raise RefusedError(
            f"stack sets know nothing like {', '.join(given)}",
            where=f"{aws.environment.path}: stack_set",
            advice="Leave it out.",
        )


def _protect(aws: Aws, sets: Iterable[Set], allowed: frozenset[str]) -> None:
    """Raises ProtectedError for an update that nobody has allowed by the stack set's name.

    What an update would replace or delete in the accounts cannot be seen before: StackSets have no change sets.
    """
    found = [
        f"{one.settings.stack_name} ({', '.join(one.differs)})"
        for one in sets
        if one.exists and one.differs and one.settings.stack_name not in allowed
    ]
    if aws.environment.protect and found:
        names = " ".join(f"--allow-replace {one.split(' ')[0]}" for one in found)
        raise protection.ProtectedError(
            f"refused, nothing was changed: {'; '.join(found)}: what an update replaces cannot be seen before",
            where=f"{aws.environment.path}: protect",
            advice=f"If that is wanted, name the stack set in place of a resource: ARGS='{names}'",
        )


def plan(
    aws: Aws, refs: Sequence[StackRef], templates: Templates, options: Options, clock: Clock
) -> list[Plan]:
    """A plan per stack and region, without change sets. Raises RefusedError for options that cannot be had."""
    _refuse(aws, options)
    return [plan for one in _sets(aws, refs, clock) for plan in _plan(one, templates)]


def _plan(one: Set, templates: Templates) -> list[Plan]:
    try:
        one.compare(templates[one.settings.template])
    except (ToolError, *AWS_ERRORS) as error:
        return [Plan(ref, problem=failure.wrap(error, ref)) for ref in one.refs.values()]
    return one.plans()


def deploy(
    aws: Aws,
    refs: Sequence[StackRef],
    templates: Templates,
    options: Options,
    listener: Listener,
    clock: Clock,
) -> list[Result]:
    """Creates or updates the stack sets and their stacks; a result per stack and region.

    Raises RefusedError and ProtectedError, before anything is changed, and Interrupted.
    """
    _refuse(aws, options)
    planned = {one: _plan(one, templates) for one in _sets(aws, refs, clock)}
    plans = [plan for found in planned.values() for plan in found]
    if refused := next(
        (plan.problem for plan in plans if isinstance(plan.problem, RefusedError)), None
    ):
        raise refused
    _protect(aws, planned, options.allow_replace)
    if any(plan.changes for plan in plans) and not listener.confirm(plans):
        return []

    def work(one: Set) -> list[Result]:
        if problem := planned[one][0].problem:
            raise problem
        return one.deploy()

    return _each(list(planned), work, listener, clock)


def delete(aws: Aws, refs: Sequence[StackRef], listener: Listener, clock: Clock) -> list[Result]:
    """Deletes the stacks in every account, then the stack sets. Raises Interrupted."""

    def work(one: Set) -> list[Result]:
        if aws.environment.protect and one.held():
            raise failure.DeploymentError(
                "this environment is protected", where=f"{aws.environment.path}: protect"
            )
        return one.delete()

    return _each(_sets(aws, refs, clock), work, listener, clock)


def count(aws: Aws, refs: Sequence[StackRef], clock: Clock) -> dict[StackRef, Counter[str]]:
    """How many stacks are in which state, for each ref."""
    found = {}
    for one in _sets(aws, refs, clock):
        there = [
            (each["Region"], each.get("Status", ""))
            for each in (one.instances() if one.held() else ())
        ]
        for region, ref in one.refs.items():
            found[ref] = Counter(status for where, status in there if where == region)
    return found


def under_way(aws: Aws, refs: Sequence[StackRef], clock: Clock) -> list[str]:
    """The operations that have not ended, in words."""
    return [
        f"{one.settings.stack_name}: {each.get('Action', 'operation')} is {each['Status']}"
        for one in _sets(aws, refs, clock)
        for each in one.running()
    ]


def follow(
    aws: Aws, refs: Sequence[StackRef], listener: Listener, clock: Clock, *, stop: bool = False
) -> list[Result]:
    """Follows the operations that are under way, or has them ``stop``; [] when there are none. Raises Interrupted."""
    return _each(_sets(aws, refs, clock), lambda one: one.follow(stop=stop), listener, clock)


def no_drift(aws: Aws, refs: Sequence[StackRef]) -> RefusedError:
    """Why drift is not looked for here, and how AWS does it. Source: API reference of DetectStackSetDrift."""
    names = dict.fromkeys(ref.settings.stack_name for ref in refs)
    where = f"--region {aws.environment.regions[0]} --stack-set-name"
    return RefusedError(
        "drift is looked for in the stacks of one account, and this environment keeps stack sets",
        where=f"{aws.environment.path}: stack_set",
        advice="\n".join(
            [
                "AWS looks for it in all accounts:",
                *(f"aws cloudformation detect-stack-set-drift {where} {name}" for name in names),
                f"Wait for it (make follow ENV={aws.environment.name}), then read DriftStatus of each stack:",
                *(f"aws cloudformation list-stack-instances {where} {name}" for name in names),
            ]
        ),
    )


def no_recovery(aws: Aws) -> RefusedError:
    """Why a stack set is not recovered, and what is done instead."""
    return RefusedError(
        "single stacks are led out of a state in which they are stuck, and this environment keeps stack sets",
        where=f"{aws.environment.path}: stack_set",
        advice=f"What is behind: make status ENV={aws.environment.name}. Mend what AWS names, then "
        f"make deploy ENV={aws.environment.name} tries those again.\n"
        f"What is under way is stopped by make recover ENV={aws.environment.name} ARGS='--cancel'.",
    )
