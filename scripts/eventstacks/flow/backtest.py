"""Recorded events against a changed template: what it matches that deployed rules do not, and the other way round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventstacks.errors import ToolError
from eventstacks.flow.resolve import SYMBOL
from eventstacks.patterns.grammar import PatternError
from eventstacks.patterns.matcher import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from eventstacks.flow.graph import Flow, Json, Rule


@dataclass
class Comparison:
    """One rule: of ``events`` events the deployed one matched ``before``, the template's matches ``after``."""

    rule: str
    events: int = 0
    before: int = 0
    after: int = 0
    gained: list[Json] = field(default_factory=list)
    lost: list[Json] = field(default_factory=list)

    def as_data(self, examples: int) -> Json:
        """Counts, and the first few events of either side."""
        sides = {"gained": self.gained, "lost": self.lost}
        return {
            "rule": self.rule,
            "events": self.events,
            "before": self.before,
            "after": self.after,
            **{key: {"count": len(one), "examples": one[:examples]} for key, one in sides.items()},
        }


def compare(planned: Flow, deployed: Flow, events: Iterable[Json]) -> list[Comparison]:
    """Each rule of the template against the deployed rule of the same ARN, and what was deployed and is gone.

    A rule that is new, disabled or without a pattern matches nothing on that side. Raises PatternError, and ToolError
    for a pattern that hangs on what only AWS knows.
    """
    before, after = ({one.arn: one for one in flow.rules} for flow in (deployed, planned))
    buses = {one.arn for one in planned.buses.values() if one.resource}
    arns = [*after, *(arn for arn, one in before.items() if arn not in after and one.bus in buses)]
    pairs = [
        (
            Comparison((after.get(arn) or before[arn]).label),
            _test(before.get(arn)),
            _test(after.get(arn)),
        )
        for arn in arns
    ]
    for event in events:
        for comparison, matched, matches in pairs:
            was, now = matched(event), matches(event)
            comparison.events += 1
            comparison.before += was
            comparison.after += now
            if was != now:
                (comparison.gained if now else comparison.lost).append(event)
    return [comparison for comparison, _, _ in pairs]


def _test(rule: Rule | None) -> Callable[[Json], bool]:
    if rule is None or not rule.pattern or rule.state.startswith("DISABLED"):
        return lambda _: False
    if unknown := SYMBOL.findall(str(rule.pattern)):
        raise ToolError(
            f"its pattern depends on {', '.join(unknown)}, which only AWS knows",
            where=f"rule {rule.label}",
        )
    try:
        return Pattern(rule.pattern).matches
    except PatternError as error:
        raise PatternError(
            error.what, where=f"rule {rule.label}: {error.where}", advice=error.advice
        ) from None
