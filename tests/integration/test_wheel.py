"""The wheel in an environment of its own: from init to the first event, and the demo.

The checkout is not used.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
LOCK = ROOT / "requirements.lock"


def call(*command, cwd, **variables):
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LOCAL_AWS_PORT": "0", **variables}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The programs of an environment with the wheel and the locked packages."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    python = folder / "env" / "bin" / "python"
    install = [UV, "pip", "install", "--quiet", "--python", python]
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder / "env"], check=True)
    subprocess.run([*install, "--require-hashes", "-r", LOCK], check=True)
    subprocess.run([*install, "--no-deps", wheel], check=True)
    return SimpleNamespace(
        eventstacks=python.with_name("eventstacks"),
        cfn_lint=python.with_name("cfn-lint"),
        python=python,
    )


def test_a_new_project_deploys_and_delivers_an_event(installed, tmp_path):
    call(installed.eventstacks, "init", "mine", cwd=tmp_path)
    project, stack = tmp_path / "mine", ["--stack", "order-events"]
    (project / "scripts").mkdir()  # a package of the user's own
    (project / "scripts" / "__init__.py").write_text("raise RuntimeError\n")

    def run(*arguments):
        return call(installed.eventstacks, *arguments, cwd=project)

    try:
        run("lint")
        run("deploy", "--yes")
        assert "1 acknowledged" in run("send", *stack, "tests/events/order-events/event.json")
        (line,) = run("tail", *stack, "--once", "--raw").splitlines()
        assert json.loads(line)["detail"] == {"what": "a first event"}
    finally:
        run("local", "down")


def test_the_demo_runs_in_an_empty_folder(installed, tmp_path):
    out = call(installed.eventstacks, "demo", cwd=tmp_path)
    assert "All 8 expected deliveries were seen." in out
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_rules_and_send_are_found_from_any_folder(installed, tmp_path):
    code = "from eventstacks import send; import eventstacks; print(eventstacks.__file__)"
    assert str(ROOT) not in call(installed.python, "-c", code, cwd=tmp_path)
    (tmp_path / "t.json").write_text(json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}}))
    call(installed.cfn_lint, "-a", "eventstacks.lint", "--", "t.json", cwd=tmp_path)
