"""What deploys an environment: single stacks, or stack sets in many accounts, behind one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from eventstacks.aws import (
    Aws,
    Clock,
)
from eventstacks.cloudformation.delete import (
    Preview,
    delete,
    preview,
)
from eventstacks.cloudformation.deploy import deploy, plan
from eventstacks.cloudformation.recover import (
    Step,
    follow,
    propose,
    recover,
)
from eventstacks.cloudformation.run import (
    Listener,
    Plan,
    Result,
    Scope,
)
from eventstacks.cloudformation.stack_sets import StackSets
from eventstacks.cloudformation.status import (
    Drift,
    Status,
    detect_drift,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventstacks.cloudformation.change_set import Options
    from eventstacks.environment import StackRef
    from eventstacks.rendering import RenderedTemplate

    Templates = Mapping[str, RenderedTemplate]


class Deployer(Protocol):
    """The verbs of stacks. All raise aws.AccountError; those that wait raise run.Interrupted."""

    def plan(self, templates: Templates, options: Options | None = None) -> list[Plan]:
        """Return what ``deploy`` would do."""

    def deploy(self, templates: Templates, options: Options | None = None) -> list[Result]:
        """Create or update the stacks; [] if the listener declines."""

    def preview_deletion(self) -> list[Preview]:
        """Return what ``delete`` would delete and keep."""

    def delete(
        self,
        previews: Sequence[Preview],
        *,
        empty_buckets: bool = False,
        retain: Sequence[str] = (),
        force: bool = False,
    ) -> list[Result]:
        """Delete the stacks."""

    def propose_recovery(
        self,
        *,
        skip: Sequence[str] = (),
        retain: Sequence[str] = (),
        force: bool = False,
        cancel: bool = False,
    ) -> list[Step]:
        """Return the steps out of failed states."""

    def recover(self, steps: Sequence[Step]) -> list[Result]:
        """Carry out steps."""

    def follow(self) -> list[Result]:
        """Follow the operations in progress."""

    def status(self) -> list[Status]:
        """Return the state of the stacks."""

    def drift(self) -> list[Drift]:
        """Detect drift."""


class Stacks(Scope):
    """The stacks of one account: each method is a function of the module of that verb."""

    plan = plan
    deploy = deploy
    preview_deletion = preview
    delete = delete
    propose_recovery = propose
    recover = recover
    follow = follow
    status = read
    drift = detect_drift


def create(
    aws: Aws,
    refs: Sequence[StackRef],
    *,
    listener: Listener | None = None,
    clock: Clock | None = None,
) -> Deployer:
    """Return what deploys the stacks of ``refs`` (``environment.choose()``)."""
    kind = StackSets if aws.environment.stack_set else Stacks
    return kind(aws, refs, listener or Listener(), clock or Clock())
