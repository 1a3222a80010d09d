"""Install a lock file into a virtual environment, one line per step with its time.

``python3 scripts/dev/install.py .venv requirements.lock [--editable]``

Only the standard library is used: this runs before anything is installed. pip installs uv, and uv
the rest, in less than half of pip's time; where uv does not work (it does not read pip's settings),
pip does it all.
"""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST, NEWER = (3, 11), (3, 15)  # as requires-python in pyproject.toml
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
LOCK = ["--require-hashes", "--requirement"]


def run(text: str, *commands: list[str]) -> None:
    """Run the first command that works, and print one line with its time.

    Raises CalledProcessError of the last command, whose output is shown.
    """
    print(f"{text:<66}", end="", flush=True)
    begin = time.monotonic()
    *first, last = commands
    if not any(_works(command) for command in first):
        subprocess.run(last, check=True)
    print(f"{time.monotonic() - begin:6.1f} s", flush=True)


def _works(command: list[str]) -> bool:
    try:
        return not subprocess.run(command, capture_output=True, check=False).returncode
    except OSError:
        return False


def main(environment: str, lock: str, *, editable: bool) -> None:
    """Install everything; a failure ends the process with its exit code."""
    if not OLDEST <= sys.version_info[:2] < NEWER:
        newest = f"3.{NEWER[1] - 1}"
        sys.exit(f"Python 3.11 to {newest} is required. Run: make PYTHON=python{newest} …")
    python, uv = f"{environment}/bin/python", f"{environment}/bin/uv"
    count = sum(line[:1].isalnum() for line in Path(lock).read_text(encoding="utf-8").splitlines())
    steps = {f"Install {count} packages ({lock})": [*LOCK, lock]}
    if editable:
        own = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
        steps["Install eventstacks from this checkout"] = own
    try:
        if not _works([python, "-m", "pip", "--version"]):
            run(f"Create {environment}", [sys.executable, "-m", "venv", environment])
        if not _works([uv, "--version"]):
            lock_of_uv = str(ROOT / "requirements-uv.lock")
            run("Install uv", [python, *PIP, *LOCK, lock_of_uv], [python, "-c", ""])  # or without
        for text, what in steps.items():
            run(text, [uv, "pip", "install", "--python", python, *what], [python, *PIP, *what])
    except subprocess.CalledProcessError as error:
        print()
        sys.exit(error.returncode)


if __name__ == "__main__":
    main(*sys.argv[1:3], editable="--editable" in sys.argv[3:])
