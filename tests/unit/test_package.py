"""The package as other programs import it, and what the wheel carries."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import eventstacks
from eventstacks.documents import packaged

ROOT = Path(__file__).parents[2]


def run(code, cwd, **variables):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_send_is_imported_beside_another_package_called_scripts(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("MINE = 1\n")
    code = "import scripts\nfrom eventstacks import send\nprint(scripts.MINE, send.__name__)"
    done = run(code, tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stdout == "1 send\n", done.stderr


def test_the_public_api_is_imported_on_first_use():
    code = "import sys, eventstacks\nprint('boto3' in sys.modules, eventstacks.__version__)"
    assert run(code, ROOT).stdout == f"False {eventstacks.__version__}\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'sned'"):
        eventstacks.sned  # noqa: B018


def test_packaged_files_are_those_of_the_checkout():
    assert packaged("templates/macros") == ROOT / "templates" / "macros"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_carries_the_package_its_type_marker_and_its_templates(wheel):
    assert wheel.name == f"eventstacks-{eventstacks.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "eventstacks/py.typed" in names
    templates = [
        path
        for path in (ROOT / "templates").rglob("*")
        if path.is_file() and not {"__pycache__", ".ruff_cache"} & set(path.parts)
    ]
    assert {f"eventstacks/_data/{path.relative_to(ROOT)}" for path in templates} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"eventstacks"}
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.parametrize(("code", "status"), [("import  os;x=os.getpid( )\n", 0), ("x = y\n", 1)])
def test_a_function_of_the_user_is_checked_for_errors_not_for_style(checkout, code, status):
    shutil.copy(ROOT / "pyproject.toml", checkout)
    (checkout / "templates/functions/mine.py").write_text(code)
    for arguments in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run(
            [Path(sys.executable).with_name("ruff"), *arguments, "templates"], check=False
        )
        assert done.returncode == (status if arguments[0] == "check" else 0)
