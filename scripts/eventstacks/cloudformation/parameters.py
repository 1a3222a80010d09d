"""The parameters that a stack gets, with the outputs of other stacks filled in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventstacks.cloudformation import order, outputs
from eventstacks.cloudformation.place import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstacks.aws import Aws
    from eventstacks.cloudformation.order import Key, Pair


class Values:
    """What other stacks put out, read once and kept; what a run has just deployed replaces it. Threads may share it."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._known: dict[Key, dict[str, str]] = {}

    def set(self, key: Key, found: dict[str, str]) -> None:
        """The outputs after an operation that has just ended."""
        self._known[key] = found

    def output(self, key: Key, name: str) -> str:
        """One output. Raises outputs.NoStackError when the stack, or the output of what is deployed, is not there."""
        found = self._known.get(key)
        environment = self._aws.environment
        place = Place.of(environment, (environment.stacks[key[0]], key[1]))
        if found is None:
            found = outputs.read(self._aws, place.stack_name, place.region)
            self.set(key, found)
        if name not in found:
            raise outputs.NoStackError(f"the deployed stack has no output {name!r} yet", place)
        return found[name]

    def resolve(self, pair: Pair) -> dict[str, str]:
        """Parameter → value, all references replaced. Raises outputs.NoStackError."""
        taken = order.references(pair)
        return {
            name: self.output(*taken[name]) if name in taken else str(value)
            for name, value in pair[0].values(pair[1]).items()
        }


def document(pair: Pair, values: Mapping[str, str], form: str) -> Any:
    """The parameters of a stack as other tools read them (JSON).

    ``form``: 'cli' for ``aws cloudformation … --parameters file://``, 'codepipeline' for a template configuration
    file. Source: AWS CLI reference; CodePipeline User Guide, 'Template configuration file'.
    """
    if form == "cli":
        return [{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()]
    found: dict[str, Any] = {"Parameters": dict(values)}
    if pair[0].tags:
        found["Tags"] = dict(pair[0].tags)
    if pair[0].policy:
        found["StackPolicy"] = pair[0].policy
    return found
