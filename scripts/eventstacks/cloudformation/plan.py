"""Plan one stack: check its state, fill in its parameters, create its change set, protect it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eventstacks import documents
from eventstacks.cloudformation import change_set, failure, outputs, package
from eventstacks.cloudformation.operation import NESTED_STACK
from eventstacks.cloudformation.run import Plan, Scope
from eventstacks.cloudformation.stack import DELETED, MASK, state_of
from eventstacks.errors import ErrorCode, ToolError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from eventstacks.cloudformation.stack import StackClient
    from eventstacks.environment import Environment, StackRef
    from eventstacks.rendering import RenderedTemplate


class Planner:
    """Plans the stacks of one run; the outputs of other stacks are read once."""

    def __init__(
        self, scope: Scope, templates: Mapping[str, RenderedTemplate], options: change_set.Options
    ) -> None:
        self.aws, self.templates, self.options = scope.aws, templates, options
        self.pending = set(scope.refs)  # of this run, not deployed yet
        self.values = outputs.Values(scope.aws)
        self.uses = outputs.uses(scope.aws.environment, templates)

    def plan(self, stack: StackClient) -> Plan:
        """Return the plan of a stack, with a change set. Raises ToolError and AWS's errors."""
        ref, template = stack.ref, self.templates[stack.ref.settings.template]
        description = stack.describe()
        self._check_state(ref, description["StackStatus"] if description else DELETED)
        if waits_for := self._waits_for(ref):
            return Plan(ref, stack=description, waits_for=waits_for)
        values = self.values.resolve(ref)
        secrets = self._secrets(stack, template, values, description)
        arguments = change_set.request(
            self.aws.environment, ref.settings, template.document, values, description, self.options
        ) | package.body_arguments(self.aws, template, stack.clock)
        is_protected = (description or {}).get("EnableTerminationProtection")
        is_unprotected = self.aws.environment.protect and not is_protected
        # From here on nothing may fail: the change set would be left behind.
        made = change_set.create(stack, arguments, secrets)
        if made.unchanged and made.kind == "CREATE":
            raise failure.DeploymentError(
                "the template has no resources in this environment",
                code=ErrorCode.TEMPLATE_INVALID,
                where=str(template.path),
                advice="Add a resource, or check the conditions of those it has.",
            )
        settings = ("termination protection",) if is_unprotected else ()
        found = Plan(ref, made, description, values, settings=settings)
        if made.unchanged:
            return found
        losses = [
            (one["LogicalResourceId"], one["ResourceType"], how)
            for one in made.changes
            if (how := loss(one))
        ]
        changed_outputs = _output_changes(template, description or {})
        return replace(found, outputs=changed_outputs, losses=tuple(losses))

    def _check_state(self, ref: StackRef, status: str) -> None:
        """Raise DeploymentError if AWS would refuse a change set, or its execution.

        A failure that was not rolled back can only be continued without a rollback. Sources: User
        Guide, 'Choose how to handle failures when provisioning resources';
        github.com/ansible-collections/amazon.aws/issues/1655.
        """
        state = state_of(status)
        if not state.accepts_change_sets:
            raise failure.refused(f"the stack cannot be updated: it is in {status}", status, ref)
        if state.keeps_failure and not self.options.disable_rollback:
            raise failure.refused(
                f"the stack can only be updated without a rollback: it is in {status}", status, ref
            )

    def _waits_for(self, ref: StackRef) -> tuple[str, ...]:
        """Return the stacks of this run whose outputs have to exist first.

        Raises NotDeployedError if another stack's is missing: waiting would not help.
        """
        coming = set()
        for giver, name in self.uses.get(ref, ()):
            try:
                self.values.output(giver, name)
            except outputs.NotDeployedError:
                if giver not in self.pending:
                    raise
                coming.add(
                    giver.stack
                    if giver.region == ref.region
                    else f"{giver.stack} in {giver.region}"
                )
        return tuple(sorted(coming))

    def _secrets(
        self,
        stack: StackClient,
        template: RenderedTemplate,
        values: Mapping[str, str | None],
        description: Mapping[str, Any] | None,
    ) -> change_set.Secrets:
        """Return what the plan must not show; remember it for the errors of this stack.

        The deployed template is read only if it has NoEcho parameters: AWS masks their values.
        """
        known, held = [template.document], description or {}
        if any(one.get("ParameterValue") == MASK for one in held.get("Parameters") or ()):
            known.append(deployed_template(stack, held["StackId"]))
        secrets = change_set.Secrets.of(values, *known)
        stack.secrets.update(secrets.values)
        return secrets


def deployed_template(stack: StackClient, stack_id: str, stage: str = "Original") -> dict[str, Any]:
    """Return the template of a deployed stack, parsed."""
    answer = stack.call("get_template", StackName=stack_id, TemplateStage=stage)
    body = answer["TemplateBody"]
    return documents.parse_template(body, str(stack.ref)) if isinstance(body, str) else dict(body)


def _output_changes(template: RenderedTemplate, held: Mapping[str, Any]) -> dict[str, str]:
    """Return the outputs of a stack that change: added, removed, or how.

    A change of a value that is not literal is not known. An output whose condition is false cannot
    be told from one that is added.
    """
    before = {one["OutputKey"]: one for one in held.get("Outputs") or ()}
    declared = {
        name: one
        for name, one in (template.document.get("Outputs") or {}).items()
        if isinstance(one, dict) and ("Condition" not in one or name in before)
    }
    changes = dict.fromkeys(sorted(declared.keys() - before.keys()), "added")
    for name in sorted(declared.keys() & before.keys()):
        old, value = before[name].get("OutputValue"), declared[name].get("Value")
        if isinstance(value, str) and value != old:
            changes[name] = f"{old} → {value}"
        elif ("Export" in declared[name]) != bool(before[name].get("ExportName")):
            changes[name] = "export added" if "Export" in declared[name] else "export removed"
    return changes | dict.fromkeys(sorted(before.keys() - declared.keys()), "removed")


# --- protection --------------------------------------------------------------------------------


def loss(change: Mapping[str, Any]) -> str:
    """Return how a ResourceChange can lose what a resource holds, or ''.

    A nested stack can lose anything if no change set of its own tells (ChangeSetId, missing
    without IncludeNestedStacks), or if AWS cannot tell what the change will be (Dynamic).
    Source: API Reference of ResourceChange.
    """
    if change["Action"] == "Remove":
        return "" if change.get("PolicyAction") == "Retain" else "would be deleted"
    if change.get("Replacement") in ("True", "Conditional"):
        return "would be replaced" if change["Replacement"] == "True" else "might be replaced"
    unknown = change["Action"] == "Dynamic" or (
        change["Action"] == "Modify" and not change.get("ChangeSetId")
    )
    if unknown and change.get("ResourceType") == NESTED_STACK:
        return "might lose resources: AWS does not tell what changes in this nested stack"
    return ""


def check_losses(
    environment: Environment,
    plans: Iterable[Plan],
    allowed: Collection[str],
    so_far: str = "nothing was changed",
) -> None:
    """Raise ToolError (STACK_PROTECTED) if a resource not in ``allowed`` would be lost.

    ``so_far`` says what was done until now.
    """
    losses = [(*loss, plan.ref) for plan in plans for loss in plan.losses if loss[0] not in allowed]
    if environment.protect and losses:
        texts = [f"{name} ({kind}) {how} in {ref}" for name, kind, how, ref in losses]
        names = sorted({name for name, *_ in losses})
        options = [word for name in names for word in ("--allow-replace", name)]
        raise ToolError(
            f"refused, {so_far}: {'; '.join(texts)}",
            code=ErrorCode.STACK_PROTECTED,
            where=f"{environment.path}: protect",
            advice=f"To allow it: {losses[0][3].command('deploy', *options)}",
        )
