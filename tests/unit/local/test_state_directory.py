"""The state directory of a daemon: its lock, its owner and its permissions."""

import fcntl
import os
import shutil
import stat

import pytest

from eventstacks.local import server


@pytest.fixture(autouse=True)
def _no_group(monkeypatch):
    """The test process leads no process group that has to end, and keeps its umask."""
    monkeypatch.setattr(os, "getpgrp", lambda: 0)
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_temporary_directory_exists_until_the_state_is_withdrawn(tmp_path, monkeypatch):
    remove, states = shutil.rmtree, []

    def removing(path, **more):
        states.append(server.read_state(tmp_path))
        remove(path, **more)

    with server.lock(tmp_path) as alive:
        monkeypatch.setattr(shutil, "rmtree", removing)
        server.publish(alive, url="here")
        assert (tmp_path / "tmp").is_dir()
    assert [state["url"] for state in states] == ["here"]
    assert not (tmp_path / "tmp").exists()
    assert server.read_state(tmp_path) is None


def test_what_a_killed_process_left_in_the_temporary_directory_is_removed(tmp_path):
    (tmp_path / "tmp").mkdir(0o777)
    (tmp_path / "tmp" / "planted").touch()
    with server.lock(tmp_path):
        assert list((tmp_path / "tmp").iterdir()) == []
        assert mode(tmp_path / "tmp") == 0o700


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_the_user_can_open_directory_and_files(tmp_path, umask):
    where = tmp_path / "state"
    os.umask(umask)
    server.secure(where)
    os.umask(umask)
    with server.lock(where) as alive:
        server.publish(alive, url="here")
        assert mode(where) == 0o700
        assert {mode(where / name) for name in ("alive", "log")} == {0o600}
        assert os.umask(0o077) == 0o077  # functions inherit it


def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(PermissionError) as caught:
        server.secure(tmp_path)
    assert caught.value.filename == str(tmp_path)
    assert server.read_state(tmp_path) is None


def test_a_lock_that_another_user_may_hold_does_not_count(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "alive").write_text('{"pid": 1, "url": "http://127.0.0.1:1"}')
    with (tmp_path / "alive").open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        assert server.read_state(tmp_path) is None
        with server.lock(tmp_path) as alive:
            server.publish(alive, url="here")
            assert server.read_state(tmp_path)["url"] == "here"


def test_a_link_in_place_of_the_lock_file_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_text("precious")
    (tmp_path / "alive").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemExit), server.lock(tmp_path):
        pass
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_deleted_or_replaced_directory_is_noticed(tmp_path):
    where = tmp_path / "state"
    with server.lock(where) as alive:
        assert server.is_held(where, alive)
        shutil.rmtree(where)
        assert not server.is_held(where, alive)
        server.secure(where)
        (where / "alive").touch()
        assert not server.is_held(where, alive)


def test_a_directory_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        server.secure(tmp_path / "file" / "state")
    assert str(caught.value.filename) == str(tmp_path / "file" / "state")
