"""Which outputs and exports of a stack a plan says change."""

from pathlib import Path

import pytest

from eventstacks.cloudformation.plan import _output_changes
from eventstacks.rendering import RenderedTemplate

HELD = {"OutputKey": "Name", "OutputValue": "1"}
EXPORTED = {**HELD, "ExportName": "x"}
EXPORT = {"Export": {"Name": "x"}}


@pytest.mark.parametrize(
    ("held", "declared", "change"),
    [
        (None, {"Value": "1"}, "added"),
        (HELD, None, "removed"),
        (HELD, {"Value": "1"}, None),
        (HELD, {"Value": "2"}, "1 → 2"),
        (HELD, {"Value": {"Ref": "Topic"}}, None),
        (HELD, {"Value": {"Ref": "Topic"}, **EXPORT}, "export added"),
        (EXPORTED, {"Value": {"Ref": "Topic"}}, "export removed"),
        (EXPORTED, {"Value": {"Ref": "Topic"}, **EXPORT}, None),
        (None, {"Value": "1", "Condition": "Never"}, None),
        (HELD, {"Value": "1", "Condition": "Always"}, None),
    ],
)
def test_a_change_of_an_output_is_named(held, declared, change):
    document = {"Outputs": {"Name": declared} if declared else {}}
    template = RenderedTemplate("bus", "", document, Path("bus.yaml"))
    changes = _output_changes(template, {"Outputs": [held] if held else []})
    assert changes == ({"Name": change} if change else {})
