"""The parameters that a stack gets, with the outputs of other stacks filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstacks.cloudformation import outputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstacks.aws import Aws
    from eventstacks.environment import StackRef


class Values:
    """What other stacks put out, read once and kept; what a run has just deployed replaces it. Threads may share it."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._known: dict[StackRef, dict[str, str]] = {}

    def set(self, ref: StackRef, found: dict[str, str]) -> None:
        """The outputs after an operation that has just ended."""
        self._known[ref] = found

    def output(self, ref: StackRef, name: str) -> str:
        """One output. Raises outputs.NoStackError when the stack, or the output of what is deployed, is not there."""
        found = self._known.get(ref)
        if found is None:
            found = outputs.read(self._aws, ref)
            self.set(ref, found)
        if name not in found:
            raise outputs.NoStackError(f"the deployed stack has no output {name!r} yet", ref)
        return found[name]

    def resolve(self, ref: StackRef) -> dict[str, str]:
        """Parameter → value, all references replaced. Raises outputs.NoStackError."""
        taken = self._aws.environment.references(ref)
        return {
            name: self.output(*taken[name]) if name in taken else str(value)
            for name, value in ref.values().items()
        }


def document(ref: StackRef, values: Mapping[str, str], form: str) -> Any:
    """The parameters of a stack as other tools read them (JSON).

    ``form``: 'cli' for ``aws cloudformation … --parameters file://``, 'codepipeline' for a template configuration
    file. Source: AWS CLI reference; CodePipeline User Guide, 'Template configuration file'.
    """
    if form == "cli":
        return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
    found: dict[str, Any] = {"Parameters": dict(values)}
    if ref.settings.tags:
        found["Tags"] = dict(ref.settings.tags)
    if ref.settings.policy:
        found["StackPolicy"] = ref.settings.policy
    return found
