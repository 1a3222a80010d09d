"""New stacks: what is refused, and that files which get an entry keep everything else."""

from pathlib import Path

import in_process
import pytest

from eventstacks import scaffold
from eventstacks.cli import project
from eventstacks.errors import ErrorCode, ToolError

LOCAL = Path("parameters/local.yaml")
COMMENTED = """\
# of the file
project: {name: x}

tests:
  # of the first
  first:
    template: a.yaml  # at its end
  second: {template: b.yaml}
"""
ENTRY = "  mine:\n    template: build/mine.yaml\n"


@pytest.fixture
def add(tmp_path):
    """add(text, name): the text with an entry."""

    def call(text, name="mine"):
        path = tmp_path / "a.yaml"
        path.write_text(text)
        return scaffold.add_entry(path, "tests", name, [f"template: build/{name}.yaml"])

    return call


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (COMMENTED, COMMENTED + ENTRY),
        (COMMENTED.rstrip("\n"), COMMENTED + ENTRY),
        (
            COMMENTED + "\n# of general\ngeneral:\n  parameters: {}\n",
            COMMENTED + ENTRY + "\n# of general\ngeneral:\n  parameters: {}\n",
        ),
        (COMMENTED + "general: {}\n", COMMENTED + ENTRY + "general: {}\n"),
        (
            "# x\n" * 60 + COMMENTED + "general: {}\n",
            "# x\n" * 60 + COMMENTED + ENTRY + "general: {}\n",
        ),
        (
            "tests:\n    a: {}\nb:\n",
            "tests:\n    a: {}\n    mine:\n      template: build/mine.yaml\nb:\n",
        ),
        ("tests:\n a: {}\n", "tests:\n a: {}\n mine:\n   template: build/mine.yaml\n"),
    ],
    ids=[
        "at the end",
        "no newline",
        "before a commented key",
        "before a key",
        "many comments",
        "indented by four",
        "indented by one",
    ],
)
def test_an_entry_is_all_that_changes(add, before, after):
    assert add(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "tests: {first: {}}\n",
        "tests:\n",
        "tests: [a]\n",
        "other:\n  a: 1\n",
        "tests:\n- a\n",
        "",
        "- a\n",
    ],
)
def test_another_form_is_refused(add, text):
    with pytest.raises(ToolError, match="cannot add an entry") as error:
        add(text)
    assert ENTRY in error.value.advice


def test_an_entry_is_not_added_twice(add):
    with pytest.raises(ToolError, match="exists already"):
        add(COMMENTED, "second")


@pytest.mark.parametrize(
    "name",
    ["", "Orders", "1st", "order_events", "-orders", "orders-", "a--b", "../x", "a" * 41, "new\n"],
)
def test_bad_names_are_refused(name):
    with pytest.raises(ToolError, match="invalid stack name"):
        scaffold.stack(name)


@pytest.mark.parametrize(
    ("choice", "code"),
    [
        ({"bus_of": "custom-event-buss"}, ErrorCode.ENVIRONMENT_INVALID),
        ({"bus_of": "rds-snapshot-events"}, ErrorCode.NOT_FOUND),
        ({"target": "bus", "has_bus": False}, ErrorCode.FAILED),
    ],
    ids=["no such stack", "a stack without a bus", "a rule that triggers itself"],
)
def test_a_bus_that_cannot_be_used_is_refused(checkout, choice, code):
    with pytest.raises(ToolError) as error:
        scaffold.stack("orders", **choice)
    assert error.value.code is code


def test_the_bus_of_a_stack_on_the_default_bus_is_refused(checkout):
    in_process.run("new", "--stack", "audit", "--default-bus")
    with pytest.raises(ToolError, match="has no event bus"):
        scaffold.stack("orders", bus_of="audit")


def test_a_rule_is_only_where_the_other_stacks_bus_is(checkout):
    stack = "regions: [us-east-1, eu-west-1]\nstacks:\n  custom-event-bus:\n"
    LOCAL.write_text(stack)
    everywhere = scaffold.stack("orders", bus_of="custom-event-bus")[LOCAL]
    assert "regions:" not in everywhere.removeprefix(stack)
    LOCAL.write_text(f"{stack}    regions: [eu-west-1]\n")
    files = scaffold.stack("orders", bus_of="custom-event-bus")
    assert files[LOCAL].endswith(
        "  orders:\n    regions: [eu-west-1]\n    parameters:\n"
        "      BusName: !Output custom-event-bus.EventBusName\n      LogRetentionInDays: 1\n"
    )


@pytest.mark.parametrize(
    "arguments", [("--target", "fax"), ("--default-bus", "--bus-of", "custom-event-bus")]
)
def test_wrong_use_is_refused(checkout, arguments):
    assert in_process.run("new", "--stack", "orders", *arguments).returncode == 2
    assert not (checkout / "templates/orders.yaml.j2").exists()


@pytest.mark.parametrize("there", ["templates/orders.yaml.j2", "tests/events/orders/event.json"])
def test_a_stack_that_is_there_is_not_overwritten(checkout, there):
    (checkout / there).parent.mkdir(exist_ok=True)
    (checkout / there).write_text("mine")
    with pytest.raises(ToolError, match="the file exists already"):
        scaffold.stack("orders")
    assert (checkout / there).read_text() == "mine"


@pytest.mark.parametrize(
    ("where", "what", "words"),
    [
        ("parameters/local.yaml", b"stacks: {}\n", "cannot add an entry"),
        ("parameters/local.yaml", b"A: \xe9", "'utf-8' codec can't decode byte"),
        (".taskcat.yml", b"tests: [", "cannot add an entry"),
        ("templates/orders.yaml.j2", b"A:", "exists already"),
    ],
)
def test_new_does_all_or_nothing(checkout, where, what, words):
    (checkout / where).write_bytes(what)
    before = {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}
    done = in_process.run("new", "--stack", "orders")
    assert done.returncode == 1
    assert words in done.stderr
    assert before == {path: path.read_bytes() for path in checkout.rglob("*") if path.is_file()}


def test_the_command_offers_every_kind_of_target():
    assert tuple(scaffold.TARGETS) == project.TARGETS
