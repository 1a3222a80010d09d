"""Every sample in tests/events is routed as it says, through the default environment of `make`."""

import json
from pathlib import Path

import pytest

from eventstacks import environment, rendering
from eventstacks.flow import graph, samples, trace

EVENTS = Path(__file__).parent.parent / "events"
SAMPLES = sorted(EVENTS.glob("*/*.json"))


@pytest.fixture(scope="module")
def templates():
    return rendering.render_all()


@pytest.mark.parametrize("path", SAMPLES, ids=[f"{one.parent.name}/{one.stem}" for one in SAMPLES])
def test_it_takes_its_way(path, templates):
    local, sample = environment.load("local"), samples.parse(path.read_text(), str(path))
    flow = graph.of_environment(local, templates, sample.stack, sample.parameters)
    region = sample.region or local.stacks[sample.stack].regions[0]
    event = samples.complete(sample, flow, region, local.account)
    arrivals = [trace.trace(flow, event, bus) for bus in trace.entrances(flow, event, sample.bus)]
    assert sample.expect is not None
    assert samples.deviations(arrivals, sample.expect) == []


def test_the_pipe_of_table_outbox_makes_the_event_of_the_other_sample(templates):
    flow = graph.of_environment(environment.load("local"), templates)
    record, wanted = (
        samples.parse((EVENTS / "table-outbox" / f"{name}.json").read_text(), name)
        for name in ("outbox-item-inserted", "event-on-the-bus")
    )
    event = samples.complete(record, flow, "us-east-1", flow.stacks[0].account)
    [stream] = trace.entrances(flow, event)
    [route] = trace.trace(flow, event, stream).routes
    [delivery] = route.deliveries
    assert json.loads(delivery.payload.text) == wanted.event["detail"]
    assert delivery.onward.label == "EventBus"
    [logged] = [one for one in delivery.onward.routes if one.rule.label == "CatchAllRule"]
    assert json.loads(logged.deliveries[0].payload.text).items() >= wanted.event.items()


def test_every_rule_of_every_stack_is_taken_by_some_sample(templates):
    taken = {
        (one.stack, rule)
        for one in (samples.parse(path.read_text(), str(path)) for path in SAMPLES)
        for rule in one.expect or ()
    }
    rules = {
        (name, logical_id)
        for name, template in templates.items()
        if name in environment.load("local").stacks  # event-bus-v2 has tests of its own
        for logical_id, one in template.document["Resources"].items()
        if one["Type"] == "AWS::Events::Rule" and "EventPattern" in one["Properties"]
    }
    assert rules - taken == set()
