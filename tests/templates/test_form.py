"""The rendered files as a person meets them: in an editor, in a review, in the console's form."""

import re
from pathlib import Path

import pytest

from eventstacks import __version__, rendering

ROOT = Path(__file__).parent.parent.parent
STACKS = rendering.find(ROOT / "templates")
SECTIONS = [
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Rules",
    "Mappings",
    "Conditions",
    "Resources",
    "Outputs",
]
RESOURCE_KEYS = [
    "Type",
    "DependsOn",
    "Condition",
    "CreationPolicy",
    "UpdatePolicy",
    "DeletionPolicy",
    "UpdateReplacePolicy",
    "Metadata",
    "Properties",
]
PARAMETER_KEYS = [
    "Description",
    "Type",
    "AllowedValues",
    "AllowedPattern",
    "ConstraintDescription",
    "MinLength",
    "MaxLength",
    "MinValue",
    "MaxValue",
    "Default",
    "NoEcho",
]

# Any default would be wrong for somebody: whose workflows may deploy, where copies are needed,
# which events leave the account, which bus is central.
NEED_AN_ANSWER = {"DestinationRegion", "Endpoint", "EventSources", "HubEventBusArn", "Repository"}


@pytest.fixture(params=STACKS)
def stack(request):
    return request.param


@pytest.fixture
def text(stack):
    return rendering.render(stack).text


@pytest.fixture
def template(stack):
    return rendering.render(stack).document


def in_order(keys, order):
    return [key for key in order if key in keys] == list(keys)


def test_it_fits_into_one_request_with_room_for_changes_of_the_macros(text):
    assert len(text.encode()) < 49_500  # CreateStack's TemplateBody has at most 51,200 bytes


def test_sections_and_keys_stand_in_canonical_order(template):
    assert in_order(template, SECTIONS)
    for name, resource in template["Resources"].items():
        assert in_order(resource, RESOURCE_KEYS), name
    for name, parameter in template["Parameters"].items():
        assert in_order(parameter, PARAMETER_KEYS), name
    for name, output in template["Outputs"].items():
        assert in_order(output, ["Condition", "Description", "Value", "Export"]), name


def test_properties_are_sorted_so_that_they_are_found(template):
    for name, resource in template["Resources"].items():
        properties = list(resource["Properties"])
        assert properties == sorted(properties, key=str.lower), name


def test_no_debris_of_rendering(text):
    code = False
    for before, line in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        code = line.startswith(" " * 10) or (code and not line)
        assert line == line.rstrip()
        assert "{{" not in line.replace("{{resolve:", "")
        assert "{%" not in line
        assert "none" not in line.split()[:1]
        assert code or before or line, "two blank lines"
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_the_consoles_form_explains_itself(template):
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])
    assert sorted(interface["ParameterLabels"]) == sorted(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"].endswith("."), name
        assert {"AllowedValues", "AllowedPattern", "MaxLength", "MaxValue"} & set(parameter), (
            f"{name} takes anything"
        )
        assert "Default" in parameter or name in NEED_AN_ANSWER, (
            f"{name}: a first stack should need no answer"
        )
        if "AllowedPattern" in parameter:
            assert "ConstraintDescription" in parameter, (
                f"{name}: people do not read regular expressions"
            )


def test_parameters_and_conditions_are_all_used(text, template):
    for name in (*template["Parameters"], *template.get("Conditions", {})):
        assert len(re.findall(rf"\b{name}\b", text)) > (
            3 if name in template["Parameters"] else 1
        ), name


def test_outputs_are_described_and_exported_under_the_stacks_name(template):
    for name, output in template["Outputs"].items():
        assert output["Description"].endswith("."), name
        if name not in (
            "TemplateName",
            "TemplateVersion",
        ):  # AWS lets no exported value change that is imported
            assert output["Export"] == {"Name": {"Fn::Sub": f"${{AWS::StackName}}-{name}"}}


def test_no_import_stands_in_the_way_of_an_upgrade(template):
    assert not any(
        "Export" in template["Outputs"][name] for name in ("TemplateName", "TemplateVersion")
    )


def test_the_stack_says_which_template_it_came_from(stack, template):
    assert template["Outputs"]["TemplateName"]["Value"] == stack
    assert template["Outputs"]["TemplateVersion"]["Value"] == __version__


def test_the_description_names_area_and_thing(template):
    assert re.match(r"[A-Z]\w+: .+\.$", template["Description"])


def test_alarms_exist_only_with_a_topic(template):
    if "Topic" in template["Resources"]:  # it has its own
        return
    kinds = {one["Type"] for one in template["Resources"].values()}
    alarms = [
        one for one in template["Resources"].values() if one["Type"] == "AWS::CloudWatch::Alarm"
    ]
    sources = {"AWS::Events::Rule", "AWS::Pipes::Pipe", "AWS::Scheduler::Schedule"}
    assert bool(alarms) == bool(kinds & sources)
    both = {
        key
        for key, one in template.get("Conditions", {}).items()
        if {"Condition": "HasAlarmTopic"} in one.get("Fn::And", ())
    }
    assert {one["Condition"] for one in alarms} <= {"HasAlarmTopic"} | both
