"""The generated parts of docs/."""

import re
import shutil
from pathlib import Path

import pytest

from dev import docs

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
        "G": {"Type": "Number", "ConstraintDescription": "an even one"},
        "H": {"Type": "List<Number>"},
        "I": {"Type": "Number", "MinValue": 1, "ConstraintDescription": "at least 1"},
    },
    "Outputs": {
        "O": {"Description": "An output.", "Condition": "HasO"},
        "P": {"Description": "Another."},
    },
}


def test_parameters_are_in_the_order_of_the_form():
    assert docs.parameters(TEMPLATE).splitlines()[2:] == [
        "| `B` | Second. | must be x | empty |",
        "| `A` | First \\| one. | `1`, `2` | `1` |",
        "| `C` | Third. | 0 to 9 | none: required |",
        "| `D` |  | `true`, `false` | `false` |",
        "| `G` |  | an even one | none: required |",
        "| `H` |  | numbers | none: required |",
        "| `I` |  | at least 1 | none: required |",
    ]


def test_parameters_that_the_form_leaves_out_come_last():
    template = {**TEMPLATE, "Parameters": {"Z": {}, **TEMPLATE["Parameters"]}}
    assert [line[3] for line in docs.parameters(template).splitlines()[2:]] == [
        "B",
        "A",
        "C",
        "Z",
        *"DGHI",
    ]


def test_outputs_name_their_condition():
    assert docs.outputs(TEMPLATE).splitlines()[2:] == [
        "| `O` | An output. Only if `HasO`. |",
        "| `P` | Another. |",
    ]


def test_text_around_the_markers_is_kept():
    page = docs.insert("# Title\n\nWords.\n", "x", "one")
    again = docs.insert(page + "\nMore words.\n", "x", "two \\1")
    assert again == (
        "# Title\n\nWords.\n\n"
        "<!-- x: written by `make docs` -->\ntwo \\1\n<!-- end of x -->\n\n"
        "More words.\n"
    )


@pytest.mark.parametrize("page", ["# Title\n{begin}\nold\n", "# Title\n{end}\n{begin}\nold\n"])
def test_a_lost_marker_is_an_error(page):
    begin, end = "<!-- x: written by `make docs` -->", "<!-- end of x -->"
    with pytest.raises(ValueError, match=f"page '# Title': closing marker {end} not found"):
        docs.insert(page.format(begin=begin, end=end), "x", "new")


@pytest.fixture
def written(checkout, request):
    """A checkout with its docs, which are up to date."""
    shutil.copytree(request.config.rootpath / "docs", checkout / "docs")
    docs.main(check=False)
    return checkout


def test_pages_out_of_date_are_named_and_rewritten(written, capsys):
    assert docs.main(check=True) == 0
    page, commands = written / "docs/stacks/custom-event-bus.md", written / "docs/commands.md"
    text = page.read_text()
    page.write_text(
        text.replace("| `ArchiveRetentionInDays`", "| `ArchiveDays`").replace(
            "<b>CatchAllRule", "<b>X"
        )
    )
    commands.write_text(commands.read_text().replace("## local up", "## local start"))
    assert docs.main(check=True) == 1
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "docs/commands.md",
        "docs/stacks/custom-event-bus.md",
    ]
    assert docs.main(check=False) == 0
    assert page.read_text() == text
    assert "## local up\n\n```\nUsage: eventstacks local up [OPTIONS]" in commands.read_text()


def test_a_new_template_gets_a_page(written):
    page = written / "docs/stacks/rds-snapshot-events.md"
    page.unlink()
    docs.main(check=False)
    text = page.read_text()
    assert text.startswith("# rds-snapshot-events\n")
    assert "| `EventIds` |" in text
    assert "```mermaid\nflowchart LR" in text


def test_a_stack_without_events_has_no_diagram(written):
    assert "mermaid" not in (written / "docs/stacks/github-deploy-role.md").read_text()


def test_the_readme_leads_to_the_commands(request):
    assert "(docs/commands.md)" in (request.config.rootpath / "README.md").read_text()


# What the page explains once for all macros.
COMMON = {"id", "description", "condition", "dead_letters", "rule", "rules", "statements"}
MACROS = [
    (f"{path.stem}.{macro['name']}", macro["comment"], macro["arguments"])
    for path in sorted((Path(__file__).parents[2] / "templates/macros").glob("*.j2"))
    for macro in docs.MACRO.finditer(path.read_text())
]


@pytest.mark.parametrize(("name", "comment", "arguments"), MACROS, ids=[one[0] for one in MACROS])
def test_every_macro_explains_its_arguments(name, comment, arguments):
    assert comment, "no comment"
    names = re.findall(r"(?:^\(|, *\n? *)(\w+)(?==|,|\))", arguments)
    assert [
        one for one in names if one not in COMMON and not re.search(rf"\b{one}\b", comment)
    ] == []


def test_macros_are_described_by_their_comments(tmp_path):
    path = tmp_path / "queue.j2"
    path.write_text(
        "{# About\n   queues.\n\n   More. #}\n\n"
        "{# One: <id>*. #}\n{% macro one(a, b='x(y)') -%}\n{% endmacro %}\n"
    )
    assert docs.macros(path) == (
        "\n## queue.j2\n\nAbout queues.\n\nMore.\n\n### queue.one\n\n`queue.one(a, b='x(y)')`\n\n"
        "One: &lt;id&gt;\\*.\n"
    )
