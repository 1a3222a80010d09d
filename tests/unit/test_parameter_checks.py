"""Values of an environment against the parameters and outputs of its templates."""

import pytest
from environment_files import GOOD, load
from rendered import templates

from eventstacks import environment, parameter_checks, rendering
from eventstacks.errors import ErrorCode, ToolError

TEMPLATE = {
    "Parameters": {
        "Days": {
            "Type": "Number",
            "MinValue": 1,
            "MaxValue": 30,
            "Default": 1,
            "Description": "How long.",
        },
        "Names": {"Type": "CommaDelimitedList", "AllowedPattern": "[a-z]+", "Default": "a"},
        "Loud": {"Type": "String", "AllowedValues": ["true", "false"], "Default": "false"},
        "BusArn": {"Type": "String", "MinLength": 2, "MaxLength": 60, "Default": "xx"},
    },
    "Outputs": {"Arn": {"Value": "x"}},
}


def check(dev, template=TEMPLATE):
    parameter_checks.check_parameters(dev, templates(bus=template), dev.choose())


def test_a_valid_environment_passes(tmp_path):
    check(load(tmp_path, GOOD))


def test_values_that_are_looked_up_later_are_not_checked(tmp_path):
    for written in ("!Env NAME", "!Previous", "'{{resolve:ssm:/days:1}}'"):
        dev = load(tmp_path, GOOD.replace("Days: 7", f"Days: {written}"))
        check(dev)


def test_only_the_stacks_that_are_asked_for_are_checked(tmp_path):
    dev = load(tmp_path, GOOD.replace("template: bus", "template: nope"))
    given = templates(bus=TEMPLATE)
    parameter_checks.check_parameters(dev, given, dev.choose("bus"))
    with pytest.raises(ToolError) as error:
        parameter_checks.check_parameters(dev, given, dev.choose())
    assert error.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("allowed", [[True, False], ["true", "false"], [1.5, True]])
def test_allowed_values_are_compared_as_strings(allowed):
    assert parameter_checks.refusal({"AllowedValues": allowed}, "true") == ""
    assert "is not one of" in parameter_checks.refusal({"AllowedValues": allowed}, "True")


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("Days: 7", "Dasy: 7", "bus.parameters", "no parameter 'Dasy'; did you mean 'Days'?"),
        (
            "Days: 7",
            "Days: 31",
            "bus.parameters.Days",
            "'31' is outside of MinValue 1, MaxValue 30",
        ),
        ("Days: 7", "Days: 0", "bus.parameters.Days", "'0' is outside of MinValue 1"),
        ("Days: 7", "Days: week", "bus.parameters.Days", "'week' is not a number"),
        ("[a, b]", "[a, B]", "bus.parameters.Names", "'B' does not match [a-z]+"),
        ("Loud: true", "Loud: very", "bus.parameters.Loud", "'very' is not one of 'true', 'false'"),
        (
            "!Output bus.Arn@eu-west-1",
            "x",
            "rules.parameters.BusArn",
            "outside of MinLength 2, MaxLength 60",
        ),
        (
            "!Output bus.Arn@eu-west-1",
            "x" * 61,
            "rules.parameters.BusArn",
            "outside of MinLength 2",
        ),
        (
            "bus.Arn@eu-west-1",
            "bus.Anr@eu-west-1",
            "rules.parameters.BusArn",
            "no such output; did you mean 'Arn'?",
        ),
    ],
)
def test_values_are_checked_against_the_template(tmp_path, old, new, place, words):
    assert old in GOOD
    dev = load(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ToolError) as error:
        check(dev)
    assert error.value.code is ErrorCode.PARAMETER_INVALID
    assert error.value.where == f"{tmp_path / 'dev.yaml'}: stacks.{place}"
    assert words in error.value.what


NUMBER = {"Type": "Number", "MinValue": 1, "MaxValue": 30}
BOUNDS = {"MinLength": 2, "MaxLength": 3}


@pytest.mark.parametrize(
    ("declared", "values", "refused"),
    [
        (NUMBER, ["1", "30", "1.0", "+5", " 5", "5 ", "1e1", "2."], False),
        (NUMBER, ["0", "31", "0.999", "30.001", "1_0", "nan", "inf", "٣", "", "0x1", "."], True),
        ({"Type": "List<Number>", "MinValue": 1}, ["1", "1, 2"], False),
        ({"Type": "List<Number>", "MinValue": 1}, ["1,0", "1,,2"], True),
        (BOUNDS, ["ab", "abc"], False),
        (BOUNDS, ["a", "abcd"], True),
        ({"AllowedPattern": "[a-z]+"}, ["a", "ab"], False),
        ({"AllowedPattern": "[a-z]+"}, ["", "A", "a b", "a\n"], True),
        ({"AllowedPattern": r"\w+"}, ["Zürich"], True),  # Java's \w is ASCII
        # What only Java can read is left to CloudFormation.
        ({"AllowedPattern": r"[\p{L} ]+"}, ["Zürich Nord", "1"], False),
        ({"AllowedPattern": r"[\w-\.]+@[\p{Alnum}.]+"}, ["owner@example.com", "1"], False),
        ({"AllowedPattern": "[a-z&&[^b]]+"}, ["b", "a"], False),
        ({"AllowedPattern": "[[a-c]x]+"}, ["ax"], False),
    ],
)
def test_values_are_refused_as_cloudformation_does(declared, values, refused):
    assert [bool(parameter_checks.refusal(declared, one)) for one in values] == [refused] * len(
        values
    )


@pytest.mark.parametrize(
    "rule",
    [
        {"MinLength": 16},
        {"MaxLength": 3},
        {"AllowedPattern": "[a-z]+"},
        {"AllowedValues": ["x"]},
        {"Type": "Number"},
        {"Type": "Number", "MaxValue": 1},
    ],
)
def test_a_noecho_value_is_in_no_error(rule):
    declared, value = {"NoEcho": True, **rule}, "7777" if "MaxValue" in rule else "hunter-2"
    assert value not in parameter_checks.refusal(declared, value)
    assert value in parameter_checks.refusal({**declared, "NoEcho": False}, value)


def test_a_parameter_without_default_must_be_given(tmp_path):
    template = {**TEMPLATE, "Parameters": {**TEMPLATE["Parameters"], "Topic": {"Type": "String"}}}
    dev = load(tmp_path, GOOD)
    with pytest.raises(ToolError, match="needs a value for Topic"):
        check(dev, template)


@pytest.mark.parametrize("name", ["local", "dev", "prod"])
def test_the_environments_of_the_repository_are_valid(name):
    one = environment.load(name)
    parameter_checks.check_parameters(one, rendering.render_all(), one.choose())
