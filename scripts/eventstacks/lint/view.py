"""Rules of cfn-lint over the flow of events: each resource in each of its scenarios, and the flow.

A parameter can have any value, whatever its default; each condition that a resource depends on is
tried both ways, as far as cfn-lint's solver allows the combination. So a finding is something that
a deployment can meet.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from cfnlint.rules import CloudFormationLintRule, RuleMatch
from cfnlint.template import Template

from eventstacks.flow.graph import Flow, Rule, of_stacks
from eventstacks.flow.resolve import Stack
from eventstacks.flow.symbols import Json, as_dict, as_list, at
from eventstacks.flow.symbols import pattern_of as read_pattern
from eventstacks.flow.targets import Verdict, bare
from eventstacks.patterns.grammar import PatternError
from eventstacks.patterns.matcher import Pattern

REGION = "us-east-1"  # gives literal ARNs a partition; rules do not judge by the Region
MAX_CONDITIONS = 5  # at a time; what depends on more of them is undecided, and no finding
BUS, RULE, ARCHIVE = "AWS::Events::EventBus", "AWS::Events::Rule", "AWS::Events::Archive"
SCHEDULE = "AWS::Scheduler::Schedule"
# The detail-types of the events that S3 itself sends (S3 User Guide, 'EventBridge mapping').
S3_EVENTS = frozenset(
    {
        "Object Created",
        "Object Deleted",
        "Object Restore Initiated",
        "Object Restore Completed",
        "Object Restore Expired",
        "Object Storage Class Changed",
        "Object Access Tier Changed",
        "Object ACL Updated",
        "Object Tags Added",
        "Object Tags Deleted",
    }
)
_MAKES_OTHERS = ("macro", "connector", "Transform")  # what can add policies to the template


@dataclass(frozen=True)
class Node:
    """A value of the template in one scenario.

    As written (``raw``), its path, and resolved (``value``).
    """

    raw: Any
    path: tuple[str | int, ...]
    stack: "Scenario"

    @cached_property
    def value(self) -> Any:
        """The resolved value, with symbols for what only AWS knows (``flow.resolve``)."""
        return self.stack.resolve(self.raw)

    def get(self, *keys: str) -> "Node | None":
        """Return the node under the keys; None if this scenario has none."""
        node: Node | None = self
        for key in keys:
            if node is None or not isinstance(node.raw, dict) or key not in node.raw:
                return None
            node = _settle(node.raw[key], (*node.path, key), node.stack)
        return node

    def items(self, *keys: str) -> list["Node"]:
        """Return the entries of the list under the keys; any other value is the only entry."""
        node = self.get(*keys)
        if node is None or not isinstance(node.raw, list):
            return [node] if node else []
        found = (
            _settle(entry, (*node.path, index), node.stack) for index, entry in enumerate(node.raw)
        )
        return list(filter(None, found))


def _settle(raw: Any, path: tuple[str | int, ...], stack: "Scenario") -> "Node | None":
    """Follow Fn::If as far as the scenario decides it; return None for AWS::NoValue."""
    match raw:
        case {"Ref": "AWS::NoValue"}:
            return None
        case {"Fn::If": [condition, first, second]}:
            state = stack.condition(condition)
            if state is not None:
                index, branch = (1, first) if state else (2, second)
                return _settle(branch, (*path, "Fn::If", index), stack)
    return Node(raw, path, stack)


class Scenario(Stack):
    """The template with some of its conditions decided."""

    @cached_property
    def flow(self) -> Flow:
        """The flow if every resource exists whose condition is not decided."""
        return of_stacks([self])


@dataclass(frozen=True)
class TargetNode(Node):
    """A target of a rule in one scenario; ``properties``: those of its rule in the same one."""

    properties: Node
    rule: Rule

    @cached_property
    def arn(self) -> str:
        """Its ARN, a symbol if the template does not tell, "" if it has none."""
        arn = self.get("Arn")
        return bare(str(arn.value)) if arn else ""


class View:
    """One template. Nothing is resolved before a rule needs it."""

    def __init__(self, cfn: Template) -> None:
        self.cfn = cfn
        self.resources: Json = as_dict(cfn.template.get("Resources"))
        self.types = {str(as_dict(raw).get("Type")) for raw in self.resources.values()}
        self.stack = Scenario(cfn.template, region=REGION)
        self.stack.parameters = {
            name: self.stack.symbol(name, is_open=True)
            for name in as_dict(cfn.template.get("Parameters"))
        }
        self._scenarios: dict[str, list[Scenario]] = {}

    def each(self, *types: str) -> Iterator[tuple[str, Node]]:
        """Yield logical ID and properties of each resource of these types, in each scenario."""
        for name, raw in self.resources.items():
            properties = as_dict(raw).get("Properties")
            if as_dict(raw).get("Type") in types and isinstance(properties, dict):
                # The ways in which its conditions can turn out if it exists.
                for stack in self._decide(conditions_of(raw), raw.get("Condition")) or [self.stack]:
                    yield name, Node(properties, ("Resources", name, "Properties"), stack)

    @property
    def flow(self) -> Flow:
        """The flow if every resource exists."""
        return self.stack.flow

    @cached_property
    def is_complete(self) -> bool:
        """Whether all policies are in the template: no macro or connector adds others."""
        return not any(one.startswith(_MAKES_OTHERS) for one in self.flow.unexamined)

    @cached_property
    def rules(self) -> list[tuple[Node, Rule]]:
        """The rules with their properties in each scenario."""
        known = {rule.label: rule for rule in self.flow.rules}
        return [(node, known[name]) for name, node in self.each(RULE) if name in known]

    @cached_property
    def targets(self) -> list[TargetNode]:
        """The targets of all rules, in each scenario."""
        return [
            TargetNode(node.raw, node.path, node.stack, properties, rule)
            for properties, rule in self.rules
            for node in properties.items("Targets")
            if isinstance(node.raw, dict)
        ]

    @cached_property
    def patterns(self) -> list[tuple[Node, Rule, Json]]:
        """The properties of all rules and their patterns, in each scenario."""
        found = [(node, rule, pattern_of(node)) for node, rule in self.rules]
        return [(node, rule, pattern) for node, rule, pattern in found if pattern]

    def _decide(self, names: set[str], true: Any = None) -> list[Scenario]:
        """Return a stack for each possible combination, in which ``true`` is true.

        None if cfn-lint cannot read a condition.
        """
        wanted = {name: {True} if name == true else {True, False} for name in names}
        if not wanted or len(wanted) > MAX_CONDITIONS:
            return [self.stack]
        key = str(sorted(wanted.items()))
        if key not in self._scenarios:
            scenarios = self.cfn.conditions.build_scenarios(wanted)
            self._scenarios[key] = [replace(self.stack, conditions=one) for one in scenarios]
        return self._scenarios[key]

    def holds_in_all_scenarios(self, holds: Callable[[Flow], bool], *types: str) -> bool:
        """Return True if something holds whatever the conditions of these resources are."""
        if not self.is_complete or not holds(self.flow):
            return False
        raw = [one for one in self.resources.values() if as_dict(one).get("Type") in types]
        stacks = self._decide(conditions_of(raw))
        return bool(stacks) and all(holds(stack.flow) for stack in stacks)

    def why_denied(self, judge: Callable[[Flow], Verdict], *types: str) -> str:
        """Return the reason of a verdict that is a denial in all scenarios (see above), else ""."""
        denied = self.holds_in_all_scenarios(lambda flow: judge(flow).allowed is False, *types)
        return judge(self.flow).reason if denied else ""


view_of = lru_cache(maxsize=1)(View)  # the same for all rules


def conditions_of(raw: Any) -> set[str]:
    """Return the names of the conditions in a resource."""
    if isinstance(raw, list):
        return set().union(*map(conditions_of, raw))
    if not isinstance(raw, dict):
        return set()
    own = [raw.get("Condition"), *as_list(raw.get("Fn::If"))[:1]]
    names = {name for name in own if isinstance(name, str)}
    return names.union(*map(conditions_of, raw.values()))


def pattern_of(properties: Node) -> Json | None:
    """Return the event pattern of a rule or an archive; None if it is not known."""
    node = properties.get("EventPattern")
    pattern = read_pattern(node.value) if node else None
    return pattern if isinstance(pattern, dict) else None


def tests_of(pattern: Json, *keys: str) -> list[Any]:
    """Return the tests of a pattern on a field; none if there are none, or they are not a list."""
    value = at(pattern, ".".join(keys))
    return value if isinstance(value, list) else []


def is_of_s3(pattern: Json) -> bool:
    """Return True if a pattern only matches events that S3 itself sends."""
    kinds = tests_of(pattern, "detail-type")
    is_own = bool(kinds) and all(str(kind) in S3_EVENTS for kind in kinds)
    return is_own and tests_of(pattern, "source") == ["aws.s3"]


def could_equal(tests: list[Any], value: str | bool) -> bool:  # noqa: FBT001 - a field's value
    """Return True if a field with these tests can have a value, as far as the template tells."""
    if not tests or "⟨" in str(tests):
        return True
    try:
        return Pattern({"field": tests}).matches({"field": value})
    except PatternError:  # E9803 reports it
        return True


def place_of(properties: Node, *keys: str, test: Any = None) -> Node:
    """Return the nearest node of a pattern's field, or of one of its tests."""
    node = properties.get("EventPattern") or properties
    for key in keys:
        node = node.get(key) or node
    entries = node.items() if test is not None else []
    return next((entry for entry in entries if entry.value == test), node)


Findings = Iterator[tuple[Node, str]]
GUIDE = "https://docs.aws.amazon.com/eventbridge/latest/userguide/"


class FlowRule(CloudFormationLintRule):
    """A rule over the flow of events.

    ``types``: it only looks at templates with one of these types.
    """

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
        return type(
            check.__name__,
            (FlowRule,),
            {
                "id": rule_id,
                "shortdesc": shortdesc,
                "description": description,
                "source_url": source_url,
                "tags": ("resources", *tags),
                "types": types,
                "check": staticmethod(check),
                "__module__": check.__module__,
            },
        )

    return make
