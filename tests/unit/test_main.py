"""What is said, and the exit code, when something is wrong before any call to AWS."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import in_process
import pytest

COMMANDS = [
    path.stem.replace("_", "-")
    for path in (Path(__file__).parent.parent.parent / "scripts" / "eventstacks" / "cli").glob(
        "[a-z]*.py"
    )
]

EVENT = "tests/events/custom-event-bus/order-placed.json"


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "eventstacks", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['eventstacks', '--help']\nfrom eventstacks.__main__ import main\nmain()\n"
        "print([one for one in ('boto3', 'botocore', 'rich', 'jinja2', 'yaml', 'cfnlint') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"  {one}" in done.stdout for one in COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_explains_itself_with_an_example(verb):
    done = in_process.run(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert "eventstacks" in done.stdout


@pytest.mark.parametrize("verb", [[], *([one] for one in COMMANDS)])
def test_every_file_that_an_example_names_is_there(verb):
    """A name without a folder is a file of the user's own."""
    said = in_process.run(*verb, "--help").stdout
    examples = [line for line in said.splitlines() if "eventstacks" in line]
    named = re.findall(r"(?<=\s)[\w.-]+(?:/[\w.-]+)+(?=\s|$)", "\n".join(examples))
    assert [one for one in named if not Path(one).exists()] == []
    assert named or verb not in (
        [],
        ["match"],
        ["trace"],
    )  # these do name one: the expression finds what there is


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["deploy", "--env", "nowhere"],
            1,
            "Error: parameters/nowhere.yaml: there is no environment 'nowhere'",
        ),
        (
            ["deploy", "--env", "dev", "--stack", "custom-bus"],
            1,
            "there is no stack 'custom-bus' in this environment",
        ),
        (
            ["deploy", "--env", "dev", "--region", "mars-1"],
            1,
            "nothing here is for the region 'mars-1'",
        ),
        (["deploy", "--nonsense"], 2, "No such option"),
        (["deply"], 2, "No such command 'deply'"),
        (["tail", "--since", "999999d"], 2, "'--since': '999999d' is"),
        (["tail", "--raw", "--json"], 2, "exclude each other"),
        (["metrics", "--since", "2100-01-01T00:00:00Z"], 2, "--since is in the future"),
        (["archive-replay", "--since", ""], 2, "'--since': '' is no point in time"),
        (["archive-replay", "--rule", "x"], 2, "give --since, too"),
        (["archive-replay", "--cancel", "x", "--since", "1h"], 2, "--cancel ends a replay"),
        (["recover", "--force", "--cancel"], 2, "exclude each other"),
        (["send", "--rate", "nan"], 2, "'--rate': nan is no number to count with"),
        (["trace", "--bus", "arn:", EVENT], 1, "Error: --bus: 'arn:' is no bus"),
        (
            ["trace", "--bus", "arn:aws:events", EVENT],
            1,
            "Error: --bus: 'arn:aws:events' is no bus",
        ),
        (["trace", "--bus", "", EVENT], 1, "Error: --bus: '' is no bus"),
        (["redrive", "--rate", "nan"], 2, "'--rate': nan is no number to count with"),
        (["redrive", "--rate", "inf"], 2, "'--rate': inf is no number to count with"),
        (["redrive", "--rate", "1e-300"], 2, "'--rate': 1e-300 is not in the range"),
    ],
)
def test_a_fault_is_said_in_words(arguments, code, words):
    done = run(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_key_pressed_while_it_loads_is_an_interruption(number, tmp_path):
    (tmp_path / "click.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    done = subprocess.run(
        [sys.executable, "-m", "eventstacks"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": ""},
    )
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_way_to_end_it_is_an_interruption(number):
    """Also of a verb that reads no environment."""
    code = (
        "import os, sys\nfrom eventstacks import __main__ as program\n"
        f"program.cli.invoke = lambda _context: os.kill(os.getpid(), {int(number)})\n"
        "sys.argv = ['eventstacks', 'sample']\nsys.exit(program.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (130, "\nInterrupted.\n")


@pytest.mark.parametrize("verb", [("sample", "--list"), ("sample", "order-placed"), ("--help",)])
def test_a_full_disk_is_said_in_words(verb):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "eventstacks", *verb],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


@pytest.mark.parametrize("verb", [("sample", "--list"), ("sample", "order-placed"), ("--help",)])
def test_a_reader_that_has_seen_enough_is_no_failure(verb):
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "eventstacks", *verb],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_was_printed_before_a_failure_is_there():
    code = (
        "import sys\nfrom eventstacks import __main__ as program\n"
        "def work(_context):\n    print('printed')\n    open('/nowhere/at/all')\n"
        "program.cli.invoke = work\nsys.argv = ['eventstacks', 'sample']\nsys.exit(program.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert (done.returncode, done.stdout) == (1, "printed\n")
    assert done.stderr == "Error: /nowhere/at/all: No such file or directory\n"


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("match --ndjson", "Error: stdin: it is closed\n"),
        (
            "match --pattern -",
            "Error: -: cannot be read as UTF-8 text: [Errno 9] it is closed: 'stdin'\n",
        ),
        ("demo --env dev", "say YES=1 (--yes). Nothing was changed.\n"),
    ],
)
def test_a_closed_stdin_is_said_in_words(verb, said):
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -m eventstacks {verb} <&-'],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in (1, 2)
    assert done.stderr.endswith(said)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_nobody_hears_is_no_failure(closed, tmp_path):
    code = (
        "import sys\nfrom eventstacks import __main__ as program\n"
        "def work(_context):\n    print(sys.stdout.isatty(), sys.stderr.isatty(), file=open('made', 'w'))\n    return 7\n"
        "program.cli.invoke = work\nsys.argv = ['eventstacks', 'sample']\nsys.exit(program.main())"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code],
        capture_output=True,
        check=False,
        timeout=30,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert (done.returncode, done.stderr) == (7, b"")
    assert (tmp_path / "made").read_text() == "False False\n"


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
@pytest.mark.parametrize(
    "work", ["_stacks.complain([ToolError('no')])", "exec(\"raise ToolError('no')\")"]
)
def test_errors_are_red_on_a_terminal_that_wants_colours(work, plain):
    code = (
        "import sys\nfrom eventstacks import __main__ as program\nfrom eventstacks.cli import _stacks\n"
        f"from eventstacks.errors import ToolError\nprogram.cli.invoke = lambda _context: {work}\n"
        "sys.argv = ['eventstacks', 'sample']\nsys.exit(program.main())"
    )
    ours, theirs = pty.openpty()
    usual = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    subprocess.run(
        [sys.executable, "-c", code],
        stderr=theirs,
        check=False,
        timeout=30,
        env={**usual, "TERM": "xterm", **plain},
    )
    said = os.read(ours, 1000).decode()
    os.close(ours)
    os.close(theirs)
    assert said == ("Error: no\r\n" if plain else "\x1b[31mError: no\x1b[0m\r\n")


def test_what_aws_takes_is_not_nested_too_deep(tmp_path):
    event = 999 * '{"a":' + "{}" + 999 * "}"
    (tmp_path / "event.json").write_text(f'{{"source": "shop", "detail": {event}}}')
    (tmp_path / "pattern.json").write_text('{"source": ["shop"]}')
    done = run(
        "match",
        "--pattern",
        str(tmp_path / "pattern.json"),
        "--event",
        str(tmp_path / "event.json"),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "true\n", "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_stdout_cannot_encode_is_escaped(encoding):
    code = r"import sys; from eventstacks.__main__ import main; sys.argv = ['eventstacks', '--version']; main(); print('→\ud800')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    arrow = "→".encode(encoding, "backslashreplace").decode()
    assert done.stdout.decode().splitlines()[-1] == rf"{arrow}\ud800"


@pytest.mark.parametrize("verb", [("local", "status"), ("status",)])
def test_a_state_directory_that_is_a_file_is_named(verb, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOCAL_AWS_DIR", str(tmp_path / "file"))
    done = in_process.run(*verb)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {tmp_path}/file/")
    assert done.stderr.endswith(": Not a directory\n")
