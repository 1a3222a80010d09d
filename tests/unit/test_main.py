"""What is said, and the exit code, when something is wrong before any call to AWS."""

import re
import subprocess
import sys
from pathlib import Path

import in_process
import pytest

COMMANDS = [
    path.stem.replace("_", "-")
    for path in (Path(__file__).parent.parent.parent / "scripts" / "commands").glob("[a-z]*.py")
]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "scripts", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['scripts', '--help']\nfrom scripts.__main__ import main\nmain()\n"
        "print([one for one in ('boto3', 'botocore', 'rich', 'jinja2', 'yaml', 'cfnlint') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"  {one}" in done.stdout for one in COMMANDS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_explains_itself_with_an_example(verb):
    done = in_process.run(verb, "--help")
    assert done.returncode == 0, done.stderr
    assert "python -m scripts" in done.stdout


@pytest.mark.parametrize("verb", [[], *([one] for one in COMMANDS)])
def test_every_file_that_an_example_names_is_there(verb):
    """A name without a folder is a file of the user's own."""
    said = in_process.run(*verb, "--help").stdout
    examples = [line for line in said.splitlines() if "python -m scripts" in line]
    named = re.findall(r"(?<=\s)[\w.-]+(?:/[\w.-]+)+(?=\s|$)", "\n".join(examples))
    assert [one for one in named if not Path(one).exists()] == []
    assert named or verb not in ([], ["match"], ["trace"])  # these do name one: the expression finds what there is


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["deploy", "--env", "nowhere"], 1, "Error: parameters/nowhere.yaml: there is no environment 'nowhere'"),
        (["deploy", "--env", "dev", "--stack", "custom-bus"], 1, "there is no stack 'custom-bus' in this environment"),
        (["deploy", "--env", "dev", "--region", "mars-1"], 1, "nothing here is for the region 'mars-1'"),
        (["deploy", "--nonsense"], 2, "No such option"),
        (["deply"], 2, "No such command 'deply'"),
    ],
)
def test_a_fault_is_said_in_words(arguments, code, words):
    done = run(*arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
