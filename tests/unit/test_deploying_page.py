"""docs/deploying.md: its example is valid and names every key; its AWS CLI commands exist."""

import itertools
import re
import shlex
from pathlib import Path

import botocore.session
import pytest
import yaml
from botocore import xform_name

from eventstacks import environment, rendering
from eventstacks.cloudformation import plan
from eventstacks.environment import OutputReference

PAGE = Path("docs/deploying.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    shlex.split(one, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for one in block.replace("\\\n", "").splitlines()
    if one.startswith("aws cloudformation ")
]


def test_every_key_is_named():
    whole = yaml.load(EXAMPLE, environment.Loader)
    schema = environment.validator().schema
    beside = {"endpoint"} if "`endpoint`" in PAGE else set()
    assert {*whole, *beside} == {*schema["properties"], "x-common"}
    stack = schema["$defs"]["stack"]["properties"]
    assert {key for one in whole["stacks"].values() for key in one} == set(stack)
    assert all(f"`!{kind} " in PAGE or f"`!{kind}`" in PAGE for kind in ("Env", "Ssm", "Previous"))


def test_what_the_comments_say_is_so(tmp_path):
    (tmp_path / "prod.yaml").write_text(EXAMPLE)
    prod = environment.load("prod", tmp_path)
    bus, second = prod.stacks["custom-event-bus"], prod.stacks["second-bus"]
    assert (bus.stack_name, bus.template, bus.rollback_minutes) == (
        "prod-custom-event-bus",
        "custom-event-bus",
        10,
    )
    assert prod.ref("custom-event-bus", "eu-west-1").values()["ArchiveRetentionInDays"] == "30"
    assert second.tags == {"environment": "prod", "team": "billing"}
    assert ([*second.rollback_alarms], second.rollback_minutes) == ([], 0)
    assert prod.ref("second-bus", "eu-west-1").values()["AlarmTopicArn"] == OutputReference(
        "alerts", "TopicArn"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[2])
def test_a_command_of_the_aws_cli_is_one_that_there_is(command):
    """Operation and options exist, and no required one is missing.

    Values in shorthand have their keys.
    """
    _, service, verb, *options = command
    model = botocore.session.get_session().get_service_model(service)
    shape = model.operation_model("".join(map(str.capitalize, verb.split("-")))).input_shape
    names = {xform_name(name, "-"): name for name in shape.members}
    given = [names[word.removeprefix("--")] for word in options if word.startswith("--")]
    assert set(shape.required_members) <= set(given)
    for word, value in itertools.pairwise(options):
        if word.startswith("--") and "=" in value:
            kind = shape.members[names[word.removeprefix("--")]]
            keys = re.findall(r"(?:^|,)(\w+)=", value)
            assert set(keys) <= set(getattr(kind, "member", kind).members)


def test_the_template_of_the_stack_set_fits_into_a_request_and_its_capabilities(tmp_path):
    create, _, update = COMMANDS
    (named,) = {one for one in (*create, *update) if one.startswith("file://")}
    template = rendering.render_all(build=tmp_path)[Path(named).stem]
    assert len(template.text.encode()) <= plan.IN_REQUEST
    assert "RoleName" not in template.text  # else CAPABILITY_NAMED_IAM
    assert plan.capabilities(template.document)[0] == "CAPABILITY_IAM"
    required = {n for n, one in template.document["Parameters"].items() if "Default" not in one}
    for command in (create, update):
        (value,) = [one for one in command if one.startswith("ParameterKey=")]
        assert {value.split(",")[0].removeprefix("ParameterKey=")} == required
