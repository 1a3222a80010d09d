"""Everything that verbs show: tables, JSON, errors, the header line, questions and progress.

All text from AWS and from events passes through ``safe`` on its way to the terminal: the console
and every function of this module apply it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text

from eventstacks.environment import Environment
from eventstacks.errors import ErrorCode, ToolError

EXIT_FAILED, EXIT_CHANGES, EXIT_INTERRUPTED = 1, 3, 130  # click's own is 2: wrong use
QUIET = "eventstacks.quiet"  # key of click's context for --quiet
MAX_ADVICE = 3  # different pieces of advice for one failure in several stacks
# Control characters (C0, DEL, C1), line and paragraph separators, bidirectional marks, embeddings,
# overrides and isolates, and lone surrogates: a terminal obeys them, or a reader is misled by them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_COMMANDS = ("make ", "eventstacks ", "aws ")
_STATES = (  # the first that matches a whole cell decides on its style
    (re.compile(r"\w*(FAILED|ROLLBACK|MODIFIED)\w*"), "bold red"),
    (re.compile(r"\w*_IN_PROGRESS|RUNNING|STARTING"), "cyan"),
    (re.compile(r"DRIFTED|CANCELLED|DISABLED"), "yellow"),
    (re.compile(r"\w*_COMPLETE|COMPLETED|IN_SYNC|ENABLED"), "green"),
    (re.compile(r"NOT_DEPLOYED|DELETED"), "dim"),
    (re.compile("created|updated|recovered|deleted"), "green"),  # outcomes of deployments
    (re.compile("failed|unknown"), "bold red"),
    (re.compile("skipped|interrupted"), "yellow"),
)


def safe(text: object, *, lines: bool = False) -> str:
    r"""Return text with every control character escaped, as ``\x1b``, ``\n`` or ``\u202e``.

    With ``lines`` line feeds and tabs stay: for text over several lines that this program made.
    """
    kept = "\n\t" if lines else ""
    return _UNSAFE.sub(
        lambda found: found[0] if found[0] in kept else ascii(found[0])[1:-1], str(text)
    )


def is_quiet() -> bool:
    """Return True if the verb was called with --quiet."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(QUIET))


class _SafeConsole(Console):
    """A console that escapes the control characters of every text it renders."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(safe(segment.text, lines=True), segment.style)


def console(*, err: bool = False) -> Console:
    """Return a console.

    Colour on a terminal; plain lines in a pipe, with NO_COLOR, CI or TERM=dumb.

    Long lines are wrapped only on a terminal.
    """
    is_plain = any(map(os.environ.get, ("NO_COLOR", "CI"))) or os.environ.get("TERM") == "dumb"
    made = _SafeConsole(
        stderr=err,
        highlight=False,
        emoji=False,
        markup=False,
        force_terminal=False if is_plain else None,
    )
    made.soft_wrap = not made.is_terminal
    return made


def echo(text: object = "", *, err: bool = False, style: str = "") -> None:
    """Print text, with control characters escaped; line feeds stay."""
    console(err=err).print(Text(safe(text, lines=True), style=style), soft_wrap=True)


def note(text: str) -> None:
    """Print a warning on stderr."""
    echo(text, err=True, style="yellow")


def counted(number: int, noun: str) -> str:
    """Return ``1 record`` or ``1,234 records``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def time_text(time: datetime | None) -> str:
    """Return a time in UTC with its zone, as ``2026-05-01 12:30:00Z``, or ''."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if time else ""


def state_style(word: str) -> str:
    """Return the style of a state such as UPDATE_COMPLETE, or ''."""
    return next((style for pattern, style in _STATES if pattern.fullmatch(word)), "")


def print_json(value: Any) -> None:
    """Print one JSON document on stdout. Times become ISO 8601 in UTC; the text is ASCII."""

    def text_of(value: Any) -> str:
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return str(value)

    click.echo(json.dumps(value, indent=2, default=text_of))


def snake_keys(value: Any) -> Any:
    """Return AWS's document with its keys in snake_case."""
    if isinstance(value, dict):
        keys = [re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", key).lower() for key in value]
        return dict(zip(keys, map(snake_keys, value.values()), strict=True))
    return [snake_keys(one) for one in value] if isinstance(value, list | tuple) else value


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    *,
    as_json: bool = False,
    note: str = "",
) -> None:
    """Print rows as one JSON document, or as a table with a column for each of ``keys``.

    A table is aligned on a terminal, and tab-separated lines in a pipe. On a terminal empty columns
    are left out, and where it is too narrow the last columns follow on indented lines. ``note``
    is the key of a text below each row.
    """
    if as_json:
        print_json(rows)
        return
    out = console()
    table = [[Text(re.sub("[_-]", " ", key).upper(), "bold") for key in keys]]
    table += [[_cell(row.get(key)) for key in keys] for row in rows]
    show: Callable[..., None] = click.echo
    lines: Sequence[Any] = ["\t".join(cell.plain for cell in cells) for cells in table]
    if out.is_terminal:
        show, lines = out.print, _align(table, out.width)
    for line, row in zip(lines, [{}, *rows], strict=True):  # the head belongs to no row
        show(line)
        for text in row.get(note, "").splitlines():
            echo(f"    {text}")


def _align(table: Sequence[Sequence[Text]], room: int) -> list[Text]:
    """Return the lines of a table; columns beyond the room follow on further lines."""
    columns = [column for column in zip(*table, strict=True) if any(column[1:]) or not table[1:]]
    widths = [max(cell.cell_len for cell in column) for column in columns]
    ends = itertools.accumulate(width + 2 for width in widths)
    shown = max(1, sum(end <= room + 2 for end in ends))
    for column, width in zip(columns[:shown], widths, strict=False):
        for cell in column:
            cell.align(column[-1].justify or "left", width)
    lines = [Text("  ").join(cells) for cells in zip(*columns[:shown], strict=True)]
    for head, *cells in columns[shown:]:
        for line, cell in zip(lines[1:], cells, strict=True):
            if cell:
                text = f"{head.plain.lower()} {cell.plain}"
                *above, last = line.plain.split("\n")
                gap = "  " if above and cell_len(f"{last}  {text}") <= room else "\n    "
                line.append(f"{gap}{head.plain.lower()} ").append_text(cell)
    return lines


def _cell(value: object) -> Text:
    """Return a value as text: times with their zone, numbers with separators, states in colour."""
    is_number = type(value) is int or isinstance(value, float)
    if isinstance(value, datetime):
        value = time_text(value)
    elif value is True:
        value = "yes"
    text = f"{value:,}" if is_number else safe(value or "")
    return Text(text, state_style(text), justify="right" if is_number else None)


def header(environment: Environment, account: str, regions: Iterable[str], endpoint: str) -> None:
    """Print one line on stderr.

    Environment, account, Regions and endpoint. Nothing with --quiet.
    """
    if not is_quiet():
        where = ", ".join(dict.fromkeys(regions))
        words = [environment.name, f"account {account}" if account else "", where, endpoint]
        echo(" · ".join(filter(None, words)), err=True, style="dim")


def confirm(question: str, environment: Environment, *, yes: bool) -> None:
    """Ask on the terminal; a protected environment wants its name typed, exactly.

    Raises ToolError (DECLINED), and UsageError if there is no terminal to ask on.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        answer = "YES=1" if os.environ.get("EVENTSTACKS_MAKE") else "--yes"
        raise click.UsageError(f"no terminal for the prompt; pass {answer}. Nothing was changed.")
    try:
        if environment.protect:
            words = f"{question} Type the name of the environment, {environment.name}, to continue"
            answer = click.prompt(words, default="", show_default=False, err=True)
            is_confirmed = answer == environment.name
        else:
            is_confirmed = click.confirm(question, err=True)
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        is_confirmed = False  # Ctrl-D
    if not is_confirmed:
        raise ToolError("not confirmed; nothing was changed", code=ErrorCode.DECLINED)


@contextmanager
def progress(text: str, describe: Callable[[], str] = str) -> Iterator[None]:
    """Show a spinner with ``text`` on a terminal's stderr while the block runs.

    ``describe`` returns more words for each redraw, for example a count.
    """
    out, spinner = console(err=True), Spinner("dots", style="status.spinner")

    def redraw() -> Spinner:
        spinner.update(text=Text(f"{text} {describe()}"))
        return spinner

    live = Live(console=out, get_renderable=redraw, refresh_per_second=12.5, transient=True)
    with live if out.is_terminal and not is_quiet() else nullcontext():
        yield


def print_errors(errors: Iterable[ToolError | None]) -> bool:
    """Print errors on stderr; return whether there are any."""
    out, lines = console(err=True), error_lines(errors)
    by_words = textwrap.TextWrapper(
        out.width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    for line in lines:
        # A command stays on one line, so that it can be copied.
        is_wrapped = out.is_terminal and not any(command in line for command in _COMMANDS)
        echo(by_words.fill(line) if is_wrapped else line, err=True, style="red")
    return bool(lines)


def error_lines(errors: Iterable[ToolError | None]) -> list[str]:
    """Return what failed, where, and what to do next; the same failure in several places once."""
    groups: dict[tuple[str, str], list[ToolError]] = {}
    for error in filter(None, errors):
        groups.setdefault((error.code, error.what), []).append(error)
    lines = []
    for (_, what), group in groups.items():
        places = ", ".join(dict.fromkeys(error.where for error in group))
        advice = list(dict.fromkeys(error.advice for error in group))
        more = [f"(and {len(advice) - MAX_ADVICE} more like this)"] if advice[MAX_ADVICE:] else []
        # The first lines of advice that ends with a command are often the same.
        rest = dict.fromkeys("\n".join([places, *advice[:MAX_ADVICE], *more]).splitlines())
        shown = (f"Run: {line}" if line.startswith(_COMMANDS) else line for line in rest if line)
        lines += [f"Error: {what}", *(f"  {line}" for line in shown)]
    return lines
