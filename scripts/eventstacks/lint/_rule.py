"""What all rules have in common."""

from collections.abc import Iterator

from cfnlint.rules import CloudFormationLintRule, RuleMatch
from cfnlint.template import Template

from eventstacks.lint._view import RULE, Node, View, view_of

__all__ = ["GUIDE", "RULE", "Findings", "FlowRule", "Node", "View"]

Findings = Iterator[tuple[Node, str]]
GUIDE = "https://docs.aws.amazon.com/eventbridge/latest/userguide/"


class FlowRule(CloudFormationLintRule):
    """A rule over the flow of events. ``kinds``: a template without resources of these types is not looked at."""

    tags = ("resources", "events")
    kinds = frozenset({RULE})

    def match(self, cfn: Template) -> Iterator[RuleMatch]:
        """What cfn-lint calls: each finding once, however many scenarios it holds in."""
        view = view_of(cfn)
        if view.types.isdisjoint(self.kinds):
            return
        found = {(node.path, message) for node, message in self.check(view)}
        for path, message in sorted(found, key=str):
            yield RuleMatch(list(path), message)

    def check(self, view: View) -> Findings:
        """The findings: where, and what is wrong and what to do. To be written by each rule."""
        raise NotImplementedError
