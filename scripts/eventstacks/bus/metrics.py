"""CloudWatch's counts of rules: matched, invoked, failed, sent to a dead-letter queue, lost."""

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

# Source: EventBridge User Guide, 'Monitoring'.
NAMES = (
    "MatchedEvents",
    "Invocations",
    "FailedInvocations",
    "InvocationsSentToDlq",
    "InvocationsFailedToBeSentToDlq",
)
BLOCKS = "▁▂▃▄▅▆▇█"
MAX_PERIODS = 24
MAX_QUERIES = 500  # of one GetMetricData call


@dataclass(frozen=True)
class Counts:
    """The counts of one rule.

    ``series``: per metric of NAMES a sum for each period, oldest first; None without a metric.
    """

    region: str
    stack: str
    rule: str
    series: dict[str, list[int] | None]

    @property
    def is_known(self) -> bool:
        """Return True if CloudWatch has a metric of the rule."""
        return any(one is not None for one in self.series.values())


def period_of(since: datetime, until: datetime, periods: int = MAX_PERIODS) -> int:
    """Return the length of a period in seconds, for at most ``periods`` of them.

    It is a multiple of a minute, and of what CloudWatch keeps for data of that age: 1 minute for 15
    days, 5 minutes for 63 days, then 1 hour (GetMetricData, API reference).
    """
    age = datetime.now(UTC) - since
    unit = 60 if age < timedelta(days=15) else 300 if age < timedelta(days=63) else 3600
    return unit * math.ceil((until - since).total_seconds() / periods / unit)


def read(
    aws: Aws, stacks: Sequence[Deployed], since: datetime, until: datetime, period: int
) -> list[Counts]:
    """Return the counts of every rule of the stacks, in periods of ``period`` seconds.

    CloudWatch receives them minutes late, as best effort (EventBridge User Guide).
    """
    begin = datetime.fromtimestamp(since.timestamp() // period * period, UTC)
    periods = math.ceil((until - begin).total_seconds() / period)
    end = begin + timedelta(seconds=period * periods)
    by_region: dict[str, list[tuple[str, str, str, str]]] = defaultdict(list)
    for stack in stacks:
        rules = [(stack.ref.stack, logical, *rule) for logical, rule in stack.rules.items()]
        by_region[stack.ref.region] += rules
    counts = []
    for region, rules in by_region.items():
        values: dict[str, list[int]] = {}
        queries = [
            _query(f"q{number}_{index}", name, bus, rule, period)
            for number, (_, _, bus, rule) in enumerate(rules)
            for index, name in enumerate(NAMES)
        ]
        pages = aws.client("cloudwatch", region).get_paginator("get_metric_data")
        for start in range(0, len(queries), MAX_QUERIES):
            some = queries[start : start + MAX_QUERIES]
            for page in pages.paginate(MetricDataQueries=some, StartTime=begin, EndTime=end):
                for result in page["MetricDataResults"]:
                    for time, value in zip(result["Timestamps"], result["Values"], strict=True):
                        at = int((time - begin).total_seconds() // period)
                        values.setdefault(result["Id"], [0] * periods)[at] += int(value)
        for number, (stack_key, logical, _, _) in enumerate(rules):
            series = {name: values.get(f"q{number}_{index}") for index, name in enumerate(NAMES)}
            counts.append(Counts(region, stack_key, logical, series))
    return counts


def _query(key: str, metric: str, bus: str, rule: str, period: int) -> dict[str, Any]:
    """Return a query. A rule on the default bus has the dimension RuleName only (User Guide)."""
    dimensions = [{"Name": "RuleName", "Value": rule}]
    if bus != "default":
        dimensions.insert(0, {"Name": "EventBusName", "Value": bus})
    stat = {"Metric": {"Namespace": "AWS/Events", "MetricName": metric, "Dimensions": dimensions}}
    return {"Id": key, "MetricStat": {**stat, "Period": period, "Stat": "Sum"}}


def sparkline(values: Sequence[int]) -> str:
    """Return a bar for each value, the tallest for the largest; a blank for 0."""
    top = max(values, default=0)
    return "".join(BLOCKS[math.ceil(one / top * len(BLOCKS)) - 1] if one else " " for one in values)
