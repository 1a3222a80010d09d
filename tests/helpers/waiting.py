"""Waiting for the effects of what a test does."""

import time


def eventually(probe, seconds=30):
    """Return the first true answer of the probe; fail the test if none comes in time."""
    deadline = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < deadline, f"not seen within {seconds} seconds"
        time.sleep(0.02)
    return found
