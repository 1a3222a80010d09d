# ruff: noqa: N803 - the arguments of AWS's operations
from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from refs import stack_ref
from tests.unit.bus.operations import FakeAws, Service

from eventstacks.bus import metrics
from eventstacks.bus.stacks import Deployed

NOW = datetime.now(UTC)


class CloudWatch(Service):
    """GetMetricData over ``points``: (metric, dimensions) → [(time stamp, value)]; at most 500 queries, pages of 100."""

    def __init__(self, points):
        self.points = points

    def get_paginator(self, name):
        assert name == "get_metric_data"
        return self

    def paginate(self, MetricDataQueries, StartTime, EndTime):
        assert len(MetricDataQueries) <= 500
        results = []
        for query in MetricDataQueries:
            metric = query["MetricStat"]["Metric"]
            key = (
                metric["MetricName"],
                tuple((one["Name"], one["Value"]) for one in metric["Dimensions"]),
            )
            points = [one for one in self.points.get(key, []) if StartTime <= one[0] < EndTime]
            results.append(
                {
                    "Id": query["Id"],
                    "Timestamps": [one[0] for one in points],
                    "Values": [one[1] for one in points],
                }
            )
        for start in range(0, len(results), 100):
            yield {"MetricDataResults": results[start : start + 100]}


def stack(**rules):
    return Deployed(stack_ref("test", "shop", "test-shop", "r"), {}, (), rules)


def test_values_fall_into_their_periods_and_buses_are_told_apart():
    own, default = (("EventBusName", "orders"), ("RuleName", "all")), (("RuleName", "all"),)
    since = NOW - timedelta(hours=1)
    points = {
        ("MatchedEvents", own): [(since, 2.0), (NOW - timedelta(minutes=1), 3.0)],
        ("Invocations", default): [(NOW - timedelta(minutes=1), 4.0)],
    }
    aws = FakeAws(cloudwatch=CloudWatch(points))
    first, second = metrics.read(
        aws,
        [stack(Own=("orders", "all"), Default=("default", "all"))],
        since,
        NOW,
        metrics.period_of(since, NOW),
    )
    assert (first.series["MatchedEvents"][0], sum(first.series["MatchedEvents"])) == (2, 5)
    assert [first.series[name] for name in metrics.NAMES[1:]] == [None] * 4
    assert (second.series["MatchedEvents"], sum(second.series["Invocations"])) == (None, 4)


def test_many_rules_are_asked_for_in_several_calls():
    names = [f"rule{number}" for number in range(300)]
    points = {
        ("Invocations", (("RuleName", name),)): [(NOW - timedelta(minutes=5), float(number + 1))]
        for number, name in enumerate(names)
    }
    rules = {name: ("default", name) for name in names}
    found = metrics.read(
        FakeAws(cloudwatch=CloudWatch(points)), [stack(**rules)], NOW - timedelta(hours=1), NOW, 180
    )
    assert [sum(one.series["Invocations"]) for one in found] == list(range(1, 301))


@pytest.mark.parametrize(
    ("ago", "unit"),
    [
        ({"hours": 3}, 60),
        ({"days": 7}, 60),
        ({"days": 14, "hours": 23}, 60),
        ({"days": 15, "hours": 1}, 300),
        ({"days": 62, "hours": 23}, 300),
        ({"days": 63, "hours": 1}, 3600),
    ],
)
def test_periods_are_what_cloudwatch_keeps(ago, unit):
    now, length = datetime.now(UTC), timedelta(minutes=30)
    assert metrics.period_of(now - timedelta(**ago), now - timedelta(**ago) + length) == (
        max(unit, 120)
    )
    period = metrics.period_of(now - timedelta(**ago), now)
    assert period % unit == 0
    assert timedelta(**ago).total_seconds() / period <= 24


def test_a_sparkline_shows_each_value_and_tells_few_from_none():
    assert metrics.sparkline([0, 1, 50, 100]) == " ▁▄█"
    assert metrics.sparkline([0, 0]) == "  "
