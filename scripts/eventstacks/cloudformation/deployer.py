"""What deploys an environment: the stacks of one account, or stack sets in many accounts.

Both have the same verbs with the same signatures; a verb is called on what ``create`` returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstacks.aws import Aws, Clock
from eventstacks.cloudformation.delete import delete, preview
from eventstacks.cloudformation.deploy import deploy, plan
from eventstacks.cloudformation.recover import follow, propose, recover
from eventstacks.cloudformation.run import Listener, Scope
from eventstacks.cloudformation.stack_sets import StackSets
from eventstacks.cloudformation.status import detect_drift, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.environment import StackRef


class Stacks(Scope):
    """The stacks of one account: each verb is a function of the module that it names.

    All raise ToolError for the wrong account; those that wait raise run.Interrupted after Ctrl-C.
    """

    plan = plan
    deploy = deploy
    preview_deletion = preview
    delete = delete
    propose_recovery = propose
    recover = recover
    follow = follow
    status = read
    drift = detect_drift


Deployer = Stacks | StackSets


def create(
    aws: Aws,
    refs: Sequence[StackRef],
    *,
    listener: Listener | None = None,
    clock: Clock | None = None,
) -> Deployer:
    """Return what deploys the stacks of ``refs`` (``environment.choose()``)."""
    kind: type[Deployer] = StackSets if aws.environment.stack_set else Stacks
    return kind(aws, refs, listener or Listener(), clock or Clock())
