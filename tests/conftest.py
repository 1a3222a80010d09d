"""What all tests share: they run from the checkout's top, and see no credentials of the user's."""

import functools
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest
from botocore import loaders

from eventstacks import documents

ROOT = Path(__file__).parent.parent
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started in the background, as `make test &` in a script does
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # processes that tests start must receive Ctrl-C


# Many images set this: every process that the tests start would compile all its modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure():
    """Read botocore's models and each template once, not again in every session and verb."""
    loaders.create_loader = functools.cache(loaders.create_loader)
    parse = documents.parse_template
    pickled = functools.cache(lambda text: pickle.dumps(parse(text, "")))

    def parse_once(text, name):
        try:
            return pickle.loads(pickled(text))
        except documents.DocumentError:
            return parse(text, name)  # the error names the file

    documents.parse_template = parse_once


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Restore signal handlers: an interrupted verb ignores signals until its process ends."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools read templates/ and parameters/ below the current folder."""
    monkeypatch.chdir(ROOT)
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("EVENTSTACKS_MAKE", "1")  # advice in the form of make
    # A client that is made without an endpoint must fail, not find somebody's account.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _checkout: None) -> Path:
    """A copy of what people edit in a checkout, which becomes the current folder.

    The tools themselves stay where they are.
    """
    top = tmp_path / "checkout"
    for folder in ("templates", "parameters", "tests/events"):
        shutil.copytree(ROOT / folder, top / folder)
    for file in ("pyproject.toml", ".cfnlintrc", ".yamllint", ".taskcat.yml"):
        if (ROOT / file).exists():
            shutil.copy(ROOT / file, top)
    monkeypatch.chdir(top)
    return top


@pytest.fixture
def unmeasured():
    """Pause coverage: for tests that repeat thousands of times what other tests measure."""
    running = coverage.Coverage.current()
    if running:
        running.stop()
    yield
    if running:
        running.start()


@pytest.fixture
def children_unmeasured(monkeypatch):
    """What the test starts is not measured: cfn-lint takes twice as long when it is."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture
def usual_depth():
    """Python's own limit of recursion.

    Libraries that other tests import raise it for the whole process.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)
