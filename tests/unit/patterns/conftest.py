import sys

import pytest


@pytest.fixture
def usual_depth():
    """Python's own limit of recursion: libraries that other tests import raise it for the whole process."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)
