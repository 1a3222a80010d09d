"""One cfn-lint with our rules alone, for all tests of this folder."""

from pathlib import Path

import pytest
from cfnlint.config import ConfigMixIn
from cfnlint.decode import decode
from cfnlint.rules import Rules
from cfnlint.template import Template

from scripts.lint_rules import RULES


@pytest.fixture
def lint():
    """A function: path → what our rules find there, a failure of theirs (E0002) included, and the template."""
    config, rules = ConfigMixIn([], regions=["us-east-1"]), Rules({rule.id: rule() for rule in RULES})

    def run(path: Path):
        template, problems = decode(str(path))
        assert not problems, problems
        cfn = Template(str(path), template, ["us-east-1"])
        assert not cfn.transform()
        return list(rules.run(str(path), cfn, config)), template

    return run
