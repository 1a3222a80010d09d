"""What CloudWatch counted of rules: matched, invoked, failed, sent to a dead-letter queue, lost."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstacks.aws import Aws
    from eventstacks.bus.stacks import Deployed

NAMES = (  # EventBridge guide, 'Monitoring'
    "MatchedEvents",
    "Invocations",
    "FailedInvocations",
    "InvocationsSentToDlq",
    "InvocationsFailedToBeSentToDlq",
)
BLOCKS = "▁▂▃▄▅▆▇█"
STEPS, _QUERIES = 24, 500  # buckets of a window, at most; queries that GetMetricData takes


@dataclass(frozen=True)
class Counts:
    """One rule: per metric of NAMES a sum for each period, oldest first; None where there is no metric."""

    region: str
    stack: str
    rule: str
    series: dict[str, list[int] | None]

    @property
    def is_known(self) -> bool:
        """Whether CloudWatch holds anything about the rule."""
        return any(one is not None for one in self.series.values())


def period_of(since: datetime, until: datetime, steps: int = STEPS) -> int:
    """Seconds of a bucket: a multiple of a minute, and of what CloudWatch keeps for data that old (API reference)."""
    age = (datetime.now(UTC) - since).days
    unit = 60 if age < 15 else 300 if age < 63 else 3600
    return unit * math.ceil((until - since).total_seconds() / steps / unit)


def read(
    aws: Aws, stacks: Sequence[Deployed], since: datetime, until: datetime, period: int
) -> list[Counts]:
    """The counts of every rule of the stacks, in buckets of ``period`` seconds (see ``period_of``).

    CloudWatch gets them best effort, and minutes late (EventBridge guide).
    """
    begin = datetime.fromtimestamp(since.timestamp() // period * period, UTC)
    steps = math.ceil((until - begin).total_seconds() / period)
    found = []
    by_region: dict[str, list[tuple[str, str, str, str]]] = defaultdict(list)
    for one in stacks:
        by_region[one.ref.region] += [
            (one.ref.stack, key, *value) for key, value in one.rules.items()
        ]
    for region, rules in by_region.items():
        asked = [(rule, name) for rule in rules for name in NAMES]
        queries = [
            _query(f"q{index}", name, *rule[2:], period) for index, (rule, name) in enumerate(asked)
        ]
        values: dict[str, list[int]] = {}
        for start in range(0, len(queries), _QUERIES):
            pages = (
                aws.client("cloudwatch", region)
                .get_paginator("get_metric_data")
                .paginate(
                    MetricDataQueries=queries[start : start + _QUERIES],
                    StartTime=begin,
                    EndTime=begin + timedelta(seconds=period * steps),
                )
            )
            for result in (result for page in pages for result in page["MetricDataResults"]):
                for stamp, value in zip(result["Timestamps"], result["Values"], strict=True):
                    step = int((stamp - begin).total_seconds() // period)
                    values.setdefault(result["Id"], [0] * steps)[step] += int(value)
        for position, (stack, label, _, _) in enumerate(rules):
            series = {
                name: values.get(f"q{position * len(NAMES) + index}")
                for index, name in enumerate(NAMES)
            }
            found.append(Counts(region, stack, label, series))
    return found


def _query(key: str, metric: str, bus: str, rule: str, period: int) -> dict[str, Any]:
    """A rule on the default bus is known by RuleName alone (EventBridge guide, 'Dimensions')."""
    dimensions = [{"Name": "RuleName", "Value": rule}]
    if bus != "default":
        dimensions.insert(0, {"Name": "EventBusName", "Value": bus})
    stat = {"Metric": {"Namespace": "AWS/Events", "MetricName": metric, "Dimensions": dimensions}}
    return {"Id": key, "MetricStat": {**stat, "Period": period, "Stat": "Sum"}}


def sparkline(values: Sequence[int]) -> str:
    """A bar for each value, the tallest for the largest; a blank for 0."""
    top = max(values, default=0)
    return "".join(BLOCKS[math.ceil(one / top * len(BLOCKS)) - 1] if one else " " for one in values)
