"""Compare which recorded events match the rules of a template and the deployed rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventstacks.errors import ErrorCode, ToolError
from eventstacks.flow.symbols import SYMBOL
from eventstacks.patterns.grammar import PatternError
from eventstacks.patterns.index import RuleSet
from eventstacks.patterns.matcher import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventstacks.flow.graph import Flow, Json, Rule


@dataclass
class Comparison:
    """One rule: how many of ``events`` matched ``before`` (deployed) and ``after`` (the template)."""

    rule: str
    events: int = 0
    before: int = 0
    after: int = 0
    gained: list[Json] = field(default_factory=list)
    lost: list[Json] = field(default_factory=list)

    def as_data(self, examples: int) -> Json:
        """Return the counts, and up to ``examples`` events that are gained and lost."""
        sides = {"gained": self.gained, "lost": self.lost}
        return {
            "rule": self.rule,
            "events": self.events,
            "before": self.before,
            "after": self.after,
            **{key: {"count": len(one), "examples": one[:examples]} for key, one in sides.items()},
        }


def compare(planned: Flow, deployed: Flow, events: Iterable[Json]) -> list[Comparison]:
    """Compare each rule of the template with the deployed one, and each deployed rule that is removed.

    A rule that is new, disabled or without a pattern matches nothing on that side. Raises PatternError,
    and ToolError (UNSUPPORTED) for a pattern that depends on what only AWS knows.
    """
    before, after = ({one.arn: one for one in flow.rules} for flow in (deployed, planned))
    buses = {one.arn for one in planned.buses.values() if one.resource}
    arns = [*after, *(arn for arn, one in before.items() if arn not in after and one.bus in buses)]
    found = {arn: Comparison((after.get(arn) or before[arn]).label) for arn in arns}
    sides = [
        RuleSet({arn: pattern for arn in arns if (pattern := _pattern_of(rules.get(arn)))})
        for rules in (before, after)
    ]
    for event in events:
        was, now = (set(side.matching(event)) for side in sides)
        for arn, comparison in found.items():
            comparison.events += 1
            comparison.before += arn in was
            comparison.after += arn in now
            if (arn in was) != (arn in now):
                (comparison.gained if arn in now else comparison.lost).append(event)
    return list(found.values())


def _pattern_of(rule: Rule | None) -> Pattern | None:
    if rule is None or not rule.pattern or rule.state.startswith("DISABLED"):
        return None
    if unknown := SYMBOL.findall(str(rule.pattern)):
        raise ToolError(
            f"its pattern depends on {', '.join(unknown)}, which only AWS knows",
            code=ErrorCode.UNSUPPORTED,
            where=f"rule {rule.label}",
        )
    try:
        return Pattern(rule.pattern)
    except PatternError as error:
        where = f"rule {rule.label}: {error.where}"
        raise PatternError(error.what, where=where, advice=error.advice) from None
