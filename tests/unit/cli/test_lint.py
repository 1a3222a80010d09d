"""`make lint` asks for every partition, whatever the environments name."""

import json
import shlex

import pytest
from click.testing import CliRunner

from eventstacks.cli.lint import OTHER_PARTITIONS, command

pytestmark = pytest.mark.usefixtures("children_unmeasured")

# A type that these partitions do not have; that they do not get it meanwhile is what the first assertion tells.
ONLY_IN_AWS = """
Resources:
  Bus:
    Type: AWS::EventsV2::EventBus
"""


EXAMPLES = [
    line.split("eventstacks lint")[1] for line in command.help.splitlines() if "eventstacks" in line
]


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("example", EXAMPLES)
def test_all_stacks_are_fit_for_every_partition_as_each_example_of_the_help_finds(example, capfd):
    assert (
        CliRunner().invoke(command, shlex.split(example), standalone_mode=False).return_value == 0
    )
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    assert (json.loads(said.out) if "json" in example else said.out) in ("", [])


def test_what_a_partition_lacks_is_found(checkout, capfd):
    (checkout / "templates" / "new-bus.yaml.j2").write_text(ONLY_IN_AWS)
    assert CliRunner().invoke(command, standalone_mode=False).return_value == 1
    said = capfd.readouterr().out.replace("\n", " ")
    for region in OTHER_PARTITIONS:
        assert f"Resource type 'AWS::EventsV2::EventBus' does not exist in '{region}'" in said
