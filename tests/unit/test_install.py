"""Setting up: one line per step, uv where it works, pip where it does not."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from dev import install


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Commands are recorded, not run; those whose text holds a word of ``failing`` fail."""
    commands, failing = [], set()

    def run(command, *, check, **_options):
        text = " ".join(map(str, command))
        commands.append(text.replace(f"{tmp_path}/", ""))
        code = int(any(word in text for word in failing))
        if code and check:
            raise subprocess.CalledProcessError(code, command)
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(install.subprocess, "run", run)
    lock = tmp_path / "some.lock"
    lock.write_text("one==1 \\\n    --hash=x\n    # via two\ntwo==2 \\\n")
    return SimpleNamespace(
        commands=commands,
        failing=failing,
        install=lambda editable=False: install.main(
            str(tmp_path / "env"), str(lock), editable=editable
        ),
    )


def test_uv_installs_if_it_is_there(world, capsys):
    world.install()
    assert world.commands[-1].startswith(
        "env/bin/uv pip install --python env/bin/python --require-hashes"
    )
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Install 2 packages (")
    assert line.endswith(" s")


def test_pip_installs_if_uv_cannot(world):
    world.failing.add("uv pip install")
    world.install()
    assert world.commands[-1].startswith("env/bin/python -m pip")
    assert world.commands[-1].endswith("--require-hashes --requirement some.lock")


def test_pip_installs_if_there_is_no_uv(world):
    world.failing.add("bin/uv")
    world.install()
    assert any("requirements-uv.lock" in command for command in world.commands)
    assert world.commands[-1].startswith("env/bin/python -m pip")


def test_a_new_environment_is_created(world, capsys):
    world.failing |= {"pip --version", "bin/uv"}
    world.install()
    assert f"{sys.executable} -m venv env" in world.commands
    assert "Create " in capsys.readouterr().out


def test_the_checkout_is_installed_last(world):
    world.install(editable=True)
    assert f"--editable {install.ROOT}" in world.commands[-1]


def test_a_failure_of_pip_is_the_exit_code(world):
    world.failing.add("--require-hashes")
    with pytest.raises(SystemExit, match="1"):
        world.install()


@pytest.mark.parametrize("version", [(3, 10, 1), (3, 15, 0)])
def test_an_unsupported_python_is_refused(world, monkeypatch, version):
    monkeypatch.setattr(install.sys, "version_info", version)
    with pytest.raises(SystemExit, match=r"Python 3.11 to 3.14 is required"):
        world.install()
    assert world.commands == []
