"""The fixtures of this folder; what they are made of stands in conftest_cloudformation.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest_cloudformation import build, clock  # noqa: F401
