"""Each rule on its fixtures.

A bad one gives this rule alone, where its Metadata says; a good one gives none of ours.
"""

import json
from pathlib import Path

import pytest

from eventstacks.lint import RULES

OURS = {rule.id for rule in RULES}
FIXTURES = Path("tests/fixtures/lint")
TEMPLATES = sorted(path for path in FIXTURES.glob("*/*") if path.suffix in {".yaml", ".json"})


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_fixture_has_the_expected_findings(lint, path):
    found, template = lint(path)
    places = sorted((match.rule.id, "/".join(map(str, match.path))) for match in found)
    expected = sorted(
        (path.parent.name, place) for place in template.get("Metadata", {}).get("Expected", [])
    )
    assert places == expected
    assert bool(expected) is path.name.startswith("bad")


@pytest.mark.parametrize("rule", sorted(OURS))
def test_rule_has_good_and_bad_fixtures(rule):
    names = {path.stem.split("-")[0] for path in (FIXTURES / rule).iterdir()}
    assert names == {"good", "bad"}


def test_some_fixtures_are_json_and_some_have_conditions():
    texts = {path: path.read_text() for path in TEMPLATES}
    assert sum(path.suffix == ".json" for path in texts) >= 3
    assert sum("Conditions:" in text for text in texts.values()) >= 20


def test_json_and_yaml_have_the_same_findings(lint, tmp_path):
    for path in TEMPLATES:
        found, template = lint(path)
        as_json = tmp_path / "template.json"
        as_json.write_text(json.dumps(template))
        again, _ = lint(as_json)
        assert {(one.rule.id, tuple(one.path)) for one in again} == {
            (one.rule.id, tuple(one.path)) for one in found
        }
