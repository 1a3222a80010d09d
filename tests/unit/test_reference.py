import in_process
import pytest

from eventstacks import reference
from eventstacks.errors import ToolError

TEMPLATE = {
    "Metadata": {
        "AWS::CloudFormation::Interface": {
            "ParameterGroups": [{"Parameters": ["B", "A"]}, {"Parameters": ["C"]}]
        }
    },
    "Parameters": {
        "A": {"Description": "First | one.", "AllowedValues": [1, 2], "Default": 1},
        "B": {
            "Description": "Second.",
            "AllowedPattern": "x*",
            "ConstraintDescription": "must be x",
            "Default": "",
        },
        "C": {"Description": "Third.", "MinValue": 0, "MaxValue": 9},
        "D": {"AllowedValues": [True, False], "Default": False},
        "E": {"Type": "Number", "MinValue": 1},
        "F": {"Type": "Number", "MaxValue": 9.5, "Default": 2},
        "G": {"Type": "Number", "ConstraintDescription": "an even one"},
        "H": {"Type": "List<Number>"},
        "I": {"Type": "Number", "MinValue": 1, "ConstraintDescription": "at least one"},
    },
    "Outputs": {
        "O": {"Description": "An output.", "Condition": "HasO"},
        "P": {"Description": "Another."},
    },
}


def test_parameters_stand_in_the_order_of_the_form():
    assert reference.parameters(TEMPLATE).splitlines()[2:] == [
        "| `B` | Second. | must be x | empty |",
        "| `A` | First \\| one. | `1`, `2` | `1` |",
        "| `C` | Third. | 0 to 9 | none: has to be given |",
        "| `D` |  | `true`, `false` | `false` |",
        "| `E` |  | at least 1 | none: has to be given |",
        "| `F` |  | at most 9.5 | `2` |",
        "| `G` |  | an even one | none: has to be given |",
        "| `H` |  | numbers | none: has to be given |",
        "| `I` |  | at least one | none: has to be given |",
    ]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"Metadata": None},
        {"Metadata": {"AWS::CloudFormation::Interface": {"ParameterLabels": {}}}},
        {
            "Metadata": {
                "AWS::CloudFormation::Interface": {
                    "ParameterGroups": [{"Label": {}}, {"Parameters": ["Gone"]}]
                }
            }
        },
    ],
)
def test_parameters_without_a_form_stand_in_their_own_order(metadata):
    declared = {"B": {"MinValue": 1}, "A": {"Description": "It."}}
    assert reference.parameters({"Parameters": declared, **metadata}).splitlines()[2:] == [
        "| `B` |  | at least 1 | none: has to be given |",
        "| `A` | It. | text | none: has to be given |",
    ]
    assert len(reference.parameters(metadata).splitlines()) == 2
    assert len(reference.outputs(metadata).splitlines()) == 2


def test_parameters_that_the_form_leaves_out_come_last():
    template = {**TEMPLATE, "Parameters": {"Z": {}, **TEMPLATE["Parameters"]}}
    assert [line[3] for line in reference.parameters(template).splitlines()[2:]] == [
        "B",
        "A",
        "C",
        "Z",
        *"DEFGHI",
    ]


@pytest.mark.parametrize(
    "form",
    [
        "Parameters: {A: {AllowedValues: 5}}",
        "Metadata: {AWS::CloudFormation::Interface: [a]}",
        "Metadata: {AWS::CloudFormation::Interface: {ParameterGroups: [{Parameters: [[A]]}]}}",
    ],
)
def test_a_form_that_cannot_be_one_is_named_with_its_template(checkout, form):
    (checkout / "templates" / "odd.yaml.j2").write_text(
        f"{form}\nResources: {{Q: {{Type: AWS::SQS::Queue}}}}\n"
    )
    done = in_process.run("docs", "--check")
    assert done.returncode == 1
    assert "Error: build/odd.yaml: the form of its Parameters" in done.stderr


def test_a_page_that_is_not_text_is_named(checkout):
    page = checkout / "docs" / "stacks" / "custom-event-bus.md"
    page.parent.mkdir(parents=True)
    page.write_bytes(b"\xe9")
    for verb in (["docs"], ["docs", "--check"], ["diagrams"]):
        done = in_process.run(*verb)
        assert (
            done.returncode,
            "docs/stacks/custom-event-bus.md: is not UTF-8 text" in done.stderr,
        ) == (1, True)


def test_outputs_name_their_condition():
    assert reference.outputs(TEMPLATE).splitlines()[2:] == [
        "| `O` | An output. Only if `HasO`. |",
        "| `P` | Another. |",
    ]


def test_what_stands_around_the_markers_stays():
    page = reference.insert("# Title\n\nWords.\n", "x", "one")
    again = reference.insert(page + "\nMore words.\n", "x", "two \\1")
    assert (
        again
        == "# Title\n\nWords.\n\n<!-- x: written by `make docs` -->\ntwo \\1\n<!-- end of x -->\n\nMore words.\n"
    )


@pytest.mark.parametrize("page", ["# Title\n{begin}\nold\n", "# Title\n{end}\n{begin}\nold\n"])
def test_a_page_that_has_lost_a_marker_is_said(page):
    begin, end = "<!-- x: written by `make docs` -->", "<!-- end of x -->"
    with pytest.raises(ToolError, match=f"the page '# Title': {end} does not stand below {begin}"):
        reference.insert(page.format(begin=begin, end=end), "x", "new")
