"""Rules in a stack of their own, on another stack's bus, as docs/stacks/custom-event-bus.md shows it."""

import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("children_unmeasured", "unmeasured")
PAGE = Path(__file__).parents[2] / "docs" / "stacks" / "custom-event-bus.md"


def edit(path, old, new):
    assert path.read_text().count(old) == 1, old
    path.write_text(path.read_text().replace(old, new))


def test_the_pages_steps_make_a_rule_on_the_bus_of_the_other_stack(invoke, checkout):
    invoke("new", "--stack", "order-rules", "--default-bus")
    [diff] = re.findall(r"```diff\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for part in re.split(r"^--- (.*)\n", diff, flags=re.MULTILINE)[1:]:
        if not part.startswith((" ", "+", "-", "@")):
            path = checkout / part
            continue
        for hunk in re.split(r"^@@\n", part, flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines(keepends=True)
            edit(
                path, *("".join(one[1:] for one in lines if one[0] in " " + sign) for sign in "-+")
            )
    invoke("lint")
    invoke("deploy", "--stack", "custom-event-bus", "--yes")
    try:
        invoke("deploy", "--stack", "order-rules", "--yes")
        invoke("trace", "tests/events/order-rules/event.json")
        assert "2 acknowledged" in invoke(
            "send", "--stack", "order-rules", "tests/events/order-rules/event.json"
        )
        lines = invoke("tail", "--stack", "order-rules", "--once", "--raw").splitlines()
        assert [json.loads(line)["detail"] for line in lines] == [{"what": "a first event"}] * 2
    finally:
        invoke("delete", "--stack", "order-rules", "--yes")
        invoke("delete", "--stack", "custom-event-bus", "--yes")
