"""The directory of a daemon, as it begins and ends."""

import os
import shutil

from eventstacks import daemons


def test_its_directory_for_files_is_there_while_it_lives_and_gone_before_that_is_told(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "getpgrp", lambda: 0)  # the tests lead no group that has to end
    remove, alive = shutil.rmtree, []

    def removing(path, **more):
        alive.append(daemons.living(tmp_path))
        remove(path, **more)

    monkeypatch.setattr(shutil, "rmtree", removing)
    with daemons.claimed(tmp_path) as tell:  # that of the one before was just removed
        tell(url="here")
        assert (tmp_path / "tmp").is_dir()
    assert [one["url"] for one in alive] == ["here"]
    assert not (tmp_path / "tmp").exists()
    assert daemons.living(tmp_path) is None
