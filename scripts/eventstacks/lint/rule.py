"""The base class of the rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cfnlint.rules import CloudFormationLintRule, RuleMatch

from eventstacks.lint.view import RULE, Node, View, view_of

if TYPE_CHECKING:
    from cfnlint.template import Template

Findings = Iterator[tuple[Node, str]]
GUIDE = "https://docs.aws.amazon.com/eventbridge/latest/userguide/"


class FlowRule(CloudFormationLintRule):
    """A rule over the flow of events. ``types``: it only looks at templates with one of these types."""

    tags: tuple[str, ...] = ("resources", "events")
    types = frozenset({RULE})

    def match(self, cfn: Template) -> Iterator[RuleMatch]:
        """Yield each finding once, however many scenarios it holds in. cfn-lint calls this."""
        view = view_of(cfn)
        if view.types.isdisjoint(self.types):
            return
        found = {(node.path, message) for node, message in self.check(view)}
        for path, message in sorted(found, key=str):
            yield RuleMatch(list(path), message)

    def check(self, view: View) -> Findings:
        """Yield the findings: a node, and what is wrong."""
        raise NotImplementedError
