"""Install a lock file into a virtual environment, one line per step with its time.

``python3 scripts/dev/install.py .venv requirements.lock [--editable]``

Only the standard library is used: this runs before anything is installed. pip installs uv, and uv
the rest, in less than half of pip's time; where uv is not available or reaches no package index (it
does not read pip's settings), pip does it all.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
UV_LOCK = ROOT / "requirements-uv.lock"
OLDEST, NEWER = (3, 11), (3, 15)  # as requires-python in pyproject.toml
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"]


@contextmanager
def step(text: str) -> Iterator[None]:
    """Print one line: what is done, and how long it took."""
    print(f"{text:<66}", end="", flush=True)
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f"{time.monotonic() - begin:6.1f} s", flush=True)


def run(*command: str | Path) -> bool:
    """Run a command whose failure does not matter; return whether it succeeded."""
    try:
        return not subprocess.run(
            list(map(str, command)), capture_output=True, check=False
        ).returncode
    except OSError:
        return False


def find_uv(environment: Path) -> Path | None:
    """Return the uv of this environment or of .venv, or None."""
    programs = (folder / "bin" / "uv" for folder in (environment, ROOT / ".venv"))
    return next((uv for uv in programs if run(uv, "--version")), None)


def create(environment: Path) -> None:
    """Create the virtual environment, unless there is one with pip.

    Debian's python3 without python3-venv leaves an environment without pip: it is completed here.
    """
    if run(environment / "bin" / "python", "-m", "pip", "--version"):
        return
    uv = find_uv(environment)
    with step(f"Create {environment} with Python {sys.version.split()[0]}"):
        options = ["--quiet", "--clear", "--seed", "--python", sys.executable]
        if not (uv and run(uv, "venv", *options, environment)):
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)


def install_uv(environment: Path) -> Path | None:
    """Return uv, installed if there is none; None if it cannot be installed."""
    if not (uv := find_uv(environment)):
        with step("Install uv"):
            run(environment / "bin" / "python", *PIP, "--require-hashes", "--requirement", UV_LOCK)
        uv = find_uv(environment)
    return uv


def install(environment: Path, uv: Path | None, what: str, *arguments: str) -> None:
    """Install with uv, or else with pip, whose errors are shown. Raises CalledProcessError."""
    python = environment / "bin" / "python"
    with step(f"Install {what}"):
        if uv and run(uv, "pip", "install", "--python", python, *arguments):
            return
        subprocess.run([python, *PIP, *arguments], check=True)


def main(environment: Path, lock: Path, *, editable: bool) -> int:
    """Install everything; return the exit code."""
    if not OLDEST <= sys.version_info[:2] < NEWER:
        newest = f"{NEWER[0]}.{NEWER[1] - 1}"
        print(
            f"Python 3.11 to {newest} is required. Run: make PYTHON=python{newest} …",
            file=sys.stderr,
        )
        return 1
    try:
        create(environment)
        uv = install_uv(environment)
        count = sum(line[:1].isalnum() for line in lock.read_text(encoding="utf-8").splitlines())
        install(
            environment,
            uv,
            f"{count} packages ({lock})",
            "--require-hashes",
            "--requirement",
            str(lock),
        )
        if editable:
            own = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
            install(environment, uv, "eventstacks from this checkout", *own)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), editable="--editable" in sys.argv[3:]))
