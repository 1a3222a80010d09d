"""`make new`: from a name to a delivered event, as a newcomer goes, in a checkout of one's own."""

import json

import pytest
from click.testing import CliRunner

from scripts.__main__ import cli

pytestmark = pytest.mark.usefixtures("children_unmeasured", "unmeasured")
STACK = "order-events"


@pytest.fixture
def run(checkout, endpoint):
    """run(*arguments): a verb, with ENV=local on the embedded AWS of the test run; it has to succeed."""
    local = checkout / "parameters" / "local.yaml"
    local.write_text(local.read_text().replace("endpoint: embedded", f"endpoint: {endpoint.url}"))

    def call(*arguments):
        done = CliRunner().invoke(cli, arguments, standalone_mode=False)
        assert done.exception is None, done.output
        assert not done.return_value, done.output
        return done.stdout

    return call


@pytest.mark.parametrize("bus", [[], ["--default-bus"]], ids=["a bus of its own", "the default bus"])
def test_a_new_stack_lints_deploys_and_delivers_its_sample_event(run, checkout, bus):
    before = {path: path.read_text() for path in (checkout / "parameters" / "local.yaml", checkout / ".taskcat.yml")}
    run("new", "--stack", STACK, *bus)
    for path, text in before.items():
        assert path.read_text().startswith(text)  # nothing but entries at the end
    run("lint")
    sample = f"tests/events/{STACK}/event.json"
    run("trace", sample)
    run("deploy", "--stack", STACK, "--yes")
    try:
        assert "2 sent" in run("send", "--stack", STACK, sample)  # one to each region
        lines = run("tail", "--stack", STACK, "--once", "--raw").splitlines()
        assert [json.loads(line)["detail"] for line in lines] == [{"what": "a first event"}] * 2
    finally:
        run("delete", "--stack", STACK, "--yes")


def test_trace_live_puts_a_sample_on_the_bus_of_its_own_stack(run):
    run("new", "--stack", STACK)
    run("deploy", "--yes")
    try:
        assert "bus EventBus" in run("trace", f"tests/events/{STACK}/event.json", "--live")
        run("trace", "tests/events/custom-event-bus/order-placed.json", "--live")
    finally:
        run("delete", "--yes")
