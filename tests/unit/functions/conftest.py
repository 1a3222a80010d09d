"""The function that copies snapshots, in a world of its own."""

import pytest
from fake_rds import World
from snapshot_copier import Run


@pytest.fixture
def run(monkeypatch):
    return Run(World(), monkeypatch)
