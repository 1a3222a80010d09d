"""What ``cfn-lint -a <this directory>`` loads, from wherever and in whichever environment cfn-lint runs."""

import sys
from pathlib import Path

if (root := str(Path(__file__).resolve().parents[2])) not in sys.path:
    sys.path.insert(0, root)

from eventstacks.lint import RULES

globals().update({one.__name__: one for one in RULES})
