from scripts import reference

TEMPLATE = {
    "Metadata": {
        "AWS::CloudFormation::Interface": {"ParameterGroups": [{"Parameters": ["B", "A"]}, {"Parameters": ["C"]}]}
    },
    "Parameters": {
        "A": {"Description": "First | one.", "AllowedValues": [1, 2], "Default": 1},
        "B": {"Description": "Second.", "AllowedPattern": "x*", "ConstraintDescription": "must be x", "Default": ""},
        "C": {"Description": "Third.", "MinValue": 0, "MaxValue": 9},
    },
    "Outputs": {"O": {"Description": "An output.", "Condition": "HasO"}, "P": {"Description": "Another."}},
}


def test_parameters_stand_in_the_order_of_the_form():
    assert reference.parameters(TEMPLATE).splitlines()[2:] == [
        "| `B` | Second. | must be x | empty |",
        "| `A` | First \\| one. | `1`, `2` | `1` |",
        "| `C` | Third. | 0 to 9 | none: has to be given |",
    ]


def test_outputs_name_their_condition():
    assert reference.outputs(TEMPLATE).splitlines()[2:] == [
        "| `O` | An output. Only if `HasO`. |", "| `P` | Another. |",
    ]  # fmt: skip


def test_what_stands_around_the_markers_stays():
    page = reference.insert("# Title\n\nWords.\n", "x", "one")
    again = reference.insert(page + "\nMore words.\n", "x", "two \\1")
    assert (
        again == "# Title\n\nWords.\n\n<!-- x: written by `make docs` -->\ntwo \\1\n<!-- end of x -->\n\nMore words.\n"
    )
