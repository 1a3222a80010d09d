"""Plan one stack: check its state, fill in its parameters, create its change set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eventstacks import documents
from eventstacks.cloudformation import (
    change_set,
    failure,
    noecho,
    order,
    outputs,
    package,
    protection,
    states,
)
from eventstacks.cloudformation.run import Plan, Scope
from eventstacks.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstacks.cloudformation.stack import StackClient
    from eventstacks.environment import StackRef
    from eventstacks.rendering import RenderedTemplate


class Planner:
    """Plans the stacks of one run; the outputs of other stacks are read once."""

    def __init__(
        self, scope: Scope, templates: Mapping[str, RenderedTemplate], options: change_set.Options
    ) -> None:
        self.aws, self.templates, self.options = scope.aws, templates, options
        self.pending = set(scope.refs)  # of this run, not deployed yet
        self.values = outputs.Values(scope.aws)
        self.uses = order.uses(scope.aws.environment, templates)

    def plan(
        self,
        stack: StackClient,
        description: Mapping[str, Any] | None,
        *,
        created_by_run: bool = False,
    ) -> Plan:
        """Return the plan of a stack that DescribeStacks shows like this, with a change set.

        ``created_by_run``: an earlier plan of this run has brought the stack into review. Raises
        ToolError and AWS's errors.
        """
        ref, template = stack.ref, self.templates[stack.ref.settings.template]
        status = description["StackStatus"] if description else states.DELETED
        # A loop (Fn::ForEach) is left out.
        declared = (template.document.get("Resources") or {}).items()
        resources = {name: str(one.get("Type")) for name, one in declared if isinstance(one, dict)}
        self._check_state(ref, status)
        package.check_paths(template)
        if waits_for := self._waits_for(ref):
            shown = resources if description is None else {}
            return Plan(ref, stack=description, waits_for=waits_for, resources=shown)
        values = self.values.resolve(ref)
        secrets = self._secrets(stack, template, values, description)
        arguments = change_set.request(
            self.aws.environment, ref.settings, template.document, values, description, self.options
        ) | package.body_arguments(self.aws, template, stack.clock)
        guard = protection.read(stack, self.aws.environment, description)
        abandoned = description is not None and change_set.sweep(stack, description)
        existed = description is not None and not abandoned and not created_by_run
        # From here on nothing may fail: the change set would be left behind.
        made = change_set.create(stack, arguments, secrets, stack_existed=existed)
        if made.unchanged and made.kind == "CREATE":
            raise failure.DeploymentError(
                "the template has no resources in this environment",
                code=ErrorCode.TEMPLATE_INVALID,
                where=str(template.path),
                advice="Add a resource, or check the conditions of those it has.",
            )
        found = Plan(ref, made, description, values, **guard)
        if made.unchanged:
            return found
        return replace(found, outputs=_output_changes(template, description))

    def _check_state(self, ref: StackRef, status: str) -> None:
        """Raise DeploymentError if AWS would refuse a change set, or its execution.

        A failure that was not rolled back can only be continued without a rollback. Sources: User
        Guide, 'Choose how to handle failures when provisioning resources';
        github.com/ansible-collections/amazon.aws/issues/1655.
        """
        state = states.of(status)
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
                coming.add(giver)
        return tuple(
            one.stack if one.region == ref.region else f"{one.stack} in {one.region}"
            for one in sorted(coming, key=str)
        )

    def _secrets(
        self,
        stack: StackClient,
        template: RenderedTemplate,
        values: Mapping[str, str],
        description: Mapping[str, Any] | None,
    ) -> noecho.Secrets:
        """Return what the plan must not show; remember it for the errors of this stack.

        The deployed template is read only if it has NoEcho parameters: AWS masks their values.
        """
        known = [template.document]
        held = (description or {}).get("Parameters") or ()
        if any(one.get("ParameterValue") == noecho.MASK for one in held):
            known.append(deployed_template(stack, description["StackId"] if description else ""))
        secrets = noecho.Secrets.of(values, *known)
        stack.secrets.update(secrets.values)
        return secrets


def deployed_template(stack: StackClient, stack_id: str, stage: str = "Original") -> dict[str, Any]:
    """Return the template of a deployed stack, parsed."""
    answer = stack.call("get_template", StackName=stack_id, TemplateStage=stage)
    body = answer["TemplateBody"]
    return documents.parse_template(body, str(stack.ref)) if isinstance(body, str) else dict(body)


def _output_changes(
    template: RenderedTemplate, description: Mapping[str, Any] | None
) -> dict[str, str]:
    """Return the outputs of a stack that change: added, removed, or how.

    A change of a value that is not literal is not known. An output whose condition is false cannot
    be told from one that is added.
    """
    before = {one["OutputKey"]: one for one in (description or {}).get("Outputs") or ()}
    declared = {
        name: one
        for name, one in (template.document.get("Outputs") or {}).items()
        if isinstance(one, dict) and ("Condition" not in one or name in before)
    }
    changes = dict.fromkeys(sorted(declared.keys() - before.keys()), "added")
    for name in sorted(declared.keys() & before.keys()):
        old, new = before[name], declared[name]
        value, export = new.get("Value"), "Export" in new
        if isinstance(value, str) and value != old.get("OutputValue"):
            changes[name] = f"{old.get('OutputValue')} → {value}"
        elif export != bool(old.get("ExportName")):
            changes[name] = "export added" if export else "export removed"
    return changes | dict.fromkeys(sorted(before.keys() - declared.keys()), "removed")
