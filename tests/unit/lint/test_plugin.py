"""The plug-in as people use it: through cfn-lint itself."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventstacks.lint import RULES

pytestmark = pytest.mark.usefixtures("children_unmeasured")
PLUGIN = "eventstacks.lint"
ARTICLE = Path("tests/fixtures/article").resolve()
CFN_LINT = str(Path(sys.executable).with_name("cfn-lint"))


def find(rules: str, *files: Path, cwd: Path, **variables: str) -> set[tuple[str, str, str]]:
    """Our findings as the command says them: file, id, path."""
    run = subprocess.run(
        [CFN_LINT, "-a", rules, "--format", "json", "--", *files],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert not run.stderr
    found = [
        (Path(one["Filename"]).stem, one["Rule"]["Id"], "/".join(map(str, one["Location"]["Path"])))
        for one in json.loads(run.stdout)
    ]
    assert "E0002" not in {rule for _, rule, _ in found}
    return {one for one in found if re.fullmatch(r"[EWI]98\d\d", one[1])}


def test_faults_of_the_article_are_found_from_any_folder(tmp_path):
    (tmp_path / "scripts").mkdir()  # a package of the user's own changes nothing
    (tmp_path / "scripts" / "__init__.py").write_text("raise RuntimeError('not yours')")
    files = sorted(ARTICLE.glob("*.yaml"))
    assert find(PLUGIN, *files, cwd=tmp_path, PYTHONPATH=str(tmp_path)) == {
        ("custom-event-bus", "W9801", "Resources/CatchAll/Properties/Targets/0/Arn"),
        ("custom-event-bus", "W9817", "Resources/CatchAll/Properties/Targets/0"),
        ("rds-snapshot-events", "W9801", "Resources/Snapshots/Properties/Targets/0/Arn"),
        ("rds-snapshot-events", "W9817", "Resources/Snapshots/Properties/Targets/0"),
        ("s3-object-events", "W9801", "Resources/Rule/Properties/Targets/0/Arn"),
        ("s3-object-events", "W9817", "Resources/Rule/Properties/Targets/0"),
        ("s3-object-events", "W9817", "Resources/Rule/Properties/Targets/1"),
    }


def test_cfn_lint_loads_the_rules_in_the_checkout(checkout):
    template = ARTICLE / "rds-snapshot-events.yaml"
    run = subprocess.run(
        [CFN_LINT, "--", str(template)],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "W9801" in run.stdout


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_has_a_description_and_a_source(rule):
    assert re.fullmatch(r"[EWI]98\d\d", rule.id)
    assert rule.source_url.startswith("https://docs.aws.amazon.com/")
    assert rule.shortdesc
    assert rule.description.endswith(".")
    assert not rule.shortdesc.endswith(".")


def test_all_rules_are_registered():
    removed = {2, 4, 14, 15}  # part of E9822, or what AWS refuses with a clear message of its own
    assert {int(rule.id[3:]) for rule in RULES} == set(range(1, 25)) - removed
