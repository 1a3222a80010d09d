"""Tables, escaping, questions, the header line, progress and errors."""

import io
import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from eventstacks.cli import output
from eventstacks.errors import ErrorCode, ToolError

UNSAFE = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    "\ud800",
    "\udfff",
]


@pytest.mark.parametrize("character", UNSAFE, ids=lambda one: f"{ord(one):04x}")
def test_control_characters_are_escaped(character):
    assert output.safe(f"a{character}b") == f"a{ascii(character)[1:-1]}b"
    assert output.safe(f"a{character}b").isascii()


def test_other_text_is_not_changed():
    text = "Zürich → 東京 🙂 \\x1b {}[]"
    assert output.safe(text) == text
    assert output.safe("a\n\tb", lines=True) == "a\n\tb"
    assert output.safe("a\rb", lines=True) == "a\\rb"


@pytest.fixture
def terminal(monkeypatch):
    """Make consoles write to a terminal of 80 columns; return what was written."""
    out = io.StringIO()
    make = output._SafeConsole

    def console(**settings):
        return make(**settings | {"file": out, "force_terminal": True, "width": terminal.width})

    def terminal():
        return out.getvalue()

    terminal.width = 80
    monkeypatch.setattr(output, "_SafeConsole", console)
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    return terminal


EVIL = "\x1b]0;title\x07\x9b31m\u202etxt\ud800"


def show_table():
    output.print_rows([{"head": EVIL, "note": EVIL}], ("head",), note="note")


def show_tree():
    tree = Tree(Text(EVIL))
    tree.add(EVIL)
    output.console().print(tree)


def show_rich_table():
    table = Table(EVIL)
    table.add_row(EVIL)
    output.console().print(table)


@pytest.mark.parametrize(
    "show",
    [
        lambda: output.echo(EVIL),
        lambda: output.note(EVIL),
        show_table,
        show_tree,
        show_rich_table,
        lambda: output.print_errors([ToolError(EVIL, where=EVIL, advice=EVIL)]),
        lambda: output.print_json({EVIL: EVIL}),
        lambda: output.header(SimpleNamespace(name=EVIL), EVIL, [EVIL], EVIL),
    ],
)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_nothing_reaches_the_terminal_raw(show, is_terminal, request, capsys):
    written = request.getfixturevalue("terminal") if is_terminal else str
    show()
    said = written() + "".join(capsys.readouterr())
    plain = said.replace("\x1b[0m", "")
    for style in ("1", "2", "31", "33", "1;31"):  # what rich itself writes
        plain = plain.replace(f"\x1b[{style}m", "")
    assert plain.strip()
    assert [one for one in UNSAFE if one in plain and one != "\n"] == []


CHANGED = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
KEYS = ("stack", "region", "state", "changed", "drift")
VALUES = [
    (
        "dev-rds-snapshot-events",
        "ap-southeast-2",
        "UPDATE_ROLLBACK_COMPLETE",
        CHANGED,
        "IN_SYNC",
    ),
    ("dev-bus", "us-east-1", "CREATE_COMPLETE", CHANGED, None),
]
ROWS = [dict(zip(KEYS, values, strict=True)) for values in VALUES]


def lines_of(text):
    plain = Text.from_ansi(text).plain
    return [line.rstrip() for line in plain.splitlines()]


def test_a_table_is_aligned_and_within_80_columns(terminal):
    output.print_rows(
        [ROWS[0] | {"advice": "Do something.\nThen more."}, ROWS[1]], KEYS, note="advice"
    )
    assert lines_of(terminal()) == [
        "STACK                    REGION          STATE",
        "dev-rds-snapshot-events  ap-southeast-2  UPDATE_ROLLBACK_COMPLETE",
        "    changed 2026-05-01 12:30:00Z  drift IN_SYNC",
        "    Do something.",
        "    Then more.",
        "dev-bus                  us-east-1       CREATE_COMPLETE",
        "    changed 2026-05-01 12:30:00Z",
    ]


def test_values_share_a_further_line_only_if_they_fit(terminal):
    row = {"name": "n" * 70, "a": "a" * 40, "b": "b" * 40, "c": "c"}
    output.print_rows([row], tuple(row))
    assert lines_of(terminal())[2:] == [f"    a {'a' * 40}", f"    b {'b' * 40}  c c"]


def test_a_wide_terminal_has_all_columns_on_one_line(terminal):
    terminal.width = 140
    output.print_rows(ROWS, KEYS)
    assert len(lines_of(terminal())) == 3
    assert "\x1b[1;31mUPDATE_ROLLBACK_COMPLETE" in terminal()
    assert "\x1b[32mCREATE_COMPLETE" in terminal()


def test_a_column_without_a_value_is_left_out_on_a_terminal(terminal):
    rows = [{"name": "a", "drift": "", "n": 0}, {"name": "b", "drift": None, "n": 1}]
    output.print_rows(rows, ("name", "drift", "n"))
    assert lines_of(terminal()) == ["NAME  N", "a     0", "b     1"]


def test_an_empty_table_has_its_heads(terminal):
    output.print_rows([], ("name", "n_of"))
    assert lines_of(terminal()) == ["NAME  N OF"]


def test_numbers_are_aligned_on_the_right(terminal):
    output.print_rows([{"name": "a", "n": 7}, {"name": "b", "n": 1_000}], ("name", "n"))
    assert lines_of(terminal()) == ["NAME      N", "a         7", "b     1,000"]


def test_a_table_in_a_pipe_is_lines_of_tabs(capsys):
    output.print_rows([ROWS[0] | {"advice": "Do something."}], KEYS, note="advice")
    row = (*VALUES[0][:3], "2026-05-01 12:30:00Z", "IN_SYNC")
    assert capsys.readouterr().out.splitlines() == [
        "\t".join(KEYS).upper(),
        "\t".join(row),
        "    Do something.",
    ]


def test_the_same_rows_are_one_json_document(capsys):
    output.print_rows([{"name": "a", "n": True, "more": None}], ("name",), as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"name": "a", "n": True, "more": None}]


@pytest.mark.parametrize(
    ("state", "style"),
    [
        ("CREATE_COMPLETE", "green"),
        ("UPDATE_ROLLBACK_COMPLETE", "bold red"),
        ("UPDATE_IN_PROGRESS", "cyan"),
        ("DELETE_FAILED", "bold red"),
        ("DRIFTED", "yellow"),
        ("IN_SYNC", "green"),
        ("NOT_DEPLOYED", "dim"),
        ("dev-bus", ""),
    ],
)
def test_a_state_has_a_colour(state, style):
    assert output.state_style(state) == style


def test_json_has_iso_times_in_utc(capsys):
    zone = timezone(timedelta(hours=2))
    output.print_json({"at": datetime(2026, 5, 1, 14, tzinfo=zone), "path": Path("a/b")})
    assert json.loads(capsys.readouterr().out) == {"at": "2026-05-01T12:00:00Z", "path": "a/b"}


def test_a_time_is_shown_with_its_zone():
    assert output.time_text(datetime(2026, 5, 1, 12, 30, tzinfo=UTC)) == "2026-05-01 12:30:00Z"
    assert output.time_text(None) == ""


PROTECTED = SimpleNamespace(name="prod", protect=True)


def check_answer(environment, *, is_yes):
    with nullcontext() if is_yes else pytest.raises(ToolError) as caught:
        output.confirm("Delete?", environment, yes=False)
    assert is_yes or caught.value.code == ErrorCode.DECLINED


@pytest.mark.parametrize(
    ("typed", "is_yes"),
    [("prod", True), ("y", False), ("yes", False), ("Prod", False), ("prod2", False), ("", False)],
)
def test_a_protected_environment_wants_its_name_typed(typed, is_yes, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _text: typed)
    check_answer(PROTECTED, is_yes=is_yes)


@pytest.mark.parametrize(("typed", "is_yes"), [("y", True), ("n", False), ("", False)])
def test_another_environment_wants_yes_or_no(typed, is_yes, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _text: typed)
    check_answer(SimpleNamespace(name="dev", protect=False), is_yes=is_yes)


@pytest.mark.parametrize("protect", [True, False])
@pytest.mark.parametrize(
    ("key", "expected"), [(EOFError, ToolError), (KeyboardInterrupt, click.Abort)]
)
def test_ctrl_d_declines_and_ctrl_c_interrupts(key, expected, protect, monkeypatch):
    def press(_text):
        raise key

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", press)
    with pytest.raises(expected):
        output.confirm("Delete?", SimpleNamespace(name="dev", protect=protect), yes=False)


def test_without_a_terminal_nothing_is_confirmed(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("prod\n"))
    output.confirm("Delete?", PROTECTED, yes=True)
    for make, answer in (("1", "YES=1"), ("", "--yes")):
        monkeypatch.setenv("EVENTSTACKS_MAKE", make)
        with pytest.raises(click.UsageError, match=answer):
            output.confirm("Delete?", PROTECTED, yes=False)


def test_the_header_names_environment_account_regions_and_endpoint(capsys):
    output.header(SimpleNamespace(name="dev"), "111122223333", ["r1", "r2", "r1"], "AWS")
    assert capsys.readouterr() == ("", "dev · account 111122223333 · r1, r2 · AWS\n")


def test_quiet_leaves_the_header_out(capsys):
    with click.Context(click.Command("x")) as context:
        context.meta[output.QUIET] = True
        output.header(SimpleNamespace(name="dev"), "111122223333", ["r1"], "AWS")
    assert capsys.readouterr().err == ""


def test_progress_is_shown_with_a_count(terminal):
    with output.progress("Reading messages", lambda: "12"):
        pass
    assert "Reading messages 12" in terminal()


def test_progress_is_not_shown_in_a_pipe_or_with_quiet(terminal, capsys, monkeypatch):
    with click.Context(click.Command("x")) as context:
        context.meta[output.QUIET] = True
        with output.progress("Reading messages"):
            pass
    assert terminal() == ""


def test_an_error_has_three_lines(capsys):
    error = ToolError("what", where="bus in r1", advice="make recover ENV=dev")
    assert output.print_errors([None, error])
    assert capsys.readouterr().err.splitlines() == [
        "Error: what",
        "  bus in r1",
        "  Run: make recover ENV=dev",
    ]
    assert not output.print_errors([None])


def test_the_same_failure_is_shown_once_with_its_places(capsys):
    errors = [
        ToolError("denied", code=ErrorCode.ACCESS_DENIED, where=f"bus in r{n}", advice=f"Ask {n}.")
        for n in range(1, 6)
    ]
    output.print_errors([*errors, ToolError("other", where="bus in r1")])
    assert capsys.readouterr().err.splitlines() == [
        "Error: denied",
        "  bus in r1, bus in r2, bus in r3, bus in r4, bus in r5",
        "  Ask 1.",
        "  Ask 2.",
        "  Ask 3.",
        "  (and 2 more like this)",
        "Error: other",
        "  bus in r1",
    ]


def test_the_part_of_the_advice_that_several_places_share_is_shown_once(capsys):
    errors = [
        ToolError("protected", where=f"bus in r{n}", advice=f"Remove it:\naws x --region r{n}")
        for n in range(1, 3)
    ]
    output.print_errors(errors)
    assert capsys.readouterr().err.splitlines() == [
        "Error: protected",
        "  bus in r1, bus in r2",
        "  Remove it:",
        "  Run: aws x --region r1",
        "  Run: aws x --region r2",
    ]


def test_on_a_terminal_words_of_an_error_are_not_cut_and_a_command_is_not_wrapped(
    terminal, monkeypatch
):
    terminal.width = 30
    command = "make deploy ENV=dev STACK=custom-event-bus"
    output.print_errors([ToolError("some words that are too long", where="w", advice=command)])
    assert lines_of(terminal()) == [
        "Error: some words that are too",
        "  long",
        "  w",
        f"  Run: {command}",
    ]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb"), ("CI", "true")])
def test_plain_lines_when_no_colour_is_wanted(monkeypatch, name, value):
    for variable in ("NO_COLOR", "CI", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal then
    monkeypatch.setenv("TERM", "xterm")
    assert output.console().is_terminal
    monkeypatch.setenv(name, value)
    assert not output.console().is_terminal


def test_a_console_is_one_of_rich():
    assert isinstance(output.console(), Console)
