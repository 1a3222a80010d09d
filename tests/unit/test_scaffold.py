"""New stacks: what is refused, and that files which get an entry keep everything else."""

import shutil
from pathlib import Path

import in_process
import pytest

from eventstacks import scaffold
from eventstacks.errors import ErrorCode

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
        (COMMENTED + "  # at the end\n", COMMENTED + "  # at the end\n" + ENTRY),
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
        "a comment below",
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
    with pytest.raises(scaffold.ScaffoldError, match="cannot add an entry") as error:
        add(text)
    assert ENTRY in error.value.advice


def test_an_entry_is_not_added_twice(add):
    with pytest.raises(scaffold.ScaffoldError, match="exists already"):
        add(COMMENTED, "second")


@pytest.mark.parametrize(
    "name",
    ["", "Orders", "1st", "order_events", "-orders", "orders-", "a--b", "../x", "a" * 41, "new\n"],
)
def test_bad_names_are_refused(name):
    with pytest.raises(scaffold.ScaffoldError, match="invalid stack name"):
        scaffold.stack(name)


@pytest.mark.parametrize("source", ["aws.s3", "a b", "x" * 257, "'quoted'"])
def test_bad_sources_are_refused(source):
    with pytest.raises(scaffold.ScaffoldError, match="invalid event source"):
        scaffold.stack("orders", source)


@pytest.mark.parametrize(
    ("choice", "code"),
    [
        ({"bus_of": "custom-event-buss"}, ErrorCode.NOT_FOUND),
        ({"bus_of": "rds-snapshot-events"}, ErrorCode.BUS_NOT_FOUND),
        ({"target": "bus", "has_bus": False}, ErrorCode.FAILED),
    ],
    ids=["no such stack", "a stack without a bus", "a rule that triggers itself"],
)
def test_a_bus_that_cannot_be_used_is_refused(checkout, choice, code):
    with pytest.raises(scaffold.ScaffoldError) as error:
        scaffold.stack("orders", **choice)
    assert error.value.code is code


def test_the_bus_of_a_stack_on_the_default_bus_is_refused(checkout):
    scaffold.write(scaffold.stack("audit", has_bus=False))
    with pytest.raises(scaffold.ScaffoldError, match="has no event bus"):
        scaffold.stack("orders", bus_of="audit")


def test_a_rule_is_only_where_the_other_stacks_bus_is(checkout):
    local = checkout / "parameters/local.yaml"
    text = local.read_text()
    assert "regions:" not in scaffold.stack("orders", bus_of="custom-event-bus")[LOCAL][len(text) :]
    entry = "  custom-event-bus:\n"
    local.write_text(text.replace(entry, f"{entry}    regions: [eu-west-1]\n"))
    files = scaffold.stack("orders", bus_of="custom-event-bus")
    assert files[LOCAL].endswith(
        "  orders:\n    regions: [eu-west-1]\n    parameters:\n"
        "      EventBusName: !Output custom-event-bus.EventBusName\n      LogRetentionInDays: 1\n"
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
    with pytest.raises(scaffold.ScaffoldError, match="the file exists already"):
        scaffold.stack("orders")
    assert (checkout / there).read_text() == "mine"


def test_nothing_is_written_when_one_file_cannot_take_its_entry(checkout):
    (checkout / "parameters" / "local.yaml").write_text("stacks: {}\n")
    with pytest.raises(scaffold.ScaffoldError, match="cannot add"):
        scaffold.write(scaffold.stack("orders"), list)
    assert not (checkout / "templates" / "orders.yaml.j2").exists()


def held(checkout):
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in checkout.rglob("*")
        if "scripts" not in path.parts
    }


def new_orders():
    return in_process.run("new", "--stack", "orders")


@pytest.mark.parametrize(
    ("where", "what", "words"),
    [
        ("templates/a.yaml.j2", b"A: {{ oops }}", "templates/a.yaml.j2:1"),
        (".taskcat.yml", b"tests: [", ".taskcat.yml:1:"),
        ("parameters/local.yaml", b"A: {", "parameters/local.yaml:1:"),
        ("parameters/local.yaml", b"? [a]\n: 1\n", "cannot add an entry"),
        ("parameters/local.yaml", b"A: \xe9", "not UTF-8"),
        ("templates/scaffold/stack.yaml.j2", b"<% if %>", "templates/scaffold/stack.yaml.j2:1"),
        (
            "templates/scaffold/stack.yaml.j2",
            b"A: {{ oops }}",
            "templates/orders.yaml.j2:1",
        ),
        ("tests/events", b"a file", "tests/events"),
        ("build", b"a file", "  build\n"),
    ],
)
def test_new_does_all_or_nothing(checkout, where, what, words):
    path = checkout / where
    if path.is_dir():
        shutil.rmtree(path)
    path.write_bytes(what)
    before = held(checkout)
    done = new_orders()
    assert done.returncode == 1
    assert words in done.stderr
    after = held(checkout)
    assert {one: text for one, text in after.items() if "build" not in one.parts} == {
        one: text for one, text in before.items() if "build" not in one.parts
    }
    assert not (checkout / "build" / "orders.yaml").exists()


def test_where_another_template_is_broken_no_file_is_touched(checkout):
    (checkout / "templates" / "a.yaml.j2").write_text("A: {{ oops }}")
    before = (checkout / ".taskcat.yml").stat().st_mtime_ns
    assert new_orders().returncode == 1
    assert (checkout / ".taskcat.yml").stat().st_mtime_ns == before
