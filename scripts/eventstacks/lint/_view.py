"""A template as the rules see it: each resource in each of its scenarios, and the flow of events through all of them.

A parameter may hold anything, whatever its default; a condition that a resource hangs on is tried both ways, as far as
cfn-lint's solver lets them go together. So a finding is something that a deployment can meet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from eventstacks.flow import graph
from eventstacks.flow.graph import Flow, as_list, documents_of, of_stacks
from eventstacks.flow.resolve import SYMBOL, Stack
from eventstacks.patterns.grammar import PatternError
from eventstacks.patterns.matcher import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfnlint.template import Template

    from eventstacks.flow.graph import Json, Rule

REGION = "us-east-1"  # one with a partition, for ARNs that are written out; rules that hang on it are not judged
DECIDED = (
    5  # conditions at a time; what hangs on more of them stays in doubt, and doubt is no finding
)
RULE, CONNECTOR = "AWS::Events::Rule", "AWS::Serverless::Connector"
VIA_TRAIL = "AWS API Call via CloudTrail"
TRANSFORMS = {"AWS::Serverless-2016-10-31", "AWS::LanguageExtensions", "AWS::CodeDeployBlueGreen"}
DOCUMENTS = ("PolicyDocument", "ResourcePolicyDocument", "KeyPolicy")
FILLINGS = ("x", "0", '"x"', "{}")  # what a symbol in JSON text may stand for


@dataclass(frozen=True)
class Node:
    """A value of the template in one scenario: as it is written, where, and resolved (``value``)."""

    raw: Any
    path: tuple[str | int, ...]
    stack: Stack

    @cached_property
    def value(self) -> Any:
        """Resolved; what only AWS knows is a symbol (``eventstacks.flow.resolve``)."""
        return self.stack.resolve(self.raw)

    def get(self, *keys: str) -> Node | None:
        """What stands under the keys; None where there is nothing, in this scenario."""
        node: Node | None = self
        for key in keys:
            if node is None or not isinstance(node.raw, dict) or key not in node.raw:
                return None
            node = _settle(node.raw[key], (*node.path, key), node.stack)
        return node

    def items(self) -> list[Node]:
        """The entries of a list; of anything else, itself."""
        if not isinstance(self.raw, list):
            return [self]
        found = (
            _settle(one, (*self.path, index), self.stack) for index, one in enumerate(self.raw)
        )
        return [one for one in found if one]

    def __contains__(self, key: str) -> bool:
        return self.get(key) is not None


def _settle(raw: Any, path: tuple[str | int, ...], stack: Stack) -> Node | None:
    """Follows Fn::If where the scenario decides it; None for AWS::NoValue."""
    while (
        isinstance(raw, dict)
        and "Fn::If" in raw
        and isinstance(raw["Fn::If"], list)
        and len(raw["Fn::If"]) == 3
    ):
        state = stack.condition(raw["Fn::If"][0])
        if state is None:
            break
        path = (*path, "Fn::If", 1 if state else 2)
        raw = raw["Fn::If"][1 if state else 2]
    return None if raw == {"Ref": "AWS::NoValue"} else Node(raw, path, stack)


@dataclass(frozen=True)
class Target:
    """A target of a rule in one scenario, and the rule's properties in the same one."""

    node: Node
    rule: Node

    @cached_property
    def arn(self) -> str:
        """A symbol where the template does not tell."""
        found = self.node.get("Arn")
        return str(found.value) if found else ""

    @property
    def service(self) -> str:
        """``lambda``, ``sqs`` …; "" where the template does not tell."""
        return self.arn.split(":")[2] if self.arn.count(":") > 4 else ""


class View:
    """One template. Nothing is resolved before a rule asks for it."""

    def __init__(self, cfn: Template) -> None:
        self.cfn = cfn
        resources = cfn.template.get("Resources")
        self.resources: Json = resources if isinstance(resources, dict) else {}
        types = [one.get("Type") for one in self.resources.values() if isinstance(one, dict)]
        self.types = {one for one in types if isinstance(one, str)}
        parameters = cfn.template.get("Parameters")
        stack = Stack(cfn.template, region=REGION)
        self._decided: dict[str, list[Stack]] = {}
        self._flows: dict[str, Flow] = {}
        self.stack = replace(
            stack, parameters={name: stack.symbol(name, is_open=True) for name in parameters or {}}
        )

    def each(self, *kinds: str) -> Iterator[tuple[str, Node]]:
        """The properties of each resource of the types in each of its scenarios, by logical id."""
        for name, raw in self.resources.items():
            if (
                isinstance(raw, dict)
                and raw.get("Type") in kinds
                and isinstance(raw.get("Properties"), dict)
            ):
                for stack in self.scenarios(name) or [self.stack]:
                    yield name, Node(raw["Properties"], ("Resources", name, "Properties"), stack)

    @cached_property
    def is_whole(self) -> bool:
        """Whether all resources are to be seen: no macro and no connector of SAM makes others."""
        macros = [
            one for one in as_list(self.cfn.template.get("Transform")) if str(one) not in TRANSFORMS
        ]
        connected = any(
            isinstance(one, dict) and "Connectors" in one for one in self.resources.values()
        )
        return not (
            macros or connected or "Fn::Transform" in self.resources or CONNECTOR in self.types
        )

    @cached_property
    def targets(self) -> list[Target]:
        """The targets of all rules, in each scenario."""
        rules = (node for _, node in self.each(RULE))
        found = ((node, node.get("Targets")) for node in rules)
        return [
            Target(one, rule)
            for rule, targets in found
            if targets
            for one in targets.items()
            if isinstance(one.raw, dict)
        ]

    @cached_property
    def patterns(self) -> list[tuple[Node, Json]]:
        """Rules' properties with their resolved patterns, in each scenario."""
        found = ((node, pattern_of(node)) for _, node in self.each(RULE))
        return [(node, pattern) for node, pattern in found if pattern]

    def properties(self, name: str, stack: Stack) -> Json:
        """A resource's properties in one scenario."""
        found = stack.resolve((self.resources.get(name) or {}).get("Properties") or {})
        return found if isinstance(found, dict) else {}

    def scenarios(self, *names: str) -> list[Stack]:
        """The ways in which the conditions of these resources can turn out, all of them being there."""
        raw = [self.resources.get(name) or {} for name in names]
        wanted = {one: {True, False} for one in conditions_of(raw)}
        return self._decide(
            wanted
            | {one["Condition"]: {True} for one in raw if isinstance(one.get("Condition"), str)}
        )

    def _decide(self, wanted: dict[str, set[bool]]) -> list[Stack]:
        """A stack for each way in which the conditions go together; none where cfn-lint does not understand one."""
        if not wanted or len(wanted) > DECIDED:
            return [self.stack]
        key = str(sorted(wanted.items()))
        if key not in self._decided:
            found = self.cfn.conditions.build_scenarios(wanted)
            self._decided[key] = [replace(self.stack, conditions=one) for one in found]
        return self._decided[key]

    @cached_property
    def flow(self) -> Flow:
        """What flows if every resource in doubt is there."""
        return self._flow_of(self.stack)

    def is_so_everywhere(self, holds: Callable[[Flow], bool], *kinds: str) -> bool:
        """Whether something holds of the flow whatever the conditions of the resources of these types are."""
        if not self.is_whole or not holds(self.flow):
            return False
        guards = [
            one
            for one in self.resources.values()
            if isinstance(one, dict) and one.get("Type") in kinds
        ]
        stacks = self._decide({one: {True, False} for one in conditions_of(guards)})
        return bool(stacks) and all(holds(self._flow_of(one)) for one in stacks)

    def _flow_of(self, stack: Stack) -> Flow:
        key = str(stack.conditions)
        if key not in self._flows:
            self._flows[key] = of_stacks([stack])
        return self._flows[key]

    def rule_of(self, node: Node) -> Rule | None:
        """The rule of the flow that these properties are of."""
        return next((one for one in self.flow.rules if one.label == node.path[1]), None)


@lru_cache(maxsize=1)
def view_of(cfn: Template) -> View:
    """The view of a template: rules run one after the other over the same one."""
    return View(cfn)


def conditions_of(raw: Any) -> set[str]:
    """The conditions that are named in a resource."""
    if isinstance(raw, list):
        return set().union(*map(conditions_of, raw))
    if not isinstance(raw, dict):
        return set()
    own = [raw.get("Condition"), (as_list(raw.get("Fn::If")) or [None])[0]]
    return {str(one) for one in own if isinstance(one, str)}.union(
        *map(conditions_of, raw.values())
    )


def pattern_of(properties: Node) -> Json | None:
    """The event pattern of a rule or an archive, given as an object or as JSON text; None where it is not known."""
    node = properties.get("EventPattern")
    found = graph.pattern_of(node.value) if node else None
    return found if isinstance(found, dict) else None


def tests_of(pattern: Json, *keys: str) -> list[Any]:
    """What a pattern wants of a field; nothing where it wants nothing, or it is not a list."""
    value: Any = pattern
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, list) else []


def may_be(tests: list[Any], value: str | bool) -> bool:  # noqa: FBT001 - what a field holds may be true
    """Whether a field may hold this: the tests let it, there are none, or only AWS knows what one of them is."""
    if not tests or "⟨" in str(tests):
        return True
    try:
        return Pattern({"field": tests}).matches({"field": value})
    except PatternError:  # E9803 says so
        return True


def place_of(properties: Node, *keys: str, test: Any = None) -> Node:
    """Where a pattern says something, as near as the template's own words allow: a field, or one of its tests."""
    node = properties.get("EventPattern") or properties
    for key in keys:
        node = node.get(key) or node
    return next((one for one in node.items() if test is not None and one.value == test), node)


def is_open(value: Any) -> bool:
    """Whether a value may be anything: a parameter, an import."""
    return isinstance(value, str) and bool(SYMBOL.fullmatch(value)) and value.endswith("?⟩")


def is_unread(flow: Flow, kinds: tuple[str, ...]) -> bool:
    """Whether there is a policy among the types whose statements only AWS knows (an import, a parameter)."""
    policies = (one.properties for one in flow.resources.values() if one.type in kinds)
    given = (one.get(key) for one in policies for key in DOCUMENTS)
    return any(one and not documents_of(one) for one in given)
