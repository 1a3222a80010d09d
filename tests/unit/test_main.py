"""The command line: help, errors, signals and exit codes, before any call to AWS."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import in_process
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.parsers import ResponseParserError

from eventstacks.__main__ import MODULES, SIGNALS, VERBS, as_tool_error, cli
from eventstacks.errors import ErrorCode, ToolError

COMMANDS = list(MODULES)

EVENT = "tests/events/custom-event-bus/order-placed.json"


# For the verbs given as arguments: prints their names, and which slow modules the help has loaded.
HELP = """
import contextlib, io, sys
from eventstacks.__main__ import main

for verb in sys.argv[1:]:
    sys.argv = ["eventstacks", verb, "--help"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main() == 0
    slow = {"boto3", "botocore", "rich", "jinja2", "cfnlint"}
    print(verb, *slow & set(sys.modules))
"""


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
        "import sys; sys.argv = ['eventstacks', '--help']\n"
        "from eventstacks.__main__ import main\n"
        "main()\n"
        "heavy = ('boto3', 'botocore', 'rich', 'jinja2', 'yaml', 'cfnlint')\n"
        "print([one for one in heavy if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"  {one} " in done.stdout for one in COMMANDS)


def test_the_help_is_grouped_and_whole_at_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = in_process.run("--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    sections = [f"{section}:" for section in VERBS]
    assert [line for line in lines if line in sections] == sections
    for name, (_, text) in [verb for verbs in VERBS.values() for verb in verbs.items()]:
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(text)


def test_the_help_of_a_verb_loads_nothing_heavy():
    """So that it answers within 0.2 s."""
    done = subprocess.run(
        [sys.executable, "-c", HELP, *COMMANDS], capture_output=True, text=True, check=False
    )
    assert (done.stdout.splitlines(), done.stderr) == (COMMANDS, "")


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("eventstacks dep", "plain,deploy"),
        ("eventstacks plan --env lo", "plain,local"),
        ("eventstacks deplyo --env zz", ""),
    ],
)
def test_the_shell_completes_verbs_and_environments(words, completions, monkeypatch):
    monkeypatch.setenv("_EVENTSTACKS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    done = run()
    assert (done.stdout.strip(), done.stderr) == (completions, "")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (["status", "--json", "--env", "nowhere"], 1, "not_found"),
        (["status", "--json", "--nonsense"], 2, "usage"),
        (["staus", "--json"], 2, "usage"),
    ],
)
def test_with_json_an_error_is_one_document(arguments, exit_code, code):
    done = in_process.run(*arguments)
    assert done.returncode == exit_code
    error = json.loads(done.stdout)["error"]
    assert list(error) == ["code", "message", "where", "advice"]
    assert error["code"] in (code, "failed")


def test_with_json_an_interruption_is_one_document(monkeypatch):
    def interrupt(_context):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "invoke", interrupt)
    done = in_process.run("status", "--json")
    assert done.returncode == 130
    assert json.loads(done.stdout)["error"]["code"] == "interrupted"


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
    assert named or verb not in (["match"], ["trace"])  # the expression finds what there is


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["deploy", "--env", "nowhere"],
            1,
            "environment 'nowhere' not found",
        ),
        (
            ["deploy", "--env", "dev", "--stack", "custom-bus"],
            1,
            "stack 'custom-bus' not found in this environment",
        ),
        (
            ["deploy", "--env", "dev", "--region", "mars-1"],
            1,
            "region 'mars-1' is not in this environment",
        ),
        (["deploy", "--nonsense"], 2, "No such option"),
        (["deply"], 2, "No such command 'deply'. Did you mean 'deploy'?"),
        (["tail", "--since", "999999d"], 2, "'--since': invalid time '999999d'"),
        (["tail", "--raw", "--json"], 2, "exclude each other"),
        (["archive-replay", "--since", ""], 2, "'--since': invalid time ''"),
        (["archive-replay", "--rule", "x"], 2, "give --since, too"),
        (["recover", "--force", "--skip", "X"], 2, "exclude each other"),
        (["send", "--rate", "nan"], 2, "'--rate': nan is not a finite number"),
        (["trace", "--bus", "arn:", EVENT], 1, "Error: invalid event bus 'arn:'"),
        (
            ["trace", "--bus", "arn:aws:events", EVENT],
            1,
            "Error: invalid event bus 'arn:aws:events'",
        ),
        (["trace", "--bus", "", EVENT], 1, "Error: invalid event bus ''"),
        (["redrive", "--rate", "nan"], 2, "'--rate': nan is not a finite number"),
        (["redrive", "--rate", "inf"], 2, "'--rate': inf is not a finite number"),
        (["redrive", "--rate", "1e-300"], 2, "'--rate': 1e-300 is not in the range"),
    ],
)
def test_an_error_has_its_text_and_exit_code(arguments, code, words):
    done = in_process.run(*arguments)
    assert done.returncode == code
    assert words in done.stderr


@pytest.mark.parametrize("number", SIGNALS)
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


def test_a_call_that_hangs_does_not_keep_an_interrupted_process():
    code = (
        "import os, sys, threading, time\nfrom eventstacks import __main__ as program\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "program.cli.invoke = lambda _context: os.kill(os.getpid(), 2)\n"
        "sys.argv = ['eventstacks', 'sample']\nprogram.main()\nos.kill(os.getpid(), 2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (130, "\nInterrupted.\n")


def test_a_question_that_waits_for_an_answer_does_not_break_the_end_of_an_interrupted_process():
    """A thread asks; from the second Ctrl-C on Python does not wait for it any more."""
    code = (
        "import os, sys, threading, time, click\nfrom eventstacks import __main__ as program\n"
        "threading.Thread(target=click.confirm, args=['?'], daemon=True).start()\n"
        "time.sleep(0.2)\nprogram.cli.invoke = lambda _context: os.kill(os.getpid(), 2)\n"
        "sys.argv = ['eventstacks', 'sample']\nsys.exit(program.main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.wait(30) == 130
        assert process.stderr.read() == "\nInterrupted.\n"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_is_ignored_stays_ignored(number):
    """As under nohup, or in the background of a script."""
    code = (
        "import os, signal, sys\nfrom eventstacks import __main__ as program\n"
        f"signal.signal({int(number)}, signal.SIG_IGN)\n"
        f"program.cli.invoke = lambda _context: os.kill(os.getpid(), {int(number)})\n"
        "sys.argv = ['eventstacks', 'sample']\nsys.exit(program.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", [("sample", "--list"), ("sample", "order-placed"), ("--help",)])
def test_a_reader_that_has_seen_enough_ends_it_without_a_word(verb):
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
    assert (done.returncode, done.stderr) == (1, "")


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
    assert done.stderr == "Error: No such file or directory\n  /nowhere/at/all\n"


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
@pytest.mark.parametrize(
    "work", ["output.print_errors([ToolError('no')])", "exec(\"raise ToolError('no')\")"]
)
def test_errors_are_red_on_a_terminal_that_wants_colours(work, plain):
    code = (
        "import sys\n"
        "from eventstacks import __main__ as program\n"
        "from eventstacks.cli import output\n"
        "from eventstacks.errors import ToolError\n"
        f"program.cli.invoke = lambda _context: {work}\n"
        "sys.argv = ['eventstacks', 'sample']\nsys.exit(program.main())"
    )
    ours, theirs = pty.openpty()
    usual = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
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


@pytest.mark.parametrize(
    ("levels", "code", "out", "words"),
    [(900, 0, "true\n", ""), (100_000, 1, "", "nested too deeply")],
)
def test_deep_nesting_is_read_or_refused(tmp_path, levels, code, out, words):
    """Python 3.11 reads some 950 levels, later versions more. PutEvents accepts 1,000."""
    event = levels * '{"a":' + "{}" + levels * "}"
    (tmp_path / "event.json").write_text(f'{{"source": "shop", "detail": {event}}}')
    (tmp_path / "pattern.json").write_text('{"source": ["shop"]}')
    done = run(
        "match",
        "--pattern",
        str(tmp_path / "pattern.json"),
        "--event",
        str(tmp_path / "event.json"),
    )
    assert (done.returncode, done.stdout) == (code, out)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_stdout_cannot_encode_is_escaped(encoding):
    code = (
        "import sys; from eventstacks.__main__ import main; "
        r"sys.argv = ['eventstacks', '--version']; main(); print('→\ud800')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    arrow = "→".encode(encoding, "backslashreplace").decode()
    assert done.stdout.decode().splitlines()[-1] == rf"{arrow}\ud800"


@pytest.mark.parametrize(
    ("error", "code", "what"),
    [
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutEvents"),
            "aws_error",
            "AWS refused PutEvents: no (AccessDenied)",
        ),
        (ClientError({}, "PutEvents"), "aws_error", "AWS refused PutEvents: "),
        (
            ResponseParserError(
                "Unable to parse response (no element found), invalid XML received. Further "
                "retries may succeed:\nb'<html>'"
            ),
            "aws_error",
            "Unable to parse response (no element found)",
        ),
        (EndpointConnectionError(endpoint_url="http://x"), "aws_error", "Could not connect"),
        (OSError(28, "No space left on device", "/tmp/x"), "failed", "No space left on device"),
        (ToolError("what", code=ErrorCode.NOT_FOUND), "not_found", "what"),
    ],
)
def test_an_error_of_aws_or_the_system_becomes_one_of_ours(error, code, what):
    found = as_tool_error(error)
    assert found.code == code
    assert found.what.startswith(what)
    assert "b'" not in found.what


def test_a_bug_is_not_reported_as_an_error():
    assert as_tool_error(KeyError("x")) is None


@pytest.mark.parametrize("verb", [("local", "status"), ("status",)])
def test_a_state_directory_that_is_a_file_is_named(verb, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOCAL_AWS_DIR", str(tmp_path / "file"))
    done = in_process.run(*verb)
    assert done.returncode == 1
    assert f"\n  {tmp_path}/file" in done.stderr
