"""How a function over a template becomes a rule of cfn-lint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cfnlint.rules import CloudFormationLintRule, RuleMatch

from eventstacks.lint.view import RULE, Node, View, view_of

if TYPE_CHECKING:
    from cfnlint.template import Template

Findings = Iterator[tuple[Node, str]]
GUIDE = "https://docs.aws.amazon.com/eventbridge/latest/userguide/"


class FlowRule(CloudFormationLintRule):
    """A rule over the flow of events. ``types``: it only looks at templates with one of these types."""

    types: tuple[str, ...]
    check: Callable[[View], Findings]

    def match(self, cfn: Template) -> Iterator[RuleMatch]:
        """Yield each finding once, however many scenarios it holds in. cfn-lint calls this."""
        view = view_of(cfn)
        if view.types.isdisjoint(self.types):
            return
        found = {(node.path, message) for node, message in type(self).check(view)}
        for path, message in sorted(found, key=str):
            yield RuleMatch(list(path), message)


def flow_rule(  # noqa: PLR0913, PLR0917 - what cfn-lint wants to know of a rule
    rule_id: str,
    shortdesc: str,
    description: str,
    source_url: str,
    tags: tuple[str, ...],
    types: tuple[str, ...] = (RULE,),
) -> Callable[[Callable[[View], Findings]], type[FlowRule]]:
    """Make a class of cfn-lint from a function that yields nodes and what is wrong with them."""

    def make(check: Callable[[View], Findings]) -> type[FlowRule]:
        fields = {
            "id": rule_id,
            "shortdesc": shortdesc,
            "description": description,
            "source_url": source_url,
            "tags": ("resources", *tags),
            "types": types,
            "check": staticmethod(check),
            "__module__": check.__module__,
        }
        return type(check.__name__, (FlowRule,), fields)

    return make
