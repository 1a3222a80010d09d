"""`make new`: from a name to a delivered event, in a copy of the checkout."""

import json

import pytest

pytestmark = pytest.mark.usefixtures("children_unmeasured", "unmeasured")
STACK = "order-events"


@pytest.mark.parametrize(
    "bus", [[], ["--default-bus"]], ids=["a bus of its own", "the default bus"]
)
def test_a_new_stack_lints_deploys_and_delivers_its_sample_event(invoke, checkout, bus):
    before = {
        path: path.read_text()
        for path in (checkout / "parameters" / "local.yaml", checkout / ".taskcat.yml")
    }
    invoke("new", "--stack", STACK, *bus)
    for path, text in before.items():
        assert path.read_text().startswith(text)  # nothing but entries at the end
    invoke("lint")
    sample = f"tests/events/{STACK}/event.json"
    invoke("trace", sample)
    invoke("deploy", "--stack", STACK, "--yes")
    try:
        assert "2 acknowledged" in invoke("send", "--stack", STACK, sample)  # one to each region
        lines = invoke("tail", "--stack", STACK, "--once", "--raw").splitlines()
        assert [json.loads(line)["detail"] for line in lines] == [{"what": "a first event"}] * 2
    finally:
        invoke("delete", "--stack", STACK, "--yes")


def test_trace_live_puts_a_sample_on_the_bus_of_its_own_stack(invoke):
    invoke("new", "--stack", STACK)
    invoke("deploy", "--yes")
    try:
        assert "bus EventBus" in invoke("trace", f"tests/events/{STACK}/event.json", "--live")
        invoke("trace", "tests/events/custom-event-bus/order-placed.json", "--live")
    finally:
        invoke("delete", "--yes")
