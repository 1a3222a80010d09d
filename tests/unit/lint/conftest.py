"""One cfn-lint with our rules alone, for all tests of this folder."""

from pathlib import Path

import pytest
from cfnlint.decode import decode
from cfnlint.template import Template

from eventstacks.lint import RULES


@pytest.fixture
def lint():
    """A function: path → what our rules find there, and the template.

    What a rule fails on is not caught.
    """
    rules = [rule() for rule in RULES]

    def run(path: Path):
        template, problems = decode(str(path))
        assert not problems, problems
        cfn = Template(str(path), template, ["us-east-1"])
        assert not cfn.transform()
        return [match for rule in rules for match in rule.matchall(str(path), cfn)], template

    return run
